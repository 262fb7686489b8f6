"""Which feature moved a forest's probabilities by how much: contributions along the paths through its trees.

Each step from a node to its child changes the class shares; the change is the contribution of the feature that the
node asked about. Averaged over the trees, the shares at the roots (the bias) and all contributions add up to what the
forest says. Source: A. Saabas, Interpreting random forests, 2014, https://blog.datadive.net/interpreting-random-forests/.

They say how this forest came to its number, not what drives the market: of two features that tell the same, the one
that a tree happened to ask gets all of it, and an answer near the root counts for less than the same one further down.
The inner nodes' shares that they need are in every bundle, older ones too; `ml.bundle` checks them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ml.bars import FloatArray
from ml.calibration import Calibration
from ml.predictor import N_CLASSES, ForestArrays, to_single


@dataclass(frozen=True, slots=True, eq=False)
class Contributions:
    """What one row's probabilities are made of; columns in the order of `ml.labels.CLASSES`.

    `bias`, the sum of `features` over the features and `calibration` add up to `probabilities`, to 1e-9.

    Attributes:
        bias: The mean shares at the roots: what the forest says before it asks anything, shape (3,).
        features: How far each feature moved each probability, -1 to 1, shape (n_features, 3).
        calibration: What the calibration added to what the forest says, -1 to 1, shape (3,).
        probabilities: What is stated, the bits of `ml.predictor.Predictor.predict`, shape (3,).
    """

    bias: FloatArray
    features: FloatArray
    calibration: FloatArray
    probabilities: FloatArray


def compute_contributions(forest: ForestArrays, calibration: Calibration | None, row: FloatArray) -> Contributions:
    """Take the probabilities of one row apart.

    Args:
        forest: The trees; they are trusted to be sound, which `ml.bundle` checks.
        calibration: What their probabilities mean; None leaves them as they are.
        row: The features, shape (n_features,); NaN is a missing value.

    Raises:
        ValueError: A value is infinite or too large for 32 bits.

    >>> shares = np.array([[0.25, 0.5, 0.25], [0.5, 0.5, 0.0], [0.0, 0.5, 0.5]])
    >>> children, zeros = np.array([[1, 2], [1, 1], [2, 2]]), np.zeros(3, dtype=np.int64)
    >>> tree = ForestArrays(zeros[:1], zeros, np.zeros(3), children, zeros, shares, depth=1)
    >>> found = compute_contributions(tree, None, np.array([1.5]))
    >>> found.bias.tolist(), found.features.tolist(), found.probabilities.tolist()
    ([0.25, 0.5, 0.25], [[-0.25, 0.0, 0.25]], [0.0, 0.5, 0.5])
    """
    values, shares, trees = to_single(row), forest.probabilities, len(forest.roots)
    moved = np.zeros((len(row), N_CLASSES))
    node = forest.roots
    for _ in range(forest.depth):
        feature = forest.feature[node]
        asked = values[feature]
        goes_right = np.where(np.isnan(asked), forest.missing_right[node], asked > forest.threshold[node])
        child = forest.children[node, goes_right]
        np.add.at(moved, feature, shares[child] - shares[node])
        node = child
    total = _add_up(shares[node])
    raw = total / trees
    stated = raw if calibration is None else calibration.apply_one(total.tolist(), trees)
    return Contributions(_add_up(shares[forest.roots]) / trees, moved / trees, stated - raw, stated)


def _add_up(shares: FloatArray) -> FloatArray:
    """The sum over the trees in their order, the bits of `ml.predictor`."""
    total: FloatArray = np.einsum("ij->j", shares)
    return total
