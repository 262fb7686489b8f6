"""Runs trials: each is one compiled backtest over the whole span, whose days serve every choice and every judgement."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from app.domain.money import UNITS
from app.domain.record import canonical, to_plain
from app.research.backtest.books import Books
from app.research.backtest.compiled import run_compiled
from app.research.backtest.holding import run_holding
from app.research.backtest.measuring import compute_daily, drop_warm_up
from app.research.backtest.plan import Plan, Series
from app.research.backtest.request import BacktestRequest, make_plan
from app.research.backtest.result import BacktestData
from app.research.backtest.speaking import Speech, listen
from app.research.optimization.archive import Trial
from app.risk.curves import compute_daily_curve, find_utc_days
from app.strategies.registry import get_rule
from ml.backend import LOCAL, run_calls
from ml.bars import Bars, FloatArray

_KEPT: Final = 8
"""What so many parameters of a model say is kept, in case only its trading varies."""


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
        self._heard: dict[str, Speech] = {}

    def run(self, requests: Sequence[BacktestRequest]) -> Iterator[tuple[int, Trial]]:
        """The place of each request and what it came to, as soon as that is known.

        Raises:
            BackendError: The cluster cannot be used.
            InvalidInputError: A trial cannot be run, as `compute_backtest`.
        """
        groups = _group(requests)
        for places, trials in zip(
            groups, self._run([[requests[one] for one in group] for group in groups]), strict=True
        ):
            yield from zip(places, trials, strict=True)

    def _run(self, groups: Sequence[Sequence[BacktestRequest]]) -> Iterator[list[Trial]]:
        if self._backend != LOCAL:
            calls = [(self._markets, group) for group in groups]
            rows = self._markets.data.bars * len(groups)
            with closing(run_calls(run_group, calls, self._backend, rows)) as results:
                yield from results
        elif groups and groups[0][0].is_learned:
            yield from (run_group(self._markets, group, self._hear(group[0])) for group in groups)
        else:
            with ThreadPoolExecutor(os.cpu_count()) as threads:
                yield from threads.map(partial(run_group, self._markets), groups)

    def _hear(self, request: BacktestRequest) -> Speech:
        key = _name_parameters(request)
        if key not in self._heard:
            while len(self._heard) >= _KEPT:
                del self._heard[next(iter(self._heard))]
            self._heard[key] = hear(self._markets, request)
        return self._heard[key]


def hear(markets: Markets, request: BacktestRequest) -> Speech:
    """What the strategy of a trial says of all candles; raises as `listen`."""
    return listen(request, markets.history, markets.models, lambda _share, _words: None)


def run_group(markets: Markets, requests: Sequence[BacktestRequest], speech: Speech | None = None) -> list[Trial]:
    """Run trials of the same parameters, which differ in how they are traded."""
    speech = speech or hear(markets, requests[0])
    trials = []
    for request in requests:
        books = trade(markets, request, speech)
        curve, _ = compute_daily(float(request.initial_cash), books)
        trials.append(Trial(curve, len(books.fills)))
    return trials


def trade(markets: Markets, request: BacktestRequest, speech: Speech) -> Books:
    """The books of one trial."""
    return drop_warm_up(run_compiled(*_prepare(markets, request, speech)), markets.start_ms)


def hold(markets: Markets, request: BacktestRequest) -> FloatArray:
    """The curve of buy-and-hold with the costs of a request, shape (n_days + 1,)."""
    speech = hear(markets, request)
    plan, series = _prepare(markets, request, speech)
    books = trade(markets, request, speech)
    equity, account = run_holding(plan, series, markets.start_ms).measure(books)
    return compute_daily_curve(books.times_ms, equity / UNITS, account.initial_cash, markets.days)


def _prepare(markets: Markets, request: BacktestRequest, speech: Speech) -> tuple[Plan, list[Series]]:
    plan = make_plan(request, get_rule(request.strategy).lookback(request.parameters))
    return plan, [
        Series(one.symbol, request.interval, one.instrument, markets.history[one.symbol], speech.signals[one.symbol])
        for one in markets.data.series
    ]


def _group(requests: Sequence[BacktestRequest]) -> list[list[int]]:
    """The places of requests with the same parameters, in the order of the first of each."""
    groups: dict[str, list[int]] = {}
    for place, request in enumerate(requests):
        groups.setdefault(_name_parameters(request), []).append(place)
    return list(groups.values())


def _name_parameters(request: BacktestRequest) -> str:
    return canonical(to_plain(request.parameters))
