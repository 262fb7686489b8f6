"""A best among good ones is on a plateau, one among bad ones is a spike."""

from __future__ import annotations

import numpy as np
import pytest

from app.research.optimization.folds import RUINED
from app.research.optimization.plateau import map_plateau
from app.research.optimization.space import Axis, Point
from app.research.optimization.wording import say_plateau

FAST = Axis("fast_bars", 1, 5, 1, is_integer=True)
SLOW = Axis("slow_bars", 10, 50, 10, is_integer=True)
GRID: list[Point] = [(fast, slow) for fast in range(5) for slow in range(5)]


def look(scores: list[float]) -> tuple[bool | None, float | None, str]:
    found = map_plateau((FAST, SLOW), GRID, np.array(scores), int(np.argmax(scores)))
    return found.is_plateau, found.neighbours, say_plateau(found)


def test_best_on_a_hill_is_on_a_plateau() -> None:
    hill = [2.0 - 0.1 * (abs(fast - 2) + abs(slow - 2)) for fast, slow in GRID]
    is_plateau, neighbours, words = look(hill)
    assert neighbours == pytest.approx(1.85)
    assert is_plateau is True
    assert words == "The best is on a plateau: what lies around it comes to 92% of it."


def test_best_among_bad_ones_is_a_spike() -> None:
    spike = [2.0 if point == (2, 2) else 0.1 for point in GRID]
    is_plateau, neighbours, words = look(spike)
    assert neighbours == pytest.approx(0.1)
    assert is_plateau is False
    assert "spike" in words


def test_best_that_is_not_above_nothing_says_nothing() -> None:
    is_plateau, _neighbours, _words = look([-1.0] * 24 + [-0.5])
    assert is_plateau is None


def test_cells_of_a_grid_are_its_trials_and_ruined_ones_are_as_bad_as_the_worst() -> None:
    scores = np.arange(25.0) - 3.0
    scores[24] = RUINED
    found = map_plateau((FAST, SLOW), GRID, scores, 23)
    assert (found.names, found.across, found.upwards) == (
        ("fast_bars", "slow_bars"),
        (1, 2, 3, 4, 5),
        (10, 20, 30, 40, 50),
    )
    assert found.cells[3][2] == scores[GRID.index((2, 3))]
    assert found.cells[4][4] == -3.0


def test_many_steps_are_shown_by_stretches_and_untried_cells_by_nothing() -> None:
    axes = (Axis("fast_bars", 1, 100, 1, is_integer=True), Axis("slow_bars", 101, 101, 1, is_integer=True))
    found = map_plateau(axes, [(0, 0), (1, 0), (50, 0)], np.array([1.0, 3.0, 2.0]), 1)
    assert found.across[:2] == (3, 8)
    assert len(found.across) == 20
    assert found.cells[0][:2] == (2.0, None)
    assert found.cells[0][10] == 2.0
    assert (found.peak, found.neighbours, found.is_plateau) == (3.0, None, None)


def test_map_is_of_the_two_that_matter_most_and_of_one_where_there_is_but_one() -> None:
    third = Axis("window_bars", 1, 2, 1, is_integer=True)
    points = [(a, b, c) for a in range(5) for b in range(2) for c in range(5)]
    scores = np.array([float(a + c) for a, _, c in points])
    found = map_plateau((FAST, third, SLOW), points, scores, len(points) - 1)
    assert found.names == ("fast_bars", "slow_bars")
    alone = map_plateau((FAST,), [(place,) for place in range(5)], np.arange(5.0), 4)
    assert (alone.names, alone.upwards, alone.cells) == (("fast_bars",), (0.0,), ((0.0, 1.0, 2.0, 3.0, 4.0),))
    assert alone.neighbours == 3.0
