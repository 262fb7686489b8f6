"""Backtests as a service has them: candles are fetched, runs are computed in another process, and kept."""

from __future__ import annotations

import asyncio
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import numpy as np

from app import __version__, errors
from app.domain.instrument import Instrument
from app.domain.ports import EVERYTHING, Clock, MarketData, Page, Selection
from app.domain.record import canonical, digest, from_microseconds, microseconds, to_plain
from app.errors import InvalidInputError, ServiceError, StorageError
from app.research.backtest.books import find_first_difference
from app.research.backtest.computing import Task
from app.research.backtest.measuring import compute_daily, count_missing
from app.research.backtest.request import LEAST_BARS, STORE, BacktestRequest, Driver
from app.research.backtest.result import BacktestData, BacktestResult, BacktestRun, SeriesData
from app.research.backtest.speaking import count_warm_up_bars
from app.research.backtest.stored import read_result, read_run, write_run
from app.research.backtest.worker import BARS_FILE, BOOKS_FILE, RUN_FILE, TASK_FILE
from app.research.child import OnProgress, run_child
from app.research.history import HistoryKeeper
from app.risk.metrics import DAYS_PER_YEAR
from app.risk.significance import judge_significance
from app.storage.backtests import DataSet, SqlBacktests, StoredRun, Trial
from ml.bars import Bars, compute_candle_hash, save_bars

FILE: Final = "file"
"""The source that all files are."""

_FETCHED: Final = 0.3
"""How far a run is once its candles are there."""

_COMPUTED: Final = 0.95
_STEP = Decimal("0.00000001")
_NOT_OF_A_TRIAL = ("since", "until", "source", "driver")
"""What may differ between two requests that try the same thing."""


@dataclass(frozen=True, slots=True, eq=False)
class Candles:
    """What a backtest runs on: the candles of each symbol, and how many rows of their files were left out."""

    history: Mapping[str, Bars]
    refused_rows: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class RunPage(Page[BacktestRun]):
    """A page of runs, and the ids of those that belong on it and cannot be read."""

    unreadable: tuple[str, ...]


