"""Backtests in SQL: runs that were computed, and everything that was ever tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from typing import Any

import numpy as np
from sqlalchemy import Connection, Select, delete, func, or_, select

from app.domain.ports import EVERYTHING, Clock, Page, Selection
from app.errors import NotFoundError
from app.storage.database import Database
from app.storage.pages import PageRequest, is_plain
from app.storage.research_tables import backtest_runs, backtest_trials

_SELECT_RUNS = select(backtest_runs.c.number, backtest_runs.c.id, backtest_runs.c.document)


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run as it is kept.

    Attributes:
        id: Its name, which tells it from every other that may come out differently.
        created_at: When it was computed.
        symbols: What it traded.
        strategy: By which strategy.
        document: What it has to say, as JSON.
        arrays: Its books, the bytes of an `npz` file.
    """

    id: str
    created_at: datetime
    symbols: tuple[str, ...]
    strategy: str
    document: str
    arrays: bytes


@dataclass(frozen=True, slots=True)
class DataSet:
    """The candles that something was tried on: `source` is the market, or "file" for every file."""

    source: str
    symbols: tuple[str, ...]
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Trial:
    """Something that was tried: what on, what (64 hexadecimal digits), and what Sharpe ratio *a day* it came to."""

    data_set: DataSet
    digest: str
    daily_sharpe: float | None


@dataclass(frozen=True, slots=True)
class TrialCount:
    """How many different things were tried on a data set, and the variance of their Sharpe ratios a day.

    `variance` is that of a sample; None where fewer than two have one.
    """

    trials: int
    variance: float | None


class SqlBacktests:
    """Keeps backtests and counts trials.

    Args:
        database: An open database.
        clock: Stamps trials.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def save(self, run: StoredRun) -> None:
        """Keep a run whole, unless it is there already."""
        row = {name: getattr(run, name) for name in StoredRun.__dataclass_fields__} | {"symbols": enclose(run.symbols)}

        def work(connection: Connection) -> None:
            insert = import_module(f"sqlalchemy.dialects.{connection.dialect.name}").insert(backtest_runs)
            connection.execute(insert.on_conflict_do_nothing(), row)

        await self._database.write(work)

    async def exists(self, run_id: str) -> bool:
        """Whether a run is kept."""
        statement = select(backtest_runs.c.number).where(backtest_runs.c.id == run_id)
        return await self._database.read(lambda connection: connection.execute(statement).scalar()) is not None

    async def load(self, run_id: str) -> StoredRun:
        """One run, whole; raises `NotFoundError` (`backtest_not_found`)."""
        statement = select(*(backtest_runs.c[name] for name in StoredRun.__dataclass_fields__))
        row = None
        if is_plain(run_id):
            of_this = statement.where(backtest_runs.c.id == run_id)
            row = await self._database.read(lambda connection: connection.execute(of_this).mappings().first())
        if row is None:
            raise _not_found()
        return StoredRun(**{**row, "symbols": tuple(row["symbols"].strip(",").split(","))})

    async def load_document(self, run_id: str) -> str:
        """What one run has to say; raises `NotFoundError` (`backtest_not_found`)."""
        document: str | None = None
        if is_plain(run_id):
            statement = select(backtest_runs.c.document).where(backtest_runs.c.id == run_id)
            document = await self._database.read(lambda connection: connection.execute(statement).scalar())
        if document is None:
            raise _not_found()
        return document

    async def list(
        self, limit: int, cursor: str | None = None, wanted: Selection = EVERYTHING, strategy: str | None = None
    ) -> Page[tuple[str, str]]:
        """The ids and documents of the newest runs, newest first; raises as `PageRequest.parse`.

        Args:
            limit: How many, 1 to 1000.
            cursor: That of the page before.
            wanted: Only runs of this symbol, among others, that were computed within these times.
            strategy: Only runs of this strategy.
        """
        page = PageRequest.parse("backtest", limit, cursor)
        statement = narrow_runs(_SELECT_RUNS, backtest_runs.c, wanted, strategy)
        return await self._database.read(
            lambda connection: page.fetch(
                connection, statement, backtest_runs.c.number, lambda row: (str(row[1]), str(row[2]))
            )
        )

    async def delete(self, run_id: str) -> None:
        """Throw a run away, not what it has tried; raises `NotFoundError` (`backtest_not_found`)."""
        statement = delete(backtest_runs).where(backtest_runs.c.id == (run_id if is_plain(run_id) else ""))
        if not await self._database.write(lambda connection: connection.execute(statement).rowcount):
            raise _not_found()

    async def record_trials(self, trials: Sequence[Trial]) -> None:
        """Keep what was tried, for good; what was tried on the very same candles before is there already."""
        now = self._clock.now()
        rows = [
            {
                "source": one.data_set.source,
                "symbols": enclose(one.data_set.symbols),
                "since": one.data_set.since,
                "until": one.data_set.until,
                "digest": one.digest,
                "daily_sharpe": one.daily_sharpe,
                "observed_at": now,
            }
            for one in trials
        ]

        def work(connection: Connection) -> None:
            insert = import_module(f"sqlalchemy.dialects.{connection.dialect.name}").insert(backtest_trials)
            connection.execute(insert.on_conflict_do_nothing(), rows)

        if rows:
            await self._database.write(work)

    async def count_trials(self, data_set: DataSet) -> TrialCount:
        """How many different things were ever tried on candles that these share anything with.

        A trial counts where it ran on the same source, on any of the symbols, over a span that overlaps by however
        little; of whatever interval, by whoever, and whether its run is still there or not. So the count starts anew
        neither for a span that is moved by a day, nor for one symbol more, nor for candles of five minutes instead of
        one, nor for a file that is renamed (all files are one source). What is tried again on another span is still
        one trial, whose newest Sharpe ratio counts: who looks at the same rule every day has not tried something new.
        """
        trials = backtest_trials.c
        newest = (
            select(func.max(trials.number))
            .where(
                trials.source == data_set.source,
                trials.since < data_set.until,
                trials.until > data_set.since,
                or_(*(trials.symbols.contains(enclose((symbol,)), autoescape=True) for symbol in data_set.symbols)),
            )
            .group_by(trials.digest)
        )
        statement = select(trials.daily_sharpe).where(trials.number.in_(newest))
        found = await self._database.read(lambda connection: connection.execute(statement).scalars().all())
        known = [ratio for ratio in found if ratio is not None]
        return TrialCount(len(found), float(np.var(known, ddof=1)) if len(known) > 1 else None)


def narrow_runs(statement: Select[Any], runs: Any, wanted: Selection, strategy: str | None) -> Select[Any]:  # noqa: ANN401
    """Those of a table's runs, by its columns, that are wanted, as `SqlBacktests.list` has it."""
    if strategy is not None:
        statement = statement.where(runs.strategy == (strategy if is_plain(strategy) else ""))
    if wanted.symbol is not None:
        statement = statement.where(runs.symbols.contains(enclose((wanted.symbol,)), autoescape=True))
    if wanted.since is not None:
        statement = statement.where(runs.created_at >= wanted.since)
    if wanted.until is not None:
        statement = statement.where(runs.created_at < wanted.until)
    return statement


def enclose(symbols: Sequence[str]) -> str:
    """Symbols as one text in which each can be looked for: ",BTCUSDT,ETHUSDT,"."""
    return f",{','.join(sorted(symbols))},"


def _not_found() -> NotFoundError:
    return NotFoundError("There is no backtest with this id; it may have been deleted.", code="backtest_not_found")
