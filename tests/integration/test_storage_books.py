"""The books add up whatever happens, and refuse whoever would change them."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, event, insert, text
from structlog.testing import capture_logs

from app.domain.cycle import Execution, ExecutionStatus, Settlement, Trade
from app.domain.model import ActivationReason
from app.domain.order import Fill, Side
from app.domain.portfolio import Portfolio
from app.domain.ports import IdempotencyKey, Page, Settle
from app.domain.signal import Signal
from app.errors import StorageError
from app.storage.column_types import MAXIMUM_UNITS, from_units, to_units
from app.storage.database import Database
from app.storage.ledger import SqlLedger
from app.storage.models import SqlModels
from app.storage.outcomes import SqlOutcomes
from app.storage.records import cycle_values, decision_values, trade_values
from app.storage.tables import APPEND_ONLY, cycles, decisions, trades
from tests.support.books import CASH, SOURCE, SteppingClock, as_selling, buy, make_draft, make_outcome, sell, turn_over
from tests.support.models import registered_card

pytest_plugins = ("tests.support.databases",)
pytestmark = pytest.mark.anyio

SYMBOLS = ("BTCUSDT", "ETHUSDT", "PEPEUSDT")
UNITS = 10**8
# Symbol, side, share of the cash or position in thousandths, price in 1e-8, fee in parts per million.
ORDERS = st.lists(
    st.tuples(
        st.sampled_from(SYMBOLS),
        st.sampled_from(Side),
        st.integers(0, 1_000),
        st.integers(1, 10**13),
        st.integers(0, 100_000),
    ),
    min_size=1,
    max_size=12,
)
_sources = itertools.count()


@pytest.fixture
async def shared_ledger(database: Database) -> SqlLedger:
    return SqlLedger(database, SteppingClock())


def order(symbol: str, side: Side, thousandths: int, price: int, ppm: int) -> Settle:
    """A market order in whole 1e-8 units, as large as the account bears; skipped where that comes to nothing."""

    def settle(portfolio: Portfolio) -> Settlement:
        cash, held = to_units(portfolio.cash), to_units(portfolio.quantity(symbol))
        if side is Side.BUY:
            budget = cash * thousandths // 1_000
            quantity = min(budget * UNITS * 10**6 // (price * (10**6 + ppm)), MAXIMUM_UNITS - held)
        else:
            quantity = held * thousandths // 1_000
        notional = price * quantity // UNITS
        fee = notional * ppm // 10**6
        if notional == 0 or cash + notional > MAXIMUM_UNITS:
            return Settlement(ExecutionStatus.SKIPPED, "nothing_to_do", "It comes to nothing, or to more than fits.")
        fill = Fill(side, from_units(quantity), from_units(price), from_units(notional), from_units(fee), 0.1)
        return Settlement(ExecutionStatus.FILLED, "filled", "Done.", fill)

    return settle


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(orders=ORDERS, cash=st.integers(1, 10**9 * UNITS).map(from_units))
async def test_books_any_orders_conserve_cash_to_the_last_digit(
    shared_ledger: SqlLedger, orders: list[tuple[str, Side, int, int, int]], cash: Decimal
) -> None:
    ledger, source = shared_ledger, f"run-{next(_sources)}"
    await ledger.open_account(source, cash)
    for index, (symbol, side, thousandths, price, ppm) in enumerate(orders):
        draft = make_draft(index, symbol=symbol, source=source, action=Signal(side))
        await ledger.record_cycle(draft, order(symbol, side, thousandths, price, ppm), SteppingClock())
    booked = (await ledger.list_trades(limit=100, source=source)).items[::-1]
    replayed = replay(cash, booked)
    assert await ledger.load_portfolio(source) == replayed
    assert await ledger.open_account(source, cash) == replayed
    reports = (await ledger.list_cycles(limit=100, source=source)).items
    assert len(reports) == len(orders)
    filled = [report for report in reports if report.execution and report.execution.status is ExecutionStatus.FILLED]
    assert [report.execution and report.execution.trade for report in filled] == list(booked[::-1])
    assert all(report.decision and report.decision.action == report.execution.trade.side for report in filled)  # type: ignore[union-attr]


def replay(cash: Decimal, booked: tuple[Trade, ...]) -> Portfolio:
    """Book all trades once more from nothing and compare every balance on the way."""
    positions: dict[str, Decimal] = {}
    for trade in booked:
        sign = 1 if trade.side is Side.BUY else -1
        cash -= sign * trade.notional + trade.fee
        positions[trade.symbol] = positions.get(trade.symbol, Decimal(0)) + sign * trade.quantity
        assert (trade.cash_after, trade.position_after) == (cash, positions[trade.symbol])
        assert str(trade.cash_after) == str(cash.quantize(Decimal("1e-8")))
        assert min(cash, trade.position_after, trade.fee) >= 0
        assert min(trade.quantity, trade.price, trade.notional) > 0
    return Portfolio(cash, {symbol: held for symbol, held in positions.items() if held})


async def test_books_two_writers_with_one_key_book_once(database_url: str) -> None:
    sources = ("simulated", "binance")
    async with Database(database_url) as first, Database(database_url) as second:
        ledgers = [SqlLedger(database, SteppingClock()) for database in (first, second)]
        for ledger, source in zip(ledgers, sources, strict=True):
            await ledger.open_account(source, CASH)
        for index in range(10):
            key = IdempotencyKey(f"key-{index}", "fingerprint")
            drafts = [make_draft(index, source=source) for source in sources]
            first_report, second_report = await asyncio.gather(
                ledgers[0].record_cycle(drafts[0], turn_over(), SteppingClock(), key),
                ledgers[1].record_cycle(drafts[1], turn_over(), SteppingClock(), key),
            )
            assert first_report == second_report
        assert len((await ledgers[0].list_cycles(limit=100)).items) == 10


async def test_books_cancelled_caller_finds_its_cycle_under_its_key(database: Database) -> None:
    ledger = SqlLedger(database, SteppingClock())
    await ledger.open_account(SOURCE, CASH)
    for index in range(5):
        key = IdempotencyKey(f"key-{index}", "fingerprint")
        caller = asyncio.create_task(ledger.record_cycle(make_draft(index), turn_over(), SteppingClock(), key))
        for _ in range(index + 1):
            await asyncio.sleep(0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        await database.check()
        found = await ledger.find_replay(key)
        assert found is not None
        assert found.id == make_draft(index).id


async def test_reads_that_are_cancelled_leave_the_connections_whole(database: Database) -> None:
    ledger = SqlLedger(database, SteppingClock())
    await ledger.open_account(SOURCE, CASH)
    for index in range(20):
        reader = asyncio.create_task(ledger.load_portfolio(SOURCE))
        for _ in range(index % 5):
            await asyncio.sleep(0)
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
    portfolios = await asyncio.gather(*(ledger.load_portfolio(SOURCE) for _ in range(20)))
    assert portfolios == [Portfolio(CASH)] * 20


async def test_books_are_append_only(database: Database) -> None:
    ledger = SqlLedger(database, SteppingClock())
    await ledger.open_account(SOURCE, CASH)
    await ledger.record_cycle(make_draft(1), buy(), SteppingClock(), IdempotencyKey("k", "f"))
    await SqlOutcomes(database).record(SOURCE, [make_outcome(make_draft(1).id)])
    await SqlModels(database, SteppingClock()).register(registered_card("forest-1"), ActivationReason.TRAINED)
    columns = {"accounts": "source", "idempotency_keys": "fingerprint", "decisions": "action", "outcomes": "label"}
    columns |= {"models": "recipe", "model_activations": "reason"}
    for table in APPEND_ONLY:
        column = columns.get(table, "symbol")
        for statement in (f"UPDATE {table} SET {column} = {column}", f"DELETE FROM {table}"):
            with pytest.raises(StorageError) as caught:
                await database.write(partial(run, statement=statement))
            assert caught.value.code == "storage_constraint"
            assert "append-only" in str(caught.value.__cause__)


async def test_books_on_postgres_cannot_be_truncated(postgres_url: str) -> None:
    async with Database(postgres_url) as database:
        for table in APPEND_ONLY:
            with pytest.raises(StorageError) as caught:
                await database.write(partial(run, statement=f"TRUNCATE {table} CASCADE"))
            assert caught.value.code == "storage_constraint"


def run(connection: Connection, statement: str) -> None:
    connection.execute(text(statement))


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"cash_after": Decimal("9348.99")}, "cash_follows"),
        ({"fee": Decimal("0.02")}, "cash_follows"),
        ({"notional": Decimal(651)}, "cash_follows"),
        ({"position_after": Decimal("0.02")}, "position_follows"),
        ({"quantity": Decimal("0.02")}, "position_follows"),
        ({"side": "SELL"}, "follows"),
        ({"symbol": "ETHUSDT"}, "cycle_fits"),
        ({"candle_open_time": make_draft(2).market.candle_open_time}, "cycle_fits"),
        ({"cycle_id": "unknown"}, ""),
        ({"account_id": 10**6}, ""),
        ({"price": Decimal(0)}, "price"),
        ({"fee": Decimal(-1), "cash_after": Decimal(9351)}, "fee"),
        ({"notional": Decimal(-650), "cash_after": Decimal("10649.99")}, "notional"),
        ({"quantity": Decimal(0), "position_after": Decimal(0)}, "quantity"),
        ({"confidence": 1.01}, "confidence"),
        ({"confidence": float("nan")}, ""),
        ({"side": "HOLD"}, ""),
    ],
    ids=str,
)
async def test_books_refuse_a_trade_that_does_not_fit(database: Database, change: dict[str, Any], rule: str) -> None:
    ledger = SqlLedger(database, SteppingClock())
    await ledger.open_account(SOURCE, CASH)
    with pytest.raises(StorageError) as caught:
        await database.write(lambda connection: insert_by_hand(connection, change))
    assert caught.value.code == "storage_constraint"
    assert rule in str(caught.value.__cause__)
    assert (await ledger.list_cycles(limit=1)).items == ()
    await database.write(lambda connection: insert_by_hand(connection, {}))
    assert await ledger.load_portfolio(SOURCE) == Portfolio(Decimal("9349.99"), {"BTCUSDT": Decimal("0.01")})


def insert_by_hand(connection: Connection, change: dict[str, Any]) -> None:
    """Insert the rows of a filled cycle with a trade that differs from the right one by `change`."""
    draft = make_draft(1)
    account_id = connection.execute(text("SELECT id FROM accounts")).scalar_one()
    trade = Trade(
        id=0,
        cycle_id=draft.id,
        symbol=draft.symbol,
        interval=draft.interval,
        source=draft.source,
        side=Side.BUY,
        quantity=Decimal("0.01"),
        price=Decimal(65_000),
        notional=Decimal(650),
        fee=Decimal("0.01"),
        slippage_bps=3.0,
        confidence=draft.decision.confidence,
        model_id="forest-1",
        candle_open_time=draft.market.candle_open_time,
        executed_at=draft.started_at,
        reason="By hand.",
        cash_after=Decimal("9349.99"),
        position_after=Decimal("0.01"),
    )
    report = draft.finish(Execution(ExecutionStatus.FILLED, "filled", "By hand.", trade), draft.started_at)
    connection.execute(insert(cycles), cycle_values(report, account_id))
    connection.execute(insert(decisions), decision_values(draft.id, draft.decision))
    connection.execute(insert(trades), {**trade_values(trade, account_id), **change})


async def test_open_account_books_that_do_not_add_up_are_named(sqlite_url: str) -> None:
    async with Database(sqlite_url) as database:
        ledger = SqlLedger(database, SteppingClock())
        await ledger.open_account(SOURCE, CASH)
        await ledger.record_cycle(make_draft(1), buy("0.01", "65000"), SteppingClock())
        await ledger.record_cycle(as_selling(make_draft(2)), sell("0.004", "65000"), SteppingClock())
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as connection:
        connection.execute("DROP TRIGGER trades_no_update")
        connection.execute("UPDATE trades SET fee = fee + 1, quantity = quantity + 2 WHERE side = 'BUY'")
        connection.commit()
    async with Database(sqlite_url) as database:
        ledger = SqlLedger(database, SteppingClock())
        with capture_logs() as logs, pytest.raises(StorageError) as caught:
            await ledger.open_account(SOURCE, CASH)
        assert len((await ledger.list_trades(limit=10)).items) == 2
    assert caught.value.code == "ledger_mismatch"
    assert caught.value.context["differences"] == [
        "BTCUSDT is recorded as 0.00600000, and its fills come to 0.00600002",
        "cash is recorded as 9609.98000000, and its fills come to 9609.97999999",
    ]
    assert [log["event"] for log in logs] == ["ledger.mismatch"]


async def test_open_account_changed_cash_is_ignored_and_said(database: Database) -> None:
    ledger = SqlLedger(database, SteppingClock())
    await ledger.open_account(SOURCE, CASH)
    with capture_logs() as logs:
        assert await ledger.open_account(SOURCE, Decimal(5)) == Portfolio(CASH)
    assert [(log["event"], log["log_level"]) for log in logs] == [("account.initial_cash_ignored", "warning")]


@pytest.mark.parametrize("units", [1, 10**9 * UNITS, MAXIMUM_UNITS])
async def test_open_account_extreme_cash_is_exact(database: Database, units: int) -> None:
    ledger = SqlLedger(database, SteppingClock())
    await ledger.open_account(SOURCE, from_units(units))
    assert await ledger.load_portfolio(SOURCE) == Portfolio(from_units(units))


@pytest.mark.parametrize("units", [0, -1])
async def test_open_account_without_cash_is_refused(database: Database, units: int) -> None:
    with pytest.raises(StorageError) as caught:
        await SqlLedger(database, SteppingClock()).open_account(SOURCE, from_units(units))
    assert caught.value.code == "storage_constraint"


@pytest.mark.parametrize("kind", ["trades", "cycles"])
@pytest.mark.parametrize(
    "filters", [{}, {"symbol": "BTCUSDT"}, {"source": SOURCE}, {"symbol": "BTCUSDT", "source": SOURCE}]
)
async def test_listing_walks_an_index_and_sorts_nothing(
    sqlite_database: Database, kind: str, filters: dict[str, str]
) -> None:
    ledger = SqlLedger(sqlite_database, SteppingClock())
    await ledger.open_account(SOURCE, CASH)
    for index in range(3):
        await ledger.record_cycle(make_draft(index), turn_over(), SteppingClock())
    listing = ledger.list_trades if kind == "trades" else ledger.list_cycles
    cursor = (await listing(limit=1, **filters)).next_cursor
    plan = await explained(sqlite_database, lambda: listing(limit=2, cursor=cursor, **filters))
    assert plan
    assert not [step for step in plan if "TEMP B-TREE" in step]
    assert not [step for step in plan if step.startswith(f"SCAN {kind}") and filters]


async def explained(database: Database, work: Callable[[], Awaitable[Page[Any]]]) -> list[str]:
    """The query plan of the last statement that `work` runs."""
    seen: list[tuple[str, Any]] = []
    engine = database._engine._read_engine  # type: ignore[attr-defined]

    def note(*arguments: Any) -> None:
        seen.append((arguments[2], arguments[3]))

    event.listen(engine, "before_cursor_execute", note)
    await work()
    event.remove(engine, "before_cursor_execute", note)
    statement, parameters = seen[-1]
    rows = await database.read(
        lambda connection: connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
    )
    return [row.detail for row in rows]
