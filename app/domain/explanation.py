"""Why a model said what it said."""

from __future__ import annotations

from dataclasses import dataclass

from app.domain.signal import Signal


@dataclass(frozen=True, slots=True)
class FeatureContribution:
    """How far one feature moved the probability of the explained signal, -1 to 1, and the value that did."""

    name: str
    value: float
    contribution: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the probability of one signal is made of.

    `bias` (what the model says before it looks at any feature), all `contributions` (in the order of the model's
    card) and `calibration` (what making stated probabilities come true added) sum to `probability`, to 1e-9.
    Contributions are to what the model says before it is calibrated; the calibration may take much of that back.
    `reasons` are the strongest of them in words, at most three, strongest first; without those that are zero.
    """

    model_id: str
    signal: Signal
    probability: float
    bias: float
    calibration: float
    contributions: tuple[FeatureContribution, ...]
    reasons: tuple[str, ...]
