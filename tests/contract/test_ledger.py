"""What every ledger does: in SQL on each database, and in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from app.domain.candle import Interval
from app.domain.cycle import CycleDraft, CycleStatus, ExecutionStatus, Settlement
from app.domain.cycle_record import write_outcome
from app.domain.money import UNITS, to_units
from app.domain.order import Check, OrderKind, OrderStatus, Origin, Side
from app.domain.portfolio import Portfolio
from app.domain.ports import EVERYTHING, IdempotencyKey, Ledger, Selection
from app.domain.signal import Signal
from app.domain.standing import Halt, RunKey, Standing
from app.engine.memory_ledger import MemoryLedger
from app.errors import InvalidInputError, NotFoundError, StorageError
from app.storage.database import Database
from app.storage.ledger import SqlLedger
from tests.support.books import (
    CASH,
    KEY,
    SOURCE,
    START,
    Booking,
    SteppingClock,
    as_selling,
    book,
    buy,
    make_draft,
    make_order,
    make_refusal,
    sell,
    skip,
    turn_over,
)

pytest_plugins = ("tests.support.databases",)
pytestmark = pytest.mark.anyio

ONCE = IdempotencyKey("key-1", "fingerprint-1")
BINANCE = RunKey("binance")


@pytest.fixture
def clock() -> SteppingClock:
    return SteppingClock()


@pytest.fixture
async def sql_ledger(database: Database, clock: SteppingClock) -> Ledger:
    opened = SqlLedger(database, clock)
    await opened.open_account(KEY, CASH)
    return opened


@pytest.fixture(params=["sqlite", "postgresql", "memory"])
def ledger_url(request: pytest.FixtureRequest) -> str | None:
    """Where the ledger's database is, None for the ledger in memory."""
    name = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}.get(request.param)
    return None if name is None else request.getfixturevalue(name)


@pytest.fixture
async def ledger(ledger_url: str | None, clock: SteppingClock) -> AsyncIterator[Ledger]:
    if ledger_url is None:
        in_memory = MemoryLedger(clock)
        await in_memory.open_account(KEY, CASH)
        yield in_memory
        return
    async with Database(ledger_url) as database:
        in_sql = SqlLedger(database, clock)
        await in_sql.open_account(KEY, CASH)
        yield in_sql


async def holds(ledger: Ledger, key: RunKey = KEY) -> tuple[Decimal, dict[str, Decimal]]:
    """The cash of an account, and what is held of each symbol."""
    portfolio = (await ledger.load_standing(key)).portfolio
    held = {symbol: Decimal(one.quantity) / UNITS for symbol, one in portfolio.positions.items()}
    return Decimal(portfolio.cash) / UNITS, held


async def test_open_account_new_holds_the_cash(sql_ledger: Ledger) -> None:
    opened = await sql_ledger.open_account(BINANCE, Decimal("123.45678901"))
    assert opened.portfolio == Portfolio(12_345_678_901)
    assert (opened.run.key, opened.run.id, opened.orders, opened.halt) == (BINANCE, "binance.forest.main.1", (), None)
    snapshot = opened.snapshot
    assert (snapshot.equity, snapshot.peak_equity, snapshot.day_equity) == (12_345_678_901,) * 3
    assert await sql_ledger.load_standing(BINANCE) == opened
    assert (await sql_ledger.load_standing(KEY)).portfolio == Portfolio(to_units(CASH))


async def test_open_account_again_keeps_what_the_fills_say(ledger: Ledger, clock: SteppingClock) -> None:
    await book(ledger, make_draft(1), buy("0.1", "50000"), clock)
    expected = await ledger.load_standing(KEY)
    assert await holds(ledger) == (Decimal("4999.99"), {"BTCUSDT": Decimal("0.1")})
    assert expected.run.initial_cash == CASH
    assert await ledger.open_account(KEY, Decimal(77)) == expected


