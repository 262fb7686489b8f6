"""A full disk, a locked file, one that may not be written to: said clearly, nothing by half, and back again."""

from __future__ import annotations

import asyncio
import multiprocessing
import resource
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from app.errors import StorageError
from app.storage import sqlite
from app.storage.database import Database
from tests.support.fire import audit
from tests.support.fire_child import CASH, KEY, Desks

pytest_plugins = ("tests.support.databases",)
pytestmark = pytest.mark.anyio

_PROCESSES = multiprocessing.get_context("forkserver")
_KIB = 1_024


async def test_database_full_at_any_moment_leaves_nothing_by_half_and_recovers(sqlite_url: str) -> None:
    async with Database(sqlite_url) as database:
        desks = await open_desks(database)
        failed = 0
        for number in range(0, 40, 2):
            await asyncio.gather(desks.ask(number), desks.ask(number + 1))
            pages = await set_pragma(database, "page_count")
            await set_pragma(database, f"max_page_count = {pages + number % 5}")
            failed += await count_refusals(desks, range(number + 2, number + 40), "storage_full")
            await set_pragma(database, "max_page_count = 1000000")
            assert await database.read(audit) == []
        assert failed >= 10
        await assert_goes_on(database, desks)


async def count_refusals(desks: Desks, numbers: range, code: str) -> int:
    """Ask until it is refused; asks once more then, to see that it stays so, and returns how often it was."""
    codes: list[str] = []
    for number in numbers:
        try:
            await desks.ask(number)
        except StorageError as error:
            codes.append(error.code)
            if len(codes) == 2:
                break
    assert set(codes) <= {code}
    return len(codes)


async def test_file_that_may_not_grow_is_full_and_not_damaged(sqlite_url: str) -> None:
    theirs, ours = _PROCESSES.Pipe()
    process = _PROCESSES.Process(target=_write_with_little_room, args=(theirs, sqlite_url))
    process.start()
    theirs.close()
    codes = ours.recv()
    process.join(30)
    assert process.exitcode == 0
    assert codes == ["storage_unavailable", "storage_unavailable", "works"]
    async with Database(sqlite_url) as database:
        await open_desks(database)
        assert await database.read(audit) == []


def _write_with_little_room(pipe: Any, url: str) -> None:
    pipe.send(asyncio.run(_try_to_write(url)))


async def _try_to_write(url: str) -> list[str]:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    codes: list[str] = []
    async with Database(url) as database:
        desks = await open_desks(database)
        await desks.ask(0)
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        written = Path(url.removeprefix("sqlite:///") + "-wal").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (written + 10 * _KIB, unlimited[1]))
        for number in (1, 2):
            try:
                await desks.ask(number)
            except StorageError as error:
                codes.append(error.code)
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        return [*codes, "works" if await desks.ask(4) else "nothing was booked"]


async def test_database_that_turns_read_only_is_said_and_recovers(sqlite_url: str) -> None:
    async with Database(sqlite_url) as database:
        desks = await open_desks(database)
        await desks.ask(0)
        await set_pragma(database, "query_only = ON")
        before = await database.read(count_rows)
        assert await count_refusals(desks, range(1, 9), "storage_read_only") == 2
        assert await database.read(count_rows) == before
        await set_pragma(database, "query_only = OFF")
        await assert_goes_on(database, desks)


async def set_pragma(database: Database, words: str) -> Any:
    """On the writer's own connection, from its own thread; returns what it says."""
    engine = database._engine
    assert isinstance(engine, sqlite.SqliteEngine)

    def ask() -> Any:
        with closing(engine._write_engine.raw_connection()) as connection:
            cursor = connection.cursor()
            cursor.execute(f"PRAGMA {words}")
            return (cursor.fetchone() or (None,))[0]

    return await engine._on_writer(ask)


async def test_database_locked_by_another_is_busy_books_nothing_and_recovers(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_SECONDS", 0.05)
    async with Database(sqlite_url) as database:
        desks = await open_desks(database)
        await desks.ask(0)
        before = await database.read(count_rows)
        with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as other:
            other.execute("BEGIN IMMEDIATE")
            assert await count_refusals(desks, range(1, 9), "storage_busy") == 2
            assert await database.read(count_rows) == before
            other.rollback()
        await assert_goes_on(database, desks)


async def open_desks(database: Database) -> Desks:
    desks = Desks(database, "desk")
    await desks.ledger.open_account(KEY, CASH)
    return desks


async def assert_goes_on(database: Database, desks: Desks) -> None:
    """It books again without having been opened again, and the books are whole."""
    before = await database.read(count_rows)
    assert await desks.ask(500)
    assert await database.read(count_rows) > before
    assert await database.read(audit) == []
    await desks.ledger.open_account(KEY, CASH)


def count_rows(connection: Connection) -> list[int]:
    names = ("cycles", "trades", "orders", "snapshots", "records", "event_log", "idempotency_keys")
    return [connection.execute(text(f"SELECT count(*) FROM {name}")).scalar_one() for name in names]
