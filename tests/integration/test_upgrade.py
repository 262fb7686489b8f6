"""A database that the service's first version wrote: its rows stay, its account is taken over and trades on.

`tests/data/books_0001.sql` is the dump of what the first version of this service (revision 0001) wrote on the simulated
market in 20 cycles, with a second one on the same candle and a refusal.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from app.domain.cycle import CycleStatus, Trade
from app.domain.money import UNITS, from_units, to_units
from app.domain.order import Origin, Side
from app.domain.ports import IdempotencyKey
from app.domain.standing import Standing
from app.storage import opening, schema, standings
from app.storage.database import Database
from app.storage.ledger import SqlLedger
from tests.support.books import CASH, KEY, SYMBOL, SteppingClock, book, make_draft, turn_over

pytestmark = pytest.mark.anyio

DUMP = Path(__file__).parents[1] / "data" / "books_0001.sql"
TABLES = ("accounts", "cycles", "decisions", "trades", "idempotency_keys")
RUN = "simulated.forest.main.1"

Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture
def old_file(tmp_path: Path) -> Path:
    path = tmp_path / "papertape.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(DUMP.read_text())
    return path


def read_rows(path: Path) -> Rows:
    """All rows of the old tables, in the order of their keys."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return {
            table: [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1")] for table in TABLES
        }


def amount(units: int) -> Decimal:
    return from_units(units)


async def test_upgrade_keeps_every_row_as_it_was(old_file: Path) -> None:
    before = read_rows(old_file)
    assert {table: len(rows) for table, rows in before.items()} == {
        "accounts": 1,
        "cycles": 22,
        "decisions": 21,
        "trades": 12,
        "idempotency_keys": 4,
    }
    async with Database(f"sqlite:///{old_file}") as database:
        assert await database.read(schema.is_current)
    after = read_rows(old_file)
    for table, rows in before.items():
        for old, new in zip(rows, after[table], strict=True):
            assert {name: new[name] for name in old} == old
    assert after["accounts"][0] | {"strategy": "forest", "name": "main", "generation": 1} == after["accounts"][0]


async def test_upgrade_trades_read_as_they_were_written(old_file: Path) -> None:
    rows = read_rows(old_file)["trades"]
    async with Database(f"sqlite:///{old_file}") as database:
        ledger = SqlLedger(database, SteppingClock())
        await ledger.open_account(KEY, CASH)
        found = (await ledger.list_trades(limit=1_000)).items[::-1]
        for row, trade in zip(rows, found, strict=True):
            assert trade == _as_trade(row, trade.realised_profit)
            assert (trade.realised_profit is None) is (trade.side is Side.BUY)
            cycle = await ledger.get_cycle(row["cycle_id"])
            assert cycle.fills == (trade,)
            assert cycle.execution is not None
            assert cycle.execution.trade == trade


def _as_trade(row: dict[str, Any], realised_profit: Decimal | None) -> Trade:
    return Trade(
        id=row["id"],
        cycle_id=row["cycle_id"],
        symbol=row["symbol"],
        interval=row["interval"],
        source="simulated",
        side=Side(row["side"]),
        quantity=amount(row["quantity"]),
        price=amount(row["price"]),
        notional=amount(row["notional"]),
        fee=amount(row["fee"]),
        slippage_bps=row["slippage_bps"],
        confidence=row["confidence"],
        model_id=row["model_id"],
        candle_open_time=datetime.fromisoformat(row["candle_open_time"]),
        executed_at=datetime.fromisoformat(row["executed_at"]),
        reason=row["reason"],
        cash_after=amount(row["cash_after"]),
        position_after=amount(row["position_after"]),
        run=RUN,
        origin=Origin.SIGNAL,
        realised_profit=realised_profit,
    )


async def test_upgrade_cycles_refusals_and_keys_read_as_before(old_file: Path) -> None:
    rows = read_rows(old_file)
    async with Database(f"sqlite:///{old_file}") as database:
        ledger = SqlLedger(database, SteppingClock())
        reports = (await ledger.list_cycles(limit=1_000)).items
        assert sorted(report.id for report in reports) == sorted(row["id"] for row in rows["cycles"])
        (refused,) = (report for report in reports if report.status is CycleStatus.REFUSED)
        assert (refused.reason_code, refused.run) == ("stale_data", RUN)
        (duplicate,) = (report for report in reports if report.execution and report.execution.duplicate)
        assert duplicate.execution is not None
        assert duplicate.execution.trade is not None
        assert duplicate.execution.trade.cycle_id == "a".rjust(32, "0")
        for row in rows["decisions"]:
            report = await ledger.get_cycle(row["cycle_id"])
            assert report.decision is not None
            assert report.market is not None
            assert len(report.market.candles) > 1
            assert (report.decision.confidence, report.decision.reason) == (row["confidence"], row["reason"])
        for row in rows["idempotency_keys"]:
            replayed = await ledger.find_replay(IdempotencyKey(row["key"], row["fingerprint"]))
            assert replayed is not None
            assert replayed.id == row["cycle_id"]


async def test_upgrade_account_is_taken_over_checked_and_trades_on(old_file: Path) -> None:
    rows = read_rows(old_file)["trades"]
    async with Database(f"sqlite:///{old_file}") as database:
        ledger = SqlLedger(database, SteppingClock())
        standing = await ledger.open_account(KEY, CASH)
        portfolio, snapshot = standing.portfolio, standing.snapshot
        assert portfolio.cash == to_units(Decimal("6084.75694552"))
        held = {symbol: position.quantity for symbol, position in portfolio.positions.items()}
        assert held == {"BTCUSDT": 2_271_000, "ETHUSDT": 82_270_000}
        assert (standing.run.id, standing.orders, standing.halt, portfolio.dust) == (RUN, (), None, {})
        assert portfolio.fees == sum(row["fee"] for row in rows)
        sold = [trade for trade in (await ledger.list_trades(limit=99)).items if trade.side is Side.SELL]
        assert portfolio.realised == sum(to_units(trade.realised_profit or Decimal(0)) for trade in sold) != 0
        assert 0 <= _at_cost(standing) - snapshot.equity < 2 * UNITS
        assert snapshot.peak_equity == to_units(CASH)
        assert (snapshot.trades_today, snapshot.losses_in_a_row) == (0, 0)
        assert await ledger.open_account(KEY, CASH) == standing

        report = await book(ledger, make_draft(1), turn_over, SteppingClock())
        (trade,) = report.fills
        assert (trade.id, trade.side, trade.position_after) == (13, Side.SELL, Decimal(0))
        again = await ledger.open_account(KEY, CASH)
        assert SYMBOL not in again.portfolio.positions
        assert await database.read(_differences) == []


def _at_cost(standing: Standing) -> int:
    return standing.portfolio.cash + sum(one.cost for one in standing.portfolio.positions.values())


def _differences(connection: Connection) -> list[str]:
    return opening.find_differences(connection, standings.get_account(connection, KEY))


async def test_upgrade_fills_dated_by_a_clock_that_went_back_are_taken_over(old_file: Path) -> None:
    with closing(sqlite3.connect(old_file)) as connection:
        connection.execute("DROP TRIGGER trades_no_update")
        connection.execute("UPDATE trades SET executed_at = '2026-01-05T09:59:00.000000+00:00' WHERE id = 2")
        connection.commit()
    async with Database(f"sqlite:///{old_file}") as database:
        ledger = SqlLedger(database, SteppingClock())
        await ledger.open_account(KEY, CASH)
        assert len((await ledger.list_trades(limit=99)).items) == 12
