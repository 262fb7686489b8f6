"""The walk through a forest for very many rows, compiled by numba on every core."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

_BLOCK_ROWS = 512  # the rows of a block and one tree fit the processor's first cache


@numba.njit(parallel=True)
def add_up_trees(  # noqa: PLR0913, PLR0917 - numba takes arrays, not our classes
    values: npt.NDArray[np.float32],
    roots: npt.NDArray[np.uint32],
    feature: npt.NDArray[np.uint32],
    threshold: npt.NDArray[np.float32],
    children: npt.NDArray[np.uint32],
    probabilities: npt.NDArray[np.float64],
    depth: int,
    total: npt.NDArray[np.float64],
) -> None:
    """Add what each tree says of each row to `total`, shape (n_rows, 3), tree by tree in their order.

    Args:
        values: The rows, shape (n_rows, n_features), without NaN.
        roots: As in `ml.predictor.ForestArrays`, as are the next ones; `children` is flat, left before right.
        feature: The column each node asks about.
        threshold: At or below it a value goes left.
        children: The left and the right child of each node, shape (2 * n_nodes,).
        probabilities: What a leaf says.
        depth: How many steps the deepest leaf is from its root.
        total: Added to in place.
    """
    rows = values.shape[0]
    for block in numba.prange((rows + _BLOCK_ROWS - 1) // _BLOCK_ROWS):
        start = block * _BLOCK_ROWS
        count = min(rows - start, _BLOCK_ROWS)
        own = values[start : start + count]
        node = np.empty(_BLOCK_ROWS, np.uint32)
        for root in roots:
            # Level by level, so that the walks of many rows wait for memory together.
            for row in range(count):
                node[row] = root
            for _ in range(depth):
                for row in range(count):
                    here = node[row]
                    goes_right = own[row, feature[here]] > threshold[here]
                    node[row] = children[np.uint32(2) * here + np.uint32(goes_right)]
            for row in range(count):
                for column in range(total.shape[1]):
                    total[start + row, column] += probabilities[node[row], column]