async def test_load_standing_without_an_account_is_refused(ledger: Ledger) -> None:
    with pytest.raises(StorageError) as caught:
        await ledger.load_standing(BINANCE)
    assert caught.value.code == "account_missing"


async def test_record_cycle_fill_is_booked_whole(ledger: Ledger, clock: SteppingClock) -> None:
    report = await book(ledger, make_draft(1), buy("0.01", "65000.10"), clock)
    assert report.status is CycleStatus.COMPLETED
    assert report.execution is not None
    trade = report.execution.trade
    assert trade is not None
    assert (trade.side, trade.quantity, trade.price) == (Side.BUY, Decimal("0.01"), Decimal("65000.10"))
    assert (trade.notional, trade.fee) == (Decimal("650.001"), Decimal("0.01"))
    assert (trade.cash_after, trade.position_after) == (Decimal("9349.989"), Decimal("0.01"))
    assert (trade.cycle_id, trade.source, trade.symbol, trade.interval) == (report.id, SOURCE, "BTCUSDT", Interval.M1)
    assert (trade.confidence, trade.model_id, trade.slippage_bps) == (0.61, "forest-1", 3.25)
    assert trade.candle_open_time == make_draft(1).market.candle_open_time
    assert START < trade.executed_at == report.finished_at
    assert report.logs[-1].agent == "execution"


@pytest.mark.parametrize("booking", [buy(), skip], ids=["filled", "skipped"])
async def test_record_cycle_read_back_is_the_same_to_the_byte(
    ledger: Ledger, clock: SteppingClock, booking: Booking
) -> None:
    report = await book(ledger, make_draft(1), booking, clock)
    found = await ledger.get_cycle(report.id)
    assert found == report
    assert write_outcome(found) == write_outcome(report)
    (listed,) = (await ledger.list_cycles(limit=1)).items
    assert (listed.id, listed.execution, listed.decision) == (report.id, report.execution, report.decision)


async def test_record_cycle_orders_checks_and_resting_orders_are_kept(ledger: Ledger, clock: SteppingClock) -> None:
    check = Check("max_drawdown", passed=True, value="0", limit="0.2", detail="Far from it.")

    def booking(draft: CycleDraft) -> object:
        def settle(standing: Standing, now: datetime) -> Settlement:
            filled = buy()(draft)(standing, now)
            stop = {"kind": OrderKind.STOP_LOSS, "price": Decimal("64000.5"), "origin": Origin.PROTECTION}
            trail = {"kind": OrderKind.TRAILING_STOP, "price": Decimal(1), "trail_fraction": Decimal("0.02")}
            more = {"side": Side.SELL, "reduce_only": True, "expires_at": now + timedelta(days=1)}
            resting = (
                make_order(draft, now, id=f"{draft.id}-2", **stop, **more),
                make_order(draft, now, id=f"{draft.id}-3", **trail, **more),
            )
            return replace(filled, orders=(*filled.orders, *resting), checks=(check,), logs=(("risk", "Fine."),))

        return settle

    report = await book(ledger, make_draft(1), booking, clock)  # type: ignore[arg-type]
    assert report.checks == (check,)
    assert [order.status for order in report.orders] == [OrderStatus.FILLED, OrderStatus.NEW, OrderStatus.NEW]
    assert [(line.agent, line.message) for line in report.logs[2:]] == [("risk", "Fine."), ("execution", "BUY 0.01")]
    assert write_outcome(await ledger.get_cycle(report.id)) == write_outcome(report)
    standing = await ledger.load_standing(KEY)
    assert standing.orders == report.orders[1:]

    def move(standing: Standing, now: datetime) -> Settlement:
        first, second = standing.orders
        ended = replace(first, status=OrderStatus.CANCELED, reason_code="canceled", reason="By hand.", closed_at=now)
        moved = replace(second, price=Decimal(2), active_from=second.active_from + timedelta(minutes=1))
        return replace(skip(make_draft(2))(standing, now), orders=(ended,), moved=(moved,))

    report = await ledger.record_cycle(make_draft(2), move, clock)
    assert [order.status for order in report.orders] == [OrderStatus.CANCELED]
    (left,) = (await ledger.load_standing(KEY)).orders
    assert (left.id, left.price) == (f"{make_draft(1).id}-3", Decimal(2))


