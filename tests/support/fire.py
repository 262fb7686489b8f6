"""What the tests under fire share: a database without threads that can fail at any statement, and an audit of books."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, event, select, text

from app.domain.cycle_record import write_outcome
from app.domain.money import to_units
from app.domain.record import FIRST_LINK, next_link
from app.storage import opening, standings
from app.storage.account_tables import accounts, snapshots
from app.storage.database import Database
from app.storage.ledger import find_cycle
from app.storage.sqlite import SqliteEngine
from app.storage.standings import Account
from app.storage.tables import records

T = TypeVar("T")


class PowerCut(BaseException):
    """The process ends here: no handler may see to it."""


class DirectDatabase(SqliteEngine):
    """The real engine on a SQLite file, called without its threads; `cut_after` statements the power goes.

    The disk is not waited for: what is tested here is what a transaction leaves, not what a disk does.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.cut_after: int | None = None
        self._open()
        for engine in (self._write_engine, self._read_engine):  # whichever closes last writes the log back
            event.listen(engine, "connect", _go_without_the_disk)
        event.listen(self._write_engine, "before_cursor_execute", self._count)
        self._loop = asyncio.new_event_loop()
        self.reopen()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of what is done on this database."""
        return self._loop.run_until_complete(work)

    async def read(self, query: Callable[[Connection], T]) -> T:
        return self._read(query)

    async def write(self, job: Callable[[Connection], T]) -> T:
        outcome = self._commit([job])[0]
        if outcome.error is not None:
            raise outcome.error
        return cast("T", outcome.value)

    def as_database(self) -> Database:
        """Itself, for those who ask for a database and only read and write."""
        return cast("Database", self)

    def reopen(self) -> None:
        """Let go of every connection, as a process that ends does; the next statement makes a new one."""
        self._write_engine.dispose()
        self._read_engine.dispose()

    def drop(self) -> None:
        """Close it for good."""
        self.reopen()
        self._loop.close()
        self._writer.shutdown(wait=False)
        self._readers.shutdown(wait=False)

    def _count(self, *_: object) -> None:
        if self.cut_after is not None:
            self.cut_after -= 1
            if self.cut_after < 0:
                self.cut_after = None
                raise PowerCut


def _go_without_the_disk(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA synchronous = OFF")


def audit(connection: Connection) -> list[str]:
    """Everything that is wrong with the books in a database, in words; what the fills say is checked by the start."""
    found = []
    for row in connection.execute(select(*standings.ACCOUNT_COLUMNS).order_by(accounts.c.id)).all():
        account = standings.account_from_row(row)
        wrong = opening.find_differences(connection, account) + _wrong_links(connection, account)
        wrong += _wrong_equity(connection, account)
        found += [f"{account.run.id}: {words}" for words in wrong]
    for words, statement in _CONTRADICTIONS.items():
        found += [f"{words}: {row}" for row in connection.execute(text(statement)).all()]
    return found + _wrong_events(connection)


_CONTRADICTIONS = {
    "a decided candle filled twice": (
        'SELECT account_id, symbol, "interval", candle_open_time, count(*) FROM trades WHERE confidence IS NOT NULL '
        'GROUP BY account_id, symbol, "interval", candle_open_time HAVING count(*) > 1'
    ),
    "a filled cycle without its fill": (
        "SELECT id FROM cycles WHERE execution_status = 'FILLED' "
        "AND NOT EXISTS (SELECT 1 FROM trades WHERE cycle_id = cycles.id AND confidence IS NOT NULL)"
    ),
    "a cycle without its record": (
        "SELECT id FROM cycles WHERE NOT EXISTS (SELECT 1 FROM records WHERE cycle_id = cycles.id)"
    ),
    "a cycle without its decision": (
        "SELECT id FROM cycles WHERE status = 'COMPLETED' "
        "AND NOT EXISTS (SELECT 1 FROM decisions WHERE cycle_id = cycles.id)"
    ),
    "an order that its fills do not add up to": (
        "SELECT id FROM orders WHERE filled_quantity <> "
        "(SELECT coalesce(sum(quantity), 0) FROM trades WHERE order_id = orders.id)"
    ),
    "an order filled by another symbol, side or account": (
        "SELECT trades.id FROM trades JOIN orders ON orders.id = trades.order_id WHERE trades.symbol <> orders.symbol "
        "OR trades.side <> orders.side OR trades.account_id <> orders.account_id OR trades.origin <> orders.origin "
        "OR trades.executed_at < orders.created_at"
    ),
    "a fill without an order": "SELECT id FROM trades WHERE order_id IS NULL",
    "an order of a run that has ended": (
        "SELECT orders.id FROM orders JOIN accounts ON accounts.id = orders.account_id WHERE status = 'NEW' "
        "AND EXISTS (SELECT 1 FROM accounts newer WHERE newer.source = accounts.source AND newer.name = accounts.name "
        "AND newer.strategy = accounts.strategy AND newer.generation > accounts.generation)"
    ),
    "a key of nothing": (
        "SELECT key FROM idempotency_keys WHERE cycle_id IS NULL AND job_id IS NULL AND record_number IS NULL"
    ),
}


def _wrong_links(connection: Connection, account: Account) -> list[str]:
    link = FIRST_LINK
    for number, kind, cycle_id, document, kept in connection.execute(
        select(records.c.number, records.c.kind, records.c.cycle_id, records.c.document, records.c.hash)
        .where(records.c.account_id == account.id)
        .order_by(records.c.number)
    ).all():
        report = None if kind != "cycle" else find_cycle(connection, cycle_id)
        link = next_link(link, document, "" if report is None else write_outcome(report))
        if link != kept:
            return [f"the chain breaks at record {number} ({kind} {cycle_id})"]
    return []


def _wrong_equity(connection: Connection, account: Account) -> list[str]:
    rows = connection.execute(
        select(snapshots.c.number, snapshots.c.cash, snapshots.c.equity, snapshots.c.holdings)
        .where(snapshots.c.account_id == account.id)
        .order_by(snapshots.c.number)
    ).all()
    return [
        f"snapshot {number}: cash and market value are not equity"
        for number, cash, equity, holdings in rows
        if to_units(cash) + _market_value(holdings) != to_units(equity)
    ]


def _market_value(holdings: dict[str, Any]) -> int:
    held: Counter[str] = Counter()
    for one in (holdings["positions"], holdings["dust"]):
        held.update({symbol: amounts[0] for symbol, amounts in one.items()})
    return sum(quantity * holdings["marks"][symbol] // 10**8 for symbol, quantity in held.items())


def _wrong_events(connection: Connection) -> list[str]:
    told: Counter[tuple[str, str | None]] = Counter()
    for kind, cycle_id, data in connection.execute(text("SELECT type, cycle_id, data FROM event_log")).all():
        facts = json.loads(data) if isinstance(data, str) else data or {}
        if kind == "trade.filled":
            told[kind, str(facts["trade_id"])] += 1
        elif kind.startswith("order."):
            told[kind, facts["order_id"]] += 1
        elif kind.startswith("cycle."):
            told[kind, cycle_id] += 1
        elif not kind.startswith(("service.", "model.")):
            told[kind, None] += 1
    booked = _booked(connection, told)
    return [
        f"{one} was told {told[one]} times and booked {booked[one]} times"
        for one in sorted({*told, *booked}, key=str)
        if told[one] != booked[one]
    ]


def _booked(connection: Connection, told: Counter[tuple[str, str | None]]) -> Counter[tuple[str, str | None]]:
    """What the event log must have told, from the books."""
    booked: Counter[tuple[str, str | None]] = Counter()
    for cycle_id, status in connection.execute(text("SELECT id, status FROM cycles")).all():
        booked["cycle." + status.lower(), cycle_id] += 1
    for (number,) in connection.execute(text("SELECT id FROM trades")).all():
        booked["trade.filled", str(number)] += 1
    for order_id, kind, status, is_later in connection.execute(
        text("SELECT id, kind, status, closed_at > created_at FROM orders")
    ).all():
        # One that was placed and ended at one moment may have been placed by an earlier booking, or by the same one.
        is_told = bool(told["order.placed", order_id]) if is_later is not None and not is_later else kind != "MARKET"
        booked["order.placed", order_id] += is_told
        if status != "NEW" and (kind, status) != ("MARKET", "FILLED"):
            booked["order." + status.lower(), order_id] += 1
    booked["portfolio.reset", None] += _count(connection, "FROM accounts WHERE generation > 1")
    booked["trading.halted", None] += _count(connection, "FROM halts WHERE is_halted")
    booked["trading.resumed", None] += _count(connection, "FROM halts WHERE reason_code = 'resumed'")
    return booked


def _count(connection: Connection, of_what: str) -> int:
    return int(connection.execute(text(f"SELECT count(*) {of_what}")).scalar_one())
