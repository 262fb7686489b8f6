"""What every ledger does, on each database it runs on."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from app.domain.candle import Interval
from app.domain.cycle import CycleStatus, ExecutionStatus, Settlement
from app.domain.order import Side
from app.domain.portfolio import Portfolio
from app.domain.ports import IdempotencyKey, Ledger
from app.domain.signal import Signal
from app.errors import InvalidInputError, NotFoundError, StorageError
from app.storage.database import Database
from app.storage.ledger import SqlLedger
from tests.support.books import (
    CASH,
    SOURCE,
    START,
    SteppingClock,
    as_selling,
    buy,
    make_draft,
    make_refusal,
    sell,
    settle_with,
    turn_over,
)

pytest_plugins = ("tests.support.databases",)
pytestmark = pytest.mark.anyio

KEY = IdempotencyKey("key-1", "fingerprint-1")


@pytest.fixture
def clock() -> SteppingClock:
    return SteppingClock()


@pytest.fixture
async def ledger(database: Database, clock: SteppingClock) -> Ledger:
    opened = SqlLedger(database, clock)
    await opened.open_account(SOURCE, CASH)
    return opened


async def test_open_account_new_holds_the_cash(ledger: Ledger) -> None:
    assert await ledger.open_account("binance", Decimal("123.45678901")) == Portfolio(Decimal("123.45678901"))
    assert await ledger.load_portfolio(SOURCE) == Portfolio(CASH)


async def test_open_account_again_keeps_what_the_fills_say(ledger: Ledger, clock: SteppingClock) -> None:
    await ledger.record_cycle(make_draft(1), buy("0.1", "50000"), clock)
    expected = Portfolio(Decimal("4999.99"), {"BTCUSDT": Decimal("0.1")})
    assert await ledger.open_account(SOURCE, Decimal(77)) == expected
    assert await ledger.load_portfolio(SOURCE) == expected


async def test_load_portfolio_without_an_account_is_refused(ledger: Ledger) -> None:
    with pytest.raises(StorageError) as caught:
        await ledger.load_portfolio("binance")
    assert caught.value.code == "account_missing"


async def test_record_cycle_fill_is_booked_whole(ledger: Ledger, clock: SteppingClock) -> None:
    report = await ledger.record_cycle(make_draft(1), buy("0.01", "65000.10"), clock)
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


@pytest.mark.parametrize("settle", [buy(), settle_with(None)], ids=["filled", "skipped"])
async def test_record_cycle_read_back_is_the_same_to_the_byte(
    ledger: Ledger, clock: SteppingClock, settle: object
) -> None:
    report = await ledger.record_cycle(make_draft(1), settle, clock)  # type: ignore[arg-type]
    found = await ledger.get_cycle(report.id)
    assert found == report
    assert repr(found) == repr(report)
    assert (await ledger.list_cycles(limit=1)).items == (report,)


async def test_record_cycle_skipped_leaves_the_account_alone(ledger: Ledger, clock: SteppingClock) -> None:
    report = await ledger.record_cycle(make_draft(1, action=Signal.HOLD), settle_with(None), clock)
    assert report.execution is not None
    assert (report.execution.status, report.execution.reason_code) == (ExecutionStatus.SKIPPED, "hold")
    assert report.execution.trade is None
    assert await ledger.load_portfolio(SOURCE) == Portfolio(CASH)


async def test_record_cycle_settle_sees_the_account_as_it_stands(ledger: Ledger, clock: SteppingClock) -> None:
    seen: list[Portfolio] = []

    def settle(portfolio: Portfolio) -> Settlement:
        seen.append(portfolio)
        return buy("0.01", "100")(portfolio)

    for index, symbol in enumerate(["BTCUSDT", "ETHUSDT", "BTCUSDT"]):
        await ledger.record_cycle(make_draft(index, symbol=symbol), settle, clock)
    assert seen == [
        Portfolio(CASH),
        Portfolio(Decimal("9998.99"), {"BTCUSDT": Decimal("0.01")}),
        Portfolio(Decimal("9997.98"), {"BTCUSDT": Decimal("0.01"), "ETHUSDT": Decimal("0.01")}),
    ]


async def test_record_cycle_sold_out_symbol_is_no_position(ledger: Ledger, clock: SteppingClock) -> None:
    await ledger.record_cycle(make_draft(1), buy("0.01", "100"), clock)
    await ledger.record_cycle(as_selling(make_draft(2)), sell("0.01", "100"), clock)
    assert await ledger.load_portfolio(SOURCE) == Portfolio(Decimal("9999.98"))


async def test_record_cycle_same_candle_again_is_a_duplicate(ledger: Ledger, clock: SteppingClock) -> None:
    first = await ledger.record_cycle(make_draft(1), buy(), clock)
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
async def test_record_cycle_another_candle_is_no_duplicate(ledger: Ledger, clock: SteppingClock, other: object) -> None:
    await ledger.record_cycle(make_draft(1), buy(), clock)
    report = await ledger.record_cycle(other, buy(), clock)  # type: ignore[arg-type]
    assert report.execution is not None
    assert report.execution.status is ExecutionStatus.FILLED


async def test_record_cycle_sources_do_not_mix(ledger: Ledger, clock: SteppingClock) -> None:
    await ledger.open_account("binance", Decimal(500_000))
    await ledger.record_cycle(make_draft(1), buy("1", "100"), clock)
    await ledger.record_cycle(make_draft(1, source="binance"), buy("2", "100"), clock)
    assert await ledger.load_portfolio(SOURCE) == Portfolio(Decimal("9899.99"), {"BTCUSDT": Decimal(1)})
    assert await ledger.load_portfolio("binance") == Portfolio(Decimal("499799.99"), {"BTCUSDT": Decimal(2)})
    assert [trade.source for trade in (await ledger.list_trades(limit=9, source="binance")).items] == ["binance"]


async def test_record_cycle_same_key_again_replays(ledger: Ledger, clock: SteppingClock) -> None:
    first = await ledger.record_cycle(make_draft(1), buy(), clock, KEY)
    again = await ledger.record_cycle(make_draft(2), _must_not_be_asked, clock, KEY)
    assert again == first
    assert await ledger.find_replay(KEY) == first
    assert len((await ledger.list_cycles(limit=10)).items) == 1


async def test_record_cycle_key_of_another_request_is_refused(ledger: Ledger, clock: SteppingClock) -> None:
    await ledger.record_cycle(make_draft(1), buy(), clock, KEY)
    other = IdempotencyKey(KEY.key, "fingerprint-2")
    with pytest.raises(InvalidInputError) as caught:
        await ledger.record_cycle(make_draft(2), buy(), clock, other)
    assert caught.value.code == "idempotency_key_reused"
    with pytest.raises(InvalidInputError) as caught:
        await ledger.find_replay(other)
    assert caught.value.code == "idempotency_key_reused"
    assert len((await ledger.list_cycles(limit=10)).items) == 1


async def test_find_replay_unknown_key_finds_nothing(ledger: Ledger) -> None:
    assert await ledger.find_replay(IdempotencyKey("unknown", "f")) is None


async def test_record_cycle_failing_settle_leaves_nothing(ledger: Ledger, clock: SteppingClock) -> None:
    def settle(_: Portfolio) -> Settlement:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError):
        await ledger.record_cycle(make_draft(1), settle, clock, KEY)
    assert (await ledger.list_cycles(limit=10)).items == ()
    assert await ledger.find_replay(KEY) is None
    assert (await ledger.record_cycle(make_draft(1), buy(), clock, KEY)).id == make_draft(1).id


async def test_record_cycle_cash_below_zero_is_refused(ledger: Ledger, clock: SteppingClock) -> None:
    with pytest.raises(StorageError) as caught:
        await ledger.record_cycle(make_draft(1), buy("1", "10000"), clock)
    assert caught.value.code == "storage_constraint"
    assert (await ledger.list_cycles(limit=10)).items == ()
    assert await ledger.load_portfolio(SOURCE) == Portfolio(CASH)


async def test_record_cycle_selling_more_than_is_held_is_refused(ledger: Ledger, clock: SteppingClock) -> None:
    with pytest.raises(StorageError) as caught:
        await ledger.record_cycle(as_selling(make_draft(1)), sell(), clock)
    assert caught.value.code == "storage_constraint"
    assert (await ledger.list_trades(limit=10)).items == ()


async def test_record_cycle_amount_finer_than_kept_is_refused(ledger: Ledger, clock: SteppingClock) -> None:
    with pytest.raises(StorageError) as caught:
        await ledger.record_cycle(make_draft(1), buy("0.000000001"), clock)
    assert caught.value.code == "amount_not_storable"
    assert (await ledger.list_cycles(limit=10)).items == ()


async def test_record_cycle_many_at_once_on_one_candle_fill_once(ledger: Ledger, clock: SteppingClock) -> None:
    reports = await asyncio.gather(
        *(ledger.record_cycle(make_draft(1, cycle_id=f"c{number}"), buy(), clock) for number in range(50))
    )
    filled = [report for report in reports if report.execution and report.execution.status is ExecutionStatus.FILLED]
    trades = {report.execution.trade for report in reports if report.execution}
    assert len(filled) == 1
    assert len(trades) == 1
    assert len((await ledger.list_trades(limit=100)).items) == 1
    assert len((await ledger.list_cycles(limit=100)).items) == 50


async def test_record_cycle_many_at_once_with_one_key_book_once(ledger: Ledger, clock: SteppingClock) -> None:
    reports = await asyncio.gather(
        *(ledger.record_cycle(make_draft(number), buy("0.001"), clock, KEY) for number in range(20))
    )
    assert len({report.id for report in reports}) == 1
    assert len((await ledger.list_cycles(limit=100)).items) == 1


async def test_record_cycle_clock_set_back_keeps_the_order(ledger: Ledger, clock: SteppingClock) -> None:
    first = await ledger.record_cycle(make_draft(1), turn_over(), clock)
    clock.set_back(timedelta(hours=1))
    second = await ledger.record_cycle(make_draft(2), turn_over(), clock)
    assert second.finished_at < first.finished_at
    assert [report.id for report in (await ledger.list_cycles(limit=2)).items] == [second.id, first.id]
    assert [trade.cycle_id for trade in (await ledger.list_trades(limit=2)).items] == [second.id, first.id]


async def test_record_refusal_is_listed_and_trades_nothing(ledger: Ledger) -> None:
    refusal = make_refusal(1)
    await ledger.record_refusal(refusal)
    assert await ledger.get_cycle(refusal.id) == refusal
    assert repr(await ledger.get_cycle(refusal.id)) == repr(refusal)
    assert (await ledger.list_trades(limit=10)).items == ()


async def test_record_refusal_with_a_market_view_keeps_it(ledger: Ledger) -> None:
    refusal = replace(make_refusal(1), market=make_draft(1).market)
    await ledger.record_refusal(refusal)
    assert await ledger.get_cycle(refusal.id) == refusal


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
    report = await ledger.record_cycle(make_draft(1), buy(), clock)
    assert report.execution is not None
    assert report.execution.trade is not None
    found = await ledger.get_trade(report.execution.trade.id)
    assert found == report.execution.trade
    assert repr(found) == repr(report.execution.trade)


async def test_list_pages_meet_without_gap_or_overlap(ledger: Ledger, clock: SteppingClock) -> None:
    for index in range(7):
        symbol = ("BTCUSDT", "ETHUSDT")[index % 2]
        await ledger.record_cycle(make_draft(index, symbol=symbol), turn_over(symbol), clock)
    everything = (await ledger.list_trades(limit=1_000)).items
    assert [trade.candle_open_time.minute for trade in everything] == [8, 7, 6, 5, 4, 3, 2]
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
        await ledger.record_cycle(make_draft(index), turn_over(), clock)
    first = await ledger.list_trades(limit=2)
    await ledger.record_cycle(make_draft(4), turn_over(), clock)
    second = await ledger.list_trades(limit=2, cursor=first.next_cursor)
    assert [trade.cycle_id[-1] for trade in (*first.items, *second.items)] == ["3", "2", "1", "0"]


async def test_list_filters_by_symbol_and_source(ledger: Ledger, clock: SteppingClock) -> None:
    await ledger.open_account("binance", CASH)
    for source in (SOURCE, "binance"):
        for symbol in ("BTCUSDT", "ETHUSDT"):
            await ledger.record_cycle(make_draft(1, symbol=symbol, source=source), buy("0.01", "100"), clock)
    await ledger.record_refusal(make_refusal(1))
    page = await ledger.list_trades(limit=9, symbol="ETHUSDT", source="binance")
    assert [(trade.source, trade.symbol) for trade in page.items] == [("binance", "ETHUSDT")]
    assert len((await ledger.list_trades(limit=9, symbol="ETHUSDT")).items) == 2
    assert len((await ledger.list_cycles(limit=9, symbol="BTCUSDT")).items) == 3
    assert len((await ledger.list_cycles(limit=9, source="binance", symbol="BTCUSDT")).items) == 1
    for unknown in ("XRPUSDT", "", "x" * 300, "\x00", "\ud800"):
        assert (await ledger.list_trades(limit=9, symbol=unknown)).items == ()
        assert (await ledger.list_cycles(limit=9, source=unknown)).items == ()


async def test_list_limit_out_of_range_is_refused(ledger: Ledger) -> None:
    for limit in (0, -1, 1_001, 10**30):
        for listing in (ledger.list_trades, ledger.list_cycles):
            with pytest.raises(InvalidInputError):
                await listing(limit=limit)


async def test_list_strange_cursor_is_refused(ledger: Ledger) -> None:
    zero, beyond = "dHJhZGU6MA", "dHJhZGU6OTk5OTk5OTk5OTk5OTk5OTk5OTk"
    for cursor in ("", "x", "!!!!", "a" * 5_000, "\x00é", "\ud800", zero, beyond):
        for listing in (ledger.list_trades, ledger.list_cycles):
            with pytest.raises(InvalidInputError) as caught:
                await listing(limit=1, cursor=cursor)
            assert caught.value.code == "invalid_cursor"


async def test_list_cursor_of_another_listing_is_refused(ledger: Ledger, clock: SteppingClock) -> None:
    for index in range(2):
        await ledger.record_cycle(make_draft(index), turn_over(), clock)
    cursor = (await ledger.list_trades(limit=1)).next_cursor
    with pytest.raises(InvalidInputError) as caught:
        await ledger.list_cycles(limit=1, cursor=cursor)
    assert caught.value.code == "invalid_cursor"


async def test_times_come_back_in_utc_to_the_microsecond(ledger: Ledger) -> None:
    elsewhere = datetime.fromisoformat("2026-11-01T01:30:00.000007-04:00")
    clock = SteppingClock(elsewhere)
    report = await ledger.record_cycle(make_draft(1), buy(), clock)
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


def _must_not_be_asked(_: Portfolio) -> Settlement:
    raise AssertionError("the earlier result stands")
