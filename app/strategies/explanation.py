"""The reason behind a prediction: how far each feature moved the probability of its signal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal

import numpy as np

from app.domain.explanation import Explanation, FeatureContribution
from app.domain.signal import Signal
from app.errors import InvalidInputError
from ml.bundle import Bundle
from ml.contributions import compute_contributions
from ml.features import FEATURE_NAMES, FEATURE_PHRASES
from ml.labels import CLASSES

_REASONS = 3
_LEAST_POINTS = 0.05
"""What is less than this rounds to 0.0 percentage points."""


def explain_signal(bundle: Bundle, features: Sequence[float], signal: Signal) -> Explanation:
    """Explain the probability that the model of `bundle` gives `signal` for `features`, in the order of its card.

    Raises:
        InvalidInputError: `features_mismatched`, another number of features than the model takes;
            `features_invalid`, one is not finite, or too large.
    """
    if len(features) != len(FEATURE_NAMES):
        raise InvalidInputError(
            f"There are {len(features)} features; the model takes {len(FEATURE_NAMES)}.", code="features_mismatched"
        )
    if not all(map(math.isfinite, features)):
        raise InvalidInputError("Give finite features; no prediction is made from others.", code="features_invalid")
    try:
        found = compute_contributions(bundle.forest, bundle.calibration, np.array(features, dtype=np.float64))
    except ValueError as error:
        raise InvalidInputError(f"Nothing can be explained: {error}.", code="features_invalid") from error
    column = CLASSES.index(signal)
    rows = zip(FEATURE_NAMES, features, found.features[:, column].tolist(), strict=True)
    contributions = tuple(FeatureContribution(name, float(value), moved) for name, value, moved in rows)
    return Explanation(
        bundle.model_id,
        signal,
        float(found.probabilities[column]),
        float(found.bias[column]),
        float(found.calibration[column]),
        contributions,
        _find_reasons(contributions, signal),
    )


def _find_reasons(contributions: Sequence[FeatureContribution], signal: Signal) -> tuple[str, ...]:
    moving = [one for one in contributions if one.contribution != 0.0]
    strongest = sorted(moving, key=lambda one: -abs(one.contribution))[:_REASONS]
    return tuple(_say(one, signal) for one in strongest)


def _say(one: FeatureContribution, signal: Signal) -> str:
    points = 100.0 * abs(one.contribution)
    size = f"{points:.1f}" if points >= _LEAST_POINTS else "less than 0.1"
    value = f"{Decimal(f'{one.value:.3g}'):f}"  # never 1.2e-05, which not everyone reads
    verb = "raises" if one.contribution > 0 else "lowers"
    return f"{one.name} at {value} {verb} {signal} by {size} points ({FEATURE_PHRASES[one.name]})"
