"""Fits and calibrates the forest. This module needs scikit-learn and is imported for training only."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar  # type: ignore[import-untyped]
from scipy.special import logsumexp  # type: ignore[import-untyped]
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator

from ml.bars import FloatArray, IntegerArray
from ml.calibration import EPSILON, ISOTONIC_ROWS, Calibration
from ml.labels import BUY, HOLD, SELL, LabelArray
from ml.predictor import N_CLASSES, ForestArrays, Predictor
from ml.splits import split_newest

CALIBRATION_FRACTION = 0.2
"""The newest share of the rows, on which no tree is grown: what the forest says there is compared with what came."""

_SHARPENING_LABELS = 50
_ROWS_FOR_ALL_CORES = 20_000  # with fewer, handing trees out takes as long as growing them
_TRUSTED_LABELS = 20
_LEAST_BETA = 1e-6


@dataclass(frozen=True, slots=True)
class ForestRule:
    """How a forest is grown: small trees with large leaves, which on little data promise less than they know.

    Attributes:
        trees: How many.
        depth: The most questions from root to leaf.
        leaf_fraction: The least share of the training rows in a leaf.
        sample_fraction: The share of the rows that each tree sees.
        sample_maximum: The most rows that each tree sees: on a million rows more of them cost time and memory only.
        class_weight: "none", or "balanced": rare classes count as much as common ones, at the price of probabilities
            that only the calibration puts right again.
        calibration: One of `ml.calibration.METHODS`.
        seed: Fixes every random choice: same rows, same forest.
    """

    trees: int = 100
    depth: int = 5
    leaf_fraction: float = 0.02
    sample_fraction: float = 0.2
    sample_maximum: int = 50_000
    class_weight: str = "none"
    calibration: str = "temperature"
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """What can teach, oldest first; rows of several symbols are in the order of time.

    Attributes:
        features: Shape (n_rows, n_features).
        labels: The numbers of `ml.labels.CLASSES`, none unsettled, shape (n_rows,).
        weights: How much of each label is its own, above 0 to 1 (`ml.labels.compute_uniqueness`), shape (n_rows,).
        decided_at: When its candle closed, in milliseconds, rising, shape (n_rows,).
        settled_at: When its label was settled, in milliseconds, shape (n_rows,).
    """

    features: FloatArray
    labels: LabelArray
    weights: FloatArray
    decided_at: IntegerArray
    settled_at: IntegerArray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, numbers: IntegerArray) -> Rows:
        """The rows with these numbers."""
        return Rows(**{name: getattr(self, name)[numbers] for name in Rows.__dataclass_fields__})


def fit_calibrated(rows: Rows, rule: ForestRule, embargo: int = 0) -> tuple[ForestArrays, Calibration]:
    """Grow a forest on the older rows and calibrate it on the newest, which none of its labels looks into.

    Args:
        rows: What teaches.
        rule: How.
        embargo: As in `ml.splits.split_newest`, in milliseconds.

    Raises:
        ValueError: The older rows are fewer than two.
    """
    split = split_newest(rows.decided_at, rows.settled_at, CALIBRATION_FRACTION, embargo)
    if len(split.train) < 2:
        raise ValueError("there are too few rows to keep some for the calibration")
    older, newest = rows.take(split.train), rows.take(split.test)
    forest = fit_forest(older.features, older.labels, rule, older.weights)
    return forest_arrays(forest), fit_calibration(forest, newest, rule, compute_buy_share(older))


def compute_buy_share(rows: Rows) -> float:
    """The share of BUY among the rows that were BUY or SELL, as if ten independent ones of each had been seen before.

    Few labels say little about which way prices go.
    """
    counts = np.bincount(rows.labels, weights=rows.weights, minlength=N_CLASSES) + 10.0
    return float(counts[BUY] / (counts[BUY] + counts[SELL]))


def compute_prior(rows: Rows) -> FloatArray:
    """What can be said of any row by the shares of the classes alone, shape (3,).

    BUY and SELL share what is theirs by `compute_buy_share`, as a model without any feature does: against a share that
    took every accident at its word, a model that knows nothing else would seem to know which way prices go.
    """
    shares = np.bincount(rows.labels, minlength=N_CLASSES) / len(rows)
    moves, up = shares[SELL] + shares[BUY], compute_buy_share(rows)
    return np.array((moves * (1.0 - up), shares[HOLD], moves * up))


def fit_forest(
    features: FloatArray, labels: LabelArray, rule: ForestRule, weights: FloatArray | None = None
) -> RandomForestClassifier:
    """Fit scikit-learn's forest on rows of shape (n_rows, n_features) and labels and weights of shape (n_rows,)."""
    drawn = max(1, min(round(rule.sample_fraction * len(labels)), rule.sample_maximum))
    forest = RandomForestClassifier(
        n_estimators=rule.trees,
        max_depth=rule.depth,
        min_samples_leaf=max(1, round(rule.leaf_fraction * drawn / rule.sample_fraction)),
        max_samples=drawn,
        class_weight=None if rule.class_weight == "none" else rule.class_weight,
        random_state=rule.seed,
        n_jobs=-1 if len(labels) >= _ROWS_FOR_ALL_CORES else 1,
    )
    return forest.fit(features, labels, sample_weight=weights)