async def test_record_cycle_order_that_is_new_and_ends_in_one_booking_does_not_rest(
    ledger: Ledger, clock: SteppingClock
) -> None:
    def settle(standing: Standing, now: datetime) -> Settlement:
        draft = make_draft(1)
        end = {"status": OrderStatus.REJECTED, "reason_code": "x", "reason": "Y.", "closed_at": now}
        rejected = make_order(draft, now, quantity=Decimal(0), **end)
        return replace(skip(draft)(standing, now), orders=(rejected,))

    report = await ledger.record_cycle(make_draft(1), settle, clock)
    assert [order.status for order in (await ledger.get_cycle(report.id)).orders] == [OrderStatus.REJECTED]
    assert (await ledger.load_standing(KEY)).orders == ()


async def test_record_cycle_halt_of_a_settlement_stays(ledger: Ledger, clock: SteppingClock) -> None:
    def settle(standing: Standing, now: datetime) -> Settlement:
        halt = Halt("max_drawdown", "It lost too much.", now)
        return replace(skip(make_draft(1))(standing, now), halt=halt)

    report = await ledger.record_cycle(make_draft(1), settle, clock)
    await book(ledger, make_draft(2), skip, clock)
    halt = Halt("max_drawdown", "It lost too much.", report.finished_at)
    assert (await ledger.load_standing(KEY)).halt == halt


async def test_record_cycle_snapshot_counts_what_limits_are_measured_by(ledger: Ledger, clock: SteppingClock) -> None:
    await book(ledger, make_draft(1), buy("0.1", "50000"), clock)
    bought = (await ledger.load_standing(KEY)).snapshot
    assert (bought.marks, bought.trades_today) == ({"BTCUSDT": 50_000 * UNITS}, 1)
    assert bought.equity == to_units(Decimal("9999.99"))
    report = await book(ledger, as_selling(make_draft(2)), sell("0.1", "49000"), clock)
    sold = (await ledger.load_standing(KEY)).snapshot
    assert (sold.marks, sold.trades_today, sold.losses_in_a_row) == ({}, 2, 1)
    assert (sold.equity, sold.peak_equity) == (to_units(Decimal("9899.98")), to_units(CASH))
    assert sold.last_loss_at == sold.at == report.finished_at
    assert report.fills[0].realised_profit == Decimal(-100)


async def test_record_cycle_skipped_leaves_the_account_alone(ledger: Ledger, clock: SteppingClock) -> None:
    report = await book(ledger, make_draft(1, action=Signal.HOLD), skip, clock)
    assert report.execution is not None
    assert (report.execution.status, report.execution.reason_code) == (ExecutionStatus.SKIPPED, "hold")
    assert report.execution.trade is None
    assert await holds(ledger) == (CASH, {})


async def test_record_cycle_settle_sees_the_account_as_it_stands(ledger: Ledger, clock: SteppingClock) -> None:
    seen: list[Standing] = []

    for index, symbol in enumerate(["BTCUSDT", "ETHUSDT", "BTCUSDT"]):
        draft = make_draft(index, symbol=symbol)

        def settle(standing: Standing, now: datetime, draft: CycleDraft = draft) -> Settlement:
            seen.append(standing)
            return buy("0.01", "100")(draft)(standing, now)

        await ledger.record_cycle(draft, settle, clock)
    assert [one.portfolio.cash for one in seen] == [to_units(Decimal(cash)) for cash in ("10000", "9998.99", "9997.98")]
    held = [{name: position.quantity for name, position in one.portfolio.positions.items()} for one in seen]
    assert held == [{}, {"BTCUSDT": 1_000_000}, {"BTCUSDT": 1_000_000, "ETHUSDT": 1_000_000}]


