"""Splits: time runs one way, and no training label has seen a row that judges."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.bars import IntegerArray
from ml.splits import Split, split_newest, walk_forward

# Steps of nothing: rows of several symbols share a time.
TIMES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 25)), max_size=80)
SHARES = st.floats(0.01, 0.99)
EMBARGOES = st.integers(0, 15)


def decided_and_settled(rows: list[tuple[int, int]]) -> tuple[IntegerArray, IntegerArray]:
    decided_at = np.cumsum(np.array([step for step, _ in rows], dtype=np.int64))
    return decided_at, decided_at + np.array([length for _, length in rows], dtype=np.int64)


def assert_keeps_time(split: Split, decided_at: IntegerArray, settled_at: IntegerArray, embargo: int) -> None:
    """No training label's interval meets any test row's, by more than the embargo, and none was dropped in vain."""
    opening = decided_at[split.test].min()
    assert (settled_at[split.train] < opening - embargo).all()
    assert split.train.tolist() == [row for row in range(len(decided_at)) if settled_at[row] < opening - embargo]
    for row in split.test.tolist():
        meets = (decided_at[split.train] <= settled_at[row]) & (settled_at[split.train] >= decided_at[row])
        assert not meets.any()
    assert not set(decided_at[split.train].tolist()) & set(decided_at[split.test].tolist())


@settings(max_examples=150, deadline=None)
@given(TIMES, SHARES, EMBARGOES)
def test_newest_rows_judge_and_no_training_label_reaches_into_them(
    rows: list[tuple[int, int]], share: float, embargo: int
) -> None:
    decided_at, settled_at = decided_and_settled(rows)
    split = split_newest(decided_at, settled_at, share, embargo)
    start = len(rows) - round(len(rows) * share)
    if start == len(rows):
        assert (split.train.tolist(), split.test.tolist()) == (list(range(len(rows))), [])
        return
    first = decided_at.tolist().index(decided_at[start])
    assert split.test.tolist() == list(range(first, len(rows)))
    assert_keeps_time(split, decided_at, settled_at, embargo)


@settings(max_examples=150, deadline=None)
@given(TIMES, st.integers(1, 6), SHARES, EMBARGOES)
def test_folds_follow_each_other_and_no_training_label_reaches_into_its_test(
    rows: list[tuple[int, int]], folds: int, share: float, embargo: int
) -> None:
    decided_at, settled_at = decided_and_settled(rows)
    splits = walk_forward(decided_at, settled_at, folds, share, embargo)
    assert len(splits) <= folds
    for split in splits:
        assert len(split.train)
        assert_keeps_time(split, decided_at, settled_at, embargo)
    judged = [row for split in splits for row in split.test.tolist()]
    assert judged == sorted(set(judged))
    for before, after in pairwise(splits):
        assert decided_at[before.test].max() < decided_at[after.test].min()
        assert set(before.train.tolist()) <= set(after.train.tolist())


def test_folds_of_two_symbols_keep_rows_of_one_time_together() -> None:
    decided_at = np.repeat(np.arange(10), 2)
    splits = walk_forward(decided_at, decided_at + 1, 3, 0.5)
    assert [(split.train.tolist(), split.test.tolist()) for split in splits] == [
        (list(range(8)), list(range(10, 12))),
        (list(range(10)), list(range(12, 16))),
        (list(range(14)), list(range(16, 20))),
    ]


def test_embargo_moves_the_last_label_that_teaches_back() -> None:
    times = np.arange(20)
    assert split_newest(times, times + 2, 0.25).train.tolist() == list(range(13))
    assert split_newest(times, times + 2, 0.25, embargo=4).train.tolist() == list(range(9))


def test_fold_without_teachers_is_left_out() -> None:
    times = np.arange(10)
    assert [split.test.tolist() for split in walk_forward(times, times + 5, 2, 0.8)] == [[6, 7, 8, 9]]


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_share_that_is_none_is_refused(share: float) -> None:
    rows = np.arange(10)
    with pytest.raises(ValueError, match="test_fraction"):
        split_newest(rows, rows, share)
    with pytest.raises(ValueError, match="test_fraction"):
        walk_forward(rows, rows, 2, share)


def test_no_folds_are_refused() -> None:
    with pytest.raises(ValueError, match="folds"):
        walk_forward(np.arange(4), np.arange(4), 0, 0.5)
