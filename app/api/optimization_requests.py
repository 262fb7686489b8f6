"""What callers ask of optimisations: everything that a backtest can be asked, what varies, and how it is looked for."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.api import optimization_examples
from app.api.backtest_requests import NewBacktest, ParameterName, StrategyName, integer
from app.api.requests import Number
from app.choices import TUNED, ask_backtest, choose_axes, choose_days
from app.research.backtest.request import Driver
from app.research.optimization import request
from app.research.optimization.request import EvolutionRule, FoldRule, Method, Objective, OptimizationRequest
from app.research.optimization.space import MAXIMUM_AXES, TRADING, Range
from app.settings import Settings

_Share = Annotated[float, Field(strict=True, ge=0, le=1)]
_Most = request.MAXIMUM_GUIDED


class NewRange(BaseModel):
    """The values of one thing that are tried; what is left out is as the strategy has it."""

    model_config = ConfigDict(extra="forbid")

    low: Number | None = None
    high: Number | None = None
    step: Number | None = None


class NewOptimization(NewBacktest):
    """An optimisation that is asked for; what is left out (or null) is as the service trades.

    `parameters` are those that do not vary.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [optimization_examples.NEW_OPTIMIZATION]})

    strategy: StrategyName | None = Field(None, description=f"{TUNED} when left out.")
    driver: Literal[Driver.COMPILED] | None = Field(None, description="Trials are run by no other.")
    space: Annotated[dict[ParameterName, NewRange], Field(max_length=MAXIMUM_AXES)] | None = Field(
        None,
        description=f"What varies, by name: parameters of the strategy, {', '.join(TRADING)}. Every parameter of the "
        "strategy that `parameters` has not, when left out.",
    )
    method: Method | None = Field(None, description="random when left out.")
    objectives: Annotated[list[Objective], Field(min_length=1, max_length=2)] | None = Field(
        None,
        description="sharpe when left out; nsga2 takes two, sharpe and maximum_drawdown when left out.",
        json_schema_extra={"uniqueItems": True},
    )
    trials: integer(2, request.MAXIMUM_TRIALS) | None = Field(  # type: ignore[valid-type]
        None, description=f"random, tpe: how many points a search tries; 200 when left out, tpe at most {_Most:,}."
    )
    population: integer(2, 1_000) | None = Field(  # type: ignore[valid-type]
        None, description="genetic, nsga2: how many points a generation has; 40 when left out."
    )
    generations: integer(1, 1_000) | None = Field(  # type: ignore[valid-type]
        None, description=f"genetic, nsga2: 8 when left out; with the population at most {_Most:,} points."
    )
    elite: integer(0, 999) | None = Field(  # type: ignore[valid-type]
        None, description="genetic: how many of the best go on as they are; 2 when left out."
    )
    tournament: integer(1, 1_000) | None = Field(  # type: ignore[valid-type]
        None, description="genetic: of how many the best becomes a parent; 3 when left out."
    )
    crossover: _Share | None = Field(None, description="genetic: how likely a child has two parents; 0.9.")
    mutation: _Share | None = Field(None, description="genetic: how likely each value of a child changes; 0.2.")
    folds: integer(1, request.MAXIMUM_FOLDS) | None = Field(  # type: ignore[valid-type]
        None, description="How many choices are judged on the days after them; 5 when left out."
    )
    train_share: _Share | None = Field(
        None, description="The share of the days that the first choice is made by, 0.1 to 0.9; 0.5 when left out."
    )
    rolling: bool | None = Field(
        None, strict=True, description="true: each choice is made by as many days as the first, not by all before it."
    )

    def to_optimization(self, settings: Settings, now: datetime) -> OptimizationRequest:
        """The request; raises InvalidInputError where it makes no sense as a whole."""
        own, asked = self.split()
        ranges = {name: Range(**one) for name, one in (asked.pop("space", None) or {}).items()}
        search = {name: asked.pop(name) for name in _OF_THE_SEARCH if name in asked}
        if "objectives" in search:
            search["objectives"] = tuple(search["objectives"])
        asked.setdefault("strategy", TUNED)
        asked["since"], asked["until"] = choose_days(now, asked.get("since"), asked.get("until"))
        axes, fields = choose_axes(settings, ranges, asked)
        return request.make_request(ask_backtest(settings, own, now, **fields), axes, search)


_OF_THE_SEARCH: tuple[str, ...] = (
    *("method", "objectives", "trials", "seed"),
    *EvolutionRule.__dataclass_fields__,
    *FoldRule.__dataclass_fields__,
)