async def test_record_cycle_sold_out_symbol_is_no_position(ledger: Ledger, clock: SteppingClock) -> None:
    await book(ledger, make_draft(1), buy("0.01", "100"), clock)
    await book(ledger, as_selling(make_draft(2)), sell("0.01", "100"), clock)
    assert await holds(ledger) == (Decimal("9999.98"), {})


async def test_record_cycle_same_candle_again_is_a_duplicate(ledger: Ledger, clock: SteppingClock) -> None:
    first = await book(ledger, make_draft(1), buy(), clock)
    again = await ledger.record_cycle(make_draft(1, cycle_id="again"), _must_not_be_asked, clock)
    assert first.execution is not None
    assert again.execution is not None
    assert (again.execution.status, again.execution.reason_code) == (ExecutionStatus.SKIPPED, "candle_already_traded")
    assert again.execution.duplicate
    assert again.execution.trade == first.execution.trade
    assert await ledger.get_cycle("again") == again
    assert len((await ledger.list_trades(limit=10)).items) == 1


@pytest.mark.parametrize(
    "other",
    [make_draft(2), make_draft(1, symbol="ETHUSDT"), make_draft(1, interval=Interval.M5, cycle_id="five")],
    ids=["candle", "symbol", "interval"],
)
async def test_record_cycle_another_candle_is_no_duplicate(
    ledger: Ledger, clock: SteppingClock, other: CycleDraft
) -> None:
    await book(ledger, make_draft(1), buy(), clock)
    report = await book(ledger, other, buy(), clock)
    assert report.execution is not None
    assert report.execution.status is ExecutionStatus.FILLED


async def test_record_cycle_sources_do_not_mix(sql_ledger: Ledger, clock: SteppingClock) -> None:
    ledger = sql_ledger
    await ledger.open_account(BINANCE, Decimal(500_000))
    await book(ledger, make_draft(1), buy("1", "100"), clock)
    await book(ledger, make_draft(1, source="binance"), buy("2", "100"), clock)
    assert await holds(ledger) == (Decimal("9899.99"), {"BTCUSDT": Decimal(1)})
    assert await holds(ledger, BINANCE) == (Decimal("499799.99"), {"BTCUSDT": Decimal(2)})
    trades = (await ledger.list_trades(limit=9, wanted=Selection(source="binance"))).items
    assert [(trade.source, trade.run) for trade in trades] == [("binance", "binance.forest.main.1")]


async def test_record_cycle_same_key_again_replays(ledger: Ledger, clock: SteppingClock) -> None:
    first = await book(ledger, make_draft(1), buy(), clock, ONCE)
    again = await ledger.record_cycle(make_draft(2), _must_not_be_asked, clock, ONCE)
    assert again == first
    assert await ledger.find_replay(ONCE) == first
    assert len((await ledger.list_cycles(limit=10)).items) == 1


async def test_record_cycle_key_of_another_request_is_refused(ledger: Ledger, clock: SteppingClock) -> None:
    await book(ledger, make_draft(1), buy(), clock, ONCE)
    other = IdempotencyKey(ONCE.key, "fingerprint-2")
    with pytest.raises(InvalidInputError) as caught:
        await book(ledger, make_draft(2), buy(), clock, other)
    assert caught.value.code == "idempotency_key_reused"
    with pytest.raises(InvalidInputError) as caught:
        await ledger.find_replay(other)
    assert caught.value.code == "idempotency_key_reused"
    assert len((await ledger.list_cycles(limit=10)).items) == 1


async def test_find_replay_unknown_key_finds_nothing(ledger: Ledger) -> None:
    assert await ledger.find_replay(IdempotencyKey("unknown", "f")) is None


