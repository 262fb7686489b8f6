"""Is the best on a plateau, or a spike that luck makes as well? How an objective varies with two parameters."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product
from typing import Final

import numpy as np

from app.research.optimization.folds import RUINED
from app.research.optimization.result import Plateau
from app.research.optimization.space import Axis, Point
from ml.bars import FloatArray, IntegerArray

_MOST_CELLS: Final = 20
"""An axis of more steps is shown by so many stretches of them."""

_LEAST_SHARE: Final = 0.5


def map_plateau(axes: Sequence[Axis], points: Sequence[Point], scores: FloatArray, best: int) -> Plateau:
    """Show how scores vary with the two axes that they vary with most.

    Args:
        axes: What was varied.
        points: The trials.
        scores: What each came to, shape (n_trials,).
        best: The place of the best of them.
    """
    known = np.where(scores <= RUINED, scores[scores > RUINED].min(initial=0.0), scores)
    places = np.array(points)
    cells = [places[:, number] * _count(axis) // len(axis) for number, axis in enumerate(axes)]
    first, *rest = sorted(np.argsort([-_spread(one, known) for one in cells], kind="stable")[:2].tolist())
    second = rest[0] if rest else None
    rows = cells[second] if second is not None else np.zeros_like(cells[first])
    shape = (_count(axes[second]) if second is not None else 1, _count(axes[first]))
    means = _average(rows, cells[first], known, shape)
    around = _look_around(means, int(rows[best]), int(cells[first][best]))
    peak = float(known[best])
    return Plateau(
        names=tuple(axes[one].name for one in (first, *rest)),
        across=_find_middles(axes[first]),
        upwards=_find_middles(axes[second]) if second is not None else (0.0,),
        cells=tuple(tuple(None if np.isnan(one) else float(one) for one in row) for row in means),
        peak=peak,
        neighbours=around,
        is_plateau=None if around is None or peak <= 0 else around >= _LEAST_SHARE * peak,
    )


def _count(axis: Axis) -> int:
    return min(len(axis), _MOST_CELLS)


def _find_middles(axis: Axis) -> tuple[float, ...]:
    edges = [-(-number * len(axis) // _count(axis)) for number in range(_count(axis) + 1)]
    return tuple(axis.get_value((start + stop - 1) // 2) for start, stop in pairwise(edges))


def _spread(cells: IntegerArray, scores: FloatArray) -> float:
    """How much of the scores' variance lies between the cells of one axis."""
    counts = np.bincount(cells)
    sums = np.bincount(cells, scores)
    means = sums / np.maximum(counts, 1)
    return float((counts * np.square(means - scores.mean())).sum())


def _average(rows: IntegerArray, columns: IntegerArray, scores: FloatArray, shape: tuple[int, int]) -> FloatArray:
    flat = rows * shape[1] + columns
    counts = np.bincount(flat, minlength=shape[0] * shape[1])
    sums = np.bincount(flat, scores, minlength=shape[0] * shape[1])
    means: FloatArray = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).reshape(shape)
    return means


def _look_around(means: FloatArray, row: int, column: int) -> float | None:
    steps = [step for step in product((-1, 0, 1), repeat=2) if step != (0, 0)]
    near = [(row + down, column + right) for down, right in steps]
    found = [means[one] for one in near if 0 <= one[0] < means.shape[0] and 0 <= one[1] < means.shape[1]]
    found = [one for one in found if not np.isnan(one)]
    return float(np.mean(found)) if found else None
