"""The pages of backtests say what the results say."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta

from app.domain.candle import Interval
from app.domain.money import UNITS
from app.report.backtest import choose_tone, name_runs, render_backtest
from app.report.comparison import render_comparison
from app.research.backtest.result import CalibrationBin, Caveat
from tests.support.backtest_results import make_result
from tests.support.pages import ReadPage

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


def test_page_of_a_backtest_says_its_numbers() -> None:
    result, history = make_result()
    page = ReadPage(render_backtest(result, history))

    run = result.run
    assert run.significance is not None
    assert run.performance.total_return is not None
    assert run.performance.sharpe is not None
    assert page.words.count("moving-average-cross on BTCUSDT, 1h candles") == 2
    assert page.words.count(run.significance.verdict) == 2
    assert f"{run.final_equity:,.2f} USDT" in page.words
    row = next(row for row in page.rows if row[0] == "Total return" and len(row) == 3)
    assert row[1] == f"{100 * run.performance.total_return:+,.2f} %"
    assert ["Sharpe ratio", f"{run.performance.sharpe:.2f}"] in [row[:2] for row in page.rows]
    assert ["2x", "-12.50 %", "-0.50", "78"] in page.rows
    assert ["5x", "-", "-", "77"] in page.rows
    assert ["filled", "80", "4.0 %"] in page.rows
    assert "83 days are few." in page.words


def test_page_of_a_backtest_says_how_it_can_be_run_again() -> None:
    result, history = make_result()
    rows = ReadPage(render_backtest(result, history)).rows

    assert ["candle hash", "ab12" * 16] in rows
    assert ["code", "0.5.0+g1234567"] in rows
    assert ["run", "3f" * 32] in rows
    assert ["models", "none: a rule"] in rows
    assert ["parameters.fast_bars", "10"] in rows
    assert ["terms.fee_bps", "2"] in rows
    assert ["since", "2025-01-01 00:00:00Z"] in rows
    assert ["limits.model_maximum_age", "7 days, 0:00:00"] in rows
    assert [row for row in rows if row[0] in ("model_id", "walk_forward")] == []


def test_charts_of_the_page_are_of_the_result() -> None:
    result, history = make_result()
    calibration = (CalibrationBin(0.5, 0.6, 40, 0.55, 0.5),)
    figures = ReadPage(
        render_backtest(replace(result, run=replace(result.run, calibration=calibration)), history)
    ).figures

    assert len(figures) == 9
    equity = next(trace for trace in figures[0]["data"] if trace["name"] == "account")
    assert equity["y"][-1] == float(f"{result.books.equity[-1] / UNITS:.9g}")
    assert figures[-1]["data"][1]["y"] == [50.0]
    for figure in figures:
        axes = [axis for name, axis in figure["layout"].items() if name[:5] in ("xaxis", "yaxis")]
        assert all(axis["title"]["text"] for axis in axes)


def test_hostile_names_stay_text() -> None:
    result, history = make_result(parameters={HOSTILE[:60]: HOSTILE[:60]}, source=HOSTILE)
    data = replace(result.run.data, source=HOSTILE)
    run = replace(result.run, data=data, model_ids=(HOSTILE,), caveats=(Caveat("c", HOSTILE),), code_version=HOSTILE)
    hostile = replace(result, run=run)

    for text in (render_backtest(hostile, history), render_comparison([hostile, hostile])):
        page = ReadPage(text)
        assert len(page.scripts) == 3
        assert "img" not in page.tags
        assert HOSTILE in page.words
        assert "<img" not in page.scripts[0]
        assert "&lt;img" not in page.scripts[0]


def test_run_without_a_fill_says_so() -> None:
    result, history = make_result(trade_every=0)
    costs = tuple(replace(case, fills=0) for case in result.run.costs)
    page = ReadPage(render_backtest(replace(result, run=replace(result.run, costs=costs)), history))

    assert "Nothing was bought or sold." in page.words
    assert "Nothing was paid, at these costs or at others." in page.words
    assert len(page.figures) == 2


def test_run_of_one_cycle_has_a_page() -> None:
    result, history = make_result(2, 0)

    assert "The account" in ReadPage(render_backtest(result, history)).words


def test_symbol_whose_candles_are_not_at_hand_is_named() -> None:
    result, _ = make_result()
    page = ReadPage(render_backtest(result, {}))

    assert "The candles of BTCUSDT are not at hand, and not drawn." in page.words


def test_verdict_that_was_not_given_is_not_made_up() -> None:
    result, history = make_result()
    page = ReadPage(render_backtest(replace(result, run=replace(result.run, significance=None)), history))

    assert page.words.count("Whether this may be luck was not judged.") == 2
    assert ("class", "verdict fair") in page.attributes


def test_tone_follows_the_verdict() -> None:
    judged = make_result()[0].run.significance
    assert judged is not None

    tones = [choose_tone(replace(judged, significant=one)) for one in (True, False, None)]
    assert tones == ["good", "bad", "fair"]


def test_page_of_a_million_bars_is_small_and_soon_written() -> None:
    result, history = make_result(1_000_000, 50, Interval.M1)
    render_backtest(make_result()[0], {})
    started = time.perf_counter()
    page = render_backtest(result, history)

    assert time.perf_counter() - started < 5.0
    assert len(page.encode()) < 8_000_000


def test_comparison_has_a_row_and_a_curve_for_each_run() -> None:
    first, _ = make_result(500, 25)
    second, _ = make_result(500, 40, parameters={"fast_bars": 20, "slow_bars": 50})
    page = ReadPage(render_comparison([first, second]))

    names = ["moving-average-cross (fast_bars 10, slow_bars 50)", "moving-average-cross (fast_bars 20, slow_bars 50)"]
    assert [trace["name"] for trace in page.figures[0]["data"]] == names
    numbers = [row for row in page.rows if len(row) == 9]
    assert [row[0] for row in numbers[1:]] == names
    assert [row[5] for row in numbers[1:]] == [f"{one.run.closed_trades:,}" for one in (first, second)]
    assert [["run", "parameters.fast_bars"], [names[0], "10"], [names[1], "20"]] == page.rows[5:8]
    assert ["parameters.slow_bars", "50"] in page.rows


def test_comparison_of_different_candles_warns() -> None:
    first, _ = make_result(500, 25)
    request = replace(first.run.request, until=first.run.request.until + timedelta(days=1))
    other = replace(first, run=replace(first.run, request=request, code_version="x"))
    words = ReadPage(render_comparison([first, other])).words

    assert "The runs are on different candles; their returns are not of the same markets or times." in words
    assert "The runs were computed by different versions of the code." in words


def test_runs_of_the_same_name_are_numbered() -> None:
    run = make_result(500, 25)[0].run

    assert name_runs([run, run]) == [
        f"moving-average-cross (fast_bars 10, slow_bars 50) #{number}" for number in (1, 2)
    ]


def test_service_and_command_line_do_not_load_plotly() -> None:
    code = "import sys, app.cli, app.report.backtest, app.report.comparison; print('plotly' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert told.stdout == "False\n"
