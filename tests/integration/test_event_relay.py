"""The relay hands each event on once and in order: over restarts, faults, two processes and slow readers."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, aclosing, asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.domain.events import Event, EventFilter, EventType
from app.errors import NotReadyError
from app.observability.event_file import EventFile
from app.research import event_relay
from app.research.event_relay import MAXIMUM_STREAMS, EventRelay
from app.storage.database import Database
from app.storage.events import SqlEvents
from tests.support.events import make_event, make_events
from tests.support.fakes import FakeClock

pytest_plugins = ("tests.support.databases",)
pytestmark = pytest.mark.anyio

ANY = EventFilter()


@pytest.fixture(autouse=True)
def quick_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others' events are looked for at once, not once a second."""
    monkeypatch.setattr(event_relay, "_POLL_SECONDS", 0.02)


@asynccontextmanager
async def running(database: Database, path: Path | None = None) -> AsyncIterator[tuple[EventRelay, SqlEvents]]:
    events = SqlEvents(database)
    relay = EventRelay(events, EventFile(path) if path else None, FakeClock())
    await relay.start("1.0")
    try:
        yield relay, events
    finally:
        await relay.stop("1.0")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


def told(path: Path) -> list[tuple[int, str]]:
    documents = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [(document["sequence"], document["type"]) for document in documents]


async def take(relay: EventRelay, after: int | None, count: int, wanted: EventFilter = ANY) -> list[Event]:
    taken: list[Event] = []
    async with asyncio.timeout(20), aclosing(relay.follow(after, wanted)) as followed:
        async for event in followed:
            assert event is not None
            taken.append(event)
            if len(taken) == count:
                break
    return taken


async def test_file_has_every_event_once_over_restarts(sqlite_database: Database, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    async with running(sqlite_database, path) as (_, events):
        await events.append(make_events(2))
    await SqlEvents(sqlite_database).append([make_event(7, EventType.PORTFOLIO_RESET)])
    async with running(sqlite_database, path):
        pass

    kinds = ["service.started", "trade.filled", "trade.filled", "service.stopped", "portfolio.reset"]
    assert told(path) == list(enumerate([*kinds, "service.started", "service.stopped"], start=1))


async def test_file_that_cannot_be_written_is_said_once_and_caught_up_with(
    sqlite_database: Database, tmp_path: Path
) -> None:
    path = tmp_path / "not yet" / "events.jsonl"
    with capture_logs() as logs:
        async with running(sqlite_database, path) as (relay, events):
            await events.append(make_events(2))
            assert [event.message for event in await take(relay, 1, 2)] == ["0", "1"]
            await asyncio.sleep(0.06)
            path.parent.mkdir()
            await until(lambda: len(told(path)) == 3)

    assert [entry["event"] for entry in logs] == ["events.not_handed_on"]
    assert "No such file" in logs[0]["detail"]
    assert [sequence for sequence, _ in told(path)] == [1, 2, 3, 4]


async def test_file_of_another_database_goes_on_with_this_one(sqlite_database: Database, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"sequence":900,"type":"trade.filled"}\n')
    async with running(sqlite_database, path):
        pass

    assert [sequence for sequence, _ in told(path)] == [900, 1, 2]


async def test_two_services_share_a_file_without_doubles(database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    async with Database(database_url) as one, Database(database_url) as two:
        async with running(two, path) as (_, second):
            with capture_logs() as logs:
                async with running(one, path) as (relay, first):
                    await asyncio.gather(*(events.append([make_event()]) for events in (first, second) * 10))
                    await until(lambda: len(told(path)) == 22)
                    assert len(await take(relay, 0, 22)) == 22
            assert [entry["detail"] for entry in logs] == [f"{path} is not written: another process writes it"]
        async with running(one, path):
            pass

    assert [sequence for sequence, _ in told(path)] == list(range(1, 27))


def _append(url: str, count: int) -> None:
    async def work() -> None:
        async with Database(url) as database:
            for event in make_events(count):
                await SqlEvents(database).append([event])

    asyncio.run(work())


async def test_events_of_another_process_arrive(sqlite_url: str, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    async with Database(sqlite_url) as database, running(database, path) as (relay, _):
        other = multiprocessing.get_context("forkserver").Process(target=_append, args=(sqlite_url, 3))
        other.start()
        arrived = await take(relay, 1, 3)
        await asyncio.to_thread(other.join)
        await until(lambda: len(told(path)) == 4)

    assert [event.message for event in arrived] == ["0", "1", "2"]


async def test_follow_goes_on_after_a_sequence_through_the_past_into_what_comes(sqlite_database: Database) -> None:
    async with running(sqlite_database) as (relay, events):
        await events.append(make_events(250))
        reading = asyncio.create_task(take(relay, 4, 260))
        for index in range(20):
            await events.append([make_event(index)])
            await asyncio.sleep(0)

        assert [event.sequence for event in await reading] == list(range(5, 265))


async def test_follow_without_a_sequence_begins_now_and_filters(sqlite_database: Database) -> None:
    async with running(sqlite_database) as (relay, events):
        await events.append(make_events(3))
        wanted = EventFilter(EventType.TRADE_FILLED, "ETHUSDT")
        reading = asyncio.create_task(take(relay, None, 1, wanted))
        beyond = asyncio.create_task(take(relay, 10**9, 1))
        await asyncio.sleep(0.05)
        await events.append([make_event(5), make_event(6, EventType.ORDER_PLACED, "ETHUSDT")])
        await events.append([make_event(7, symbol="ETHUSDT")])

        assert [event.message for event in await reading] == ["7"]
        assert [event.message for event in await beyond] == ["5"]


async def test_reader_who_falls_behind_is_let_go_and_can_resume(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_relay, "MAXIMUM_BEHIND", 50)
    seen: list[int] = []
    async with running(sqlite_database) as (relay, events), asyncio.timeout(10):
        async for event in relay.follow(0, ANY):
            assert event is not None
            seen.append(event.sequence)
            if len(seen) == 2:  # it had caught up, and does not read while much happens
                await events.append(make_events(400))
                await asyncio.sleep(0.05)
            elif len(seen) == 1:
                await events.append([make_event()])
        rest = await take(relay, seen[-1], 402 - len(seen))

    assert len(seen) < 200
    assert seen + [event.sequence for event in rest] == list(range(1, 403))


async def test_stream_says_nothing_for_no_longer_than_the_idle_time(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_relay, "IDLE_SECONDS", 0.03)
    async with running(sqlite_database) as (relay, _), aclosing(relay.follow(None, ANY)) as followed:
        assert [await anext(followed), await anext(followed)] == [None, None]


async def test_places_are_few_and_free_again(sqlite_database: Database) -> None:
    async with running(sqlite_database) as (relay, _):
        with ExitStack() as stack:
            for _place in range(MAXIMUM_STREAMS):
                stack.enter_context(relay.seat())
            with pytest.raises(NotReadyError) as caught, relay.seat():
                pass
        assert caught.value.code == "too_many_streams"
        assert caught.value.retry_after_seconds == 5
        with relay.seat():
            pass


async def test_streams_end_when_the_service_stops(sqlite_database: Database) -> None:
    async with running(sqlite_database) as (relay, _):
        reading = asyncio.create_task(take(relay, None, 1))
        await asyncio.sleep(0.03)
    assert await reading == []
    assert await take(relay, 0, 1) == []
