"""How sure a number is when neighbouring rows are not independent: means and ratios resampled in blocks.

Rows are cut into blocks longer than the labels overlap, and whole blocks are drawn with replacement. Source: E.
Carlstein, The Use of Subseries Values for Estimating the Variance of a General Statistic, 1986. Every statistic here is
a function of sums over rows, so a resample is one product of a matrix: a library that copies the rows for each of them
(arch) takes a thousand times as long, and 3.5 s to import.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from ml.bars import FloatArray

RESAMPLES = 1_000
CONFIDENCE = 0.95
_SLICE = 100


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number, the interval that holds it with 95 %, and its standard error; None where it is not defined."""

    value: float | None
    low: float | None
    high: float | None
    error: float | None


class BlockBootstrap:
    """Resamples sums over blocks of rows.

    Args:
        rows: How many rows there are.
        block_rows: How many rows a block has; the last one may have fewer.
        seed: Fixes the draws.
    """

    def __init__(self, rows: int, block_rows: int, seed: int = 0) -> None:
        self._starts = np.arange(0, rows, block_rows)
        random = np.random.default_rng(seed)
        even = np.full(self.blocks, 1.0 / self.blocks)
        self._draws = random.multinomial(self.blocks, even, size=RESAMPLES).astype(np.float32)

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        return len(self._starts)

    def estimate(self, columns: FloatArray, statistic: Callable[[FloatArray], FloatArray]) -> Estimate:
        """Estimate a statistic of sums.

        Args:
            columns: What is added up over the rows, shape (n_rows, n_columns).
            statistic: Sums of shape (n, n_columns) to numbers of shape (n,), NaN where there is none.

        >>> ones = np.ones((40, 2))
        >>> BlockBootstrap(40, 4).estimate(ones, lambda sums: sums[:, 0] / sums[:, 1])
        Estimate(value=1.0, low=1.0, high=1.0, error=0.0)
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            value = float(statistic(columns.sum(axis=0, keepdims=True))[0])
            resampled = statistic(self._resample(columns))
        resampled = resampled[np.isfinite(resampled)]
        if not np.isfinite(value) or len(resampled) < RESAMPLES // 2:
            return Estimate(value if np.isfinite(value) else None, None, None, None)
        tail = (1.0 - CONFIDENCE) / 2
        low, high = np.quantile(resampled, (tail, 1.0 - tail)).tolist()
        # Resamples of n blocks vary by (n - 1) / n of what new blocks would.
        error = float(resampled.std() * np.sqrt(self.blocks / (self.blocks - 1))) if self.blocks > 1 else None
        return Estimate(value, low, high, error)

    def p_value(self, estimate: Estimate) -> float:
        """How likely a number this far above zero is by luck alone: Student's t with one degree less than blocks."""
        if estimate.value is None or estimate.error is None or self.blocks < 2:
            return 1.0
        if estimate.error == 0.0:
            return 0.0 if estimate.value > 0 else 1.0
        from scipy import stats  # type: ignore[import-untyped]  # noqa: PLC0415 - a service that serves need not load it

        return float(stats.t.sf(estimate.value / estimate.error, self.blocks - 1))

    def find_interval(self, estimate: Estimate) -> tuple[float, float] | None:
        """The 95 % interval that Student's t of one degree less than blocks puts around an estimate.

        There must be 5 blocks or more. With 5 to 24 of them it holds the mean of independent rows in 92 to 95 of 100
        series, the quantiles of the resamples in 81 to 92. None where the estimate has no error.

        >>> bootstrap = BlockBootstrap(40, 4)
        >>> bootstrap.find_interval(Estimate(1.0, 0.9, 1.1, 0.0))
        (1.0, 1.0)
        """
        if estimate.value is None or estimate.error is None:
            return None
        reach = _student_quantile((1.0 + CONFIDENCE) / 2, self.blocks - 1) * estimate.error
        return estimate.value - reach, estimate.value + reach

    def _resample(self, columns: FloatArray) -> FloatArray:
        sums = np.add.reduceat(columns, self._starts, axis=0)
        parts = [self._draws[start : start + _SLICE] @ sums for start in range(0, RESAMPLES, _SLICE)]
        return np.concatenate(parts)


def _student_quantile(probability: float, degrees: int) -> float:
    """Where Student's t of at least 4 degrees of freedom is exceeded with 1 - probability, to 1 in 3,000.

    M. Abramowitz and I. A. Stegun, Handbook of Mathematical Functions, 1964, formula 26.7.5. SciPy knows it exactly
    and takes a second to load, in a process that serves.
    """
    z = NormalDist().inv_cdf(probability)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92_160,
    )
    return sum(term * (1.0 / degrees) ** power for power, term in enumerate(terms))
