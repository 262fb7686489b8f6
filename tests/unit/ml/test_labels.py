"""Labels: what they say, and that they look no further than their horizon."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.bars import Bars
from ml.labels import BUY, HOLD, SELL, UNSETTLED, LabelRule, compute_labels
from tests.support.models import MINUTE_MS, walk_bars


def label_plainly(bars: Bars, rule: LabelRule, row: int) -> int:
    if row + rule.horizon_bars >= len(bars):
        return UNSETTLED
    forward_return = float(bars.close[row + rule.horizon_bars]) / float(bars.open[row + 1]) - 1.0
    threshold = rule.threshold_percent / 100.0
    if forward_return >= threshold:
        return BUY
    return SELL if forward_return <= -threshold else HOLD


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 80), st.integers(1, 90), st.sampled_from([0.01, 0.1, 0.3]), st.integers(0, 1_000))
def test_labels_are_those_of_the_rule(size: int, horizon: int, threshold: float, seed: int) -> None:
    bars, rule = walk_bars(size, seed), LabelRule(horizon, threshold)
    assert compute_labels(bars, rule).tolist() == [label_plainly(bars, rule, row) for row in range(size)]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 60), st.integers(1, 20), st.integers(0, 1_000))
def test_label_depends_on_the_bars_after_it_up_to_the_horizon_only(row: int, horizon: int, seed: int) -> None:
    bars, rule = walk_bars(100, seed), LabelRule(horizon, 0.1)
    other = walk_bars(100, seed + 1)
    seen = np.zeros(100, dtype=bool)
    seen[row + 1 : row + horizon + 1] = True
    mixed = replace(
        bars, **{name: np.where(seen, getattr(bars, name), 7 * getattr(other, name)) for name in ("open", "close")}
    )
    assert compute_labels(mixed, rule)[row] == compute_labels(bars, rule)[row]


def test_settled_label_never_changes_when_later_candles_come() -> None:
    bars, rule = walk_bars(200, 3), LabelRule(7, 0.1)
    labels = compute_labels(bars, rule)
    assert set(labels[:-7].tolist()) == {SELL, HOLD, BUY}
    for size in range(201):
        early = compute_labels(bars[:size], rule)
        settled = early != UNSETTLED
        assert settled.sum() == max(0, size - 7)
        assert early[settled].tolist() == labels[:size][settled].tolist()


def test_move_of_exactly_the_threshold_counts() -> None:
    opened = np.array([1.0, 128.0, 128.0, 128.0, 128.0])
    close = np.array([1.0, 129.0, 127.0, 128.9, 127.1])
    bars = Bars(MINUTE_MS * np.arange(5, dtype=np.int64), opened, opened, opened, close, opened)
    assert compute_labels(bars, LabelRule(1, 100 / 128)).tolist() == [BUY, SELL, HOLD, HOLD, UNSETTLED]


@pytest.mark.parametrize(("horizon", "threshold"), [(0, 0.1), (-1, 0.1), (1, 0.0), (1, -0.1), (1, float("nan"))])
def test_rule_without_sense_is_refused(horizon: int, threshold: float) -> None:
    with pytest.raises(ValueError, match="horizon_bars"):
        LabelRule(horizon, threshold)
