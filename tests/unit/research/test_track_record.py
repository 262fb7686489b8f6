"""What the record of a model says, computed by hand."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest

from app.domain.candle import Interval
from app.domain.outcome import ScoredDecision, StatedDecision, Truth
from app.domain.signal import Signal
from app.research.track_record import BINS, HitRate, measure_hits, summarize

START = datetime(2026, 11, 21, 1, tzinfo=UTC)
BUY, SELL, HOLD = Signal.BUY, Signal.SELL, Signal.HOLD


def scored(
    minute: int, action: Signal, confidence: float, label: Signal, *, model_id: str = "forest-1"
) -> ScoredDecision:
    """A decision whose other two signals share what is left."""
    probabilities = {signal: confidence if signal is action else (1 - confidence) / 2 for signal in Signal}
    opened = START + timedelta(minutes=minute)
    decision = StatedDecision(
        f"cycle-{model_id}-{minute}", model_id, "BTCUSDT", Interval.M1, opened, action, confidence, probabilities
    )
    return ScoredDecision(decision, Truth(label, 0.0, -math.log(probabilities[label])), opened + timedelta(minutes=5))


def test_summarize_four_decisions_has_the_numbers_done_by_hand() -> None:
    rows = [
        scored(0, BUY, 0.5, BUY),
        scored(1, BUY, 0.5, HOLD),
        scored(2, HOLD, 0.8, HOLD),
        scored(3, SELL, 0.4, SELL),
    ]

    (record,) = summarize(rows, min_confidence=0.5)

    losses = [-math.log(share) for share in (0.5, 0.25, 0.8, 0.4)]
    assert record.model_id == "forest-1"
    assert record.count == 4
    assert (record.first_settled_at, record.last_settled_at) == (rows[0].settled_at, rows[3].settled_at)
    assert record.log_loss == pytest.approx(sum(losses) / 4)
    assert record.prior_log_loss == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(4))
    assert record.skill == pytest.approx(1 - record.log_loss / record.prior_log_loss)
    squares = [0.375, 0.25 + 0.5625 + 0.0625, 0.04 + 0.01 + 0.01, 0.36 + 0.09 + 0.09]
    assert record.brier == pytest.approx(sum(squares) / 4)
    assert record.class_counts == {BUY: 1, SELL: 1, HOLD: 2}
    assert (record.gate.count, record.gate.rate) == (2, 0.5)
    assert [(one.lower, one.upper, one.stated, one.hits.count, one.hits.rate) for one in record.bins] == [
        (0.4, 0.45, 0.4, 1, 1.0),
        (0.5, 0.55, 0.5, 2, 0.5),
        (0.8, 0.85, 0.8, 1, 1.0),
    ]
    assert record.calibration_error == pytest.approx((0.6 + 2 * 0.0 + 0.2) / 4)
    assert [point.settled_at for point in record.running] == [row.settled_at for row in rows]
    means = [sum(losses[:number]) / number for number in (1, 2, 3, 4)]
    assert [point.log_loss for point in record.running] == pytest.approx(means)


def test_summarize_several_models_lists_the_newest_first() -> None:
    rows = [
        scored(0, BUY, 0.5, BUY, model_id="old"),
        scored(1, BUY, 0.5, SELL, model_id="older"),
        scored(2, BUY, 0.5, BUY, model_id="old"),
        scored(2, SELL, 0.5, SELL, model_id="new"),
    ]
    records = summarize(rows, 0.45)
    assert [(record.model_id, record.count) for record in records] == [("new", 1), ("old", 2), ("older", 1)]


def test_summarize_one_class_only_has_no_skill() -> None:
    (record,) = summarize([scored(minute, HOLD, 0.6, HOLD) for minute in range(3)], 0.45)
    assert record.prior_log_loss == 0.0
    assert record.skill is None
    assert record.gate == HitRate(0, None, None, None)


def test_summarize_nothing_is_empty() -> None:
    assert summarize([], 0.45) == []


@pytest.mark.parametrize("count", [1, 99, 100, 101, 199, 1_000, 1_001])
def test_summarize_running_ends_with_the_last_and_has_a_hundred_points_at_most(count: int) -> None:
    rows = [scored(minute, BUY, 0.5, BUY if minute % 3 else SELL) for minute in range(count)]
    (record,) = summarize(rows, 0.45)
    assert len(record.running) == count if count <= 100 else 50 < len(record.running) <= 100
    assert record.running[-1].settled_at == rows[-1].settled_at
    assert record.running[-1].log_loss == pytest.approx(record.log_loss)


def test_summarize_confidences_on_an_edge_belong_to_the_bin_above() -> None:
    rows = [scored(place, BUY, place * 5 / 100, HOLD) for place in range(1, BINS)]
    (record,) = summarize([*rows, scored(BINS, BUY, 1.0, BUY)], 0.45)
    assert [one.lower for one in record.bins] == [place / BINS for place in range(1, BINS)]
    assert record.bins[-1].hits.count == 2, "all that is certain belongs to the last"


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [(0, 10, 0.0, 0.2775328), (5, 10, 0.2365931, 0.7634069), (10, 10, 0.7224672, 1.0), (81, 263, 0.2552885, 0.3662096)],
)
def test_measure_hits_interval_is_wilsons(hits: int, count: int, low: float, high: float) -> None:
    # What scipy.stats.binomtest(hits, count).proportion_ci(method="wilson") says.
    measured = measure_hits([scored(row, BUY, 0.5, BUY if row < hits else HOLD) for row in range(count)])
    assert measured.rate == hits / count
    assert measured.low == pytest.approx(low, abs=1e-7)
    assert measured.high == pytest.approx(high, abs=1e-7)
