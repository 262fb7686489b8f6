"""Is the account any good? Its daily returns against those of a shadow book over the same days."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from ml.bars import FloatArray
from ml.bootstrap import BlockBootstrap

LEAST_DAYS: Final = 10
"""With fewer days nothing is said."""

_LEAST_BLOCK_DAYS: Final = 2


@dataclass(frozen=True, slots=True)
class Comparison:
    """How much better the account did than a shadow book, with a 95 % interval.

    Attributes:
        difference: Mean daily return of the account less that of the book, a fraction per day.
        low: Lower end of the interval.
        high: Upper end of the interval.
        better: True where the whole interval is above 0, False where it is below, None where it holds 0.
    """

    difference: float
    low: float
    high: float
    better: bool | None


def compare_returns(returns: FloatArray, shadow_returns: FloatArray, seed: int = 0) -> Comparison | None:
    """Compare the daily returns of the account with those of a shadow book; None below `LEAST_DAYS`.

    The differences of the days are cut into blocks (`choose_block_days`), whole blocks are drawn again, and Student's t
    is put around the mean (`BlockBootstrap.find_interval`). It speaks of one look; who looks every day until 0 is
    outside will find it there too often. Source: E. Carlstein, Annals of Statistics 14 (1986).

    Args:
        returns: The account's, fractions, oldest first, shape (n_days,).
        shadow_returns: The book's, of the same days.
        seed: Fixes the draws.

    >>> days = np.arange(100.0)
    >>> found = compare_returns(0.002 + 0.001 * np.sin(days), np.zeros(100))
    >>> round(found.difference, 4), found.better
    (0.002, True)
    """
    if min(returns.size, shadow_returns.size) < LEAST_DAYS:
        return None
    differences = returns - shadow_returns
    bootstrap = BlockBootstrap(differences.size, choose_block_days(differences.size), seed)
    estimate = bootstrap.estimate(
        np.stack((differences, np.ones(differences.size)), axis=1), lambda sums: sums[:, 0] / sums[:, 1]
    )
    interval = bootstrap.find_interval(estimate)
    if estimate.value is None or interval is None:
        return None
    low, high = interval
    return Comparison(estimate.value, low, high, None if low <= 0.0 <= high else low > 0.0)


def choose_block_days(days: int) -> int:
    """How many days a block of daily returns has: n ** (1/3), at least 2.

    Source: P. Hall, J. L. Horowitz and B.-Y. Jing, On Blocking Rules for the Bootstrap, Biometrika 82 (1995).

    >>> choose_block_days(10), choose_block_days(1_000)
    (2, 10)
    """
    return max(_LEAST_BLOCK_DAYS, round(math.cbrt(days)))
