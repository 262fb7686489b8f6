"""What an account was worth from day to day.

A *curve* is what it was worth when it was opened (its initial cash, above 0) and at the end of each UTC day since, in
quote units, shape (n_days + 1,).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ml.bars import FloatArray, IntegerArray

DAY_MS: Final = 86_400_000


def find_utc_days(times_ms: IntegerArray) -> range:
    """The UTC days from the first snapshot to the last, gaps included, counted from the epoch.

    >>> find_utc_days(np.array([DAY_MS - 1, 3 * DAY_MS]))
    range(0, 4)
    """
    if times_ms.size == 0:
        return range(0)
    return range(int(times_ms[0]) // DAY_MS, int(times_ms[-1]) // DAY_MS + 1)


def compute_daily_curve(times_ms: IntegerArray, equity: FloatArray, initial_cash: float, days: range) -> FloatArray:
    """Turn irregular snapshots into a curve: the last equity of each UTC day, shape (len(days) + 1,).

    A day without a snapshot carries the last one before it, and before the first one there is the initial cash, where
    the curve begins.

    Args:
        times_ms: Milliseconds since the epoch, never falling, shape (n_snapshots,).
        equity: Quote units, shape (n_snapshots,).
        initial_cash: Quote units, above 0.
        days: Whole days since the epoch, such as `find_utc_days` gives.

    >>> times_ms = np.array([0, 5, DAY_MS, 4 * DAY_MS - 1])
    >>> equity = np.array([99.0, 101.0, 102.0, 90.0])
    >>> compute_daily_curve(times_ms, equity, 100.0, find_utc_days(times_ms)).tolist()
    [100.0, 101.0, 102.0, 102.0, 90.0]
    """
    ends = (np.arange(days.start, days.stop, dtype=np.int64) + 1) * DAY_MS
    known = np.concatenate(([initial_cash], equity))
    curve: FloatArray = np.concatenate(([initial_cash], known[np.searchsorted(times_ms, ends)]))
    return curve


def compute_daily_returns(curve: FloatArray) -> FloatArray:
    """The return of each day, close over close less 1, shape (n_days,).

    Empty where the curve stood at nothing or below before its end: what is gone earns no return.

    >>> compute_daily_returns(np.array([100.0, 110.0, 99.0])).round(6).tolist()
    [0.1, -0.1]
    """
    if (curve[:-1] <= 0).any():
        return np.empty(0)
    returns: FloatArray = curve[1:] / curve[:-1] - 1.0
    return returns
