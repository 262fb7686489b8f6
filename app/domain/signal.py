"""What a strategy says about a market."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Signal(StrEnum):
    """The three things a model can say."""

    BUY = "BUY"
    SELL = "SELL"
    HOLD = "HOLD"


class Edge(StrEnum):
    """What a model has been shown to know out of sample; the rule is `ml.evaluation.find_edge`."""

    NONE = "none"
    STATISTICAL = "statistical"
    TRADABLE = "tradable"


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why a model must not be traded on at present: a code in snake_case, and a sentence."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """A model's signal and the probabilities behind it.

    `probabilities` holds all three signals, each from 0 to 1, summing to 1 up to rounding; `signal` is the
    likeliest one (HOLD wins a tie, then SELL). `expected_return` is what following it is expected to bring after
    costs, a fraction (0 for HOLD). `drift` is how far the market has moved from what the model was trained on, None
    while that has not been measured; `doubt` is there while the model is not to be traded on.

    `features` is what the model was asked about, in the order of its card. `class_returns` is the mean forward return
    of each signal's rows in training and `round_trip_cost` what both sides of a trade cost there, fractions. They are
    empty and None where a strategy has none.
    """

    signal: Signal
    probabilities: dict[Signal, float]
    model_id: str
    expected_return: float
    edge: Edge
    drift: float | None = None
    doubt: Doubt | None = None
    features: tuple[float, ...] = ()
    class_returns: Mapping[Signal, float] | None = None
    round_trip_cost: float | None = None

    @property
    def confidence(self) -> float:
        """The probability of the signal, from 0 to 1."""
        return self.probabilities[self.signal]
