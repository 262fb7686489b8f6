"""The drift alarm stays quiet while the market is what it was, and hears when it is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ml.bars import FloatArray
from ml.drift import LIMIT, make_reference, measure_drift
from ml.features import FEATURE_NAMES, LOOKBACK_BARS, compute_features
from tests.honesty.walks import make_walk

NEW_ROWS = 2_000
STEP = 100


def make_market(kind: str, taught: int, seed: int) -> tuple[dict[str, Any], FloatArray, FloatArray]:
    """The reference of a training, and the features and probabilities of all its rows and of those after it."""
    features = compute_features(make_walk(kind, taught + NEW_ROWS + LOOKBACK_BARS - 1, seed))[LOOKBACK_BARS - 1 :]
    said = np.random.default_rng(seed).dirichlet([3.0, 4.0, 3.0], len(features))
    return make_reference(features[:taught], said[:taught]), features, said


def score(reference: dict[str, Any], features: FloatArray, said: FloatArray, end: int) -> float:
    newest = slice(end - reference["window_rows"], end)
    return max(measure_drift(reference, features[newest], said[newest]).values())


def share_of_alarms(kind: str, taught: int, seeds: range) -> float:
    """Of all windows after the training that share no row with it, how many give the alarm."""
    scores = []
    for seed in seeds:
        reference, features, said = make_market(kind, taught, seed)
        first = taught + reference["window_rows"]
        scores += [score(reference, features, said, end) for end in range(first, len(features) + 1, STEP)]
    return float(np.mean(np.array(scores) > LIMIT))


def rows_until_heard(kind: str, taught: int, seed: int, moved: list[str]) -> int:
    """How many rows after a shift of these features by one standard deviation the alarm is given."""
    reference, features, said = make_market(kind, taught, seed)
    at = taught + int(reference["window_rows"])
    for name in moved:
        column = FEATURE_NAMES.index(name)
        features[at:, column] += features[:taught, column].std()
    heard = (end for end in range(at, len(features), 10) if score(reference, features, said, end) > LIMIT)
    return next(heard, len(features)) - at


@pytest.mark.parametrize("kind", ["gaussian", "garch"])
def test_alarm_stays_quiet_on_a_market_that_stays_what_it_was(kind: str) -> None:
    assert share_of_alarms(kind, 5_000, range(6)) <= 0.01


@pytest.mark.parametrize(("kind", "most"), [("gaussian", 350), ("garch", 450)])
def test_shift_by_one_deviation_is_heard_within_some_hundreds_of_rows(kind: str, most: int) -> None:
    delays = [rows_until_heard(kind, 5_000, seed, ["return_1"]) for seed in range(4)]
    assert max(delays) <= most
    assert min(delays) >= 100


def test_shift_of_the_models_confidence_is_heard() -> None:
    reference, features, said = make_market("garch", 5_000, 1)
    assert score(reference, features, said, len(features)) < LIMIT
    said[-500:] = np.sqrt(said[-500:]) / np.sqrt(said[-500:]).sum(axis=1, keepdims=True)
    assert score(reference, features, said, len(features)) > LIMIT


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gaussian", "heavy_tailed", "garch"])
@pytest.mark.parametrize("taught", [1_000, 2_000, 5_000, 20_000])
def test_alarm_stays_quiet_on_many_markets_however_few_rows_taught(kind: str, taught: int) -> None:
    assert share_of_alarms(kind, taught, range(100, 140)) <= 0.02


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gaussian", "heavy_tailed", "garch"])
def test_shift_of_any_value_is_heard_once_enough_rows_taught(kind: str) -> None:
    # A value that looks back over 50 bars has few independent windows: it takes longer.
    for name, most in (("return_1", 500), ("return_5", 500), ("relative_volume", 500), ("rsi_14", 700)):
        delays = [rows_until_heard(kind, 20_000, seed, [name]) for seed in range(100, 108)]
        assert np.median(delays) <= 500
        assert max(delays) <= most
