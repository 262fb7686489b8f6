"""What the same days might have come to: 95 % intervals of a few numbers, of daily returns drawn again in blocks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from app.risk.comparison import LEAST_DAYS, choose_block_days
from app.risk.metrics import DAYS_PER_YEAR
from ml.bars import FloatArray
from ml.bootstrap import CONFIDENCE, RESAMPLES, BlockBootstrap

_SLICE: Final = 100
_LEAST_VARIATION: Final = 1e-12
"""Returns whose variance is below this share of their mean square vary by rounding alone."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The ends of a 95 % interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Intervals:
    """95 % intervals of the numbers of a daily return series; None where there is none.

    Attributes:
        sharpe: Of the annual Sharpe ratio.
        total_return: Of the total return, a fraction, of as many days.
        cagr: Of the compound annual growth rate, a fraction.
        maximum_drawdown: Where 95 of 100 other orders of the same blocks have their maximum drawdown, positive
            fractions. It says how deep such days may well fall, not how near to a true number this fall was.
    """

    sharpe: Bounds | None
    total_return: Bounds | None
    cagr: Bounds | None
    maximum_drawdown: Bounds | None


def estimate_intervals(returns: FloatArray, seed: int = 0) -> Intervals:
    """Estimate the 95 % intervals of Sharpe ratio, total return, growth and drawdown by a block bootstrap.

    The Sharpe ratio and the mean logarithmic return are functions of sums over days: blocks of n ** (1/3) days are
    drawn again, and Student's t is put around the estimate (`ml.bootstrap`). A drawdown rests on the order of days as
    well: blocks of a circle of the days, beginning anywhere, are laid end to end, after D. N. Politis and J. P. Romano,
    A Circular Block-Resampling Procedure for Stationary Data, 1992, and the quantiles of a thousand are taken.

    Nothing is said of fewer than 10 days, and nothing but of the Sharpe ratio where a day lost everything.

    Args:
        returns: Fractions, oldest first, shape (n_days,).
        seed: Fixes the draws.

    >>> found = estimate_intervals(0.001 + 0.02 * np.random.default_rng(0).standard_normal(730))
    >>> found.sharpe.low < 0.0 < found.sharpe.high, found.maximum_drawdown.low > 0.0
    (True, True)
    """
    if returns.size < LEAST_DAYS:
        return Intervals(None, None, None, None)
    bootstrap = BlockBootstrap(returns.size, choose_block_days(returns.size), seed)
    ones = np.ones(returns.size)
    sharpe = _bound(bootstrap, np.stack((returns, np.square(returns), ones), axis=1), _compute_annual_sharpe)
    if (returns <= -1.0).any():
        return Intervals(sharpe, None, None, None)
    growth = np.log1p(returns)
    mean = _bound(bootstrap, np.stack((growth, ones), axis=1), _compute_mean)
    return Intervals(
        sharpe, _compound(mean, returns.size), _compound(mean, DAYS_PER_YEAR), _bound_drawdown(growth, seed)
    )


def _compute_annual_sharpe(sums: FloatArray) -> FloatArray:
    """Of sums of the returns, of their squares and of ones, shape (n, 3); NaN where returns do not vary."""
    days = sums[:, 2]
    mean, square = sums[:, 0] / days, sums[:, 1] / days
    variance = square - np.square(mean)
    # What is left of the squares by rounding alone is no variance.
    deviation = np.sqrt(np.where(variance > _LEAST_VARIATION * square, variance, np.nan) * days / (days - 1.0))
    sharpe: FloatArray = mean / deviation * math.sqrt(DAYS_PER_YEAR)
    return sharpe


def _compute_mean(sums: FloatArray) -> FloatArray:
    mean: FloatArray = sums[:, 0] / sums[:, 1]
    return mean


def _bound(
    bootstrap: BlockBootstrap, columns: FloatArray, statistic: Callable[[FloatArray], FloatArray]
) -> Bounds | None:
    interval = bootstrap.find_interval(bootstrap.estimate(columns, statistic))
    return None if interval is None else Bounds(*interval)


def _compound(logarithmic: Bounds | None, days: int) -> Bounds | None:
    """What a mean logarithmic return a day comes to in so many days; None where it is too large to write."""
    if logarithmic is None:
        return None
    try:
        return Bounds(math.expm1(logarithmic.low * days), math.expm1(logarithmic.high * days))
    except OverflowError:
        return None


def _bound_drawdown(growth: FloatArray, seed: int) -> Bounds:
    """Where the middle 95 % of the maximum drawdowns of resampled logarithmic returns lie."""
    random = np.random.default_rng(seed)
    drawdowns = np.concatenate([_draw_drawdowns(growth, random) for _ in range(RESAMPLES // _SLICE)])
    tail = (1.0 - CONFIDENCE) / 2
    return Bounds(*np.quantile(drawdowns, (tail, 1.0 - tail)).tolist())


def _draw_drawdowns(growth: FloatArray, random: np.random.Generator) -> FloatArray:
    """The maximum drawdowns of `_SLICE` resamples, shape (_SLICE,)."""
    days, block_days = growth.size, choose_block_days(growth.size)
    starts = random.integers(days, size=(_SLICE, -(-days // block_days), 1))
    order = ((starts + np.arange(block_days)) % days).reshape(_SLICE, -1)[:, :days]
    curves = np.concatenate((np.zeros((_SLICE, 1)), np.cumsum(growth[order], axis=1)), axis=1)
    falls = (np.maximum.accumulate(curves, axis=1) - curves).max(axis=1)
    drawdowns: FloatArray = -np.expm1(-falls)
    return drawdowns
