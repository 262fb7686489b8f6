"""A forest as plain arrays, and its probabilities: the same bits as scikit-learn's, without scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ml.bars import FloatArray
from ml.labels import CLASSES

N_CLASSES: Final = len(CLASSES)

_CHUNK_ROWS: Final = 2_048


@dataclass(frozen=True, slots=True, eq=False)
class ForestArrays:
    """All trees of a forest, one after another.

    A node is a row number. A leaf is its own child on both sides, so that walking on from it stays there.

    Attributes:
        roots: The first node of each tree, shape (n_trees,).
        feature: The column a node asks about, shape (n_nodes,); 0 at a leaf.
        threshold: At or below it a value goes left, shape (n_nodes,).
        children: The left and the right child, shape (n_nodes, 2).
        missing_right: 1 where a NaN goes right, shape (n_nodes,).
        probabilities: What a leaf says, in the order of `ml.labels.CLASSES`, shape (n_nodes, 3).
        depth: How many steps the deepest leaf is from its root.
    """

    roots: npt.NDArray[np.int64]
    feature: npt.NDArray[np.int64]
    threshold: FloatArray
    children: npt.NDArray[np.int64]
    missing_right: npt.NDArray[np.int64]
    probabilities: FloatArray
    depth: int


class Predictor:
    """Computes class probabilities from a forest.

    Bit for bit those of `RandomForestClassifier.predict_proba`: values are cut to 32 bits and compared with
    64-bit thresholds, trees are added up in their order and divided by their number.

    Args:
        forest: The trees; they are trusted to be sound, which `ml.bundle` checks.
    """

    def __init__(self, forest: ForestArrays) -> None:
        self._forest = forest
        self._children = np.ascontiguousarray(forest.children).reshape(-1)
        self._left_places = 2 * np.arange(len(forest.feature))
        self._trees = len(forest.roots)

    def predict(self, row: FloatArray) -> FloatArray:
        """The probabilities for one row of features, shape (n_features,) to shape (3,); NaN is a missing value.

        Raises:
            ValueError: A value is infinite or too large for 32 bits.
        """
        with np.errstate(over="ignore"):
            values = row.astype(np.float32).astype(np.float64)
        if not np.isfinite(values.dot(values)):
            return self.predict_batch(row[None, :]).reshape(-1)
        forest = self._forest
        # Asking all nodes at once takes less time than the numpy calls for a walk that asks one node a level.
        child = self._children.take(self._left_places + (values.take(forest.feature) > forest.threshold))
        node = forest.roots
        for _ in range(forest.depth):
            node = child.take(node)
        total: FloatArray = forest.probabilities.take(node, axis=0).sum(axis=0)
        return total / self._trees

    def predict_batch(self, rows: FloatArray) -> FloatArray:
        """The probabilities for many rows, shape (n_rows, n_features) to shape (n_rows, 3).

        Raises:
            ValueError: A value is infinite or too large for 32 bits.
        """
        result = np.empty((len(rows), N_CLASSES))
        for start in range(0, len(rows), _CHUNK_ROWS):
            result[start : start + _CHUNK_ROWS] = self._predict_chunk(_single(rows[start : start + _CHUNK_ROWS]))
        return result

    def _predict_chunk(self, values: npt.NDArray[np.float32]) -> FloatArray:
        forest = self._forest
        numbers = np.arange(len(values))
        total = np.zeros((len(values), N_CLASSES))
        for root in forest.roots:
            node = np.full(len(values), root)
            for _ in range(forest.depth):
                asked = values[numbers, forest.feature[node]]
                right = np.where(np.isnan(asked), forest.missing_right[node], asked > forest.threshold[node])
                node = self._children[2 * node + right]
            total += forest.probabilities[node]
        return total / self._trees


def _single(values: FloatArray) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    if np.isinf(single).any():
        raise ValueError("a feature is infinite, or too large for 32 bits")
    return single
