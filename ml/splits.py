"""Which rows teach and which rows judge, always in time order. Nothing else here splits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ml.bars import IntegerArray


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Row numbers, rising: `train` comes before `test`, and no training label looks into the test."""

    train: IntegerArray
    test: IntegerArray


def split_holdout(decided_at: IntegerArray, settled_at: IntegerArray, test_fraction: float) -> Split:
    """Keep the newest rows for judging, and of the older ones those whose label was settled by then.

    Dropping the rows between (purging) is what keeps the future out of the training: a label decided before the
    test but settled within it has seen the prices that it is judged on.

    Args:
        decided_at: The bar each row belongs to, rising, shape (n_rows,).
        settled_at: The bar its label is settled at, never before `decided_at`, shape (n_rows,).
        test_fraction: The share of the rows to judge on, above 0 and below 1.

    >>> split = split_holdout(np.arange(10), np.arange(10) + 2, 0.3)
    >>> split.train.tolist(), split.test.tolist()
    ([0, 1, 2, 3, 4], [7, 8, 9])
    """
    if not 0 < test_fraction < 1:
        raise ValueError("test_fraction must lie between 0 and 1")
    cut = len(decided_at) - round(len(decided_at) * test_fraction)
    rows = np.arange(len(decided_at))
    if cut >= len(decided_at):
        return Split(rows, rows[:0])
    return Split(rows[settled_at < decided_at[cut]], rows[cut:])
