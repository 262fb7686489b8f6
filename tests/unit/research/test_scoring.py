"""What comes of a decision is read off the candles up to its horizon, and never across a gap."""

from __future__ import annotations

import math
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from app.domain.candle import Candle, Interval
from app.domain.outcome import StatedDecision
from app.domain.signal import Signal
from app.research.scoring import read_label_rule, settle
from app.strategies.bars import bars_from_candles
from ml.labels import LabelRule
from tests.support.models import write_bundle

START = datetime(2026, 11, 21, 1, tzinfo=UTC)
NOW = START + timedelta(days=1)
RULE = LabelRule(horizon_bars=3, threshold_percent=1.0)


def candle(minute: int, opened: str, close: str) -> Candle:
    first = START + timedelta(minutes=minute)
    last = first + timedelta(milliseconds=59_999)
    return Candle(first, last, Decimal(opened), Decimal(200), Decimal(50), Decimal(close), Decimal(1))


# After the candle of minute 0 the price goes from 100 (the next open) to 101 (the close three candles on).
CANDLES = [candle(0, "90", "95"), candle(1, "100", "99"), candle(2, "99", "120"), candle(3, "120", "101")]


def decide(minute: int = 0, *, buy: float = 0.25, interval: Interval = Interval.M1) -> StatedDecision:
    probabilities = {Signal.BUY: buy, Signal.SELL: 0.25, Signal.HOLD: 0.75 - buy}
    opened = START + timedelta(minutes=minute)
    return StatedDecision("cycle-1", "forest-1", "BTCUSDT", interval, opened, Signal.HOLD, 0.5, probabilities)


def test_settle_label_runs_from_the_next_open_to_the_close_at_the_horizon() -> None:
    (outcome,) = settle([(decide(), RULE)], bars_from_candles(CANDLES), NOW)
    assert outcome.cycle_id == "cycle-1"
    assert outcome.settled_at == START + timedelta(minutes=4) - timedelta(milliseconds=1)
    assert outcome.scored_at == NOW
    assert outcome.truth is not None
    assert outcome.truth.label is Signal.BUY
    assert outcome.truth.forward_return == pytest.approx(0.01)
    assert outcome.truth.log_loss == pytest.approx(math.log(4))


def test_settle_probability_of_nothing_costs_a_finite_loss() -> None:
    (outcome,) = settle([(decide(buy=0.0), RULE)], bars_from_candles(CANDLES), NOW)
    assert outcome.truth is not None
    assert outcome.truth.log_loss == pytest.approx(math.log(1e6))


@pytest.mark.parametrize(
    ("threshold", "horizon", "label"),
    [(1.0, 3, Signal.BUY), (1.1, 3, Signal.HOLD), (1.0, 1, Signal.SELL), (1.1, 1, Signal.HOLD), (19.9, 2, Signal.BUY)],
)
def test_settle_label_follows_the_rule_of_the_model(threshold: float, horizon: int, label: Signal) -> None:
    (outcome,) = settle([(decide(), LabelRule(horizon, threshold))], bars_from_candles(CANDLES), NOW)
    assert outcome.truth is not None
    assert outcome.truth.label is label


@pytest.mark.parametrize("candles", [CANDLES[:3], []], ids=["not closed", "no candles"])
def test_settle_before_the_candle_at_the_horizon_is_there_waits(candles: list[Candle]) -> None:
    assert settle([(decide(), RULE)], bars_from_candles(candles), NOW) == []


@pytest.mark.parametrize("missing", [0, 1, 2, 3])
def test_settle_across_a_gap_has_no_truth(missing: int) -> None:
    later = candle(4, "101", "101")
    candles = [one for place, one in enumerate([*CANDLES, later]) if place != missing]
    (outcome,) = settle([(decide(), RULE)], bars_from_candles(candles), NOW)
    assert outcome.truth is None
    assert outcome.settled_at == START + timedelta(minutes=4) - timedelta(milliseconds=1)


def test_settle_gap_outside_of_the_window_does_not_matter() -> None:
    around = [candle(-3, "90", "90"), *CANDLES, candle(9, "90", "90")]
    assert settle([(decide(), RULE)], bars_from_candles(around), NOW) == settle(
        [(decide(), RULE)], bars_from_candles(CANDLES), NOW
    )


def test_read_label_rule_is_the_one_on_the_card(tmp_path: Path) -> None:
    path = write_bundle(tmp_path, label_rule=asdict(LabelRule(7, 0.25)))
    assert read_label_rule(tmp_path, path.name) == LabelRule(7, 0.25)


def test_read_label_rule_that_cannot_be_known_is_none(tmp_path: Path) -> None:
    path = write_bundle(tmp_path, label_rule={"horizon_bars": 0, "threshold_percent": 0.25})
    assert read_label_rule(tmp_path, "forest-gone") is None
    assert read_label_rule(tmp_path, path.name) is None
