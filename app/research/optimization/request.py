"""What an optimisation is asked to be: plain values that say all of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Final

from app.domain.record import to_plain
from app.errors import InvalidInputError
from app.research.backtest.request import BacktestRequest, Driver
from app.research.optimization.space import Axis, Space

MAXIMUM_TRIALS: Final = 10_000
"""The most points that one search may ask for."""

MAXIMUM_GUIDED: Final = 2_000
"""The most points of a search that learns on its way: each of Optuna's takes tens of milliseconds to find."""

MAXIMUM_FOLDS: Final = 50
_LEAST_TRIALS: Final = 2
_MAXIMUM_POPULATION: Final = 1_000


class Method(StrEnum):
    """How points are looked for."""

    GRID = "grid"
    RANDOM = "random"
    GENETIC = "genetic"
    TPE = "tpe"
    NSGA2 = "nsga2"

    @property
    def is_guided(self) -> bool:
        """Whether what came of earlier points says which are tried next."""
        return self not in (Method.GRID, Method.RANDOM)


class Objective(StrEnum):
    """What is looked for, as much of it as there is; of a drawdown as little."""

    SHARPE = "sharpe"
    TOTAL_RETURN = "total_return"
    CALMAR = "calmar"
    MAXIMUM_DRAWDOWN = "maximum_drawdown"


@dataclass(frozen=True, slots=True)
class EvolutionRule:
    """How generations follow each other.

    Attributes:
        population: How many points a generation has.
        generations: How many there are, the first, which is drawn at random, included.
        elite: How many of the best go on as they are; genetic only, as are the following.
        tournament: Of how many the better one becomes a parent.
        crossover: How likely a child has two parents, 0 to 1.
        mutation: How likely each value of a child changes, 0 to 1.
    """

    population: int = 40
    generations: int = 8
    elite: int = 2
    tournament: int = 3
    crossover: float = 0.9
    mutation: float = 0.2


@dataclass(frozen=True, slots=True)
class FoldRule:
    """How the days are cut into what is chosen by and what the choice is judged on.

    Attributes:
        folds: How many choices are judged; the days after the first choice are cut into so many.
        train_share: The share of all days that the first choice is made by.
        rolling: Whether every choice is made by as many days as the first, not by all since the beginning.
    """

    folds: int = 5
    train_share: float = 0.5
    rolling: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizationRequest:
    """Everything that an optimisation depends on, beside the candles and the code.

    Attributes:
        backtest: What each trial is, but for what is varied.
        axes: What is varied.
        method: How points are looked for.
        objectives: What is looked for: one thing, or two by `nsga2`.
        trials: How many points a search asks for, `random` and `tpe` only; those that learn on their way ask anew for
            each choice.
        evolution: How generations follow each other, `genetic` and `nsga2` only.
        folds: How the days are cut.
        seed: Fixes what is drawn.
    """

    backtest: BacktestRequest
    axes: tuple[Axis, ...]
    method: Method = Method.RANDOM
    objectives: tuple[Objective, ...] = (Objective.SHARPE,)
    trials: int = 200
    evolution: EvolutionRule = field(default_factory=EvolutionRule)
    folds: FoldRule = field(default_factory=FoldRule)
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (is_right, words) in (self._rules() | self._rules_of_search()).items():
            if not is_right:
                raise InvalidInputError(f"{name} must be {words}.", code="invalid_request", context={"field": name})
        size = self.space.size
        if self.method is Method.GRID and size > MAXIMUM_TRIALS:
            raise InvalidInputError(
                f"The grid has {size:,} points, and {MAXIMUM_TRIALS:,} are the most; narrow a range, take a "
                "larger step, or try some of them by random.",
                code="grid_too_large",
                context={"points": size},
            )

    @property
    def space(self) -> Space:
        """The points that may be tried."""
        return Space(self.backtest, self.axes)

    @property
    def budget(self) -> int:
        """How many points one search asks for at most."""
        if self.method is Method.GRID:
            return self.space.size
        if self.method in (Method.GENETIC, Method.NSGA2):
            return self.evolution.population * self.evolution.generations
        return min(self.trials, self.space.size)

    @property
    def searches(self) -> int:
        """How many there are: one, or one for each choice where a search learns on its way."""
        return self.folds.folds + 1 if self.method.is_guided else 1

    def to_document(self) -> dict[str, Any]:
        """The request as plain JSON."""
        document: dict[str, Any] = to_plain(self)
        return document

    def _rules(self) -> dict[str, tuple[bool, str]]:
        folds, asked = self.folds, self.objectives
        two = self.method is Method.NSGA2
        return {
            "driver": (self.backtest.driver is Driver.COMPILED, "compiled: the other one is too slow to try many"),
            "objectives": (
                len(asked) == len(set(asked)) == 1 + two and (two or asked != (Objective.MAXIMUM_DRAWDOWN,)),
                "two different ones" if two else "sharpe, total_return or calmar; two of them are for nsga2",
            ),
            "seed": (0 <= self.seed < 2**32, "from 0 to 4294967295"),
            "folds": (1 <= folds.folds <= MAXIMUM_FOLDS, f"from 1 to {MAXIMUM_FOLDS}"),
            "train_share": (0.1 <= folds.train_share <= 0.9, "from 0.1 to 0.9"),
        }

    def _rules_of_search(self) -> dict[str, tuple[bool, str]]:
        rule = self.evolution
        most = MAXIMUM_GUIDED if self.method.is_guided else MAXIMUM_TRIALS
        return {
            "trials": (
                _LEAST_TRIALS <= self.trials <= (MAXIMUM_GUIDED if self.method is Method.TPE else MAXIMUM_TRIALS),
                f"from {_LEAST_TRIALS} to {most:,}",
            ),
            "population": (
                _LEAST_TRIALS <= rule.population <= _MAXIMUM_POPULATION,
                f"from {_LEAST_TRIALS} to {_MAXIMUM_POPULATION:,}",
            ),
            "generations": (
                rule.generations >= 1 and rule.population * rule.generations <= MAXIMUM_GUIDED,
                f"at least 1, and at most {MAXIMUM_GUIDED:,} over the population",
            ),
            "elite": (0 <= rule.elite < rule.population, "from 0 to below the population"),
            "tournament": (1 <= rule.tournament <= rule.population, "from 1 to the population"),
            "crossover": (0.0 <= rule.crossover <= 1.0, "from 0 to 1"),
            "mutation": (0.0 <= rule.mutation <= 1.0, "from 0 to 1"),
        }


def make_request(backtest: BacktestRequest, axes: tuple[Axis, ...], asked: Mapping[str, Any]) -> OptimizationRequest:
    """A request of flat names.

    Args:
        backtest: What each trial is.
        axes: What is varied.
        asked: Fields of `OptimizationRequest`, `EvolutionRule` and `FoldRule`; by `nsga2` the objectives that are left
            out are the Sharpe ratio and the maximum drawdown.
    """
    evolution, folds = (
        {one.name: asked[one.name] for one in fields(kind) if one.name in asked} for kind in (EvolutionRule, FoldRule)
    )
    own = {name: asked[name] for name in ("method", "objectives", "trials", "seed") if name in asked}
    if own.get("method") is Method.NSGA2:
        own.setdefault("objectives", (Objective.SHARPE, Objective.MAXIMUM_DRAWDOWN))
    return OptimizationRequest(
        backtest=backtest, axes=axes, evolution=EvolutionRule(**evolution), folds=FoldRule(**folds), **own
    )
