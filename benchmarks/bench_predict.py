"""One-row prediction against scikit-learn, equal bits, in one run: python -m benchmarks.bench_predict."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

from ml.features import FEATURE_NAMES
from ml.forest import ForestRule, fit_forest, forest_arrays
from ml.predictor import Predictor

ROUNDS = 40


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def measure() -> float:
    """How many times as fast the arrays are as scikit-learn (p50 of one row, measured in turns)."""
    random = np.random.default_rng(1)
    features = random.standard_normal((8_000, len(FEATURE_NAMES)))
    labels = random.integers(0, 3, 8_000).astype(np.int8)
    forest = fit_forest(features, labels, ForestRule(depth=8))
    forest.n_jobs = 1
    predictor = Predictor(forest_arrays(forest))
    row = features[:1]
    assert predictor.predict(row[0]).tobytes() == forest.predict_proba(row)[0].tobytes()
    ratios = []
    for _ in range(ROUNDS):
        theirs = median_seconds(lambda: forest.predict_proba(row), 3)
        ours = median_seconds(lambda: predictor.predict(row[0]), 200)
        ratios.append(theirs / ours)
    print(f"  scikit-learn {theirs * 1e6:,.0f} us, arrays {ours * 1e6:,.1f} us (last round)")
    return statistics.median(ratios)


if __name__ == "__main__":
    print(f"{measure():.0f} times as fast")
