"""What a model looks at: how much worse it becomes when it cannot see one of its inputs."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ml.bars import FloatArray
from ml.evaluation import log_losses
from ml.features import FEATURE_NAMES
from ml.labels import LabelArray
from ml.predictor import Predictor

MOST_ROWS: Final = 5_000
"""More rows than these are sampled: the numbers hardly change."""

_REPEATS = 3


def measure_importances(
    predictor: Predictor, features: FloatArray, labels: LabelArray, seed: int
) -> list[dict[str, Any]]:
    """How much the log-loss on held-out rows rises when one feature is dealt out anew, largest first.

    Each line is JSON-ready: feature, log_loss_rise (the mean of three deals) and their spread. Source: L. Breiman,
    Random Forests, 2001, section 10.

    Args:
        predictor: A model that these rows have not taught.
        features: Shape (n_rows, n_features).
        labels: What came true, shape (n_rows,).
        seed: Fixes the deals.
    """
    random = np.random.default_rng(seed)
    chosen = np.sort(random.choice(len(labels), min(len(labels), MOST_ROWS), replace=False))
    features, labels = features[chosen], labels[chosen]
    base = log_losses(predictor.predict_batch(features), labels).mean()
    found = []
    for column, name in enumerate(FEATURE_NAMES):
        rises = []
        for _ in range(_REPEATS):
            dealt = features.copy()
            dealt[:, column] = random.permutation(dealt[:, column])
            rises.append(log_losses(predictor.predict_batch(dealt), labels).mean() - base)
        found.append({"feature": name, "log_loss_rise": float(np.mean(rises)), "spread": float(np.std(rises))})
    return sorted(found, key=lambda line: -float(line["log_loss_rise"]))
