"""The predictor says what scikit-learn says, bit for bit, and without scikit-learn."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from ml.bars import FloatArray
from ml.forest import ForestRule, fit_forest, forest_arrays
from ml.labels import LabelArray
from ml.predictor import ForestArrays, Predictor
from tests.support.models import N_FEATURES, stump, write_bundle

ROOT = Path(__file__).resolve().parents[3]


def make_rows(rows: int, seed: int, columns: int = N_FEATURES) -> tuple[FloatArray, LabelArray]:
    random = np.random.default_rng(seed)
    features = random.standard_normal((rows, columns))
    noise = random.standard_normal(rows)
    labels = np.digitize(features[:, 0] + features[:, 1] * features[:, 2] + noise, [-0.5, 0.5]).astype(np.int8)
    return features, labels


def expected(forest: RandomForestClassifier, rows: FloatArray) -> FloatArray:
    """scikit-learn's probabilities in our order of classes; on one thread it adds the trees up in their order."""
    forest.n_jobs = 1
    result = np.zeros((len(rows), 3))
    with np.errstate(over="ignore", invalid="ignore"):  # its search for infinities adds the largest numbers up
        result[:, forest.classes_.astype(int)] = forest.predict_proba(rows)
    return result


def assert_same_bits(forest: RandomForestClassifier, rows: FloatArray) -> None:
    predictor = Predictor(forest_arrays(forest))
    wanted = expected(forest, rows)
    assert predictor.predict_batch(rows).tobytes() == wanted.tobytes()
    one_by_one = np.stack([predictor.predict(row) for row in rows])
    assert one_by_one.tobytes() == wanted.tobytes()


def rows_at_thresholds(arrays: ForestArrays, columns: int) -> FloatArray:
    """Rows whose values are the thresholds of the trees, and the numbers next to them in 32 and 64 bits."""
    inner = np.flatnonzero(arrays.children[:, 0] != np.arange(len(arrays.feature)))
    rows = []
    for column in range(columns):
        thresholds = arrays.threshold[inner[arrays.feature[inner] == column]]
        single = thresholds.astype(np.float32)
        rows.append(
            np.concatenate(
                [
                    thresholds,
                    np.nextafter(thresholds, np.inf),
                    np.nextafter(thresholds, -np.inf),
                    single.astype(np.float64),
                    np.nextafter(single, np.float32(np.inf)).astype(np.float64),
                    np.nextafter(single, np.float32(-np.inf)).astype(np.float64),
                    [0.0, -0.0, 1e-45, -1e-45, 3.4e38, -3.4e38],
                ]
            )
        )
    size = max(len(values) for values in rows)
    return np.stack([np.resize(values, size) for values in rows], axis=1)


@pytest.fixture(scope="module")
def fitted() -> RandomForestClassifier:
    return fit_forest(*make_rows(1_500, seed=1), ForestRule(trees=60))


def test_predictions_of_a_fitted_forest_have_the_bits_of_scikit_learn(fitted: RandomForestClassifier) -> None:
    assert_same_bits(fitted, make_rows(300, seed=2)[0])


def test_predictions_at_and_next_to_thresholds_have_the_bits_of_scikit_learn(fitted: RandomForestClassifier) -> None:
    rows = rows_at_thresholds(forest_arrays(fitted), N_FEATURES)
    random = np.random.default_rng(3)
    assert_same_bits(fitted, random.permuted(rows[random.permutation(len(rows))[:500]], axis=0))


@pytest.mark.parametrize("depth", [1, 3, 12, None], ids=["one", "three", "twelve", "unlimited"])
@pytest.mark.parametrize("classes", [(0, 1, 2), (0, 2), (1, 2), (1,)], ids=str)
def test_predictions_have_the_bits_of_scikit_learn_at_any_depth_and_with_classes_missing(
    depth: int | None, classes: tuple[int, ...]
) -> None:
    features, labels = make_rows(400, seed=4, columns=5)
    chosen = np.isin(labels, classes)
    forest = RandomForestClassifier(n_estimators=7, max_depth=depth, random_state=5)
    forest.fit(features[chosen], labels[chosen])
    assert_same_bits(forest, make_rows(200, seed=6, columns=5)[0])
    assert_same_bits(forest, rows_at_thresholds(forest_arrays(forest), 5)[:200])


@pytest.mark.parametrize("trained_on_nan", [True, False])
def test_predictions_with_missing_values_have_the_bits_of_scikit_learn(trained_on_nan: bool) -> None:
    random = np.random.default_rng(7)
    features, labels = make_rows(600, seed=8, columns=6)
    if trained_on_nan:
        features[random.random(features.shape) < 0.2] = np.nan
        features[labels == 2, 3] = np.nan
    forest = RandomForestClassifier(n_estimators=15, max_depth=6, random_state=9).fit(features, labels)
    if trained_on_nan:
        assert len({0, 1} & set(forest_arrays(forest).missing_right.tolist())) == 2
    rows = make_rows(300, seed=10, columns=6)[0]
    rows[random.random(rows.shape) < 0.4] = np.nan
    rows[0] = np.nan
    assert_same_bits(forest, rows)


def test_predictions_of_more_rows_than_a_chunk_equal_those_one_by_one(fitted: RandomForestClassifier) -> None:
    rows = make_rows(4_500, seed=11)[0]
    batch = Predictor(forest_arrays(fitted)).predict_batch(rows)
    assert batch.tobytes() == expected(fitted, rows).tobytes()


def test_predictions_of_no_rows_have_no_rows(fitted: RandomForestClassifier) -> None:
    assert Predictor(forest_arrays(fitted)).predict_batch(np.empty((0, N_FEATURES))).shape == (0, 3)


def test_negative_and_positive_zero_go_the_same_way() -> None:
    predictor = Predictor(stump((1.0, 0.0, 0.0), (0.0, 0.0, 1.0)))
    for zero in (0.0, -0.0):
        row = np.full(N_FEATURES, zero)
        assert predictor.predict(row).tolist() == [1.0, 0.0, 0.0]
        assert predictor.predict_batch(row[None]).tolist() == [[1.0, 0.0, 0.0]]


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e39, -1e300])
def test_value_beyond_32_bits_is_refused(value: float, fitted: RandomForestClassifier) -> None:
    row = np.zeros(N_FEATURES)
    row[4] = value
    predictor = Predictor(forest_arrays(fitted))
    with pytest.raises(ValueError, match="infinite"):
        predictor.predict(row)
    with pytest.raises(ValueError, match="infinite"):
        predictor.predict_batch(np.stack((np.zeros(N_FEATURES), row)))


def test_loading_and_predicting_imports_neither_scikit_learn_nor_pandas(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from app.strategies.forest import ForestStrategy
from ml.bundle import load_bundle
strategy = ForestStrategy()
strategy.use(load_bundle(Path(sys.argv[1])))
print(strategy.predict_features([[0.0] * 14])[0].signal)
heavy = {"sklearn", "scipy", "joblib", "pandas", "polars", "talib"}
print(sorted({name.split(".")[0] for name in sys.modules} & heavy))
"""
    path = write_bundle(tmp_path)
    done = subprocess.run([sys.executable, "-c", program, path], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["SELL", "[]"]


def test_forest_of_the_same_rows_is_the_same_forest() -> None:
    features, labels = make_rows(500, seed=12)
    one, two = (forest_arrays(fit_forest(features, labels, ForestRule(trees=20))) for _ in range(2))
    for name in ("roots", "feature", "threshold", "children", "missing_right", "probabilities"):
        assert getattr(one, name).tobytes() == getattr(two, name).tobytes()
