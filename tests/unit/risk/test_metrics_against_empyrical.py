"""The numbers that empyrical-reloaded has, too, come out the same as there.

Ours differ on purpose where empyrical gives NaN or infinity (ours are None), where returns vary by rounding alone
(empyrical's Sharpe ratio is then a large number), and in the sign of the maximum drawdown (ours is positive).
"""

from __future__ import annotations

import empyrical
import numpy as np
import pytest

from app.risk.curves import compute_daily_returns
from app.risk.metrics import (
    compute_alpha,
    compute_beta,
    compute_cagr,
    compute_calmar,
    compute_sharpe,
    compute_sortino,
    compute_total_return,
    compute_volatility,
    find_maximum_drawdown,
)
from ml.bars import FloatArray

YEAR = {"annualization": 365}


def random_curve(seed: int, days: int) -> FloatArray:
    random = np.random.default_rng(seed)
    steps = 1.0 + 0.03 * random.standard_t(4, days).clip(-8, 8) + 0.001
    curve: FloatArray = np.concatenate(([1.0], steps.cumprod())) * 10_000.0
    return curve


CURVES = {
    **{f"random {seed}": random_curve(seed, days) for seed, days in enumerate((4, 5, 10, 30, 365, 366, 2_000))},
    "a fall at once": np.array([100.0, 80.0, 90.0]),
    "a fall that is made good": np.array([100.0, 120.0, 90.0, 130.0]),
    "nothing left": np.array([100.0, 50.0, 0.0]),
    "a single loss in a year": np.array([100.0] * 364 + [75.0, 150.0]),
}


@pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES.keys())
def test_numbers_of_one_curve_are_those_of_empyrical(curve: FloatArray) -> None:
    returns = compute_daily_returns(curve)
    drawdown = find_maximum_drawdown(curve)
    assert compute_total_return(curve) == pytest.approx(empyrical.cum_returns_final(returns))
    assert compute_cagr(curve) == pytest.approx(empyrical.annual_return(returns, **YEAR))
    assert compute_volatility(returns) == pytest.approx(empyrical.annual_volatility(returns, **YEAR))
    assert compute_sharpe(returns) == pytest.approx(empyrical.sharpe_ratio(returns, **YEAR))
    assert compute_sortino(returns) == pytest.approx(empyrical.sortino_ratio(returns, **YEAR))
    assert compute_calmar(curve) == pytest.approx(empyrical.calmar_ratio(returns, **YEAR))
    assert drawdown is not None
    assert drawdown.fraction == pytest.approx(-empyrical.max_drawdown(returns))


@pytest.mark.parametrize(("seed", "days"), [(0, 2), (1, 3), (2, 30), (3, 365), (4, 2_000)])
def test_beta_and_alpha_are_those_of_empyrical(seed: int, days: int) -> None:
    benchmark = compute_daily_returns(random_curve(seed, days))
    returns = 0.4 * benchmark + 0.5 * compute_daily_returns(random_curve(seed + 100, days))
    assert compute_beta(returns, benchmark) == pytest.approx(empyrical.beta(returns, benchmark))
    assert compute_alpha(returns, benchmark) == pytest.approx(empyrical.alpha(returns, benchmark, **YEAR))


def test_ratios_that_empyrical_has_no_number_for_are_none() -> None:
    rising = np.array([0.01, 0.02, 0.03])
    assert not np.isfinite(empyrical.sortino_ratio(rising, **YEAR))
    assert compute_sortino(rising) is None
    assert not np.isfinite(empyrical.sharpe_ratio(np.zeros(3), **YEAR))
    assert compute_sharpe(np.zeros(3)) is None
    assert not np.isfinite(empyrical.beta(rising, np.zeros(3)))
    assert compute_beta(rising, np.zeros(3)) is None
    assert not np.isfinite(empyrical.calmar_ratio(rising, **YEAR))
    assert compute_calmar(np.array([1.0, 1.1, 1.2])) is None