async def test_record_cycle_failing_settle_leaves_nothing(ledger: Ledger, clock: SteppingClock) -> None:
    def settle(_: Standing, __: datetime) -> Settlement:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError):
        await ledger.record_cycle(make_draft(1), settle, clock, ONCE)
    assert (await ledger.list_cycles(limit=10)).items == ()
    assert await ledger.find_replay(ONCE) is None
    assert (await book(ledger, make_draft(1), buy(), clock, ONCE)).id == make_draft(1).id


async def test_record_cycle_cash_below_zero_is_refused(sql_ledger: Ledger, clock: SteppingClock) -> None:
    with pytest.raises(StorageError) as caught:
        await book(sql_ledger, make_draft(1), buy("1", "10000"), clock)
    assert caught.value.code == "storage_constraint"
    assert (await sql_ledger.list_cycles(limit=10)).items == ()
    assert await holds(sql_ledger) == (CASH, {})


async def test_record_cycle_amount_finer_than_kept_is_refused(sql_ledger: Ledger, clock: SteppingClock) -> None:
    with pytest.raises(StorageError) as caught:
        await book(sql_ledger, make_draft(1), buy("0.000000001"), clock)
    assert caught.value.code == "amount_not_storable"
    assert (await sql_ledger.list_cycles(limit=10)).items == ()


async def test_record_cycle_many_at_once_on_one_candle_fill_once(ledger: Ledger, clock: SteppingClock) -> None:
    reports = await asyncio.gather(
        *(book(ledger, make_draft(1, cycle_id=f"c{number}"), buy(), clock) for number in range(50))
    )
    filled = [report for report in reports if report.execution and report.execution.status is ExecutionStatus.FILLED]
    trades = {report.execution.trade for report in reports if report.execution}
    assert len(filled) == 1
    assert len(trades) == 1
    assert len((await ledger.list_trades(limit=100)).items) == 1
    assert len((await ledger.list_cycles(limit=100)).items) == 50


async def test_record_cycle_many_at_once_with_one_key_book_once(ledger: Ledger, clock: SteppingClock) -> None:
    reports = await asyncio.gather(
        *(book(ledger, make_draft(number), buy("0.001"), clock, ONCE) for number in range(20))
    )
    assert len({report.id for report in reports}) == 1
    assert len((await ledger.list_cycles(limit=100)).items) == 1


async def test_record_cycle_clock_set_back_keeps_the_order_and_dates_nothing_before_its_cause(
    ledger: Ledger, clock: SteppingClock
) -> None:
    first = await book(ledger, make_draft(1), turn_over, clock)
    clock.set_back(timedelta(hours=1))
    draft = replace(make_draft(2), started_at=first.started_at - timedelta(hours=1))
    second = await book(ledger, draft, turn_over, clock)
    assert second.finished_at == second.fills[0].executed_at == first.finished_at
    assert [report.id for report in (await ledger.list_cycles(limit=2)).items] == [second.id, first.id]
    assert [trade.cycle_id for trade in (await ledger.list_trades(limit=2)).items] == [second.id, first.id]
    assert await ledger.open_account(KEY, CASH) == await ledger.load_standing(KEY)


async def test_record_cycle_clock_behind_its_start_ends_no_earlier(ledger: Ledger, clock: SteppingClock) -> None:
    draft = replace(make_draft(1), started_at=START + timedelta(hours=1))
    report = await book(ledger, draft, buy(), clock)
    assert report.finished_at == report.fills[0].executed_at == report.started_at


async def test_record_refusal_is_listed_and_trades_nothing(ledger: Ledger) -> None:
    refusal = make_refusal(1)
    await ledger.record_refusal(refusal, KEY)
    found = await ledger.get_cycle(refusal.id)
    assert found == replace(refusal, run="simulated.forest.main.1")
    assert (await ledger.list_cycles(limit=2)).items == (found,)
    assert (await ledger.list_trades(limit=10)).items == ()


async def test_record_refusal_with_a_market_view_keeps_it(ledger: Ledger) -> None:
    refusal = replace(make_refusal(1), market=make_draft(1).market)
    await ledger.record_refusal(refusal, KEY)
    assert (await ledger.get_cycle(refusal.id)).market == refusal.market


