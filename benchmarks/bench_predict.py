"""Prediction against scikit-learn, in one run: python -m benchmarks.bench_predict."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator

from ml.bars import FloatArray
from ml.calibration import Calibration
from ml.features import FEATURE_NAMES
from ml.forest import ForestRule, fit_forest, forest_arrays
from ml.labels import LabelArray
from ml.predictor import Predictor

ROUNDS = 40
MANY_ROWS = 1_000_000


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def made_rows(count: int = 10_000) -> tuple[FloatArray, LabelArray]:
    """Rows of a weak pattern, as many as a first training has."""
    random = np.random.default_rng(1)
    features = random.standard_normal((count, len(FEATURE_NAMES)))
    strength = features[:, 0] + features[:, 1] * features[:, 2] + 2.0 * random.standard_normal(count)
    return features, np.digitize(strength, (-0.8, 0.8)).astype(np.int8)


def measure() -> float:
    """How many times as fast the arrays are as scikit-learn (p50 of one row, measured in turns), equal bits."""
    features, labels = made_rows()
    forest = fit_forest(features, labels, ForestRule(depth=8))
    forest.n_jobs = 1
    predictor = Predictor(forest_arrays(forest))
    row = features[:1]
    assert predictor.predict(row[0]).tobytes() == forest.predict_proba(row)[0].tobytes()
    return in_turns(lambda: forest.predict_proba(row), lambda: predictor.predict(row[0]))


def calibrated_pair() -> tuple[RandomForestClassifier, CalibratedClassifierCV, Predictor]:
    """The service's own forest, calibrated by scikit-learn, and the same as arrays."""
    features, labels = made_rows()
    forest = fit_forest(features, labels, ForestRule())
    forest.n_jobs = 1  # for one row all cores take five times as long
    theirs = CalibratedClassifierCV(FrozenEstimator(forest), method="temperature").fit(features, labels)
    beta = float(theirs.calibrated_classifiers_[0].calibrators[0].beta_)
    return forest, theirs, Predictor(forest_arrays(forest), Calibration(beta=beta))


def measure_calibrated() -> float:
    """The same with the service's forest and a calibration, equal to 1e-12."""
    _, theirs, predictor = calibrated_pair()
    row = made_rows()[0][:1]
    assert np.abs(predictor.predict(row[0]) - theirs.predict_proba(row)[0]).max() < 1e-12
    return in_turns(lambda: theirs.predict_proba(row), lambda: predictor.predict(row[0]))


def measure_many() -> float:
    """How many times as fast a million calibrated rows are predicted as by scikit-learn on all cores."""
    forest, theirs, predictor = calibrated_pair()
    forest.n_jobs = -1
    rows = np.random.default_rng(2).standard_normal((MANY_ROWS, len(FEATURE_NAMES)))
    predictor.predict_batch(rows[:100_001])  # compiles
    ratios = []
    for _ in range(3):
        slow = median_seconds(lambda: theirs.predict_proba(rows), 1)
        quick = median_seconds(lambda: predictor.predict_batch(rows), 1)
        ratios.append(slow / quick)
    print(f"  scikit-learn {slow:.2f} s, arrays {quick:.2f} s (last round)")
    return statistics.median(ratios)


def in_turns(theirs: Callable[[], object], ours: Callable[[], object]) -> float:
    ratios = []
    for _ in range(ROUNDS):
        slow, quick = median_seconds(theirs, 3), median_seconds(ours, 200)
        ratios.append(slow / quick)
    print(f"  scikit-learn {slow * 1e6:,.0f} us, arrays {quick * 1e6:,.1f} us (last round)")
    return statistics.median(ratios)


if __name__ == "__main__":
    print(f"one row, bare: {measure():.0f} times as fast")
    print(f"one row, calibrated: {measure_calibrated():.0f} times as fast")
    print(f"a million rows, calibrated: {measure_many():.1f} times as fast")
