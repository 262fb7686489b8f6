"""The intervals of a daily return series: as wide as they should be, and None where there are none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped]

from app.risk.intervals import Bounds, Intervals, estimate_intervals
from app.risk.metrics import compute_cagr, compute_sharpe, compute_total_return, find_maximum_drawdown
from ml.bars import FloatArray

NOTHING = Intervals(None, None, None, None)


def draw(days: int, seed: int, mean: float = 0.0) -> FloatArray:
    drawn: FloatArray = mean + 0.02 * np.random.default_rng(seed).standard_normal(days)
    return drawn


def of(bounds: Bounds | None) -> Bounds:
    assert bounds is not None
    return bounds


def test_intervals_of_growth_and_sharpe_have_their_numbers_in_the_middle() -> None:
    returns = draw(500, seed=1, mean=0.001)
    found = estimate_intervals(returns)
    curve = np.cumprod(np.append(1.0, 1.0 + returns))
    sharpe, total, cagr = of(found.sharpe), of(found.total_return), of(found.cagr)
    assert (sharpe.low + sharpe.high) / 2 == pytest.approx(compute_sharpe(returns))
    assert (math.log1p(total.low) + math.log1p(total.high)) / 2 == pytest.approx(
        math.log1p(compute_total_return(curve) or 0.0)
    )
    assert (math.log1p(cagr.low) + math.log1p(cagr.high)) / 2 == pytest.approx(math.log1p(compute_cagr(curve) or 0.0))


def test_intervals_of_independent_days_are_as_wide_as_analytic_ones() -> None:
    found = [estimate_intervals(draw(400, seed)) for seed in range(30)]
    # 58 blocks of 7 days. A width varies by a tenth, the mean of thirty by a fiftieth.
    reach = stats.t.ppf(0.975, 57)
    widths = [of(one.sharpe).high - of(one.sharpe).low for one in found]
    assert np.mean(widths) == pytest.approx(2 * reach * math.sqrt(365 / 400), rel=0.06)
    totals = [math.log1p(of(one.total_return).high) - math.log1p(of(one.total_return).low) for one in found]
    assert np.mean(totals) == pytest.approx(2 * reach * 0.02 * math.sqrt(400), rel=0.06)


@pytest.mark.parametrize("days", [30, 250])
def test_interval_of_sharpe_holds_the_truth_about_as_often_as_it_says(days: int) -> None:
    found = [of(estimate_intervals(draw(days, seed, mean=0.002)).sharpe) for seed in range(200)]
    held = np.mean([one.low <= 0.1 * math.sqrt(365) <= one.high for one in found])
    # Two hundred draws: three standard errors are 4.6 points.
    assert held == pytest.approx(0.95, abs=0.05)


def test_drawdowns_are_those_of_other_days_of_the_same_kind() -> None:
    curves = np.cumprod(1.0 + draw(200 * 2_000, seed=2).reshape(2_000, 200), axis=1)
    fresh = [drawdown.fraction for curve in curves if (drawdown := find_maximum_drawdown(np.append(1.0, curve)))]
    found = [of(estimate_intervals(draw(200, seed)).maximum_drawdown) for seed in range(100, 130)]
    low, high = np.quantile(fresh, (0.025, 0.975))
    assert np.mean([one.low for one in found]) == pytest.approx(low, rel=0.15)
    assert np.mean([one.high for one in found]) == pytest.approx(high, rel=0.15)


def test_drawdown_of_days_that_are_all_alike_is_known() -> None:
    losing = of(estimate_intervals(np.full(50, -0.01)).maximum_drawdown)
    assert losing.low == losing.high == pytest.approx(1.0 - 0.99**50)
    assert of(estimate_intervals(np.full(50, 0.01)).maximum_drawdown) == Bounds(0.0, 0.0)


def test_drawdown_keeps_runs_of_losses_together() -> None:
    runs = np.tile(np.repeat([0.01, -0.01], 8), 32)
    shuffled = np.random.default_rng(3).permutation(runs)
    assert of(estimate_intervals(runs).maximum_drawdown).high > of(estimate_intervals(shuffled).maximum_drawdown).high


def test_fewer_than_ten_days_have_no_interval() -> None:
    assert estimate_intervals(np.empty(0)) == estimate_intervals(draw(9, seed=0)) == NOTHING
    assert None not in (estimate_intervals(draw(10, seed=0)).sharpe, estimate_intervals(draw(10, seed=0)).cagr)


@pytest.mark.parametrize("value", [0.0, 0.1, -0.3])
def test_returns_that_do_not_vary_have_no_interval_of_sharpe(value: float) -> None:
    found = estimate_intervals(np.full(30, value))
    assert found.sharpe is None
    assert of(found.total_return).low == pytest.approx((1.0 + value) ** 30 - 1.0)


def test_account_that_lost_everything_has_an_interval_of_sharpe_alone() -> None:
    returns = np.append(draw(30, seed=4), -1.0)
    found = estimate_intervals(returns)
    assert found.sharpe is not None
    assert (found.total_return, found.cagr, found.maximum_drawdown) == (None, None, None)


def test_growth_too_large_to_write_has_no_interval() -> None:
    found = estimate_intervals(np.abs(draw(20, seed=5)) * 1e4)
    assert found.cagr is None
    assert found.total_return is not None


def test_same_seed_gives_the_same_intervals() -> None:
    returns = draw(60, seed=6)
    assert estimate_intervals(returns, seed=1) == estimate_intervals(returns, seed=1)
    first, second = estimate_intervals(returns, seed=1), estimate_intervals(returns, seed=2)
    assert first.sharpe != second.sharpe
    assert first.maximum_drawdown != second.maximum_drawdown
