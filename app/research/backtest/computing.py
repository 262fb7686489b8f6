"""Computes a backtest, from candles to everything that is said of it but its significance."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Final

import numpy as np

from app.domain.money import from_units, to_units
from app.domain.record import microseconds
from app.research.backtest import measuring
from app.research.backtest.books import Books
from app.research.backtest.caveats import find_caveats
from app.research.backtest.compiled import run_compiled
from app.research.backtest.engine_driver import run_engine
from app.research.backtest.holding import run_holding
from app.research.backtest.plan import Plan, Series
from app.research.backtest.request import BacktestRequest, Driver, make_plan
from app.research.backtest.result import BacktestData, BacktestResult, BacktestRun, CalibrationBin, CostCase
from app.research.backtest.speaking import Speech, label_bars, listen
from app.research.child import OnProgress
from app.risk.metrics import AccountHistory, compute_performance, compute_sharpe, compute_total_return
from app.strategies.registry import get_rule
from ml.bars import Bars

COST_MULTIPLES: Final = (0, 1, 2, 5)
"""How many times its costs a run is run with, to see what is left of it."""

_SPOKEN: Final = 0.6
"""How far the work is once all is said."""

_TRADED: Final = 0.9
"""How far it is once all is traded."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be computed: the run's name, its time and the code's version, what is asked for, and the candles."""

    id: str
    created_at: datetime
    code_version: str
    request: BacktestRequest
    data: BacktestData

    @property
    def start_ms(self) -> int:
        """When trading begins, milliseconds since the epoch."""
        return microseconds(self.request.since) // 1_000


def compute_backtest(task: Task, history: Mapping[str, Bars], models: Path, on_progress: OnProgress) -> BacktestResult:
    """Run a backtest and measure it; nothing is said of its significance yet.

    Args:
        task: What is to be computed.
        history: The candles of each symbol of the request, those before its first moment included.
        models: The folder of bundles.
        on_progress: Hears how far the work is.

    Raises:
        InvalidInputError: It cannot be run; the code says why.
        NotFoundError: `model_not_found`, `unknown_strategy`.
    """
    began, request = time.perf_counter(), task.request
    on_progress(0.0, "Hearing the strategy.")
    speech = listen(request, history, models, lambda share, words: on_progress(share * _SPOKEN, words))
    plan = make_plan(request, get_rule(request.strategy).lookback(request.parameters))
    series = [
        Series(one.symbol, request.interval, one.instrument, history[one.symbol], speech.signals[one.symbol])
        for one in task.data.series
    ]
    spoken = time.perf_counter() - began
    on_progress(_SPOKEN, _name_wait())
    holding = run_holding(plan, series, task.start_ms)  # first, as it loads the compiled code
    on_progress(_SPOKEN, "Trading.")
    started = time.perf_counter()
    books = _trade(task, plan, series, lambda share, words: on_progress(_SPOKEN + share * (_TRADED - _SPOKEN), words))
    traded = time.perf_counter() - started
    on_progress(_TRADED, "Measuring.")
    equity, benchmark = holding.measure(books)
    run = _describe(task, plan, series, books, benchmark)
    run = replace(
        run,
        seconds=spoken + traded,
        bars_per_second=task.data.bars / traded,
        calibration=_calibrate(series, speech),
    )
    return BacktestResult(run, books, equity, measuring.recall(series, books, request.latency_bars))


def _name_wait() -> str:
    from app.research.backtest.native import is_compiled  # noqa: PLC0415 - loads numba, which only backtests need

    return "Loading the rules." if is_compiled() else "Compiling the rules: half a minute, once a version."


def _trade(task: Task, plan: Plan, series: Sequence[Series], on_progress: OnProgress) -> Books:
    if task.request.driver is Driver.ENGINE:
        books = run_engine(plan, series, on_progress)
    else:
        books = run_compiled(plan, series)
    return measuring.drop_warm_up(books, task.start_ms)


def _describe(task: Task, plan: Plan, series: Sequence[Series], books: Books, held: AccountHistory) -> BacktestRun:
    outcomes = measuring.count_outcomes(books)
    return BacktestRun(
        id=task.id,
        created_at=task.created_at,
        request=task.request,
        data=task.data,
        code_version=task.code_version,
        model_ids=_name_models(series),
        seconds=0.0,
        bars_per_second=0.0,
        final_equity=from_units(int(books.equity[-1]) if len(books) else to_units(plan.initial_cash)),
        fills=len(books.fills),
        closed_trades=int(measuring.find_exits(books).sum()),
        performance=compute_performance(measuring.to_history(plan, books), held.times_ms, held.equity),
        benchmark=compute_performance(held, held.times_ms, held.equity),
        significance=None,
        costs=tuple(_vary_costs(task, plan, series, books, multiple) for multiple in COST_MULTIPLES),
        monthly=measuring.compute_monthly_returns(plan, books, held.equity),
        outcomes=outcomes,
        calibration=(),
        caveats=find_caveats(task.request, task.data, books, outcomes, _find_first_word(task, series)),
    )


def _vary_costs(task: Task, plan: Plan, series: Sequence[Series], books: Books, multiple: int) -> CostCase:
    """The run at so many times its costs; the model is the same, and expects what it did."""
    if multiple != 1:
        costs = {name: getattr(plan.terms, name) * Decimal(multiple) for name in ("fee_bps", "slippage_bps")}
        plan = replace(plan, terms=replace(plan.terms, **costs))
        books = measuring.drop_warm_up(run_compiled(plan, series), task.start_ms)
    curve, returns = measuring.compute_daily(float(plan.initial_cash), books)
    return CostCase(multiple, compute_total_return(curve), compute_sharpe(returns), len(books.fills))


def _calibrate(series: Sequence[Series], speech: Speech) -> tuple[CalibrationBin, ...]:
    if speech.label_rule is None:
        return ()
    labels = [label_bars(one.bars, one.interval.milliseconds, speech.label_rule) for one in series]
    return measuring.compute_calibration(series, labels)


def _name_models(series: Sequence[Series]) -> tuple[str, ...]:
    """Whoever said anything, each once, in the order of the sources."""
    names: dict[str, None] = {}
    for one in series:
        spoke = np.unique(one.signals.speakers)
        names |= dict.fromkeys(one.signals.sources[place].model_id for place in spoke[spoke >= 0])
    return tuple(names)


def _find_first_word(task: Task, series: Sequence[Series]) -> int | None:
    """When the first candle closed, from the first moment of trading on, that anything was said after."""
    step = task.request.interval.milliseconds
    first = np.concatenate([one.bars.open_time_ms[one.signals.speakers >= 0][:1] + step for one in series])
    return max(int(first.min()), task.start_ms) if first.size else None
