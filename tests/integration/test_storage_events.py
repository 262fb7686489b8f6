"""The event log on both databases: in the log if and only if the booking is, in order, and found by filters."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from app.domain.events import Event, EventFilter, EventType
from app.domain.ports import Page
from app.errors import InvalidInputError
from app.storage.database import Database
from app.storage.events import SqlEvents, append
from tests.support.events import BEGIN, make_event, make_events

pytest_plugins = ("tests.support.databases",)
pytestmark = pytest.mark.anyio


def messages(page: Page[Event]) -> list[str]:
    return [event.message for event in page.items]


async def test_event_is_read_back_as_it_was_written(database: Database) -> None:
    events = SqlEvents(database)
    full = replace(make_event(), cycle_id="c" * 32, data={"price": "64003.2", "note": "für 1 é"})
    bare = Event(BEGIN, EventType.TRADING_HALTED, "Halted.")

    await events.append([full, bare])

    assert (await events.list()).items == (replace(bare, sequence=2), replace(full, sequence=1))
    assert await events.last_sequence() == 2


async def test_append_with_a_booking_that_fails_leaves_no_event(database: Database) -> None:
    events = SqlEvents(database)

    def book(connection: Connection) -> None:
        append(connection, 1, [make_event()])
        raise InvalidInputError("The booking fails.")

    with pytest.raises(InvalidInputError):
        await database.write(book)
    await database.write(lambda connection: append(connection, 1, []))

    assert await events.last_sequence() == 0


async def test_list_is_newest_first_and_steady_by_cursor(database: Database) -> None:
    events = SqlEvents(database)
    await events.append(make_events(5))

    first = await events.list(limit=2)
    await events.append([make_event(9)])
    second = await events.list(limit=2, cursor=first.next_cursor)
    last = await events.list(limit=2, cursor=second.next_cursor)

    assert [messages(page) for page in (first, second, last)] == [["4", "3"], ["2", "1"], ["0"]]
    assert last.next_cursor is None
    with pytest.raises(InvalidInputError):
        await events.list(cursor="dHJhZGU6Mw")


async def test_filters_leave_only_what_is_wanted(database: Database) -> None:
    events = SqlEvents(database)
    halted = make_event(1, EventType.TRADING_HALTED, None)
    await events.append([make_event(0), halted, make_event(3, symbol="ETHUSDT"), make_event(2)])
    soon = BEGIN + timedelta(seconds=2)

    async def found(wanted: EventFilter) -> list[str]:
        newest_first = messages(await events.list(wanted))
        assert [event.message for event in await events.load_after(0, 9, wanted)] == newest_first[::-1]
        return newest_first

    assert await found(EventFilter(type=EventType.TRADING_HALTED)) == ["1"]
    assert await found(EventFilter(symbol="BTCUSDT")) == ["2", "0"]
    assert await found(EventFilter(symbol="no such")) == []
    assert await found(EventFilter(since=soon)) == ["2", "3"]
    assert await found(EventFilter(since=soon, symbol="ETHUSDT", type=EventType.TRADE_FILLED)) == ["3"]
    assert await found(EventFilter(since=BEGIN + timedelta(days=1))) == []


async def test_load_after_gives_the_next_ones_oldest_first(database: Database) -> None:
    events = SqlEvents(database)
    await events.append(make_events(5))

    assert [event.sequence for event in await events.load_after(1, 3)] == [2, 3, 4]
    assert await events.load_after(5, 3) == []


async def test_wait_returns_at_once_after_an_append_and_else_in_time(database: Database) -> None:
    events = SqlEvents(database)
    await events.append([make_event()])

    async with asyncio.timeout(5):
        await events.wait(60)
        await events.wait(0.01)


async def test_two_postgres_writers_commit_in_the_order_of_their_numbers(postgres_url: str) -> None:
    engine = create_async_engine(postgres_url.replace("postgresql:", "postgresql+asyncpg:"))
    async with Database(postgres_url) as database, engine.connect() as first, engine.connect() as second:
        events = SqlEvents(database)
        await first.run_sync(append, 1, [make_event(1)])
        later = asyncio.create_task(second.run_sync(append, 2, [make_event(2)]))

        finished, _ = await asyncio.wait({later}, timeout=0.1)
        assert not finished, "it could now be committed before the first one, which nobody would see then"
        assert await events.load_after(0, 9) == []
        await first.commit()
        await later
        assert [event.message for event in await events.load_after(0, 9)] == ["1"]
        await second.commit()
        assert [event.message for event in await events.load_after(1, 9)] == ["2"]
    await engine.dispose()


async def test_reader_by_last_number_misses_nothing_of_two_processes(database_url: str) -> None:
    async with Database(database_url) as one, Database(database_url) as two, Database(database_url) as third:
        writing = asyncio.gather(
            *(SqlEvents(database).append([make_event(index)]) for database in (one, two) for index in range(40))
        )
        reader, seen = SqlEvents(third), list[int]()
        async with asyncio.timeout(10):
            while len(seen) < 80:
                seen += [event.sequence for event in await reader.load_after(seen[-1] if seen else 0, 7)]
        await writing

    assert seen == list(range(1, 81))


async def test_event_takes_less_than_400_bytes_with_its_indexes(sqlite_url: str) -> None:
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    before = path.stat().st_size
    event = replace(
        make_event(message="Bought 0.03906 BTC at 63998.2 for 2499.769692, fee 0.49995394."),
        cycle_id="0123456789abcdef0123456789abcdef",
        data={"quantity": "0.03906", "price": "63998.2", "fee": "0.49995394"},
    )
    async with Database(sqlite_url) as database:
        for second in range(8):
            moments = (BEGIN + timedelta(seconds=second, milliseconds=index) for index in range(500))
            await SqlEvents(database).append([replace(event, at=at) for at in moments])

    assert (path.stat().st_size - before) / 4_000 < 400
