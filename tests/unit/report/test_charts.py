"""Charts show the numbers that they are given."""

from __future__ import annotations

import numpy as np
import pytest

from app.domain.money import UNITS
from app.report import bars, heatmaps, timelines
from app.report.drawing import POINTS, STRETCHES
from app.research.backtest.measuring import compute_curves
from app.research.backtest.result import CalibrationBin, CostCase, MonthlyReturn
from tests.support.backtest_results import make_result


def test_account_is_drawn_with_its_numbers() -> None:
    result, history = make_result(500, 25)
    chart = timelines.draw_account(result)
    benchmark, equity, initial, drawdown, _, exposure = chart.figure["data"]

    curves = compute_curves(result)
    assert equity["x"] == curves.times_ms.tolist()
    assert np.allclose(equity["y"], curves.equity / UNITS, rtol=1e-8)
    assert np.allclose(benchmark["y"], curves.benchmark / UNITS, rtol=1e-8)
    assert initial["y"] == [10_000.0, 10_000.0]
    assert np.allclose(drawdown["y"], -100.0 * curves.drawdown, atol=1e-6)
    at_stake = np.where(result.books.held, history["BTCUSDT"].open[1:] / 10.0, 0.0)
    assert np.allclose(exposure["y"], 100.0 * at_stake / (curves.equity / UNITS), atol=1e-6)
    assert chart.figure["layout"]["yaxis"]["title"]["text"] == "worth (USDT)"
    assert "Thinned" not in chart.note


def test_long_account_is_thinned_and_says_so() -> None:
    result, _ = make_result(30_000, 25)
    chart = timelines.draw_account(result)
    equity, exposure = chart.figure["data"][1], chart.figure["data"][-1]

    assert len(equity["x"]) <= POINTS
    assert max(equity["y"]) == float(f"{result.books.equity.max() / UNITS:.9g}")
    assert min(equity["y"]) == float(f"{result.books.equity.min() / UNITS:.9g}")
    assert len(exposure["x"]) == STRETCHES
    assert "There are 29,999 cycles" in chart.note


def test_costs_paid_end_at_their_sums() -> None:
    result, _ = make_result()
    chart = timelines.draw_costs_paid(result)

    assert chart is not None
    fees, slippage = chart.figure["data"]
    assert (fees["y"][0], fees["y"][-1]) == (0.0, float(f"{result.books.fills.fee.sum() / UNITS:.9g}"))
    assert slippage["y"][-1] == pytest.approx(len(result.books.fills) * 0.05)
    assert fees["y"][-1] + slippage["y"][-1] == pytest.approx(result.run.performance.costs_paid)


def test_growth_begins_near_the_whole_of_the_initial_cash() -> None:
    result, _ = make_result(500, 25)
    chart = timelines.draw_growth({"one": result, "two": result})

    assert [trace["name"] for trace in chart.figure["data"]] == ["one", "two"]
    assert chart.figure["data"][0]["y"][0] == 100.0
    assert len({trace["line"]["color"] for trace in chart.figure["data"]}) == 2


def test_months_stand_in_their_cells_and_years_are_compounded() -> None:
    monthly = (
        MonthlyReturn(2024, 12, 0.1, 0.2),
        MonthlyReturn(2025, 1, 0.5, None),
        MonthlyReturn(2025, 2, -0.5, 0.1),
        MonthlyReturn(2025, 3, None, None),
    )
    chart = heatmaps.draw_months(monthly)

    assert chart is not None
    cells = chart.figure["data"][0]
    assert cells["y"] == ["2025", "2024"]
    assert cells["z"][0][:3] == [50.0, -50.0, None]
    assert cells["z"][0][12] is None
    assert (cells["z"][1][11], cells["text"][1][11]) == (10.0, "10.0")
    assert cells["customdata"][1][12] == "2024<br>account +10.00%<br>buy-and-hold +20.00%"
    assert cells["customdata"][0][0] == "Jan 2025<br>account +50.00%<br>buy-and-hold nothing"


def test_plateau_has_a_row_for_each_value_upwards_and_no_number_that_is_none() -> None:
    chart = heatmaps.draw_plateau(
        ("fast_bars", "slow_bars"),
        ([5, 10, 20], [50, 100]),
        np.array([[1.0, 2.0, np.nan], [-4.0, 0.5, 0.25]]),
        "Sharpe",
    )

    cells = chart.figure["data"][0]
    assert (cells["x"], cells["y"]) == (["5", "10", "20"], ["50", "100"])
    assert cells["z"] == [[1.0, 2.0, None], [-4.0, 0.5, 0.25]]
    assert (cells["zmin"], cells["zmax"]) == (-4.0, 4.0)
    assert chart.title == "Sharpe by fast_bars and slow_bars"


def test_plateau_of_nothing_known_is_empty() -> None:
    cells = heatmaps.draw_plateau(("a", "b"), ([1], [2]), [[None]], "Sharpe").figure["data"][0]

    assert (cells["z"], cells["zmax"]) == ([[None]], 1.0)


def test_every_day_that_moved_is_counted() -> None:
    own = np.concatenate((np.zeros(50), np.random.default_rng(1).normal(0.0, 0.01, 400), [0.9, -0.9]))
    chart = bars.draw_daily_returns(own, own[::2])

    assert chart is not None
    account, held = chart.figure["data"]
    assert sum(account["y"]) == 402
    assert sum(held["y"][::2]) == int((own[::2] != 0.0).sum())
    assert "The account moved on 402 of 452 days" in chart.note


def test_account_that_never_moved_has_no_spread() -> None:
    assert bars.draw_daily_returns(np.zeros(30), np.ones(30)) is None
    assert bars.draw_trade_returns(np.empty(0)) is None


def test_bars_of_trades_part_at_nothing_into_losses_and_gains() -> None:
    returns = np.array([-0.02, -0.01, -0.001, 0.001, 0.03, 0.04, 0.05, 0.06])
    chart = bars.draw_trade_returns(returns)

    assert chart is not None
    (trace,) = chart.figure["data"]
    losses = sum(count for middle, count in zip(trace["x"], trace["y"], strict=True) if middle < 0)
    assert (losses, sum(trace["y"])) == (3, 8)
    assert chart.note.startswith("5 of 8 gained.")


def test_trades_that_all_brought_nothing_are_drawn() -> None:
    chart = bars.draw_trade_returns(np.zeros(3))

    assert chart is not None
    assert chart.figure["data"][0]["y"] == [3]


def test_cases_of_costs_stand_beside_buy_and_hold() -> None:
    cases = (CostCase(0, 0.25, 1.5, 80), CostCase(1, -0.125, None, 78), CostCase(5, None, None, 77))
    chart = bars.draw_cost_cases(cases, 0.5)

    assert chart is not None
    account, held = chart.figure["data"]
    assert (account["x"], account["y"]) == (["no costs", "1x"], [25.0, -12.5])
    assert account["customdata"] == [["80", "1.50"], ["78", "-"]]
    assert held["y"] == [50.0, 50.0]
    assert bars.draw_cost_cases(cases[2:], None) is None


def test_calibration_shows_the_bins_that_hold_anything() -> None:
    bins = (CalibrationBin(0.0, 0.5, 0, None, None), CalibrationBin(0.5, 1.0, 40, 0.625, 0.5))
    chart = bars.draw_calibration(bins)

    assert chart is not None
    points = chart.figure["data"][1]
    assert (points["x"], points["y"], points["customdata"]) == ([62.5], [50.0], ["40"])
    assert bars.draw_calibration(bins[:1]) is None
