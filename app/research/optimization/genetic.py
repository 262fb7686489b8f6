"""A genetic search: the better points of a generation have children, which are a little of each parent, and changed.

Source: J. H. Holland, Adaptation in Natural and Artificial Systems, 1975; tournaments and elites after D. E. Goldberg,
Genetic Algorithms in Search, Optimization and Machine Learning, 1989.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from app.research.optimization.request import EvolutionRule
from app.research.optimization.search import Score, draw_points
from app.research.optimization.space import Point, Space

_REACH: Final = 0.1
"""A value that changes moves by so large a share of its range on average, and by one step at least."""

_ATTEMPTS: Final = 50
"""How many children of two parents may conflict before a point is drawn in their place."""


class GeneticSearch:
    """Breeds points, generation by generation, by their first objective.

    Args:
        space: Where they are.
        rule: How generations follow each other.
        random: Draws everything.
    """

    def __init__(self, space: Space, rule: EvolutionRule, random: np.random.Generator) -> None:
        self._space = space
        self._rule = rule
        self._random = random
        self._left = rule.generations
        self._ranked: list[Point] = []
        self._sizes = np.array([len(one) for one in space.axes])

    def ask(self) -> list[Point]:
        """The next generation; its elite has been asked for before."""
        if self._left == 0:
            return []
        self._left -= 1
        rule = self._rule
        if not self._ranked:
            return draw_points(self._space, rule.population, self._random)
        elite = self._ranked[: rule.elite]
        return elite + [self._breed() for _ in range(rule.population - len(elite))]

    def tell(self, points: Sequence[Point], scores: Sequence[Score]) -> None:
        """Rank the generation, the best first and equal ones in their order."""
        order = np.argsort([-one[0] for one in scores], kind="stable")
        self._ranked = [points[place] for place in order.tolist()]

    def _breed(self) -> Point:
        mother, father = self._select(), self._select()
        for _ in range(_ATTEMPTS):
            child = mother
            if self._random.random() < self._rule.crossover:
                child = np.where(self._random.random(len(mother)) < 0.5, mother, father)
            point = tuple(self._mutate(child).tolist())
            if self._space.is_valid(point):
                return point
        return self._space.draw(self._random)

    def _select(self) -> np.ndarray:
        """The best of a few that are drawn, as one may be twice."""
        drawn = self._random.integers(len(self._ranked), size=self._rule.tournament)
        return np.array(self._ranked[int(drawn.min())])

    def _mutate(self, genes: np.ndarray) -> np.ndarray:
        moves = self._random.standard_normal(len(genes)) * np.maximum(_REACH * self._sizes, 1.0)
        moves = np.where(moves < 0, np.floor(moves), np.ceil(moves)).astype(np.int64)
        changes = self._random.random(len(genes)) < self._rule.mutation
        return np.clip(np.where(changes, genes + moves, genes), 0, self._sizes - 1)
