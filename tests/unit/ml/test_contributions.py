"""What a probability is made of: the same as by scikit-learn's own paths, and always the whole of it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier

from ml.bars import FloatArray
from ml.bundle import load_bundle
from ml.calibration import Calibration
from ml.contributions import Contributions, compute_contributions
from ml.forest import ForestRule, Rows, fit_calibrated, fit_forest, forest_arrays
from ml.predictor import ForestArrays, Predictor
from tests.support.models import N_FEATURES, stump, write_bundle

KNOTS = ((0.0, 0.3, 0.6), (0.1, 0.2, 0.9))
CALIBRATIONS = {
    "none": None,
    "as it is": Calibration(),
    "temperature": Calibration(beta=1.7),
    "directed": Calibration(beta=0.6, direction=0.3, buy_share=0.45),
    "sigmoid": Calibration("sigmoid", slopes=(-3.0, -2.0, -4.0), intercepts=(1.0, 0.5, 1.5), direction=0.8),
    "isotonic": Calibration("isotonic", knots=(KNOTS, KNOTS, KNOTS)),
}


def grown(classes: tuple[int, ...] = (0, 1, 2), *, missing: bool = False, depth: int = 6) -> RandomForestClassifier:
    random = np.random.default_rng(8)
    features = random.standard_normal((400, N_FEATURES))
    if missing:
        features[random.random(features.shape) < 0.2] = np.nan
    labels = random.choice(classes, 400).astype(np.int8)
    return fit_forest(features, labels, ForestRule(trees=12, depth=depth), random.uniform(0.1, 1.0, 400))


def take_slowly(forest: RandomForestClassifier, row: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Bias and contributions by scikit-learn's own paths and shares, step by step."""
    columns, trees = forest.classes_.astype(int), len(forest.estimators_)
    bias, moved = np.zeros(3), np.zeros((len(row), 3))
    for estimator in forest.estimators_:
        tree = estimator.tree_
        path = sorted(estimator.decision_path(row[None, :].astype(np.float32), check_input=False).indices)
        bias[columns] += tree.value[path[0], 0] / trees
        for node, child in pairwise(path):
            moved[tree.feature[node], columns] += (tree.value[child, 0] - tree.value[node, 0]) / trees
    return bias, moved


def assert_whole(forest: ForestArrays, calibration: Calibration | None, row: FloatArray) -> Contributions:
    """The parts add up, and the whole is what the predictor says."""
    found = compute_contributions(forest, calibration, row)
    raw = found.bias + found.features.sum(axis=0)
    assert np.abs(raw - Predictor(forest).predict(row)).max() < 1e-12
    assert np.abs(raw + found.calibration - found.probabilities).max() < 1e-9
    assert found.probabilities.tobytes() == Predictor(forest, calibration).predict(row).tobytes()
    return found


FOREST = grown()
ARRAYS = forest_arrays(FOREST)


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("classes", [(0, 1, 2), (0, 2), (1,)], ids=str)
def test_contributions_are_those_along_the_paths_of_scikit_learn(classes: tuple[int, ...], missing: bool) -> None:
    forest = grown(classes, missing=missing)
    random = np.random.default_rng(9)
    rows = random.standard_normal((20, N_FEATURES))
    rows[10:][random.random((10, N_FEATURES)) < 0.4] = np.nan
    rows[-1] = np.nan
    arrays = forest_arrays(forest)
    for row in rows:
        bias, moved = take_slowly(forest, row)
        found = assert_whole(arrays, None, row)
        assert np.abs(found.bias - bias).max() < 1e-12
        assert np.abs(found.features - moved).max() < 1e-12
    assert (np.abs(moved).max() > 0) == (len(classes) > 1)


@settings(max_examples=60, deadline=None)
@given(
    row=st.lists(
        st.one_of(
            st.floats(-3.0, 3.0), st.floats(width=32, allow_infinity=False), st.sampled_from(ARRAYS.threshold.tolist())
        ),
        min_size=N_FEATURES,
        max_size=N_FEATURES,
    ),
    calibration=st.sampled_from(sorted(CALIBRATIONS)),
)
def test_parts_of_any_row_add_up_to_what_the_model_states(row: list[float], calibration: str) -> None:
    values = np.array(row)
    found = assert_whole(ARRAYS, CALIBRATIONS[calibration], values)
    bias, moved = take_slowly(FOREST, values)
    assert np.abs(found.bias - bias).max() < 1e-12
    assert np.abs(found.features - moved).max() < 1e-12
    assert np.abs(found.features.sum(axis=1)).max() < 1e-12, "what one class gains the others lose"


@pytest.mark.parametrize("method", ["temperature", "sigmoid"])
def test_parts_add_up_for_a_calibrated_bundle_read_from_disk(tmp_path: Path, method: str) -> None:
    random = np.random.default_rng(10)
    features = random.standard_normal((600, N_FEATURES))
    labels = np.digitize(features[:, 0] + random.standard_normal(600), (-0.6, 0.6)).astype(np.int8)
    decided_at = 60_000 * np.arange(600, dtype=np.int64)
    rows = Rows(features, labels, np.ones(600), decided_at, decided_at + 300_000)
    forest, calibration = fit_calibrated(rows, ForestRule(trees=15, calibration=method))
    assert calibration.method == method
    bundle = load_bundle(write_bundle(tmp_path, forest, calibration=calibration.as_card()))
    found = [assert_whole(bundle.forest, bundle.calibration, row) for row in features[:50]]
    assert max(float(np.abs(one.calibration).max()) for one in found) > 0.01
    strongest = np.mean([np.abs(one.features).sum(axis=1) for one in found], axis=0)
    assert strongest.argmax() == 0, "the one feature that the labels follow"


def test_one_question_gives_all_of_its_change_to_its_feature() -> None:
    found = compute_contributions(stump((0.7, 0.2, 0.1), (0.1, 0.2, 0.7)), None, np.full(N_FEATURES, 1.0))
    assert found.bias.tolist() == [0.0, 1.0, 0.0]
    assert found.features.tolist() == [[0.1, -0.8, 0.7], *([[0.0, 0.0, 0.0]] * (N_FEATURES - 1))]
    assert found.calibration.tolist() == [0.0, 0.0, 0.0]
    assert found.probabilities.tolist() == [0.1, 0.2, 0.7]


def test_missing_value_goes_the_way_the_tree_learnt() -> None:
    row = np.full(N_FEATURES, np.nan)
    found = compute_contributions(stump((0.7, 0.2, 0.1), (0.1, 0.2, 0.7)), None, row)
    assert found.features[0].tolist() == [0.1, -0.8, 0.7]


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e39])
def test_value_beyond_32_bits_is_refused(value: float) -> None:
    row = np.zeros(N_FEATURES)
    row[2] = value
    with pytest.raises(ValueError, match="infinite"):
        compute_contributions(ARRAYS, None, row)
