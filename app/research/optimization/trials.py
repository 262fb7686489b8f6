"""Runs trials: each is one compiled backtest over the whole span, whose days serve every choice and every judgement."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np

from app.domain.money import UNITS
from app.domain.record import canonical, to_plain
from app.research.backtest.compiled import run_compiled
from app.research.backtest.holding import run_holding
from app.research.backtest.market import Said
from app.research.backtest.measuring import drop_warm_up
from app.research.backtest.plan import Plan, Series
from app.research.backtest.request import BacktestRequest, make_plan
from app.research.backtest.result import BacktestData
from app.research.backtest.speaking import count_early_bars, listen, silence
from app.research.backtest.sweep import Sweep
from app.research.optimization.archive import Trial
from app.risk.curves import compute_daily_curve, find_utc_days
from app.strategies.registry import get_rule
from app.strategies.rules import Rule, Values
from app.strategies.signals import SignalArrays, SignalCodes, say_by_rule
from ml.backend import LOCAL, run_calls
from ml.bars import Bars, FloatArray, IntegerArray, find_segments
from ml.labels import HOLD

_KEPT: Final = 8
"""What a model says by so many parameters is kept, in case only its trading varies."""

_AT_ONCE: Final = 16
"""So many trials a thread does before it hands them over, which costs as much as a quarter of a trial."""

_CHUNKS: Final = 16
"""Into so many parts trials are cut for a cluster; each part takes the candles along."""


@dataclass(frozen=True, slots=True, eq=False)
class Markets:
    """What all trials run on.

    Attributes:
        data: What it is.
        history: The candles of each symbol, those before the first moment included.
        models: The folder of bundles.
        start_ms: When trading begins, milliseconds since the epoch.
    """

    data: BacktestData
    history: Mapping[str, Bars]
    models: Path
    start_ms: int

    @property
    def days(self) -> range:
        """The UTC days from the first cycle to the last, as every curve has them."""
        times = np.concatenate([bars.open_time_ms[1:] for bars in self.history.values()])
        times = times[times >= self.start_ms]
        return find_utc_days(np.array([times.min(), times.max()]) if times.size else times)


class TrialRunner:
    """Runs trials on every core, or on a cluster.

    Args:
        markets: What they run on.
        backend: As `ml.backend.run_calls` takes it.
    """

    def __init__(self, markets: Markets, backend: str = LOCAL) -> None:
        self._markets = markets
        self._backend = backend
        self._bench = _Bench(markets)

    def run(self, requests: Sequence[BacktestRequest]) -> Iterator[tuple[int, Trial]]:
        """The place of each request and what it came to, as soon as that is known.

        Raises:
            BackendError: The cluster cannot be used.
            InvalidInputError: A trial cannot be run, as `compute_backtest`.
        """
        if self._backend == LOCAL:
            yield from enumerate(self._bench.run(requests))
            return
        places = sorted(range(len(requests)), key=lambda place: _name_parameters(requests[place]))
        chunks = [one.tolist() for one in np.array_split(places, min(_CHUNKS, len(places))) if one.size]
        calls = [(self._markets, [requests[place] for place in chunk]) for chunk in chunks]
        with closing(run_calls(run_trials, calls, self._backend, self._markets.data.bars)) as results:
            for chunk, trials in zip(chunks, results, strict=True):
                yield from zip(chunk, trials, strict=True)

    def hold(self, request: BacktestRequest) -> FloatArray:
        """The curve of buy-and-hold with the costs of a request, shape (n_days + 1,)."""
        return self._bench.hold(request)


def run_trials(markets: Markets, requests: Sequence[BacktestRequest]) -> list[Trial]:
    """Run trials here, on every core."""
    return list(_Bench(markets).run(requests))


class _Bench:
    """Runs trials on this machine, and keeps what they share."""

    def __init__(self, markets: Markets) -> None:
        self._markets = markets
        self._heard: dict[str, list[SignalArrays]] = {}
        self._looked: dict[str, list[Callable[[Values], SignalCodes]]] = {}

    def run(self, requests: Sequence[BacktestRequest]) -> Iterator[Trial]:
        """What each came to, in their order."""
        if not requests:
            return
        if requests[0].is_learned:
            yield from map(self._run, requests)  # a model is taught on every core by itself
            return
        yield self._run(requests[0])  # loads the compiled code, and what all trials share, once
        chunks = [requests[first : first + _AT_ONCE] for first in range(1, len(requests), _AT_ONCE)]
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            for trials in threads.map(lambda chunk: [self._run(one) for one in chunk], chunks):
                yield from trials

    def hold(self, request: BacktestRequest) -> FloatArray:
        """As `TrialRunner.hold`."""
        plan, heard = _make_plan(request), listen(request, self._markets.history, self._markets.models, _tell_nobody)
        series = self._make_series([heard.signals[one.symbol] for one in self._markets.data.series])
        books = drop_warm_up(run_compiled(plan, series), self._markets.start_ms)
        equity, account = run_holding(plan, series, self._markets.start_ms).measure(books)
        return compute_daily_curve(books.times_ms, equity / UNITS, account.initial_cash, self._markets.days)

    def _run(self, request: BacktestRequest) -> Trial:
        outcome = self._sweep.run(_make_plan(request), self._hear(request))
        daily = outcome.daily[self._markets.days.start - self._sweep.days.start :]
        return Trial(np.append(float(request.initial_cash), daily / UNITS), outcome.fills)

    def _hear(self, request: BacktestRequest) -> Sequence[Said]:
        return self._ask_model(request) if request.is_learned else self._ask_rule(request)

    def _ask_model(self, request: BacktestRequest) -> list[SignalArrays]:
        key = _name_parameters(request)
        if key not in self._heard:
            while len(self._heard) >= _KEPT:
                del self._heard[next(iter(self._heard))]
            speech = listen(request, self._markets.history, self._markets.models, _tell_nobody)
            self._heard[key] = [speech.signals[one.symbol] for one in self._markets.data.series]
        return self._heard[key]

    def _ask_rule(self, request: BacktestRequest) -> list[Said]:
        """The signals of a rule, as `listen` has them; where they are late, what it says nothing after matters, too."""
        rule, values, latency = get_rule(request.strategy), request.parameters, request.latency_bars
        said: list[Said] = []
        for one, edges, find in zip(self._markets.data.series, self._edges, self._look(rule), strict=True):
            bars = self._markets.history[one.symbol]
            if latency:
                heard = rule.say(bars, edges, values)
                said.append(silence(heard, bars, self._markets.start_ms, latency))
                continue
            signals = find(values)
            for first, stop in pairwise(edges.tolist()):
                signals[first : min(first + rule.lookback(values) - 1, stop)] = HOLD
            signals[: count_early_bars(bars, self._markets.start_ms, latency)] = HOLD
            said.append(signals)
        return said

    def _look(self, rule: Rule) -> list[Callable[[Values], SignalCodes]]:
        """What finds the signals of a rule in each series; it is kept for all trials of the rule."""
        if rule.name not in self._looked and rule.find_signals is not None:
            pairs = zip(self._markets.data.series, self._edges, strict=True)
            self._looked[rule.name] = [rule.find_signals(self._markets.history[one.symbol], at) for one, at in pairs]
        return self._looked[rule.name]

    @cached_property
    def _edges(self) -> list[IntegerArray]:
        """Where the runs of candles without a gap begin, then the number of candles, of each series."""
        step = self._markets.data.interval.milliseconds
        runs = [
            find_segments(self._markets.history[one.symbol].open_time_ms, step) for one in self._markets.data.series
        ]
        return [np.array([0, *(run.stop for run in one)]) for one in runs]

    @cached_property
    def _sweep(self) -> Sweep:
        silent = [np.full(edges[-1], HOLD, dtype=np.int8) for edges in self._edges]
        return Sweep(
            self._make_series([say_by_rule("", one, edges, 1) for one, edges in zip(silent, self._edges, strict=True)])
        )

    def _make_series(self, signals: Sequence[SignalArrays]) -> list[Series]:
        return [
            Series(one.symbol, self._markets.data.interval, one.instrument, self._markets.history[one.symbol], said)
            for one, said in zip(self._markets.data.series, signals, strict=True)
        ]


def _make_plan(request: BacktestRequest) -> Plan:
    return make_plan(request, get_rule(request.strategy).lookback(request.parameters))


def _name_parameters(request: BacktestRequest) -> str:
    return canonical(to_plain(request.parameters))


def _tell_nobody(_share: float, _words: str) -> None:
    pass
