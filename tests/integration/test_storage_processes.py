"""Several processes on one database, and processes that are killed."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from app.domain.cycle import ExecutionStatus
from app.storage.database import Database
from app.storage.ledger import SqlLedger
from tests.support.book_writer import BookWriter
from tests.support.books import CASH, KEY, SteppingClock

pytest_plugins = ("tests.support.databases",)
pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
KILLS = 20


async def test_processes_that_start_at_once_on_an_empty_database_all_work(bare_database_url: str) -> None:
    writers = [BookWriter(bare_database_url, name, 8, f"{name}USDT") for name in ("ONE", "TWO", "SIX")]
    assert [len(writer.finish()) for writer in writers] == [9, 9, 9]
    async with Database(bare_database_url) as database:
        page = await SqlLedger(database, SteppingClock()).list_cycles(limit=100)
    assert len(page.items) == 24


async def test_processes_on_the_same_candles_fill_each_once(database_url: str) -> None:
    writers = [BookWriter(database_url, name, 40) for name in ("one", "two")]
    assert [len(writer.finish()) for writer in writers] == [41, 41]
    async with Database(database_url) as database:
        ledger = SqlLedger(database, SteppingClock())
        await ledger.open_account(KEY, CASH)
        trades = (await ledger.list_trades(limit=1_000)).items
        cycles = (await ledger.list_cycles(limit=1_000)).items
    assert len(cycles) == 80
    assert len(trades) == len({trade.candle_open_time for trade in trades}) == 40
    duplicates = [cycle.execution for cycle in cycles if cycle.execution and cycle.execution.duplicate]
    assert len(duplicates) == 40
    assert {execution.trade for execution in duplicates} <= set(trades)


async def test_kill_at_any_moment_loses_nothing_acknowledged_and_leaves_nothing_half(sqlite_url: str) -> None:
    acknowledged: set[str] = set()
    for kill in range(KILLS):
        acknowledged |= write_until_killed(sqlite_url, after=3 + kill % 7)
    path = sqlite_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        cycles = {row[0] for row in connection.execute("SELECT id FROM cycles WHERE execution_status = 'FILLED'")}
        decisions = {row[0] for row in connection.execute("SELECT cycle_id FROM decisions")}
        trades = {row[0] for row in connection.execute("SELECT cycle_id FROM trades")}
    assert cycles == decisions == trades
    assert acknowledged <= cycles
    assert len(acknowledged) >= KILLS * 3
    async with Database(sqlite_url) as database:
        await SqlLedger(database, SteppingClock()).open_account(KEY, CASH)


def write_until_killed(url: str, after: int) -> set[str]:
    """Start a writer and kill it in the middle of its work; returns the cycles that it had acknowledged."""
    writer = BookWriter(url, "kill")
    lines = writer.lines()
    found = {next(lines) for _ in range(1 + after)}
    writer.kill()
    found |= set(lines)
    writer.close()
    return found - {"ready"}


@pytest.mark.parametrize("zone", ["America/New_York", "Pacific/Apia"])
async def test_books_do_not_depend_on_the_time_zone(sqlite_url: str, zone: str) -> None:
    assert write_in_zone(sqlite_url, zone) not in ("", "UTC")
    async with Database(sqlite_url) as database:
        ledger = SqlLedger(database, SteppingClock())
        newest = (await ledger.list_cycles(limit=1)).items[0]
    assert newest.started_at.isoformat() == "2026-03-29T01:05:03.456789+00:00"
    assert newest.market is not None
    assert newest.market.candle_open_time.isoformat() == "2026-03-29T01:05:00+00:00"
    assert newest.execution is not None
    assert newest.execution.status is ExecutionStatus.FILLED


def write_in_zone(url: str, zone: str) -> str:
    """Book four cycles in a process that lives in `zone`; returns what that process calls its zone."""
    code = (
        "import asyncio, time; from tests.support.book_writer import write_books; "
        f"asyncio.run(write_books({url!r}, 'zone', lambda _: None, 4)); print(time.tzname[0])"
    )
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "TZ": zone}
    return subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout.strip()
