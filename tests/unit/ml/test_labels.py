"""Labels: what they say, and that they look no further than their horizon."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.bars import Bars
from ml.labels import (
    BUY,
    HOLD,
    LABEL_KINDS,
    SELL,
    UNSETTLED,
    VOLATILITY_BARS,
    LabelRule,
    compute_labels,
    compute_uniqueness,
)
from tests.support.models import MINUTE_MS, walk_bars

PRICES = ("open", "high", "low", "close")
RULES = st.builds(
    LabelRule,
    horizon_bars=st.integers(1, 90),
    threshold_percent=st.sampled_from([0.01, 0.1, 0.3]),
    kind=st.sampled_from(LABEL_KINDS),
    volatility_multiple=st.sampled_from([0.2, 1.0, 3.0]),
)


def threshold_plainly(bars: Bars, rule: LabelRule, row: int) -> float | None:
    if rule.kind == "fixed":
        return rule.threshold_percent / 100.0
    if row < VOLATILITY_BARS:
        return None
    close = bars.close.tolist()
    squares = [(close[at] / close[at - 1] - 1.0) ** 2 for at in range(row - VOLATILITY_BARS + 1, row + 1)]
    threshold = rule.volatility_multiple * math.sqrt(sum(squares) / len(squares)) * math.sqrt(rule.horizon_bars)
    return threshold or None


def label_plainly(bars: Bars, rule: LabelRule, row: int) -> tuple[int, int, float]:
    """The label of one row, the bar at which it is settled, and the return it is about."""
    threshold, end = threshold_plainly(bars, rule, row), row + rule.horizon_bars
    if end >= len(bars) or threshold is None:
        return UNSETTLED, row, math.nan
    entry = float(bars.open[row + 1])
    if rule.kind == "triple_barrier":
        upper, lower = entry * (1.0 + threshold), entry * (1.0 - threshold)
        for at in range(row + 1, end + 1):
            above, below = bars.high[at] >= upper, bars.low[at] <= lower
            if above and below:
                return HOLD, at, float(bars.close[at]) / entry - 1.0
            if above or below:
                return (BUY, at, upper / entry - 1.0) if above else (SELL, at, lower / entry - 1.0)
        return HOLD, end, float(bars.close[end]) / entry - 1.0
    forward_return = float(bars.close[end]) / entry - 1.0
    if forward_return >= threshold:
        return BUY, end, forward_return
    return SELL if forward_return <= -threshold else HOLD, end, forward_return


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 160), RULES, st.integers(0, 1_000))
def test_labels_of_every_kind_are_those_of_a_plain_loop(size: int, rule: LabelRule, seed: int) -> None:
    bars = walk_bars(size, seed)
    found = compute_labels(bars, rule)
    wanted = [label_plainly(bars, rule, row) for row in range(size)]
    assert found.labels.tolist() == [label for label, _, _ in wanted]
    assert found.settled_at.tolist() == [settled_at for _, settled_at, _ in wanted]
    np.testing.assert_allclose(found.forward_return, [value for _, _, value in wanted], rtol=1e-12, atol=1e-15)


@settings(max_examples=40, deadline=None)
@given(st.integers(VOLATILITY_BARS, 80), RULES, st.integers(0, 1_000))
def test_label_depends_on_the_bars_up_to_the_one_that_settles_it_only(row: int, rule: LabelRule, seed: int) -> None:
    bars, other = walk_bars(180, seed), walk_bars(180, seed + 1)
    found = compute_labels(bars, rule)
    seen = np.arange(180) <= found.settled_at[row]
    mixed = replace(bars, **{name: np.where(seen, getattr(bars, name), 7 * getattr(other, name)) for name in PRICES})
    again = compute_labels(mixed, rule)
    assert again.labels[row] == found.labels[row]
    assert again.settled_at[row] == found.settled_at[row]


@pytest.mark.parametrize("kind", ["fixed", "volatility"])
def test_label_ignores_prices_between_its_entry_and_its_end(kind: str) -> None:
    bars, rule, row = walk_bars(120, 5), LabelRule(20, 0.1, kind), 60
    between = (np.arange(120) > row + 1) & (np.arange(120) < row + 20)
    mixed = replace(bars, **{name: np.where(between, 3.0, getattr(bars, name)) for name in PRICES})
    assert compute_labels(mixed, rule).labels[row] == compute_labels(bars, rule).labels[row]


@pytest.mark.parametrize("kind", LABEL_KINDS)
def test_settled_label_never_changes_when_later_candles_come(kind: str) -> None:
    bars, rule = walk_bars(200, 3), LabelRule(7, 0.1, kind, 0.5)
    whole = compute_labels(bars, rule)
    first = 0 if kind == "fixed" else VOLATILITY_BARS
    assert set(whole.labels[first:-7].tolist()) == {SELL, HOLD, BUY}
    for size in range(201):
        early = compute_labels(bars[:size], rule)
        settled = early.labels != UNSETTLED
        assert settled.sum() == max(0, size - 7 - first)
        assert early.labels[settled].tolist() == whole.labels[:size][settled].tolist()
        assert early.settled_at[settled].tolist() == whole.settled_at[:size][settled].tolist()
        assert early.forward_return[settled].tobytes() == whole.forward_return[:size][settled].tobytes()


def test_move_of_exactly_the_threshold_counts() -> None:
    opened = np.array([1.0, 128.0, 128.0, 128.0, 128.0])
    close = np.array([1.0, 129.0, 127.0, 128.9, 127.1])
    bars = Bars(MINUTE_MS * np.arange(5, dtype=np.int64), opened, opened, opened, close, opened)
    found = compute_labels(bars, LabelRule(1, 100 / 128))
    assert found.labels.tolist() == [BUY, SELL, HOLD, HOLD, UNSETTLED]
    assert found.settled_at.tolist() == [1, 2, 3, 4, 4]
    assert found.forward_return[:2].tolist() == [1 / 128, -1 / 128]


def test_triple_barrier_says_what_was_met_first() -> None:
    # Moves of 1 % up and down in turn: the volatility is 1 %, and with a horizon of 4 the barriers are 2 % away.
    close = 100.0 * np.where(np.arange(60) % 2, 1.01, 1.0)
    opened, high, low = close.copy(), close.copy(), close.copy()
    row = 52
    opened[row + 1 :] = close[row + 1 :] = high[row + 1 :] = low[row + 1 :] = 100.0
    bars = Bars(MINUTE_MS * np.arange(60, dtype=np.int64), opened, high, low, close, close)
    rule = LabelRule(4, 1.0, "triple_barrier")

    def judge(**changes: float) -> tuple[int, int, float]:
        changed = {name: getattr(bars, name).copy() for name in PRICES}
        for place, value in changes.items():
            name, _, later = place.partition("_")
            changed[name][row + int(later)] = value
        found = compute_labels(replace(bars, **changed), rule)
        return int(found.labels[row]), int(found.settled_at[row]) - row, round(float(found.forward_return[row]), 3)

    assert judge() == (HOLD, 4, 0.0)
    assert judge(high_1=102.1) == (BUY, 1, 0.02)
    assert judge(high_3=102.1, low_4=97.0) == (BUY, 3, 0.02)
    assert judge(low_2=97.9, high_3=103.0) == (SELL, 2, -0.02)
    assert judge(low_2=97.0, high_2=103.0, close_2=101.0) == (HOLD, 2, 0.01)
    assert judge(high_4=102.1, close_4=102.1) == (BUY, 4, 0.02)
    assert judge(high_5=110.0) == (HOLD, 4, 0.0)
    assert judge(high_2=101.9, low_3=98.1, close_4=101.0) == (HOLD, 4, 0.01)


def test_label_without_volatility_is_unsettled() -> None:
    flat = np.full(80, 100.0)
    bars = Bars(MINUTE_MS * np.arange(80, dtype=np.int64), flat, flat, flat, flat, flat)
    for kind in ("volatility", "triple_barrier"):
        found = compute_labels(bars, LabelRule(3, 1.0, kind))
        assert set(found.labels.tolist()) == {UNSETTLED}
        assert found.settled_at.tolist() == list(range(80))
        assert np.isnan(found.forward_return).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=60))
def test_uniqueness_is_that_of_a_plain_loop(rows: list[tuple[int, bool]]) -> None:
    last = len(rows) - 1
    spans = [(row + 1, min(row + length, last)) for row, (length, _) in enumerate(rows)]
    settled = [is_settled and end >= start for (_, is_settled), (start, end) in zip(rows, spans, strict=True)]
    covered = [
        sum(1 for (start, end), known in zip(spans, settled, strict=True) if known and start <= bar <= end)
        for bar in range(len(rows))
    ]
    wanted = [
        float(np.mean([1.0 / covered[bar] for bar in range(start, end + 1)])) if known else 0.0
        for (start, end), known in zip(spans, settled, strict=True)
    ]
    labels = np.array([HOLD if known else UNSETTLED for known in settled], dtype=np.int8)
    found = compute_uniqueness(labels, np.array([end for _, end in spans], dtype=np.int64))
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    assert all(0.0 < weight <= 1.0 + 1e-12 for weight in found[np.array(settled, dtype=bool)].tolist())


def test_uniqueness_of_labels_that_overlap_by_the_horizon_is_one_over_it() -> None:
    found = compute_labels(walk_bars(200, 4), LabelRule(8, 0.1))
    weights = compute_uniqueness(found.labels, found.settled_at)
    assert weights[20:170] == pytest.approx(1 / 8)
    assert weights[-8:].tolist() == [0.0] * 8


@pytest.mark.parametrize(("horizon", "threshold"), [(0, 0.1), (-1, 0.1), (1, 0.0), (1, -0.1), (1, float("nan"))])
def test_rule_without_sense_is_refused(horizon: int, threshold: float) -> None:
    with pytest.raises(ValueError, match="horizon_bars"):
        LabelRule(horizon, threshold)


@pytest.mark.parametrize("multiple", [0.0, -1.0, float("nan")])
def test_rule_with_a_multiple_that_is_none_is_refused(multiple: float) -> None:
    with pytest.raises(ValueError, match="volatility_multiple"):
        LabelRule(1, 0.1, "volatility", multiple)


def test_rule_of_no_kind_of_ours_is_refused() -> None:
    with pytest.raises(ValueError, match="kind must be one of fixed, volatility, triple_barrier"):
        LabelRule(1, 0.1, "other")
