"""The books add up whatever happens, and refuse whoever would change them."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, event, insert, text
from structlog.testing import capture_logs

from app.domain.cycle import CycleDraft, DustTransfer, Execution, ExecutionStatus, Settlement, Trade
from app.domain.model import ActivationReason
from app.domain.order import OrderKind, Origin, Side
from app.domain.portfolio import Portfolio, find_contradictions
from app.domain.ports import EVERYTHING, IdempotencyKey, Page, Selection, Settle
from app.domain.signal import Signal
from app.domain.standing import Halt, RunKey, Standing
from app.errors import StorageError
from app.storage.backtests import DataSet, SqlBacktests, Trial
from app.storage.column_types import MAXIMUM_UNITS, from_units, to_units
from app.storage.database import Database
from app.storage.ledger import SqlLedger
from app.storage.models import SqlModels
from app.storage.outcomes import SqlOutcomes
from app.storage.records import cycle_values, decision_values, trade_values
from app.storage.tables import APPEND_ONLY, cycles, decisions, trades
from tests.support.books import (
    CASH,
    KEY,
    SOURCE,
    SYMBOL,
    Booking,
    SteppingClock,
    as_selling,
    book,
    buy,
    fill,
    make_draft,
    make_order,
    make_outcome,
    sell,
    skip,
    take,
    turn_over,
)
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


def order(side: Side, thousandths: int, price: int, ppm: int) -> Booking:
    """A market order in whole 1e-8 units, as large as the account bears; skipped where that comes to nothing."""

    def booking(draft: CycleDraft) -> Settle:
        def settle(standing: Standing, now: datetime) -> Settlement:
            cash, held = standing.portfolio.cash, standing.portfolio.quantity(draft.symbol)
            if side is Side.BUY:
                budget = cash * thousandths // 1_000
                quantity = min(budget * UNITS * 10**6 // (price * (10**6 + ppm)), MAXIMUM_UNITS - held)
            else:
                quantity = held * thousandths // 1_000
            notional = price * quantity // UNITS
            fee = notional * ppm // 10**6
            worth = standing.portfolio.cash + (held + quantity) * price // UNITS
            if notional == 0 or cash + notional > MAXIMUM_UNITS or worth > MAXIMUM_UNITS:
                return skip(replace(draft, market=replace(draft.market, price=from_units(price))))(standing, now)
            booked = fill(side, from_units(quantity), from_units(price), from_units(fee))
            return take(replace(booked, notional=from_units(notional)))(draft)(standing, now)

        return settle

    return booking


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(orders=ORDERS, cash=st.integers(1, 10**9 * UNITS).map(from_units))
async def test_books_any_orders_conserve_cash_to_the_last_digit(
    shared_ledger: SqlLedger, orders: list[tuple[str, Side, int, int, int]], cash: Decimal
) -> None:
    ledger, source = shared_ledger, f"run-{next(_sources)}"
    key = RunKey(source)
    await ledger.open_account(key, cash)
    for index, (symbol, side, *asked) in enumerate(orders):
        draft = make_draft(index, symbol=symbol, source=source, action=Signal(side))
        with suppress(StorageError):  # what another symbol is worth may be more than can be kept
            await book(ledger, draft, order(side, *asked), SteppingClock())
    booked = (await ledger.list_trades(limit=100, wanted=Selection(source=source))).items[::-1]
    standing = await ledger.load_standing(key)
    assert {symbol: one.quantity for symbol, one in standing.portfolio.positions.items()} == replay(cash, booked)
    assert standing.portfolio.cash == (to_units(booked[-1].cash_after) if booked else to_units(cash))
    assert find_contradictions(standing.portfolio, to_units(cash)) == []
    assert await ledger.open_account(key, cash) == standing
    reports = (await ledger.list_cycles(limit=100, wanted=Selection(source=source))).items
    filled = [report for report in reports if report.execution and report.execution.status is ExecutionStatus.FILLED]
    assert [report.execution and report.execution.trade for report in filled] == list(booked[::-1])
    assert all(report.decision and report.decision.action == report.execution.trade.side for report in filled)  # type: ignore[union-attr]


def replay(cash: Decimal, booked: tuple[Trade, ...]) -> dict[str, int]:
    """Book all trades once more from nothing and compare every balance on the way; returns what is held at the end."""
    positions: dict[str, Decimal] = {}
    for trade in booked:
        sign = 1 if trade.side is Side.BUY else -1
        cash -= sign * trade.notional + trade.fee
        positions[trade.symbol] = positions.get(trade.symbol, Decimal(0)) + sign * trade.quantity
        assert (trade.cash_after, trade.position_after) == (cash, positions[trade.symbol])
        assert str(trade.cash_after) == str(cash.quantize(Decimal("1e-8")))
        assert min(cash, trade.position_after, trade.fee) >= 0
        assert min(trade.quantity, trade.price, trade.notional) > 0
    return {symbol: to_units(held) for symbol, held in positions.items() if held}


async def test_books_two_writers_with_one_key_book_once(database_url: str) -> None:
    sources = ("simulated", "binance")
    async with Database(database_url) as first, Database(database_url) as second:
        ledgers = [SqlLedger(database, SteppingClock()) for database in (first, second)]
        for ledger, source in zip(ledgers, sources, strict=True):
            await ledger.open_account(RunKey(source), CASH)
        for index in range(10):
            key = IdempotencyKey(f"key-{index}", "fingerprint")
            drafts = [make_draft(index, source=source) for source in sources]
            first_report, second_report = await asyncio.gather(
                book(ledgers[0], drafts[0], turn_over, SteppingClock(), key),
                book(ledgers[1], drafts[1], turn_over, SteppingClock(), key),
            )
            assert first_report == second_report
        assert len((await ledgers[0].list_cycles(limit=100)).items) == 10


async def test_books_cancelled_caller_finds_its_cycle_under_its_key(database: Database) -> None:
    ledger = SqlLedger(database, SteppingClock())
    await ledger.open_account(KEY, CASH)
    for index in range(5):
        key = IdempotencyKey(f"key-{index}", "fingerprint")
        caller = asyncio.create_task(book(ledger, make_draft(index), turn_over, SteppingClock(), key))
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
    await ledger.open_account(KEY, CASH)
    for index in range(20):
        reader = asyncio.create_task(ledger.load_standing(KEY))
        for _ in range(index % 5):
            await asyncio.sleep(0)
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
    standings = await asyncio.gather(*(ledger.load_standing(KEY) for _ in range(20)))
    assert [standing.portfolio for standing in standings] == [Portfolio(to_units(CASH))] * 20


async def test_books_are_append_only(database: Database) -> None:
    ledger = SqlLedger(database, SteppingClock())
    await ledger.open_account(KEY, CASH)
    await book(ledger, make_draft(1), fill_every_book, SteppingClock(), IdempotencyKey("k", "f"))
    await ledger.keep_settings({"a": 1})
    await SqlOutcomes(database).record(SOURCE, [make_outcome(make_draft(1).id)])
    await SqlModels(database, SteppingClock()).register(registered_card("forest-1"), ActivationReason.TRAINED)
    columns = {"accounts": "source", "idempotency_keys": "fingerprint", "decisions": "action", "outcomes": "label"}
    columns |= {"models": "recipe", "model_activations": "reason", "event_log": "type", "halts": "reason"}
    tried = DataSet(SOURCE, (SYMBOL,), SteppingClock().now(), SteppingClock().now() + timedelta(days=1))
    await SqlBacktests(database, SteppingClock()).record_trials([Trial(tried, "d" * 64, 0.1)])
    columns |= {"backtest_trials": "digest"}
    columns |= {"closed_trades": "profit", "records": "hash", "settings_documents": "digest", "snapshots": "cash"}
    for table in APPEND_ONLY:
        column = columns.get(table, "symbol")
        for statement in (f"UPDATE {table} SET {column} = {column}", f"DELETE FROM {table}"):
            with pytest.raises(StorageError) as caught:
                await database.write(partial(run, statement=statement))
            assert (caught.value.code, table) == ("storage_constraint", table)
            assert "append-only" in str(caught.value.__cause__)


async def test_books_on_postgres_cannot_be_truncated(postgres_url: str) -> None:
    async with Database(postgres_url) as database:
        for table in (*APPEND_ONLY, "orders"):
            with pytest.raises(StorageError) as caught:
                await database.write(partial(run, statement=f"TRUNCATE {table} CASCADE"))
            assert caught.value.code == "storage_constraint"


def fill_every_book(draft: CycleDraft) -> Settle:
    """Books a BUY, a SELL of half of it, dust and a halt, so that no table stays empty."""

    def settle(standing: Standing, now: datetime) -> Settlement:
        bought = buy()(draft)(standing, now)
        after = replace(standing, snapshot=bought.snapshot)
        sold = sell("0.005")(draft)(after, now)
        (entry,) = (replace(one, decided=False, origin=Origin.PERSON, order_id=f"{draft.id}-2") for one in sold.fills)
        rest = sold.snapshot.portfolio.positions[draft.symbol]
        dust = DustTransfer(draft.symbol, rest.quantity, rest.cost, rest.entry_fees)
        snapshot = replace(sold.snapshot, portfolio=sold.snapshot.portfolio.to_dust(draft.symbol))
        orders = (*bought.orders, replace(sold.orders[0], id=entry.order_id))
        entries = (*bought.entries, entry, dust)
        return replace(
            bought, snapshot=snapshot, entries=entries, orders=orders, halt=Halt("max_drawdown", "Lost.", now)
        )

    return settle


async def test_orders_move_on_until_they_have_ended_and_are_never_removed(database: Database) -> None:
    ledger = SqlLedger(database, SteppingClock())
    await ledger.open_account(KEY, CASH)
    trailing = {"kind": OrderKind.TRAILING_STOP, "price": Decimal(2), "trail_fraction": Decimal("0.1")}

    def settle(standing: Standing, now: datetime) -> Settlement:
        draft = make_draft(1)
        limit = {"kind": OrderKind.LIMIT, "price": Decimal(1), "expires_at": now + timedelta(days=1)}
        orders = (make_order(draft, now, **limit), make_order(draft, now, id="trailing", **trailing))
        return replace(skip(draft)(standing, now), orders=orders)

    await ledger.record_cycle(make_draft(1), settle, SteppingClock())
    limit, trail = (await ledger.load_standing(KEY)).orders
    ended = "status = 'CANCELED', closed_at = created_at"
    kept = ["quantity = quantity + 1", "side = 'SELL'", "kind = 'MARKET'", "origin = 'person'", "id = 'x'"]
    kept += ["symbol = 'ETHUSDT'", "reduce_only = NOT reduce_only", "price = price + 1", "trail_fraction = 1"]
    kept += ["expires_at = NULL", "cycle_id = NULL", "created_at = expires_at", "active_from = created_at"]
    kept += [
        "number = number + 1",
        "account_id = account_id + 1",
        "filled_quantity = -1",
        "filled_quantity = quantity + 1",
    ]
    for change in (*kept, "status = 'CANCELED'", "closed_at = created_at", "status = 'GONE'"):
        with pytest.raises(StorageError) as caught:
            await database.write(partial(run, statement=f"UPDATE orders SET {change} WHERE id = '{limit.id}'"))
        assert (caught.value.code, change) == ("storage_constraint", change)
    await database.write(partial(run, statement="UPDATE orders SET price = price + 1 WHERE id = 'trailing'"))
    await database.write(partial(run, statement=f"UPDATE orders SET filled_quantity = quantity, {ended}"))
    assert (await ledger.load_standing(KEY)).orders == ()
    for statement in (f"UPDATE orders SET {ended}", "DELETE FROM orders", "UPDATE orders SET price = price + 1"):
        with pytest.raises(StorageError) as caught:
            await database.write(partial(run, statement=statement))
        assert caught.value.code == "storage_constraint"
    assert trail.price == Decimal(2)


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
        ({"origin": "nobody"}, "origin"),
        ({"order_id": "unknown"}, ""),
        ({"interval": None}, ""),
        ({"model_id": None}, "decided"),
    ],
    ids=str,
)
async def test_books_refuse_a_trade_that_does_not_fit(database: Database, change: dict[str, Any], rule: str) -> None:
    ledger = SqlLedger(database, SteppingClock())
    await ledger.open_account(KEY, CASH)
    with pytest.raises(StorageError) as caught:
        await database.write(lambda connection: insert_by_hand(connection, change))
    assert caught.value.code == "storage_constraint"
    assert rule in str(caught.value.__cause__)
    assert (await ledger.list_cycles(limit=1)).items == ()
    await database.write(lambda connection: insert_by_hand(connection, {}))
    assert len((await ledger.list_trades(limit=9)).items) == 1


def insert_by_hand(connection: Connection, change: dict[str, Any]) -> None:
    """Insert the rows of a filled cycle with a trade that differs from the right one by `change`."""
    draft = make_draft(1)
    account_id = connection.execute(text("SELECT id FROM accounts")).scalar_one()
    trade = Trade(
        id=0,
        cycle_id=draft.id,
        symbol=draft.symbol,
        interval=draft.interval,
        source=draft.key.source,
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
    report = draft.finish(Execution(ExecutionStatus.FILLED, "filled", "By hand.", trade), None, "", draft.started_at)
    connection.execute(insert(cycles), cycle_values(report, account_id))
    connection.execute(insert(decisions), decision_values(draft.id, draft.decision))
    connection.execute(insert(trades), {**trade_values(trade, account_id), **change})


TAMPERED = [
    (
        "trades",
        "UPDATE trades SET fee = fee + 1 WHERE side = 'BUY'",
        [
            "trade 1: cash of 9349.99 and 0.01 BTCUSDT are recorded, and its fills come to 9349.98999999 and 0.01",
            "trade 2: cash of 9609.98 and 0.006 BTCUSDT are recorded, and its fills come to 9609.97999999 and 0.006",
            "cash is recorded as 9609.98, and its fills come to 9609.97999999",
            "fees is recorded as 0.02, and its fills come to 0.02000001",
            "entry fees of BTCUSDT is recorded as 0.006, and its fills come to 0.00600001",
        ],
    ),
    (
        "snapshots",
        "UPDATE snapshots SET cash = cash + 1, realised = 7 WHERE number = 3",
        [
            "cash is recorded as 9609.98000001, and its fills come to 9609.98",
            "realised profit is recorded as 0.00000007, and its fills come to 0",
        ],
    ),
    (
        "closed_trades",
        "UPDATE closed_trades SET profit = profit + 1",
        ["trade 2: what it closed is not what is recorded of it", "trade 2: its postings do not sum to zero"],
    ),
    (
        "trades",
        "UPDATE trades SET executed_at = '2026-03-01T00:00:00.000000+00:00' WHERE id = 2",
        ["trade 2: it is dated before what came before it"],
    ),
    (
        "trades",
        "UPDATE trades SET side = 'SELL', quantity = quantity * 3 WHERE id = 2",
        [
            "trade 2: A fill cannot turn a position round; close it first.",
            "cash is recorded as 9609.98, and its fills come to 9349.99",
            "fees is recorded as 0.02, and its fills come to 0.01",
            "position in BTCUSDT is recorded as 0.006, and its fills come to 0.01",
            "cost of BTCUSDT is recorded as 390, and its fills come to 650",
            "entry fees of BTCUSDT is recorded as 0.006, and its fills come to 0.01",
        ],
    ),
]


@pytest.mark.parametrize(("table", "change", "found"), TAMPERED, ids=["fee", "snapshot", "exit", "date", "turned"])
async def test_open_account_books_that_do_not_add_up_are_named(
    sqlite_url: str, table: str, change: str, found: list[str]
) -> None:
    async with Database(sqlite_url) as database:
        ledger = SqlLedger(database, SteppingClock())
        await ledger.open_account(KEY, CASH)
        await book(ledger, make_draft(1), buy("0.01", "65000"), SteppingClock())
        await book(ledger, as_selling(make_draft(2)), sell("0.004", "65000"), SteppingClock())
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as connection:
        connection.execute(f"DROP TRIGGER {table}_no_update")
        connection.execute(change)
        connection.commit()
    async with Database(sqlite_url) as database:
        ledger = SqlLedger(database, SteppingClock())
        with capture_logs() as logs, pytest.raises(StorageError) as caught:
            await ledger.open_account(KEY, CASH)
        assert len((await ledger.list_trades(limit=10)).items) == 2
    assert caught.value.code == "ledger_mismatch"
    assert caught.value.context == {"run": "simulated.forest.main.1", "differences": found}
    assert "python -m app verify" in caught.value.message
    assert [log["event"] for log in logs] == ["ledger.mismatch"]


async def test_open_account_dust_is_rebuilt_there_and_back(database: Database) -> None:
    ledger = SqlLedger(database, SteppingClock())
    await ledger.open_account(KEY, CASH)
    await book(ledger, make_draft(1), fill_every_book, SteppingClock())
    standing = await ledger.open_account(KEY, CASH)
    (dust,) = standing.portfolio.dust.values()
    assert (dust.quantity, dust.cost, dust.entry_fees) == (500_000, 325 * UNITS, 500_000)
    assert standing.portfolio.positions == {}

    def sweep(standing: Standing, now: datetime) -> Settlement:
        draft = as_selling(make_draft(2))
        back = replace(standing.snapshot, portfolio=standing.portfolio.from_dust(SYMBOL))
        sold = sell("0.005")(draft)(replace(standing, snapshot=back), now)
        swept = DustTransfer(SYMBOL, -dust.quantity, -dust.cost, -dust.entry_fees)
        return replace(sold, entries=(swept, *sold.entries))

    await ledger.record_cycle(as_selling(make_draft(2)), sweep, SteppingClock())
    swept = await ledger.open_account(KEY, CASH)
    assert (swept.portfolio.positions, swept.portfolio.dust) == ({}, {})
    assert swept.portfolio == (await ledger.load_standing(KEY)).portfolio


async def test_open_account_changed_cash_is_ignored_and_said(database: Database) -> None:
    ledger = SqlLedger(database, SteppingClock())
    await ledger.open_account(KEY, CASH)
    with capture_logs() as logs:
        assert (await ledger.open_account(KEY, Decimal(5))).portfolio == Portfolio(to_units(CASH))
    assert [(log["event"], log["log_level"]) for log in logs] == [("account.initial_cash_ignored", "warning")]


@pytest.mark.parametrize("units", [1, 10**9 * UNITS, MAXIMUM_UNITS])
async def test_open_account_extreme_cash_is_exact(database: Database, units: int) -> None:
    ledger = SqlLedger(database, SteppingClock())
    await ledger.open_account(KEY, from_units(units))
    assert (await ledger.load_standing(KEY)).portfolio == Portfolio(units)


@pytest.mark.parametrize("units", [0, -1])
async def test_open_account_without_cash_is_refused(database: Database, units: int) -> None:
    with pytest.raises(StorageError) as caught:
        await SqlLedger(database, SteppingClock()).open_account(KEY, from_units(units))
    assert caught.value.code == "storage_constraint"


@pytest.mark.parametrize("kind", ["trades", "cycles"])
@pytest.mark.parametrize(
    "wanted", [EVERYTHING, Selection("BTCUSDT"), Selection(None, SOURCE), Selection("BTCUSDT", SOURCE)], ids=str
)
async def test_listing_walks_an_index_and_sorts_nothing(
    sqlite_database: Database, kind: str, wanted: Selection
) -> None:
    ledger = SqlLedger(sqlite_database, SteppingClock())
    await ledger.open_account(KEY, CASH)
    for index in range(3):
        await book(ledger, make_draft(index), turn_over, SteppingClock())
    listing = ledger.list_trades if kind == "trades" else ledger.list_cycles
    cursor = (await listing(limit=1, wanted=wanted)).next_cursor
    plan = await explained(sqlite_database, lambda: listing(limit=2, cursor=cursor, wanted=wanted))
    assert plan
    assert not [step for step in plan if "TEMP B-TREE" in step]
    assert not [step for step in plan if step.startswith(f"SCAN {kind}") and wanted != EVERYTHING]


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
