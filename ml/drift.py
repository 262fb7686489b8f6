"""How far the market has moved from what a model was trained on: the population stability index.

The index compares the shares of rows in ten bins with those of the training rows, a tenth each: the sum of
(share - expected) * ln(share / expected). A shift of a normal value by one standard deviation gives about 1. Markets
have hours and weeks of their own, so that a fixed limit rings all day; here a value has moved when its index is more
than `LIMIT` times the greatest that any window of the same length had *within* the training rows (at least
`LEAST_INDEX`). Few windows have not seen much: the fewer there were, the more is added to their greatest.
Source of the index: N. Siddiqi, Credit Risk Scorecards, 2006.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from ml.bars import FloatArray, IntegerArray
from ml.features import FEATURE_NAMES
from ml.labels import CLASSES

WINDOW_ROWS: Final = 500
"""How many of the newest rows are compared."""

LIMIT: Final = 2.0
"""From this score on a model is said to have drifted."""

LEAST_INDEX: Final = 0.1
"""What an index is measured against at least: below it, it is called no shift by custom."""

_BINS = 10
_FALSE_ALARM = 0.002
_CYCLICAL = ("time_sin", "time_cos")
_WATCHED = tuple(name for name in FEATURE_NAMES if name not in _CYCLICAL)


def compute_stability_index(counts: IntegerArray, expected: FloatArray) -> float:
    """The index of rows counted in bins, shape (n_bins,), against the `expected` shares of the same bins.

    Each bin counts half a row more than it has, so that an empty one is no infinite shift.

    >>> even = np.full(10, 0.1)
    >>> round(compute_stability_index(np.array([95, 5, *[50] * 8]), even), 3)
    0.254
    """
    rows, bins = counts.sum(), len(counts)
    share = (counts + 0.5) / (rows + 0.5 * bins)
    base = (expected * rows + 0.5) / (rows + 0.5 * bins)
    return float(((share - base) * np.log(share / base)).sum())


def make_reference(features: FloatArray, probabilities: FloatArray) -> dict[str, Any]:
    """What later rows are compared with, as a card can hold it.

    Args:
        features: The training rows in the order of time, shape (n_rows, n_features).
        probabilities: What the model says of them, shape (n_rows, 3).
    """
    window = max(1, min(WINDOW_ROWS, len(features) // 4))
    values = {}
    caution = _caution(len(features), window)
    for name, column in _columns(features, probabilities).items():
        edges = np.quantile(column, np.linspace(0, 1, _BINS + 1)[1:-1])
        # Not a tenth each where many rows share a value.
        expected = _count(column, edges) / len(column)
        starts = range(0, len(column) - window + 1, max(1, window // 2))
        own = [compute_stability_index(_count(column[start : start + window], edges), expected) for start in starts]
        values[name] = {
            "edges": edges.tolist(),
            "expected": expected.tolist(),
            "greatest": max(LEAST_INDEX, caution * max(own)),
        }
    return {"window_rows": window, "values": values}


def measure_drift(reference: dict[str, Any], features: FloatArray, probabilities: FloatArray) -> dict[str, float]:
    """The score of each feature and of each class's probability: its index over the greatest within training.

    Args:
        reference: What `make_reference` gave.
        features: The newest rows, shape (n_rows, n_features).
        probabilities: What the model says of them, shape (n_rows, 3).
    """
    scores = {}
    for name, column in _columns(features, probabilities).items():
        known = reference["values"][name]
        counts = _count(column, np.array(known["edges"]))
        scores[name] = compute_stability_index(counts, np.array(known["expected"])) / known["greatest"]
    return scores


def _caution(rows: int, window: int) -> float:
    """By how much the greatest index within training must be raised for new windows to stay below it by `LIMIT` times.

    A window of n rows differs from N rows that it is one of by a variance of 1 / n - 1 / N, from N others by
    1 / n + 1 / N. And an index is about exponential where neighbouring rows are alike, so that the chance of a new one
    above L times the greatest of k is k! L! / (k + L)! (the beta function); L is the one that makes it `_FALSE_ALARM`.
    """
    windows = rows / window
    low, high = LIMIT, 100.0
    while high - low > 0.01:
        limit = (low + high) / 2
        chance = math.lgamma(windows + 1) + math.lgamma(limit + 1) - math.lgamma(windows + limit + 1)
        low, high = (limit, high) if chance > math.log(_FALSE_ALARM) else (low, limit)
    return high / LIMIT * (rows + window) / max(1, rows - window)


def _columns(features: FloatArray, probabilities: FloatArray) -> dict[str, FloatArray]:
    columns = {name: features[:, FEATURE_NAMES.index(name)] for name in _WATCHED}
    return columns | {f"p_{name}": probabilities[:, number] for number, name in enumerate(CLASSES)}


def _count(values: FloatArray, edges: FloatArray) -> IntegerArray:
    return np.bincount(np.searchsorted(edges, values, side="right"), minlength=_BINS)
