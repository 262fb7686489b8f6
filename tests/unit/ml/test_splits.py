"""Splits: time runs one way, and no training label has seen a row that judges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.splits import split_holdout


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(1, 5), max_size=60),
    st.integers(0, 30),
    st.floats(0.01, 0.99),
)
def test_no_training_label_reaches_into_the_test(steps: list[int], horizon: int, fraction: float) -> None:
    decided_at = np.cumsum(np.array(steps, dtype=np.int64))
    settled_at = decided_at + horizon
    split = split_holdout(decided_at, settled_at, fraction)
    train, test = split.train.tolist(), split.test.tolist()
    assert test == list(range(len(steps) - round(len(steps) * fraction), len(steps)))
    assert train == sorted(set(train))
    if test:
        assert all(settled_at[row] < decided_at[test[0]] for row in train)
        kept = set(train) | set(test)
        assert all(settled_at[row] >= decided_at[test[0]] for row in range(len(steps)) if row not in kept)
    else:
        assert train == list(range(len(steps)))


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_share_that_is_none_is_refused(fraction: float) -> None:
    rows = np.arange(10)
    with pytest.raises(ValueError, match="test_fraction"):
        split_holdout(rows, rows, fraction)