def fit_calibration(forest: RandomForestClassifier, rows: Rows, rule: ForestRule, buy_share: float) -> Calibration:
    """Calibrate a fitted forest on rows that it has not seen: first the three classes, then BUY against SELL.

    Where a class is missing, or the rows are too few for the method, it is made by temperature. Few independent
    labels can come out well by luck: with fewer than 50 the forest may become less sure than it was, not more, and
    with fewer than 20 it must, down to knowing nothing at all; of BUY against SELL nothing is then believed.

    Args:
        forest: What is calibrated.
        rows: What it has not seen.
        rule: The method, and the forest's other numbers.
        buy_share: The share of BUY among the rows that were BUY or SELL and taught the forest.
    """
    known = rows.take(np.flatnonzero(np.isin(rows.labels, forest.classes_)))
    if len(known) == 0:
        return Calibration(beta=_LEAST_BETA, direction=0.0, buy_share=buy_share)
    base = _fit_method(forest, known, rule.calibration)
    said = Predictor(forest_arrays(forest), base).predict_batch(known.features)
    return replace(base, direction=_fit_direction(said, known, buy_share), buy_share=buy_share)


def _fit_method(forest: RandomForestClassifier, rows: Rows, method: str) -> Calibration:
    independent = float(rows.weights.sum())
    is_whole = len(np.unique(rows.labels)) == len(forest.classes_) == N_CLASSES
    least = {"sigmoid": _SHARPENING_LABELS, "isotonic": ISOTONIC_ROWS}.get(method, 0)
    if method == "temperature" or not is_whole or independent < least:
        beta = _fit_temperature(Predictor(forest_arrays(forest)).predict_batch(rows.features), rows.labels)
        if independent < _SHARPENING_LABELS:
            beta = max(_LEAST_BETA, min(beta, 1.0, independent / _TRUSTED_LABELS))
        return Calibration(beta=beta)
    forest.n_jobs = 1  # threads add the trees up in whatever order they end: other last bits each time
    fitted = CalibratedClassifierCV(FrozenEstimator(forest), method=method).fit(rows.features, rows.labels)
    parts = fitted.calibrated_classifiers_[0].calibrators
    if method == "sigmoid":
        slopes, intercepts = (tuple(float(getattr(part, name)) for part in parts) for name in ("a_", "b_"))
        return Calibration("sigmoid", slopes=slopes, intercepts=intercepts)
    knots = tuple((tuple(part.X_thresholds_.tolist()), tuple(part.y_thresholds_.tolist())) for part in parts)
    return Calibration("isotonic", knots=knots)


def _fit_direction(said: FloatArray, rows: Rows, buy_share: float) -> float:
    """How much of what is said about BUY against SELL to believe: what fits best, less what luck may have added.

    The best fit is shrunk by 1 - 1 / t^2, t being its gain in standard errors (the positive-part rule of W. James and
    C. Stein, 1961); below one standard error nothing is left.
    """
    moved = np.flatnonzero(rows.labels != HOLD)
    independent = float(rows.weights[moved].sum())
    # Few gains can be equal by luck, and then seem certain.
    if len(moved) < 2 or independent < _TRUSTED_LABELS:
        return 0.0
    odds = np.log((said[moved, BUY] + EPSILON) / (said[moved, SELL] + EPSILON))
    base = np.log(buy_share / (1.0 - buy_share))
    signs = np.where(rows.labels[moved] == BUY, 1.0, -1.0)

    def losses(share: float) -> FloatArray:
        found: FloatArray = np.logaddexp(0.0, -signs * (base + share * (odds - base)))
        return found

    share = float(minimize_scalar(lambda share: float(losses(share).mean()), bounds=(0.0, 1.0)).x)
    gains = losses(0.0) - losses(share)
    # Labels overlap: so many rows are one.
    error = float(gains.std()) / np.sqrt(min(independent, len(moved)))
    surplus = float(gains.mean()) / error if error > 0 else 0.0
    return share * max(0.0, 1.0 - 1.0 / surplus**2) if surplus > 0 else 0.0


def _fit_temperature(probabilities: FloatArray, labels: LabelArray) -> float:
    """The inverse temperature with the least log-loss: scikit-learn's own (tested), where classes are missing too.

    Source: C. Guo and others, On Calibration of Modern Neural Networks, 2017.
    """
    logits = np.log(probabilities + EPSILON)
    stated = logits[np.arange(len(labels)), labels]

    def loss(log_beta: float) -> float:
        beta = np.exp(log_beta)
        return float((logsumexp(beta * logits, axis=1) - beta * stated).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-10.0, 10.0), options={"xatol": 1e-10}).x))


def fit_predictor(rows: Rows, rule: ForestRule, embargo: int = 0) -> Predictor:
    """What `fit_calibrated` gives, ready to predict."""
    return Predictor(*fit_calibrated(rows, rule, embargo))


def forest_arrays(forest: RandomForestClassifier) -> ForestArrays:
    """The trees of a fitted forest as plain arrays; a class it never met has the probability 0."""
    roots, features, thresholds, children, missing, probabilities = [], [], [], [], [], []
    offset = 0
    for estimator in forest.estimators_:
        tree = estimator.tree_
        own = np.arange(tree.node_count)
        leaf = tree.children_left < 0
        pair = np.stack((tree.children_left, tree.children_right), axis=1)
        said = np.zeros((tree.node_count, N_CLASSES))
        said[:, forest.classes_.astype(int)] = tree.value[:, 0, :]
        roots.append(offset)
        features.append(np.where(leaf, 0, tree.feature))
        thresholds.append(np.where(leaf, 0.0, tree.threshold))
        children.append(np.where(leaf[:, None], own[:, None], pair) + offset)
        missing.append(np.where(leaf, 0, 1 - tree.missing_go_to_left))
        probabilities.append(said)
        offset += tree.node_count
    return ForestArrays(
        roots=np.array(roots, dtype=np.int64),
        feature=np.concatenate(features).astype(np.int64),
        threshold=np.concatenate(thresholds),
        children=np.concatenate(children).astype(np.int64),
        missing_right=np.concatenate(missing).astype(np.int64),
        probabilities=np.concatenate(probabilities),
        depth=max(estimator.tree_.max_depth for estimator in forest.estimators_),
    )
