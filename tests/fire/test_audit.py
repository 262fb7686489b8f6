"""The audit that the tests of this folder end with is not blind."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from app.storage.database import Database
from tests.support.fire import audit
from tests.support.fire_child import CASH, KEY, Desks

pytest_plugins = ("tests.support.databases",)
pytestmark = pytest.mark.anyio


TOLD_TWICE = (
    "INSERT INTO event_log (at, type, tags, cycle_id, message) "
    "SELECT at, type, tags, cycle_id, message FROM event_log WHERE type = 'cycle.completed' LIMIT 1"
)


@pytest.mark.parametrize(
    ("tampering", "words"),
    [
        ("DELETE FROM event_log WHERE type = 'trade.filled' AND number < 9", "trade.filled"),
        (TOLD_TWICE, "cycle.completed"),
        ("UPDATE records SET hash = 'x' WHERE number = 2", "the chain breaks at record 2"),
        ("UPDATE cycles SET execution_reason = 'It was otherwise.' WHERE number = 1", "the chain breaks at record 1"),
        ("UPDATE trades SET notional = notional + 1 WHERE id = 1", "trade 1"),
        ("UPDATE snapshots SET equity = equity + 1 WHERE number = 3", "snapshot 3"),
        ("UPDATE orders SET filled_quantity = 0 WHERE number = 1", "an order that its fills do not add up to"),
        ("DELETE FROM records WHERE cycle_id IS NOT NULL", "without its record"),
    ],
)
async def test_audit_finds_what_was_tampered_with(sqlite_url: str, tampering: str, words: str) -> None:
    async with Database(sqlite_url) as database:
        desks = Desks(database, "desk")
        await desks.ledger.open_account(KEY, CASH)
        for number in range(8):
            await desks.ask(number)
        assert await database.read(audit) == []
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        assert connection.execute(tampering).rowcount > 0
        connection.commit()
    async with Database(sqlite_url) as database:
        assert words in "\n".join(await database.read(audit))
