"""How points are looked for. A search is asked for points until it has none, and told what each came to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import numpy as np

from app.research.optimization.space import Point, Space

Score = tuple[float, ...]
"""What a point came to, by each objective; the more, the better."""

BATCH: Final = 250
"""How many points are asked for at once where nothing is learnt from them."""

_MOST_LISTED: Final = 20_000
"""Up to so many points of a space are listed; of more, those that are wanted are drawn one by one."""

_ATTEMPTS: Final = 20


class Search(Protocol):
    """Looks for points."""

    def ask(self) -> list[Point]:
        """The next points to try, whose values go together; none where it is at its end."""
        ...

    def tell(self, points: Sequence[Point], scores: Sequence[Score]) -> None:
        """What the points that were asked for last came to."""
        ...


class ListSearch:
    """Tries points that are known from the beginning."""

    def __init__(self, points: Sequence[Point]) -> None:
        self._left = list(points)

    def ask(self) -> list[Point]:
        """The next of them."""
        batch, self._left = self._left[:BATCH], self._left[BATCH:]
        return batch

    def tell(self, points: Sequence[Point], scores: Sequence[Score]) -> None:
        """Nothing is learnt."""


def draw_points(space: Space, count: int, random: np.random.Generator) -> list[Point]:
    """So many different points, or all there are where they are fewer."""
    if space.size <= max(_MOST_LISTED, 2 * count):
        points = space.list_points()
        chosen = random.permutation(len(points))[:count]
        return [points[place] for place in chosen.tolist()]
    drawn: dict[Point, None] = {}
    for _ in range(_ATTEMPTS * count):
        drawn[space.draw(random)] = None
        if len(drawn) == count:
            break
    return list(drawn)


def run_search(search: Search, evaluate: Callable[[list[Point]], None], score: Callable[[Point], Score]) -> list[Point]:
    """Run a search to its end.

    Args:
        search: What asks for points.
        evaluate: Computes what they come to, unless that is known.
        score: What a point came to.

    Returns:
        Every point that was asked for, once, in their order.
    """
    asked: dict[Point, None] = {}
    while batch := search.ask():
        evaluate(batch)
        search.tell(batch, [score(point) for point in batch])
        asked |= dict.fromkeys(batch)
    return list(asked)
