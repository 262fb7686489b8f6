"""Fits the forest. This module needs scikit-learn and is imported for training only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import RandomForestClassifier

from ml.bars import FloatArray
from ml.labels import LabelArray
from ml.predictor import N_CLASSES, ForestArrays


@dataclass(frozen=True, slots=True)
class ForestRule:
    """How a forest is grown: small trees with large leaves, which on little data promise less than they know.

    Attributes:
        trees: How many.
        depth: The most questions from root to leaf.
        leaf_fraction: The least share of the training rows in a leaf.
        sample_fraction: The share of the rows that each tree sees.
        seed: Fixes every random choice: same rows, same forest.
    """

    trees: int = 100
    depth: int = 5
    leaf_fraction: float = 0.02
    sample_fraction: float = 0.2
    seed: int = 0


def fit_forest(features: FloatArray, labels: LabelArray, rule: ForestRule) -> RandomForestClassifier:
    """Fit scikit-learn's forest on rows of shape (n_rows, n_features) and labels of shape (n_rows,)."""
    forest = RandomForestClassifier(
        n_estimators=rule.trees,
        max_depth=rule.depth,
        min_samples_leaf=max(1, round(rule.leaf_fraction * len(labels))),
        max_samples=rule.sample_fraction,
        random_state=rule.seed,
        n_jobs=-1,
    )
    return forest.fit(features, labels)


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
