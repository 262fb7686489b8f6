"""A forest as plain arrays, and its probabilities: the same bits as scikit-learn's, without scikit-learn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ml.bars import FloatArray
from ml.calibration import Calibration
from ml.labels import CLASSES

N_CLASSES: Final = len(CLASSES)

_CHUNK_ROWS: Final = 2_048
_COMPILED_ROWS: Final = 100_000
"""From how many rows on compiling the kernel pays."""

_LARGEST: Final = 1e38
"""Rows whose length is less hold no NaN, and nothing that 32 bits cannot hold."""


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
        probabilities: The shares of the classes among the rows that taught a node, in the order of
            `ml.labels.CLASSES`, shape (n_nodes, 3). A leaf's are what it says; `ml.contributions` needs the others.
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
    """Computes calibrated class probabilities from a forest.

    The forest's part is bit for bit that of `RandomForestClassifier.predict_proba`: values are cut to 32 bits and
    compared with the thresholds, trees are added up in their order and divided by their number. The calibration's is
    equal to that of scikit-learn's to 1e-12. One row and many give the same bits.

    Args:
        forest: The trees; they are trusted to be sound, which `ml.bundle` checks.
        calibration: What their probabilities mean; None leaves them as they are.
    """

    def __init__(self, forest: ForestArrays, calibration: Calibration | None = None) -> None:
        self._forest = forest
        self._calibration = calibration
        self._trees = len(forest.roots)
        # Nodes that ask come first, so that a row asks those only.
        own = np.arange(len(forest.feature))
        is_leaf = forest.children[:, 0] == own
        order = np.concatenate((np.flatnonzero(~is_leaf), np.flatnonzero(is_leaf)))
        place = np.empty_like(order)
        place[order] = own
        self._asking = asking = int((~is_leaf).sum())
        self._feature = np.ascontiguousarray(forest.feature[order])
        self._threshold = _floor_to_single(forest.threshold[order])
        self._left, self._right = np.ascontiguousarray(place[forest.children[order]].T)
        self._missing_right = forest.missing_right[order]
        self._roots = place[forest.roots]
        self._probabilities = np.ascontiguousarray(forest.probabilities[order])
        self._asked = (self._feature[:asking], self._threshold[:asking], self._right[:asking])

    def predict(self, row: FloatArray) -> FloatArray:
        """The probabilities for one row of features, shape (n_features,) to shape (3,); NaN is a missing value.

        Raises:
            ValueError: A value is infinite or too large for 32 bits.
        """
        if not math.hypot(*row.tolist()) < _LARGEST:
            return self.predict_batch(row[None, :]).reshape(-1)
        # Asking all nodes at once takes less time than the numpy calls for a walk that asks one node a level.
        feature, threshold, right = self._asked
        goes_right = row.astype(np.float32).take(feature) > threshold
        child = self._left.copy()
        np.putmask(child[: self._asking], goes_right, right)
        node = self._roots
        for _ in range(self._forest.depth):
            node = child.take(node)
        total: FloatArray = np.einsum("ij->j", self._probabilities.take(node, axis=0))
        if self._calibration is None:
            return total / self._trees
        return self._calibration.apply_one(total.tolist(), self._trees)

    def predict_batch(self, rows: FloatArray) -> FloatArray:
        """The probabilities for many rows, shape (n_rows, n_features) to shape (n_rows, 3).

        Raises:
            ValueError: A value is infinite or too large for 32 bits.
        """
        result = np.empty((len(rows), N_CLASSES))
        chunk_rows = _CHUNK_ROWS if len(rows) < _COMPILED_ROWS else _COMPILED_ROWS
        for start in range(0, len(rows), chunk_rows):
            values = to_single(rows[start : start + chunk_rows])
            said = self._predict_chunk(values)
            result[start : start + chunk_rows] = said if self._calibration is None else self._calibration.apply(said)
        return result

    def _predict_chunk(self, values: npt.NDArray[np.float32]) -> FloatArray:
        if len(values) > _CHUNK_ROWS and not np.isnan(values).any():
            return self._predict_compiled(values)
        numbers = np.arange(len(values))
        total = np.zeros((len(values), N_CLASSES))
        for root in self._roots:
            node = np.full(len(values), root)
            for _ in range(self._forest.depth):
                asked = values[numbers, self._feature[node]]
                goes_right = np.where(np.isnan(asked), self._missing_right[node], asked > self._threshold[node])
                node = np.where(goes_right, self._right[node], self._left[node])
            total += self._probabilities[node]
        return total / self._trees

    def _predict_compiled(self, values: npt.NDArray[np.float32]) -> FloatArray:
        from ml.forest_kernel import add_up_trees  # noqa: PLC0415 - a second of compiling, which few rows never repay

        total = np.zeros((len(values), N_CLASSES))
        children = np.stack((self._left, self._right), axis=1).reshape(-1).astype(np.uint32)
        nodes = (self._feature.astype(np.uint32), self._threshold, children, self._probabilities)
        add_up_trees(values, self._roots.astype(np.uint32), *nodes, self._forest.depth, total)
        return total / self._trees


def _floor_to_single(thresholds: FloatArray) -> npt.NDArray[np.float32]:
    """The largest 32-bit values not above `thresholds`: a 32-bit value is above one just when above the other."""
    single = thresholds.astype(np.float32)
    return np.where(single > thresholds, np.nextafter(single, np.float32(-np.inf)), single).astype(np.float32)


def to_single(values: FloatArray) -> npt.NDArray[np.float32]:
    """Cut values to 32 bits, as scikit-learn does before it asks a tree; NaN stays NaN.

    Raises:
        ValueError: A value is infinite or too large for 32 bits.

    >>> to_single(np.array([0.1])).tolist()
    [0.10000000149011612]
    """
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    if np.isinf(single).any():
        raise ValueError("a feature is infinite, or too large for 32 bits")
    return single
