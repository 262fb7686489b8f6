"""kill -9 between any two statements of a booking: nothing is filled twice, nothing lost that was acknowledged."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from app.domain.standing import RunKey
from app.storage.database import Database
from app.storage.ledger import SqlLedger
from tests.support.fire import audit
from tests.support.fire_child import CASH, AskingProcess, Task
from tests.support.fire_market import FireClock

pytest_plugins = ("tests.support.databases",)
pytestmark = pytest.mark.anyio

RETRIED = 6
"""Each life asks again what the ones before asked last."""


async def test_kill_between_statements_loses_and_doubles_nothing(sqlite_url: str) -> None:
    told = kill_again_and_again(sqlite_url, [1, 15, 40, 79, 90, 110, 130, 160, 190, 230])
    await assert_whole(sqlite_url, told, at_least=5)


@pytest.mark.slow
async def test_kill_between_any_two_statements_loses_and_doubles_nothing(sqlite_url: str) -> None:
    told = kill_again_and_again(sqlite_url, range(1, 201))
    await assert_whole(sqlite_url, told, at_least=100)


def kill_again_and_again(url: str, statements: list[int] | range) -> dict[int, str]:
    """What was acknowledged over all the lives of the service."""
    told: dict[int, str] = {}
    for life, statement in enumerate(statements):
        first = max(0, max(told, default=0) - RETRIED)
        heard = AskingProcess(Task(url, f"life{life}", first, kill_at=statement)).finish()
        assert {number: told[number] for number in heard if number in told} == {
            number: heard[number] for number in heard if number in told
        }, "a retried request was booked again"
        told |= heard
    return told


async def assert_whole(url: str, told: dict[int, str], at_least: int) -> None:
    assert len(told) >= at_least
    with closing(sqlite3.connect(Path(url.removeprefix("sqlite:///")))) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    async with Database(url) as database:
        await SqlLedger(database, FireClock()).open_account(RunKey("simulated"), CASH)
        assert await database.read(audit) == []
        found = await database.read(
            lambda connection: connection.execute(
                text("SELECT key, cycle_id, record_number FROM idempotency_keys")
            ).all()
        )
        booked = await database.read(
            lambda connection: connection.execute(text("SELECT count(*) FROM records")).scalar_one()
        )
    kept = {int(key.removeprefix("request-")) for key, *_ in found}
    assert set(told) <= kept
    assert {told[int(key[8:])] for key, cycle_id, _ in found if cycle_id and int(key[8:]) in told} <= {
        cycle_id for _, cycle_id, _ in found
    }
    assert booked == len(kept), "each request was booked once"
