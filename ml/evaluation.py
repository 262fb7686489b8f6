"""How good probabilities were, out of sample. This module needs scikit-learn and is imported for training only."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import metrics

from ml.bars import FloatArray
from ml.labels import CLASSES, HOLD, LabelArray

_LEAST_PROBABILITY = 1e-6


def evaluate(probabilities: FloatArray, labels: LabelArray, train_labels: LabelArray) -> dict[str, Any]:
    """Judge probabilities, shape (n_rows, 3), by what came true, shape (n_rows,), beside baselines on the same rows.

    The prior is the class shares of the training labels; `skill` is 1 - log_loss / prior_log_loss: above 0 the
    model knew more than they did. `gate` tells, for some least confidences, the share of rows that say BUY or
    SELL with at least that much, and the share of those that came true (None when there were none).
    """
    shares = np.bincount(train_labels, minlength=len(CLASSES)) / len(train_labels)
    log_loss = _log_loss(probabilities, labels)
    prior_log_loss = _log_loss(np.broadcast_to(shares, probabilities.shape), labels)
    said = probabilities.argmax(axis=1)
    truth = np.eye(len(CLASSES))[labels]
    majority = int(np.argmax(shares))
    present = np.unique(labels)
    recalls = [float((said[labels == label] == label).mean()) for label in present]
    return {
        "rows": len(labels),
        "log_loss": log_loss,
        "prior_log_loss": prior_log_loss,
        "skill": 1.0 - log_loss / prior_log_loss,
        "brier": float(((probabilities - truth) ** 2).sum(axis=1).mean()),
        "accuracy": float((said == labels).mean()),
        "majority_class": CLASSES[majority],
        "majority_accuracy": float((labels == majority).mean()),
        "balanced_accuracy": float(np.mean(recalls)),
        "class_counts": dict(zip(CLASSES, np.bincount(labels, minlength=len(CLASSES)).tolist(), strict=True)),
        "confusion": metrics.confusion_matrix(labels, said, labels=range(len(CLASSES))).tolist(),
        "gate": [_gate(probabilities, labels, least) for least in (0.35, 0.40, 0.45, 0.50, 0.60)],
    }


def _log_loss(probabilities: FloatArray, labels: LabelArray) -> float:
    clipped = np.clip(probabilities, _LEAST_PROBABILITY, None)
    clipped = clipped / clipped.sum(axis=1, keepdims=True)
    return float(metrics.log_loss(labels, clipped, labels=range(len(CLASSES))))


def _gate(probabilities: FloatArray, labels: LabelArray, least: float) -> dict[str, float | None]:
    said = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    passed = (said != HOLD) & (confidence >= least)
    hits = float((said[passed] == labels[passed]).mean()) if passed.any() else None
    stated = float(confidence[passed].mean()) if passed.any() else None
    return {"confidence": least, "coverage": float(passed.mean()), "stated": stated, "hit_rate": hits}
