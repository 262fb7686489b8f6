"""The numbers of an account: worked out by hand, where they are not defined, and laws that hold for all."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.risk.curves import DAY_MS, compute_daily_returns
from app.risk.metrics import (
    AccountHistory,
    Drawdown,
    compute_alpha,
    compute_beta,
    compute_cagr,
    compute_calmar,
    compute_costs_paid,
    compute_expectancy,
    compute_exposure,
    compute_performance,
    compute_profit_factor,
    compute_sharpe,
    compute_sortino,
    compute_total_return,
    compute_turnover,
    compute_volatility,
    compute_win_rate,
    find_maximum_drawdown,
)

NONE = np.empty(0)
NO_TIMES = np.empty(0, dtype=np.int64)
UNUSED = AccountHistory(100.0, NO_TIMES, NONE, np.empty(0, dtype=np.bool_), NONE, NONE, NONE, NONE)


def test_returns_and_ratios_are_what_a_hand_computes() -> None:
    curve = np.array([100.0, 110.0, 99.0, 118.8])
    returns = compute_daily_returns(curve)
    # +10 %, -10 %, +20 %: the mean is 1/15, the squares of the distances add up to 7/150, half of that is 7/300.
    assert compute_total_return(curve) == pytest.approx(0.188)
    assert compute_cagr(curve) == pytest.approx(1.188 ** (365 / 3) - 1)
    assert compute_volatility(returns) == pytest.approx(math.sqrt(7 / 300) * math.sqrt(365))
    assert compute_sharpe(returns) == pytest.approx((1 / 15) / math.sqrt(7 / 300) * math.sqrt(365))
    # One day of three lost a tenth: the root of 0.01 / 3.
    assert compute_sortino(returns) == pytest.approx((1 / 15) / math.sqrt(0.01 / 3) * math.sqrt(365))
    assert compute_calmar(curve) == pytest.approx((1.188 ** (365 / 3) - 1) / 0.1)


def test_numbers_of_returns_are_none_with_too_few_days() -> None:
    for returns in (NONE, np.array([0.1])):
        assert compute_volatility(returns) is None
        assert compute_sharpe(returns) is None
        assert compute_sortino(returns) is None
        assert compute_beta(returns, returns) is None
        assert compute_alpha(returns, returns) is None


@pytest.mark.parametrize("curve", [np.array([100.0]), NONE])
def test_numbers_of_a_curve_are_none_without_a_day(curve: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    assert compute_total_return(curve) is None
    assert compute_cagr(curve) is None
    assert compute_calmar(curve) is None
    assert compute_turnover(np.array([5.0]), curve) is None


def test_ratios_of_returns_that_do_not_vary_are_none() -> None:
    curve = np.array([100.0 * 1.01**day for day in range(20)])
    steady = compute_daily_returns(curve)
    assert steady.std() > 0
    assert compute_sharpe(steady) is None
    assert compute_sortino(steady) is None
    assert compute_calmar(curve) is None
    assert compute_beta(np.linspace(-0.1, 0.1, 19), steady[:19]) is None
    assert compute_sortino(-steady) == pytest.approx(-math.sqrt(365))
    assert compute_volatility(np.zeros(5)) == 0.0


def test_growth_that_no_number_tells_is_none() -> None:
    assert compute_cagr(np.array([100.0, 0.0])) == -1.0
    assert compute_cagr(np.array([100.0, -1.0])) is None
    assert compute_total_return(np.array([100.0, -1.0])) == pytest.approx(-1.01)
    assert compute_cagr(np.array([1.0, 1e9])) is None
    # About 1e300 a year over a drawdown of 5e-13.
    steep = np.array([1.0, 2.0, 2.0 - 1e-12, 292.0])
    assert compute_cagr(steep) == pytest.approx(1e300, rel=0.3)
    assert compute_calmar(steep) is None


def test_drawdown_names_its_peak_trough_and_recovery() -> None:
    curve = np.array([100.0, 120.0, 120.0, 90.0, 96.0, 120.0, 130.0, 117.0])
    found = find_maximum_drawdown(curve)
    assert found == Drawdown(0.25, start=2, trough=3, end=5, recovered=True)
    assert found is not None
    assert found.periods == 3


def test_drawdown_that_lasts_ends_where_the_curve_does() -> None:
    found = find_maximum_drawdown(np.array([100.0, 75.0, 90.0]))
    assert found == Drawdown(0.25, start=0, trough=1, end=2, recovered=False)


def test_drawdown_of_two_equal_falls_is_the_first() -> None:
    found = find_maximum_drawdown(np.array([100.0, 50.0, 200.0, 100.0, 300.0]))
    assert found == Drawdown(0.5, start=0, trough=1, end=2, recovered=True)


def test_drawdown_of_a_curve_that_never_falls_is_nothing() -> None:
    assert find_maximum_drawdown(np.array([1.0, 1.0, 2.0])) == Drawdown(0.0, 0, 0, 0, recovered=True)
    assert find_maximum_drawdown(NONE) is None


def test_drawdown_below_nothing_is_more_than_the_peak() -> None:
    assert find_maximum_drawdown(np.array([100.0, -50.0])) == Drawdown(1.5, 0, 1, 1, recovered=False)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=12))
def test_drawdown_is_the_worst_of_all_pairs_and_its_ends_hold_it(values: list[int]) -> None:
    curve = np.array(values, dtype=np.float64)
    found = find_maximum_drawdown(curve)
    assert found is not None
    pairs = [1.0 - low / high for place, high in enumerate(values) for low in values[place:]]
    assert found.fraction == max(pairs)
    assert found.fraction == 1.0 - curve[found.trough] / curve[found.start]
    assert curve[found.start] == max(values[: found.trough + 1])
    assert all(value < curve[found.start] for value in values[found.start + 1 : found.end])
    assert found.recovered == (found.fraction == 0.0 or curve[found.end] >= curve[found.start])
    assert found.recovered or found.end == len(values) - 1


def test_closed_trades_are_counted_after_their_costs() -> None:
    profits = np.array([4.0, -1.0, 0.0, -1.0, 1.0])
    assert compute_win_rate(profits) == 0.4
    assert compute_profit_factor(profits) == 2.5
    assert compute_expectancy(profits) == pytest.approx(0.6)


def test_closed_trades_that_only_won_have_no_profit_factor() -> None:
    assert compute_profit_factor(np.array([1.0, 0.0])) is None
    assert compute_profit_factor(np.array([-1.0, 0.0])) == 0.0
    assert compute_win_rate(np.array([1.0, 2.0])) == 1.0


def test_without_closed_trades_there_is_nothing_to_say_of_them() -> None:
    assert (compute_win_rate(NONE), compute_profit_factor(NONE), compute_expectancy(NONE)) == (None, None, None)


def test_exposure_counts_time_and_not_snapshots() -> None:
    times_ms = np.array([0, 1, 2, 100])
    assert compute_exposure(times_ms, np.array([True, True, False, True])) == 0.02
    assert compute_exposure(times_ms, np.ones(4, dtype=np.bool_)) == 1.0


@pytest.mark.parametrize("times_ms", [[], [5], [5, 5]])
def test_exposure_where_no_time_has_passed_is_none(times_ms: list[int]) -> None:
    assert compute_exposure(np.array(times_ms, dtype=np.int64), np.ones(len(times_ms), dtype=np.bool_)) is None


def test_turnover_is_traded_notional_over_mean_equity() -> None:
    assert compute_turnover(np.array([100.0, 200.0]), np.array([100.0, 140.0, 120.0])) == 2.5
    assert compute_turnover(NONE, np.array([100.0, 100.0])) == 0.0
    assert compute_turnover(np.array([1.0]), np.array([100.0, -100.0])) is None


def test_costs_are_fees_and_slippage() -> None:
    assert compute_costs_paid(np.array([1.0, 2.0]), np.array([0.5, 0.25])) == 3.75
    assert compute_costs_paid(NONE, NONE) == 0.0


def test_beta_and_alpha_of_a_line_are_its_slope_and_its_height() -> None:
    benchmark = np.array([0.01, -0.02, 0.03, 0.0])
    returns = 0.001 + 1.5 * benchmark
    assert compute_beta(returns, benchmark) == pytest.approx(1.5)
    assert compute_alpha(returns, benchmark) == pytest.approx(1.001**365 - 1)


def test_beta_and_alpha_of_what_cannot_be_compared_are_none() -> None:
    returns = np.array([0.01, -0.02, 0.03])
    for benchmark in (np.zeros(3), np.empty(0)):
        assert compute_beta(returns, benchmark) is None
        assert compute_alpha(returns, benchmark) is None
    # A day that costs more than there is, and one that brings tenfold, cannot be compounded over a year.
    assert compute_alpha(np.array([-3.0, -3.0]), np.array([0.1, -0.1])) is None
    assert compute_alpha(np.array([9.0, 9.0]), np.array([0.1, -0.1])) is None


def test_performance_of_an_account_nothing_was_done_with_is_empty() -> None:
    found = asdict(compute_performance(UNUSED, NO_TIMES, NONE))
    assert {name: value for name, value in found.items() if value is not None} == {"days": 0, "costs_paid": 0.0}


def test_performance_has_every_number_of_an_account() -> None:
    times_ms = np.array([0, DAY_MS - 1, DAY_MS, 3 * DAY_MS - 2, 3 * DAY_MS - 1])
    account = AccountHistory(
        100.0,
        times_ms,
        np.array([100.0, 110.0, 120.0, 90.0, 99.0]),
        np.array([True, False, True, True, False]),
        notionals=np.array([50.0, 50.0, 60.0]),
        fees=np.array([0.1, 0.1, 0.1]),
        slippages=np.array([0.2, 0.0, 0.0]),
        profits=np.array([2.0, -1.0]),
    )
    # The curve is 100, 110, 120, 99; buy-and-hold's, known until the second day only, 100, 105, 110.25, 110.25.
    found = compute_performance(account, np.array([5, DAY_MS + 5, 9 * DAY_MS]), np.array([105.0, 110.25, 1.0]))
    returns, benchmark = np.array([0.1, 1 / 11, -0.175]), np.array([0.05, 0.05, 0.0])
    assert found.days == 3
    assert found.total_return == pytest.approx(-0.01)
    assert found.cagr == pytest.approx(0.99 ** (365 / 3) - 1)
    assert found.volatility == pytest.approx(returns.std(ddof=1) * math.sqrt(365))
    assert found.sharpe == pytest.approx(returns.mean() / returns.std(ddof=1) * math.sqrt(365))
    assert found.sortino == pytest.approx(returns.mean() / (0.175 / math.sqrt(3)) * math.sqrt(365))
    assert found.calmar == pytest.approx((0.99 ** (365 / 3) - 1) / 0.175)
    assert found.maximum_drawdown == pytest.approx(0.175)
    assert (found.drawdown_days, found.drawdown_start, found.drawdown_end) == (1, 2, 3)
    assert (found.win_rate, found.profit_factor, found.expectancy) == (0.5, 2.0, 0.5)
    assert found.exposure == pytest.approx(1.0, abs=1e-7)
    assert found.turnover == pytest.approx(160 / 107.25)
    assert found.costs_paid == pytest.approx(0.5)
    # Two of three days of the benchmark are equal: the slope is the distance of the two means over 0.05.
    assert found.beta == pytest.approx(((0.1 + 1 / 11) / 2 + 0.175) / 0.05)
    assert found.alpha == pytest.approx((1 + returns.mean() - (found.beta or 0.0) * benchmark.mean()) ** 365 - 1)


def amounts(least: int) -> st.SearchStrategy[float]:
    """Money as it is kept, in whole 1e-8."""
    return st.integers(least, 10**18).map(lambda units: units / 1e8)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5 * DAY_MS), amounts(-(10**13)), st.booleans()), max_size=8),
    st.lists(amounts(-(10**13)), max_size=5),
    amounts(1),
)
def test_performance_never_holds_what_is_no_number(
    snapshots: list[tuple[int, float, bool]], profits: list[float], initial_cash: float
) -> None:
    snapshots.sort(key=lambda snapshot: snapshot[0])
    times_ms = np.array([time for time, _, _ in snapshots], dtype=np.int64)
    equity = np.array([worth for _, worth, _ in snapshots], dtype=np.float64)
    account = replace(
        UNUSED,
        initial_cash=initial_cash,
        times_ms=times_ms,
        equity=equity,
        held=np.array([held for _, _, held in snapshots], dtype=np.bool_),
        notionals=np.abs(np.array(profits)),
        profits=np.array(profits),
    )
    found = asdict(compute_performance(account, times_ms, equity[::-1].copy()))
    assert [name for name, value in found.items() if value is not None and not math.isfinite(value)] == []
    assert {type(value) for value in found.values()} <= {int, float, type(None)}
