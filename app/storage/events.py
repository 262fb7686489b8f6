"""The event log in SQL: what happened, in the order in which it was committed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Select, func, insert, select

from app.domain.events import Event, EventFilter, EventType
from app.domain.ports import Page
from app.storage.database import Database
from app.storage.pages import PageRequest, is_plain
from app.storage.tables import event_log

_LOCK = 5_082_731_378

_INSERT = insert(event_log).inline()
# In the order of `_from_row`; the number first, as pages need it.
_COLUMNS = (
    event_log.c.number,
    event_log.c.at,
    event_log.c.type,
    event_log.c.message,
    event_log.c.tags,
    event_log.c.symbol,
    event_log.c.action,
    event_log.c.cycle_id,
    event_log.c.data,
)
_ANY = EventFilter()


def append(connection: Connection, account_id: int | None, events: Sequence[Event]) -> None:
    """Write `events` into the log, as part of the open transaction of `connection`.

    On PostgreSQL this takes a lock until the end of the transaction: without it a later number could be committed
    before an earlier one, which a reader who goes by the last number would then never see. Take the account's lock
    before, and append last, so that nobody waits for long and all wait in the same order.
    """
    if not events:
        return
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    connection.execute(_INSERT, [_values(event, account_id) for event in events])


class SqlEvents:
    """The event log on SQLite or PostgreSQL.

    Args:
        database: An open database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._appended = asyncio.Event()

    async def append(self, events: Sequence[Event]) -> None:
        """Write `events` in a transaction of their own, and wake who waits for news."""
        await self._database.write(lambda connection: append(connection, None, events))
        self.notify()

    def notify(self) -> None:
        """Wake who waits for news: to be called once a transaction with events in it is committed."""
        self._appended.set()

    async def wait(self, seconds: float) -> None:
        """Return once this process has committed events since the last call, and in any case after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._appended.wait()
        except TimeoutError:
            return
        self._appended.clear()

    async def list(self, wanted: EventFilter = _ANY, *, limit: int = 100, cursor: str | None = None) -> Page[Event]:
        """The events that are wanted, newest first; `limit` from 1 to 1000; raises `InvalidInputError`."""
        page = PageRequest.parse("event", limit, cursor)
        statement = _select(wanted)
        return await self._database.read(
            lambda connection: page.fetch(connection, statement, event_log.c.number, _from_row)
        )

    async def load_after(self, sequence: int, limit: int, wanted: EventFilter = _ANY) -> Sequence[Event]:
        """The first `limit` events that are wanted after `sequence`, oldest first."""
        statement = _select(wanted).where(event_log.c.number > sequence).order_by(event_log.c.number).limit(limit)
        rows = await self._database.read(lambda connection: connection.execute(statement).all())
        return [_from_row(row) for row in rows]

    async def last_sequence(self) -> int:
        """The place of the newest event; 0 before there is one."""
        newest = select(func.coalesce(func.max(event_log.c.number), 0))
        return await self._database.read(lambda connection: connection.execute(newest).scalar_one())


def _select(wanted: EventFilter) -> Select[Any]:
    statement = select(*_COLUMNS)
    if wanted.type is not None:
        statement = statement.where(event_log.c.type == wanted.type.value)
    if wanted.symbol is not None:
        statement = statement.where(event_log.c.symbol == (wanted.symbol if is_plain(wanted.symbol) else ""))
    if wanted.since is not None:
        # Moments do not always go up with the numbers. The bound, read from the index, is what keeps a look at the
        # last minute from reading a year of events; the sum keeps SQLite from looking for it in the table itself.
        first = select(func.min(event_log.c.number + 0)).where(event_log.c.at >= wanted.since).scalar_subquery()
        statement = statement.where(event_log.c.at >= wanted.since, event_log.c.number >= first)
    return statement


def _values(event: Event, account_id: int | None) -> dict[str, Any]:
    return {
        "at": event.at,
        "type": event.type.value,
        "tags": list(event.tags),
        "symbol": event.symbol,
        "action": event.action,
        "cycle_id": event.cycle_id,
        "account_id": account_id,
        "message": event.message,
        "data": dict(event.data) or None,
    }


def _from_row(row: Sequence[Any]) -> Event:
    number, at, kind, message, tags, symbol, action, cycle_id, data = row
    return Event(at, EventType(kind), message, tuple(tags), symbol, action, cycle_id, data or {}, number)
