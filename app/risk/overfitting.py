"""Does choosing the best trial choose a good one? The probability of backtest overfitting, of a whole sweep."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np

from ml.bars import FloatArray

BLOCKS: Final = 16
"""How many blocks the periods are cut into: 12,870 ways to take half of them."""

_SLICE: Final = 256
_LEAST_VARIATION: Final = 1e-12
"""Returns whose variance is below this share of their mean square vary by rounding alone."""
_TIE: Final = 1e-12
"""Sharpe ratios as near as this are equal: those of two equal trials may differ by how a product was rounded."""


@dataclass(frozen=True, slots=True, eq=False)
class Overfitting:
    """What the best trials of each half of the periods came to in the other half.

    Sharpe ratios are per period; that of returns which do not vary counts as 0.

    Attributes:
        probability: The share of halves whose best trial was no better than the median in the other half, 0 to 1;
            about 0.5 where there is nothing but luck to choose from, and above where choosing does harm.
        loss_probability: The share whose best trial has a Sharpe ratio below 0 in the other half, 0 to 1.
        slope: By how much the Sharpe ratio in the other half grows with that in the chosen one, of ordinary least
            squares; below 0 where the better it looks, the worse it becomes; None where the latter is always the same.
        logits: Of the rank of each half's best trial in the other half, above 0 where it was better than the median,
            shape (n_halves,).
        in_sample: The Sharpe ratio of each half's best trial in that half, shape (n_halves,).
        out_of_sample: Its Sharpe ratio in the other half, shape (n_halves,).
    """

    probability: float
    loss_probability: float
    slope: float | None
    logits: FloatArray
    in_sample: FloatArray
    out_of_sample: FloatArray


def compute_overfitting(returns: FloatArray, blocks: int = BLOCKS) -> Overfitting | None:
    """Compute the probability of backtest overfitting by combinatorially symmetric cross-validation.

    The periods are cut into blocks. For every way to take half of the blocks, the trial with the highest Sharpe ratio
    in that half is ranked by its Sharpe ratio in the other half; equal ones share the mean of their ranks. The logit of
    rank / (trials + 1) is 0 at the median and counts as overfit there. A Sharpe ratio needs nothing but sums, so that a
    half is a sum of blocks. None of fewer than two trials, or of fewer than two periods a block.

    Source: D. H. Bailey, J. M. Borwein, M. Lopez de Prado and Q. J. Zhu, The Probability of Backtest Overfitting,
    Journal of Computational Finance 20 (2016).

    Args:
        returns: Of all trials over the same periods, oldest first, shape (n_periods, n_trials).
        blocks: How many blocks, even, 2 or more; they differ by at most one period in length.

    >>> noise = 0.01 * np.random.default_rng(0).standard_normal((400, 50))
    >>> compute_overfitting(noise).probability > 0.3
    True
    >>> noise[:, 7] += 0.005
    >>> compute_overfitting(noise).probability
    0.0
    """
    if blocks < 2 or blocks % 2:
        raise ValueError("blocks must be even, 2 or more")
    periods, trials = returns.shape
    if trials < 2 or periods < 2 * blocks:
        return None
    starts = np.arange(blocks) * periods // blocks
    counts = np.diff(np.append(starts, periods)).astype(np.float64)
    sums = np.add.reduceat(returns, starts, axis=0)
    squares = np.add.reduceat(np.square(returns), starts, axis=0)
    halves = _list_halves(blocks)
    found = [
        _try_halves(halves[start : start + _SLICE], counts, sums, squares) for start in range(0, len(halves), _SLICE)
    ]
    ranks, in_sample, out_of_sample = (np.concatenate(parts) for parts in zip(*found, strict=True))
    logits = np.log(ranks / (trials + 1.0 - ranks))
    return Overfitting(
        probability=float((logits <= 0.0).mean()),
        loss_probability=float((out_of_sample < 0.0).mean()),
        slope=_compute_slope(in_sample, out_of_sample),
        logits=logits,
        in_sample=in_sample,
        out_of_sample=out_of_sample,
    )


def _list_halves(blocks: int) -> FloatArray:
    """1 where a block is in a half, of every half there is, shape (n_halves, blocks)."""
    chosen = np.array(list(combinations(range(blocks), blocks // 2)))
    halves = np.zeros((len(chosen), blocks))
    np.put_along_axis(halves, chosen, 1.0, axis=1)
    return halves


def _try_halves(
    halves: FloatArray, counts: FloatArray, sums: FloatArray, squares: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The rank of each half's best trial in the other half, its Sharpe ratio in the half, and in the other."""
    inside = _compute_sharpes(halves, counts, sums, squares)
    outside = _compute_sharpes(1.0 - halves, counts, sums, squares)
    rows, best = np.arange(len(halves)), inside.argmax(axis=1)
    own = outside[rows, best]
    away = outside - own[:, None]
    below, not_above = (away < -_TIE).sum(axis=1), (away <= _TIE).sum(axis=1)
    return (below + not_above + 1.0) / 2.0, inside[rows, best], own


def _compute_sharpes(halves: FloatArray, counts: FloatArray, sums: FloatArray, squares: FloatArray) -> FloatArray:
    """The Sharpe ratio of each trial in each half, per period, shape (n_halves, n_trials)."""
    periods = (halves @ counts)[:, None]
    means = halves @ sums / periods
    square = halves @ squares / periods
    variances = square - np.square(means)
    varies = variances > _LEAST_VARIATION * square
    scale = np.sqrt(np.where(varies, variances, 1.0) * (periods / (periods - 1.0)))
    sharpes: FloatArray = np.where(varies, means / scale, 0.0)
    return sharpes


def _compute_slope(in_sample: FloatArray, out_of_sample: FloatArray) -> float | None:
    away = in_sample - in_sample.mean()
    total = float(np.square(away).sum())
    return float(away @ out_of_sample) / total if total > 0.0 else None