async def test_get_cycle_unknown_is_not_found(ledger: Ledger) -> None:
    for cycle_id in ("unknown", "", "x" * 300, "../etc", "a b", "\x00", "é", "\ud800"):
        with pytest.raises(NotFoundError) as caught:
            await ledger.get_cycle(cycle_id)
        assert caught.value.code == "cycle_not_found"


async def test_get_trade_unknown_is_not_found(ledger: Ledger) -> None:
    for trade_id in (0, -1, 1, 2**63 - 1, 2**63, 10**30):
        with pytest.raises(NotFoundError) as caught:
            await ledger.get_trade(trade_id)
        assert caught.value.code == "trade_not_found"


async def test_get_trade_finds_what_was_booked(ledger: Ledger, clock: SteppingClock) -> None:
    report = await book(ledger, make_draft(1), buy(), clock)
    assert report.execution is not None
    assert report.execution.trade is not None
    found = await ledger.get_trade(report.execution.trade.id)
    assert found == report.execution.trade


async def test_list_pages_meet_without_gap_or_overlap(ledger: Ledger, clock: SteppingClock) -> None:
    for index in range(7):
        symbol = ("BTCUSDT", "ETHUSDT")[index % 2]
        await book(ledger, make_draft(index, symbol=symbol), turn_over, clock)
    everything = (await ledger.list_trades(limit=1_000)).items
    assert [trade.candle_open_time and trade.candle_open_time.minute for trade in everything] == [8, 7, 6, 5, 4, 3, 2]
    for limit in (1, 2, 3, 7):
        assert await _all_trade_ids(ledger, limit) == [trade.id for trade in everything]
    cycles: list[str] = []
    cursor = None
    while True:
        page = await ledger.list_cycles(limit=3, cursor=cursor)
        cycles += [report.id for report in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert cycles == [trade.cycle_id for trade in everything]


async def test_list_pages_new_rows_do_not_shift_old_ones(ledger: Ledger, clock: SteppingClock) -> None:
    for index in range(4):
        await book(ledger, make_draft(index), turn_over, clock)
    first = await ledger.list_trades(limit=2)
    await book(ledger, make_draft(4), turn_over, clock)
    second = await ledger.list_trades(limit=2, cursor=first.next_cursor)
    assert [str(trade.cycle_id)[-1] for trade in (*first.items, *second.items)] == ["3", "2", "1", "0"]


async def test_list_filters_by_symbol_source_run_and_time(sql_ledger: Ledger, clock: SteppingClock) -> None:
    ledger = sql_ledger
    await ledger.open_account(BINANCE, CASH)
    for source in (SOURCE, "binance"):
        for index, symbol in enumerate(("BTCUSDT", "ETHUSDT")):
            await book(ledger, make_draft(index, symbol=symbol, source=source), buy("0.01", "100"), clock)
    await ledger.record_refusal(make_refusal(1), KEY)

    async def count(**wanted: Any) -> tuple[int, int]:
        selection = Selection(**wanted)
        trades = (await ledger.list_trades(limit=9, wanted=selection)).items
        return len(trades), len((await ledger.list_cycles(limit=9, wanted=selection)).items)

    page = await ledger.list_trades(limit=9, wanted=Selection(symbol="ETHUSDT", source="binance"))
    assert [(trade.source, trade.symbol) for trade in page.items] == [("binance", "ETHUSDT")]
    assert await count() == (4, 5)
    assert await count(symbol="ETHUSDT") == (2, 2)
    assert await count(symbol="BTCUSDT") == (2, 3)
    assert await count(run="simulated.forest.main.1") == (2, 3)
    assert await count(run="simulated.forest.main.1", source="binance") == (0, 0)
    oldest = (await ledger.list_trades(limit=9)).items[-1].executed_at
    assert await count(since=oldest) == (4, 5)
    assert await count(until=oldest) == (0, 0)
    assert await count(since=oldest, until=oldest + timedelta(microseconds=1)) == (1, 1)
    for unknown in ("XRPUSDT", "", "x" * 300, "\x00", "\ud800", "a.b.c.d", "simulated.forest.main.01", "s.f.m.1.2"):
        assert await count(symbol=unknown) == await count(source=unknown) == await count(run=unknown) == (0, 0)


async def test_list_filters_in_memory_as_in_sql(ledger: Ledger, clock: SteppingClock) -> None:
    for index, symbol in enumerate(("BTCUSDT", "ETHUSDT")):
        await book(ledger, make_draft(index, symbol=symbol), buy("0.01", "100"), clock)
    first = (await ledger.list_trades(limit=9)).items[-1].executed_at
    later = first + timedelta(microseconds=1)
    for wanted, count in (
        (EVERYTHING, 2),
        (Selection(symbol="ETHUSDT"), 1),
        (Selection(source=SOURCE), 2),
        (Selection(source="binance"), 0),
        (Selection(run="simulated.forest.main.1"), 2),
        (Selection(run="simulated.forest.main.2"), 0),
        (Selection(until=first), 0),
        (Selection(since=first, until=later), 1),
        (Selection(since=later), 1),
    ):
        assert len((await ledger.list_trades(limit=9, wanted=wanted)).items) == count
        assert len((await ledger.list_cycles(limit=9, wanted=wanted)).items) == count


async def test_list_limit_out_of_range_is_refused(sql_ledger: Ledger) -> None:
    for limit in (0, -1, 1_001, 10**30):
        for listing in (sql_ledger.list_trades, sql_ledger.list_cycles):
            with pytest.raises(InvalidInputError):
                await listing(limit=limit)


async def test_list_strange_cursor_is_refused(sql_ledger: Ledger) -> None:
    zero, beyond = "dHJhZGU6MA", "dHJhZGU6OTk5OTk5OTk5OTk5OTk5OTk5OTk"
    for cursor in ("", "x", "!!!!", "a" * 5_000, "\x00é", "\ud800", zero, beyond):
        for listing in (sql_ledger.list_trades, sql_ledger.list_cycles):
            with pytest.raises(InvalidInputError) as caught:
                await listing(limit=1, cursor=cursor)
            assert caught.value.code == "invalid_cursor"


async def test_list_cursor_of_another_listing_is_refused(sql_ledger: Ledger, clock: SteppingClock) -> None:
    for index in range(2):
        await book(sql_ledger, make_draft(index), turn_over, clock)
    cursor = (await sql_ledger.list_trades(limit=1)).next_cursor
    with pytest.raises(InvalidInputError) as caught:
        await sql_ledger.list_cycles(limit=1, cursor=cursor)
    assert caught.value.code == "invalid_cursor"


async def test_times_come_back_in_utc_to_the_microsecond(sql_ledger: Ledger) -> None:
    ledger = sql_ledger
    elsewhere = datetime.fromisoformat("2026-11-01T01:30:00.000007-04:00")
    clock = SteppingClock(elsewhere)
    report = await book(ledger, make_draft(1), buy(), clock)
    found = await ledger.get_cycle(report.id)
    assert found.finished_at == datetime(2026, 11, 1, 5, 30, 0, 8, tzinfo=UTC)
    assert found.finished_at.tzinfo is UTC
    assert found.started_at.microsecond == START.microsecond


async def _all_trade_ids(ledger: Ledger, limit: int) -> list[int]:
    found: list[int] = []
    cursor = None
    while True:
        page = await ledger.list_trades(limit=limit, cursor=cursor)
        assert len(page.items) <= limit
        found += [trade.id for trade in page.items]
        if page.next_cursor is None:
            return found
        cursor = page.next_cursor


def _must_not_be_asked(_: Standing, __: datetime) -> Settlement:
    raise AssertionError("the earlier result stands")
