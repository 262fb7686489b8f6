"""The reason behind a prediction, in numbers that add up and in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from app.domain.explanation import FeatureContribution
from app.domain.signal import Prediction, Signal
from app.errors import InvalidInputError
from app.strategies.explanation import explain_signal
from app.strategies.forest import ForestStrategy
from ml.bundle import load_bundle
from ml.calibration import Calibration
from ml.features import FEATURE_NAMES, FEATURE_PHRASES
from ml.forest import ForestRule, fit_forest, forest_arrays
from ml.predictor import ForestArrays
from tests.support.models import N_FEATURES, write_bundle

ROW = [0.5] * N_FEATURES


def questions(moves: Sequence[float]) -> ForestArrays:
    """A tree for each of the first features: above 0 it moves what SELL has to BUY."""
    trees = len(moves)
    roots = 3 * np.arange(trees)
    children = np.repeat(np.arange(3 * trees)[:, None], 2, axis=1)
    children[roots] += [1, 2]
    feature, shares = np.zeros(3 * trees, dtype=np.int64), np.tile((0.25, 0.5, 0.25), (3 * trees, 1))
    feature[roots] = np.arange(trees)
    for root, move in zip(roots, moves, strict=True):
        shares[root + 1] += [move, 0.0, -move]
        shares[root + 2] += [-move, 0.0, move]
    return ForestArrays(roots, feature, np.zeros(3 * trees), children, 0 * feature, shares, depth=1)


def test_three_strongest_features_are_named_in_plain_words_strongest_first(tmp_path: Path) -> None:
    bundle = load_bundle(write_bundle(tmp_path, questions([0.02, -0.2, 0.0, 0.1, 0.25])))
    values = [0.5, 0.000012, 0.5, 1.23456, *ROW[4:]]

    found = explain_signal(bundle, values, Signal.BUY)

    assert found.reasons == (
        (
            "distance_from_mean_50 at 0.5 raises BUY by 5.0 points"
            " (distance of the close from its mean over 50 candles, as a fraction)"
        ),
        "return_5 at 0.000012 lowers BUY by 4.0 points (change of the close over 5 candles, as a fraction)",
        "return_50 at 1.23 raises BUY by 2.0 points (change of the close over 50 candles, as a fraction)",
    )
    assert (found.model_id, found.signal, found.bias, found.calibration) == (bundle.model_id, Signal.BUY, 0.25, 0.0)
    assert found.probability == pytest.approx(0.25 + 0.17 / 5, abs=1e-12)
    assert [one.name for one in found.contributions] == list(FEATURE_NAMES)
    assert [one.value for one in found.contributions] == values
    assert found.contributions[2] == FeatureContribution("return_15", 0.5, 0.0)


def test_signal_that_loses_what_another_gains_is_explained_the_other_way_round(tmp_path: Path) -> None:
    bundle = load_bundle(write_bundle(tmp_path, questions([0.25, -0.125])))
    buy, sell, hold = (explain_signal(bundle, ROW, one) for one in (Signal.BUY, Signal.SELL, Signal.HOLD))

    assert [one.contribution for one in buy.contributions[:2]] == [0.125, -0.0625]
    assert [one.contribution for one in sell.contributions[:2]] == [-0.125, 0.0625]
    assert sell.reasons[0].startswith("return_1 at 0.5 lowers SELL by 12.5 points")
    assert hold.reasons == (), "features that move nothing are no reason"


def test_feature_that_hardly_matters_is_not_said_to_move_by_nothing(tmp_path: Path) -> None:
    bundle = load_bundle(write_bundle(tmp_path, questions([0.0004])))
    (reason,) = explain_signal(bundle, ROW, Signal.BUY).reasons
    assert reason.startswith("return_1 at 0.5 raises BUY by less than 0.1 points (")


def test_parts_add_up_to_the_probability_of_the_prediction(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    rows, labels = random.standard_normal((400, N_FEATURES)), random.integers(0, 3, 400).astype(np.int8)
    forest = forest_arrays(fit_forest(rows, labels, ForestRule(trees=20)))
    card = Calibration(beta=1.5, direction=0.4, buy_share=0.45).as_card()
    strategy = ForestStrategy()
    strategy.use(bundle := load_bundle(write_bundle(tmp_path, forest, calibration=card)))

    for said in strategy.predict_features(rows[:30].tolist()):
        assert isinstance(said, Prediction)
        for signal in Signal:
            found = explain_signal(bundle, said.features, signal)
            parts = [found.bias, *(one.contribution for one in found.contributions), found.calibration]
            assert found.probability == said.probabilities[signal]
            assert abs(math.fsum(parts) - said.probabilities[signal]) < 1e-9
            assert found.calibration != 0.0


@pytest.mark.parametrize(
    ("features", "code"),
    [
        (ROW[1:], "features_mismatched"),
        ([*ROW, 0.5], "features_mismatched"),
        ([math.nan, *ROW[1:]], "features_invalid"),
        ([math.inf, *ROW[1:]], "features_invalid"),
        ([1e300, *ROW[1:]], "features_invalid"),
    ],
    ids=["short", "long", "nan", "infinite", "too large"],
)
def test_features_that_no_prediction_is_made_of_are_refused(tmp_path: Path, features: list[float], code: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        explain_signal(load_bundle(write_bundle(tmp_path)), features, Signal.BUY)
    assert refused.value.code == code


def test_each_feature_has_a_phrase_of_its_own() -> None:
    assert len(set(FEATURE_PHRASES.values())) == N_FEATURES
    assert all(phrase.strip() == phrase != "" for phrase in FEATURE_PHRASES.values())
