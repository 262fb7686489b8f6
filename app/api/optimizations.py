"""Optimisations over the wire: what was looked for, what was found, and what is to be thought of it."""

from __future__ import annotations

from typing import Any

from pydantic import AliasPath, Field

from app.api.backtests import Asked as AskedBacktest
from app.api.backtests import Data, Significance
from app.api.performance import Count, NotNegative
from app.api.schemas import Answer, Fraction, Moment
from app.domain.candle import Interval
from app.research.optimization.request import Method, Objective

Values = dict[str, float]


def _at(*path: str) -> Any:  # noqa: ANN401 - pydantic types a field by its annotation
    return Field(validation_alias=AliasPath(*path))


class Axis(Answer):
    """Something that was varied, from `low` by `step` to `high`."""

    name: str
    low: float
    high: float
    step: float


class Evolution(Answer):
    """How generations followed each other; of genetic and nsga2."""

    population: Count
    generations: Count
    elite: Count
    tournament: Count
    crossover: Fraction
    mutation: Fraction


class Folds(Answer):
    """How the days were cut."""

    folds: Count
    train_share: Fraction
    rolling: bool


class Asked(Answer):
    """Everything that was asked for."""

    backtest: AskedBacktest = Field(description="What each trial is, but for what varies.")
    axes: list[Axis]
    method: Method
    objectives: list[Objective]
    trials: Count
    evolution: Evolution
    folds: Folds
    seed: Count


class Candidate(Answer):
    """A trial over all days."""

    values: Values
    objectives: list[float | None] = Field(description="In the order of those asked for; a drawdown is positive.")
    total_return: float
    sharpe: float | None = Field(description="A year.")
    maximum_drawdown: NotNegative
    fills: Count


class Choice(Answer):
    """What was chosen by some days, and what came of it on those after them, by the first objective."""

    train_since: Moment
    test_since: Moment = Field(description="Up to here it was chosen by, and from here on it is judged.")
    test_until: Moment
    values: Values
    in_sample: float | None
    out_of_sample: float | None


class OutOfSample(Answer):
    """What you would have had: every choice on the days after it, one after another.

    Each choice that differs from the one before, the first included, pays a round trip of fee and slippage.
    """

    since: Moment
    curve: list[float] = Field(description="From the initial cash to the end of each day, quote units.")
    benchmark: list[float] = Field(description="Buy-and-hold over the same days.")
    changes: Count
    total_return: float
    sharpe: float | None = Field(description="A year.")
    calmar: float | None
    maximum_drawdown: NotNegative
    benchmark_return: float
    in_sample_sharpe: float = Field(description="The mean of the choices on the days they were made by.")
    ratio: float | None = Field(description="`sharpe` over `in_sample_sharpe`: near 0 where luck was chosen.")


class Plateau(Answer):
    """How the first objective varies with the two parameters that it varies with most."""

    names: list[str] = Field(description="What lies across, and what upwards where there are two.")
    across: list[float] = Field(description="The middle of each column.")
    upwards: list[float] = Field(description="The middle of each row.")
    cells: list[list[float | None]] = Field(description="The mean of the trials there, a row each of `upwards`.")
    peak: float = Field(description="The best.")
    neighbours: float | None = Field(description="The mean of the cells around it.")
    is_plateau: bool | None = Field(
        description="Whether that is half of the peak at least; null where it says nothing."
    )


class Overfitting(Answer):
    """Whether the best of one half of the days is good in the other."""

    probability: Fraction = Field(description="Above 0.5 nothing is recommended.")
    loss_probability: Fraction = Field(description="How often the best of a half lost in the other.")
    slope: float | None
    trials: Count = Field(description="Of how many it was computed.")


class Judgement(Answer):
    """What is to be thought of it, by everything that was tried on these candles until now."""

    recommended: Values | None = Field(description="What to trade by; null where nothing found can be believed.")
    reason: str
    significance: Significance = Field(description="Of the best over all days.")


class Optimization(Answer):
    """An optimisation."""

    id: str = Field(description="Made of the request, the candles and the version of the code.")
    created_at: Moment
    request: Asked
    data: Data
    code_version: str
    trials: Count = Field(description="How many different points were run; each counts against the best.")
    seconds: NotNegative
    judgement: Judgement
    best: Candidate = Field(description="By all days, seen from their end.")
    best_run_id: str = Field(
        description="Its backtest: GET /backtest/runs/{backtest_id} has its costs times 2 and 5 as well."
    )
    out_of_sample: OutOfSample
    choices: list[Choice] = Field(description="Oldest first.")
    plateau: Plateau
    overfitting: Overfitting | None = Field(description="Null of too few days or trials.")
    front: list[Candidate] = Field(description="With two objectives, whatever nothing else is better than in both.")
    top: list[Candidate] = Field(description="The best by the first objective, the best first.")


class Summary(Answer):
    """An optimisation in a line; it is judged as of when it was computed."""

    id: str
    created_at: Moment
    source: str = _at("data", "source")
    symbols: list[str] = _at("request", "backtest", "symbols")
    interval: Interval = _at("data", "interval")
    since: Moment = _at("request", "backtest", "since")
    until: Moment = _at("request", "backtest", "until")
    strategy: str = _at("request", "backtest", "strategy")
    method: Method = _at("request", "method")
    objectives: list[Objective] = _at("request", "objectives")
    trials: Count
    best: Values = _at("best", "values")
    best_run_id: str
    recommended: Values | None = _at("judgement", "recommended")
    reason: str = _at("judgement", "reason")
    out_of_sample_return: float = _at("out_of_sample", "total_return")
    out_of_sample_sharpe: float | None = _at("out_of_sample", "sharpe")


class SummaryPage(Answer):
    """Optimisations, newest first."""

    items: list[Summary]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null on the last.")
    unreadable: list[str] = Field(
        description="Ids of what belongs on this page and cannot be read, as another version wrote it; delete them."
    )