class BacktestKeeper:
    """Runs backtests and keeps them.

    Args:
        market: Whose candles and trading rules are used.
        history: Fetches and keeps candles.
        backtests: Where runs and trials are kept.
        clock: Stamps runs.
        models: The folder of bundles.
    """

    def __init__(
        self,
        market: MarketData,
        history: HistoryKeeper,
        backtests: SqlBacktests,
        clock: Clock,
        models: Path,
    ) -> None:
        self._market = market
        self._history = history
        self._backtests = backtests
        self._clock = clock
        self._models = models

    async def fetch_candles(self, request: BacktestRequest, on_progress: OnProgress) -> Candles:
        """The candles of the store, with those before the first moment that the strategy needs; others are fetched.

        Args:
            request: What is asked for.
            on_progress: Hears how far the work is, as a part of all that `run` does.

        Raises:
            InvalidInputError: `candles_missing`, the request is about a file.
            NotFoundError: `unknown_symbol`, `unknown_strategy`.
            UpstreamError: What is missing could not be fetched.
        """
        if request.source != STORE:
            raise InvalidInputError("The candles of a file must be read first.", code="candles_missing")
        since = _find_first_moment(request)
        history = {}
        for place, symbol in enumerate(request.symbols):

            def tell(done: int, total: int, place: int = place, symbol: str = symbol) -> None:
                share = (place + done / max(total, 1)) / len(request.symbols)
                on_progress(share * _FETCHED, f"Candles of {symbol}: {done:,} of {total:,}.")

            history[symbol] = await self._history.load_range(symbol, request.interval, since, request.until, tell)
        return Candles(history, {})

    async def run(
        self, request: BacktestRequest, on_progress: OnProgress, candles: Candles | None = None
    ) -> BacktestResult:
        """Compute a backtest, or find that it was computed before: the same request on the same candles.

        Nothing is kept before everything is. A caller who is cancelled takes the computing down.

        Args:
            request: What is asked for.
            on_progress: Hears how far the work is.
            candles: Those of the request's file, from as far back as there are; from the store they are fetched.

        Raises:
            InvalidInputError: It cannot be run; the code says why (`no_candles`, `model_saw_candles` ...).
            NotFoundError: `unknown_symbol`, `unknown_strategy`, `model_not_found`.
            UpstreamError: Candles that are missing could not be fetched.
            ServiceError: `backtest_failed`, the process broke.
        """
        task, candles = await self.prepare(request, on_progress, candles)
        if not await self._backtests.exists(task.id):
            await self._keep(*await self._compute(task, candles, part_of(on_progress, _FETCHED, _COMPUTED)))
        on_progress(1.0, "Done.")
        return await self.load(task.id)

    async def verify(
        self, request: BacktestRequest, on_progress: OnProgress, candles: Candles | None = None
    ) -> tuple[BacktestResult, str | None]:
        """Compute a backtest by each driver, whatever is kept of it, and compare their books to the last unit.

        Args:
            request: What is asked for; the run of its driver is kept.
            on_progress: As for `run`.
            candles: As for `run`.

        Returns:
            The run, and the first difference in words, with the values of the drivers in the order of `Driver`; None
            where all numbers are equal.

        Raises:
            ServiceError: As `run`.
        """
        task, candles = await self.prepare(request, on_progress, candles)
        books = []
        for place, driver in enumerate(Driver):
            share = (_COMPUTED - _FETCHED) / len(Driver)
            hears = part_of(on_progress, _FETCHED + place * share, _FETCHED + (place + 1) * share)
            own = replace(task, request=replace(request, driver=driver))
            document, arrays = await self._compute(own, candles, hears)
            books.append((await asyncio.to_thread(read_result, document, arrays)).books)
            if driver is request.driver and not await self._backtests.exists(task.id):
                await self._keep(document, arrays)
        difference = await asyncio.to_thread(find_first_difference, *books)
        on_progress(1.0, "Done.")
        return await self.load(task.id), difference

    async def load(self, run_id: str) -> BacktestResult:
        """One run with its books, judged by all that was tried until now; raises NotFoundError `backtest_not_found`."""
        result = await self.load_as_kept(run_id)
        return replace(result, run=await self._judge(result))

    async def load_as_kept(self, run_id: str) -> BacktestResult:
        """One run with its books, as it was judged when it was computed; raises as `load`."""
        stored = await self._backtests.load(run_id)
        return await asyncio.to_thread(read_result, stored.document, stored.arrays)

    async def list(
        self, limit: int, cursor: str | None = None, wanted: Selection = EVERYTHING, strategy: str | None = None
    ) -> RunPage:
        """The newest runs, newest first, each as it was judged when it was computed; raises as `SqlBacktests.list`."""
        return await asyncio.to_thread(_read_page, await self._backtests.list(limit, cursor, wanted, strategy))

    async def delete(self, run_id: str) -> None:
        """Throw a run away; that it was tried stays known. Raises NotFoundError `backtest_not_found`."""
        await self._backtests.delete(run_id)

    def _source(self, request: BacktestRequest) -> str:
        return self._market.candle_source if request.source == STORE else FILE

    async def prepare(
        self, request: BacktestRequest, on_progress: OnProgress, candles: Candles | None
    ) -> tuple[Task, Candles]:
        """What is to be computed, and the candles that it needs of those that are there; raises as `run`."""
        if candles is None:
            candles = await self.fetch_candles(request, on_progress)
        candles = replace(candles, history=_cut(request, candles.history))
        instruments = await self._find_instruments(request)
        data = await asyncio.to_thread(_describe, request, candles, instruments, self._source(request))
        return Task(name_run(request, data), self._clock.now(), __version__, request, data), candles

    async def _find_instruments(self, request: BacktestRequest) -> dict[str, Instrument]:
        if request.source == STORE:
            return {symbol: await self._market.fetch_instrument(symbol) for symbol in request.symbols}
        return {symbol: Instrument(symbol, symbol, "", _STEP, _STEP, Decimal(0)) for symbol in request.symbols}

    async def _compute(self, task: Task, candles: Candles, on_progress: OnProgress) -> tuple[str, bytes]:
        try:
            with tempfile.TemporaryDirectory(prefix="papertape-backtest-") as scratch:
                folder = Path(scratch)
                await asyncio.to_thread(_write_task, folder, task, candles.history)
                last, status = await run_child(
                    "app.research.backtest.worker", (folder, self._models.absolute()), on_progress
                )
                if "done" not in last:
                    raise explain(last, status)
                return await asyncio.to_thread(
                    lambda: ((folder / RUN_FILE).read_text(), (folder / BOOKS_FILE).read_bytes())
                )
        except OSError as error:
            raise ServiceError(
                f"The backtest cannot run: {error.strerror}; make room in {tempfile.gettempdir()}.",
                code="backtest_failed",
            ) from error

    async def _keep(self, document: str, arrays: bytes) -> None:
        """Keep what was tried for good, judge the run by all that was, and keep it."""
        result = await asyncio.to_thread(read_result, document, arrays)
        run = result.run
        sharpe = run.performance.sharpe
        daily = None if sharpe is None else sharpe / math.sqrt(DAYS_PER_YEAR)
        await self._backtests.record_trials(
            [Trial(find_data_set(run.request, run.data), name_trial(run.request), daily)]
        )
        run = await self._judge(result)
        asked = run.request
        kept = StoredRun(run.id, run.created_at, asked.symbols, asked.strategy, write_run(run), arrays)
        await self._backtests.save(kept)

    async def _judge(self, result: BacktestResult) -> BacktestRun:
        run = result.run
        counted = await self._backtests.count_trials(find_data_set(run.request, run.data))
        if run.significance is not None and run.significance.trials == counted.trials:
            return run
        _, returns = compute_daily(float(run.request.initial_cash), result.books)
        found = await asyncio.to_thread(
            judge_significance, returns, max(counted.trials, 1), counted.variance, run.request.seed
        )
        return replace(run, significance=found)


