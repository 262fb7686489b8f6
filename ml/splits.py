"""Which rows teach, which calibrate and which judge, always in time order. Nothing else here splits.

Rows carry two times: when they were decided, and when their label was settled. A row may teach only where its label
was settled, by more than the embargo, before the first row that judges was decided (purging): a label decided before
the test but settled within it has seen the prices that it is judged on. Source: M. Lopez de Prado, Advances in
Financial Machine Learning, 2018, chapter 7.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ml.bars import IntegerArray


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Row numbers, rising: `train` comes before `test`, and no training label looks into the test."""

    train: IntegerArray
    test: IntegerArray


def split_newest(decided_at: IntegerArray, settled_at: IntegerArray, test_fraction: float, embargo: int = 0) -> Split:
    """Keep the newest rows for judging, and of the older ones those whose label was settled by then.

    Args:
        decided_at: When each row was decided, rising (rows of several symbols may share a time), shape (n_rows,).
        settled_at: When its label was settled, never before `decided_at`, shape (n_rows,).
        test_fraction: The share of the rows to judge on, above 0 and below 1.
        embargo: How much longer before the test a label must have been settled, in the unit of the times.

    >>> split = split_newest(np.arange(10), np.arange(10) + 2, 0.3)
    >>> split.train.tolist(), split.test.tolist()
    ([0, 1, 2, 3, 4], [7, 8, 9])
    """
    if not 0 < test_fraction < 1:
        raise ValueError("test_fraction must lie between 0 and 1")
    rows = len(decided_at)
    return _split_between(decided_at, settled_at, rows - round(rows * test_fraction), rows, embargo)


def walk_forward(
    decided_at: IntegerArray, settled_at: IntegerArray, folds: int, test_fraction: float, embargo: int = 0
) -> list[Split]:
    """Cut the newest `test_fraction` of the rows into `folds` tests, each taught by all that came before it.

    Arguments are those of `split_newest`. A fold whose test or training is empty is left out.

    >>> [(s.train.tolist(), s.test.tolist()) for s in walk_forward(np.arange(6), np.arange(6), 2, 0.67)]
    [([0, 1], [2, 3]), ([0, 1, 2, 3], [4, 5])]
    """
    if folds < 1 or not 0 < test_fraction < 1:
        raise ValueError("folds must be at least 1 and test_fraction between 0 and 1")
    rows = len(decided_at)
    edges = np.linspace(rows - round(rows * test_fraction), rows, folds + 1).round().astype(int)
    splits = [_split_between(decided_at, settled_at, int(start), int(stop), embargo) for start, stop in pairwise(edges)]
    return [split for split in splits if len(split.train) and len(split.test)]


def _split_between(decided_at: IntegerArray, settled_at: IntegerArray, start: int, stop: int, embargo: int) -> Split:
    """Judge on the rows from `start` to `stop`, both moved back to the first row of the same time."""
    rows = np.arange(len(decided_at))
    if start >= len(rows):
        return Split(rows, rows[:0])
    opening = decided_at[start]
    first = int(np.searchsorted(decided_at, opening))
    last = int(np.searchsorted(decided_at, decided_at[stop])) if stop < len(rows) else stop
    return Split(rows[settled_at < opening - embargo], rows[first:last])
