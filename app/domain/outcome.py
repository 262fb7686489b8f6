"""What came of decisions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from app.domain.candle import Interval
from app.domain.signal import Signal


@dataclass(frozen=True, slots=True)
class WaitingDecisions:
    """That a model has decisions on one market which nobody has scored; `oldest` is the earliest one's open time."""

    model_id: str
    symbol: str
    interval: Interval
    oldest: datetime


@dataclass(frozen=True, slots=True)
class StatedDecision:
    """What a model said after one closed candle, which is told by its open time."""

    cycle_id: str
    model_id: str
    symbol: str
    interval: Interval
    candle_open_time: datetime
    action: Signal
    confidence: float
    probabilities: dict[Signal, float]


@dataclass(frozen=True, slots=True)
class Truth:
    """What came true, and what it cost the one who had said something else.

    `forward_return` is a fraction, negative when the price fell; `log_loss` is -ln(probability given to `label`).
    """

    label: Signal
    forward_return: float
    log_loss: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is recorded of a decision once its label has settled.

    `settled_at` is the close time of the candle at the horizon. `truth` is None where candles up to there are
    missing: then it will never be known.
    """

    cycle_id: str
    settled_at: datetime
    scored_at: datetime
    truth: Truth | None


@dataclass(frozen=True, slots=True)
class ScoredDecision:
    """A decision beside what came true."""

    decision: StatedDecision
    truth: Truth
    settled_at: datetime