def part_of(on_progress: OnProgress, start: float, end: float) -> OnProgress:
    """Hears of a part of the work, and tells how far the whole is by that."""
    return lambda share, words: on_progress(start + share * (end - start), words)


def find_data_set(request: BacktestRequest, data: BacktestData) -> DataSet:
    """The candles that something was tried on, as trials are counted."""
    return DataSet(data.source, request.symbols, request.since, request.until)


def name_trial(request: BacktestRequest) -> str:
    """What is tried, 64 hexadecimal digits: everything but the span, the place of the candles and the driver.

    Another seed and another cost are another trial: who tries a hundred of them and shows one has tried a hundred.
    """
    document = request.to_document()
    return digest(canonical({name: value for name, value in document.items() if name not in _NOT_OF_A_TRIAL}))


def _find_first_moment(request: BacktestRequest) -> datetime:
    """When the first candle opens that a strategy needs."""
    return request.since - count_warm_up_bars(request) * request.interval.duration


def _cut(request: BacktestRequest, history: Mapping[str, Bars]) -> dict[str, Bars]:
    """The candles of a request's symbols and span, in its order; raises InvalidInputError `no_candles`."""
    edges = [microseconds(one) // 1_000 for one in (_find_first_moment(request), request.until)]
    found = {}
    for symbol in request.symbols:
        bars = history.get(symbol, Bars.from_rows([]))
        first, last = np.searchsorted(bars.open_time_ms, edges)
        bars = bars[int(first) : int(last)]
        if len(bars) < LEAST_BARS or bars.open_time_ms[-1] < microseconds(request.since) // 1_000:
            raise InvalidInputError(
                f"There are no {request.interval} candles of {symbol} from {request.since:%Y-%m-%d %H:%M} on.",
                code="no_candles",
                context={"symbol": symbol},
            )
        found[symbol] = bars
    return found


def _describe(
    request: BacktestRequest, candles: Candles, instruments: Mapping[str, Instrument], source: str
) -> BacktestData:
    step = request.interval.milliseconds
    series = []
    for symbol in request.symbols:
        bars = candles.history[symbol]
        series.append(
            SeriesData(
                symbol=symbol,
                first=from_microseconds(int(bars.open_time_ms[0]) * 1_000),
                last=from_microseconds(int(bars.open_time_ms[-1]) * 1_000),
                bars=len(bars),
                missing=count_missing(bars.open_time_ms, step),
                candle_hash=compute_candle_hash(bars, symbol, request.interval.value),
                refused_rows=candles.refused_rows.get(symbol, 0),
                instrument=instruments[symbol],
            )
        )
    return BacktestData(source, request.interval, tuple(series))


def name_run(request: BacktestRequest, data: BacktestData) -> str:
    """The id of a run, which tells it from every other that may come out differently: 32 hexadecimal digits."""
    document = {"request": request.to_document(), "data": to_plain(data), "code": __version__}
    return digest(canonical(document))[:32]


def _write_task(folder: Path, task: Task, history: Mapping[str, Bars]) -> None:
    (folder / TASK_FILE).write_text(canonical(to_plain(task)))
    save_bars(folder / BARS_FILE, history)


def _read_page(page: Page[tuple[str, str]]) -> RunPage:
    runs, unreadable = [], []
    for run_id, document in page.items:
        try:
            runs.append(read_run(document))
        except StorageError:
            unreadable.append(run_id)
    return RunPage(tuple(runs), page.next_cursor, tuple(unreadable))


def explain(
    last: Mapping[str, Any], status: int, work: str = "backtest", code: str = "backtest_failed"
) -> ServiceError:
    """What a process that did not get done has died of, and what it was doing."""
    if "error" in last:
        kind: type[ServiceError] = getattr(errors, last["error"]["kind"], ServiceError)
        return kind(last["error"]["message"], code=last["error"]["code"])
    if status == -9:
        reason = "was killed, most likely because the machine ran out of memory; try a shorter span"
    else:
        reason = f"ended with status {status}; its error is in the log above"
    return ServiceError(f"The {work} {reason}.", code=code)
