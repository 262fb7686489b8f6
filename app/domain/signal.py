"""What a strategy says about a market."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Signal(StrEnum):
    """The three things a model can say."""

    BUY = "BUY"
    SELL = "SELL"
    HOLD = "HOLD"


@dataclass(frozen=True, slots=True)
class Prediction:
    """A model's signal and the probabilities behind it.

    `probabilities` holds all three signals, each from 0 to 1, summing to 1 up to rounding; `signal` is the
    likeliest one (HOLD wins a tie, then SELL).
    """

    signal: Signal
    probabilities: dict[Signal, float]
    model_id: str

    @property
    def confidence(self) -> float:
        """The probability of the signal, from 0 to 1."""
        return self.probabilities[self.signal]
