"""What an optimisation has to say; small, and kept as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from app.research.backtest.result import BacktestData
from app.research.optimization.request import OptimizationRequest
from app.risk.significance import Significance


@dataclass(frozen=True, slots=True)
class Candidate:
    """A trial over the whole span.

    Attributes:
        values: What was varied, by name.
        objectives: What it came to by each objective of the request; a drawdown is a positive fraction. None where the
            account had nothing left.
        total_return: A fraction.
        sharpe: Annual; None where its days do not vary.
        maximum_drawdown: A positive fraction.
        fills: How many there were.
    """

    values: Mapping[str, float]
    objectives: tuple[float | None, ...]
    total_return: float
    sharpe: float | None
    maximum_drawdown: float
    fills: int


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen by some days, and what came of it on the days after them.

    Attributes:
        train_since: The first day it was chosen by.
        test_since: The first day it is judged on, which follows the last it was chosen by.
        test_until: The day after the last it is judged on.
        values: What was chosen.
        in_sample: By the first objective, as `Candidate` has it, on the days it was chosen by.
        out_of_sample: The same on the days it is judged on.
    """

    train_since: datetime
    test_since: datetime
    test_until: datetime
    values: Mapping[str, float]
    in_sample: float | None
    out_of_sample: float | None


@dataclass(frozen=True, slots=True)
class OutOfSample:
    """What you would have had: every choice on the days after it, one after another.

    Each choice that differs from the one before, the first included, is charged a round trip of fee and slippage on
    everything, which is the most that changing over can cost.

    Attributes:
        since: The first day.
        curve: From the initial cash to the end of each day, quote units.
        benchmark: Buy-and-hold over the same days, with the same beginning.
        changes: How many choices differ from the one before, the first included.
        total_return: A fraction.
        sharpe: Annual; None where the days do not vary.
        calmar: None where it is not defined.
        maximum_drawdown: A positive fraction.
        benchmark_return: A fraction.
        in_sample_sharpe: The mean Sharpe ratio of the choices on the days they were made by.
        ratio: `sharpe` over that: about 1 where choosing finds something, about 0 where it finds luck; None where
            `in_sample_sharpe` is not above 0.
    """

    since: datetime
    curve: tuple[float, ...]
    benchmark: tuple[float, ...]
    changes: int
    total_return: float
    sharpe: float | None
    calmar: float | None
    maximum_drawdown: float
    benchmark_return: float
    in_sample_sharpe: float
    ratio: float | None


@dataclass(frozen=True, slots=True)
class Plateau:
    """How the first objective varies with the two parameters that it varies with most; with one, there is one row.

    Attributes:
        names: What lies across and, where there are two, what upwards.
        across: The middle of each column.
        upwards: The middle of each row; one 0 where there is one parameter.
        cells: The mean of the trials in each cell, a row for each of `upwards`; None without a trial.
        peak: What the best trial came to.
        neighbours: The mean of the cells around that of the best; None without one.
        is_plateau: Whether `neighbours` comes to half of `peak` at least; None where either is not above 0 or known.
    """

    names: tuple[str, ...]
    across: tuple[float, ...]
    upwards: tuple[float, ...]
    cells: tuple[tuple[float | None, ...], ...]
    peak: float
    neighbours: float | None
    is_plateau: bool | None


@dataclass(frozen=True, slots=True)
class SweepOverfitting:
    """Whether the best trial of one half of the days is a good one in the other, `app.risk.overfitting`.

    Attributes:
        probability: Of backtest overfitting, 0 to 1.
        loss_probability: The share of halves whose best lost in the other half, 0 to 1.
        slope: Of the Sharpe ratio in the other half over that in the chosen one; None where it is not defined.
        trials: How many trials it was computed of; of many, some that are spread evenly.
    """

    probability: float
    loss_probability: float
    slope: float | None
    trials: int


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is to be thought of an optimisation, by all that was tried on its candles until now.

    Attributes:
        significance: Of the best over all days.
        recommended: What to trade by; None where nothing found can be believed.
        reason: Why, in a sentence or two.
    """

    significance: Significance
    recommended: Mapping[str, float] | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizationRun:
    """Everything that was found out.

    Attributes:
        id: Its name.
        created_at: When it was computed.
        request: What was asked for.
        data: What it ran on.
        code_version: The version that computed it.
        trials: How many different points were run.
        seconds: How long it took; what an earlier process had done by then is not in it.
        choices: What was chosen by some days and judged on others, oldest first.
        out_of_sample: What that comes to.
        best: The best over all days.
        best_curve: Its days, from the initial cash to the end of each, quote units.
        front: With two objectives whatever no other trial is better than in both, `best` among them; else empty.
        top: The best trials by the first objective, the best first.
        plateau: How the first objective varies.
        overfitting: Whether choosing by it does good; None of too few days or trials.
        best_run_id: The backtest of `best`, which is kept as any other; None until it is.
        judgement: What is to be thought of it, by the trials that were counted when it was judged; None before that.
    """

    id: str
    created_at: datetime
    request: OptimizationRequest
    data: BacktestData
    code_version: str
    trials: int
    seconds: float
    choices: tuple[Choice, ...]
    out_of_sample: OutOfSample
    best: Candidate
    best_curve: tuple[float, ...]
    front: tuple[Candidate, ...]
    top: tuple[Candidate, ...]
    plateau: Plateau
    overfitting: SweepOverfitting | None
    best_run_id: str | None = None
    judgement: Judgement | None = None
