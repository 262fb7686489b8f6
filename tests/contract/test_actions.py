"""What people do to their accounts, on each database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select

from app.domain.action import ActionKind, ActionReport
from app.domain.cycle import ExecutionStatus, Settlement
from app.domain.money import UNITS, to_units
from app.domain.order import OrderKind, OrderStatus, Origin, Side
from app.domain.ports import Actions, IdempotencyKey, Selection, Settle
from app.domain.record import FIRST_LINK, canonical, next_link, to_plain
from app.domain.standing import Halt, RunKey, Standing
from app.errors import ConflictError, InvalidInputError, NotFoundError, StorageError
from app.storage.actions import SqlActions
from app.storage.database import Database
from app.storage.ledger import SqlLedger
from app.storage.tables import records
from tests.support.books import CASH, KEY, SYMBOL, SteppingClock, book, buy, make_draft, make_order, skip, take
from tests.support.books import fill as make_fill

pytest_plugins = ("tests.support.databases",)
pytestmark = pytest.mark.anyio

ONCE = IdempotencyKey("key-1", "fingerprint-1")
LIMIT = {"kind": OrderKind.LIMIT, "price": Decimal(60_000), "origin": Origin.PERSON, "cycle_id": None}


@pytest.fixture
def clock() -> SteppingClock:
    return SteppingClock()


@pytest.fixture
async def ledger(database: Database, clock: SteppingClock) -> SqlLedger:
    opened = SqlLedger(database, clock)
    await opened.open_account(KEY, CASH)
    return opened


@pytest.fixture
def actions(database: Database, ledger: SqlLedger, clock: SteppingClock) -> Actions:
    assert ledger is not None, "it has opened the account"
    return SqlActions(database, clock)


def place(order_id: str = "order-1", **more: object) -> Settle:
    """Lets a person's order rest."""

    def settle(standing: Standing, now: datetime) -> Settlement:
        order = make_order(make_draft(1), now, id=order_id, **{**LIMIT, **more})
        return replace(skip(make_draft(1))(standing, now), orders=(order,), reason_code="placed", reason="Taken.")

    return settle


def purchase(order_id: str, quantity: str = "0.01", price: int = 65_000) -> Settle:
    """Fills a person's market order."""

    def settle(standing: Standing, now: datetime) -> Settlement:
        settlement = take(make_fill(Side.BUY, Decimal(quantity), Decimal(price)))(make_draft(1))(standing, now)
        order = replace(settlement.orders[0], id=order_id, origin=Origin.PERSON, cycle_id=None)
        (entry,) = settlement.fills
        of_person = replace(entry, order_id=order_id, origin=Origin.PERSON, decided=False)
        entries = (replace(of_person, interval=None, candle_open_time=None),)
        return replace(settlement, orders=(order,), entries=entries)

    return settle


async def do(
    actions: Actions, settles: Sequence[Settle], key: IdempotencyKey | None = None, number: int = 1
) -> ActionReport:
    return await actions.book(KEY, ActionKind.ORDER, f"booking-{number}", {"symbol": SYMBOL}, settles, key)


async def test_book_fill_of_a_person_is_booked_whole(actions: Actions, ledger: SqlLedger) -> None:
    report = await do(actions, [purchase("order-1")])
    (trade,) = report.fills
    assert (report.kind, report.run, report.reason_code) == (ActionKind.ORDER, "simulated.forest.main.1", "filled")
    assert (trade.origin, trade.order_id, trade.cycle_id) == (Origin.PERSON, "order-1", None)
    assert (trade.interval, trade.confidence, trade.model_id, trade.candle_open_time) == (None, None, None, None)
    assert (trade.cash_after, trade.executed_at) == (Decimal("9349.99"), report.at)
    assert (await ledger.list_trades(limit=9)).items == (trade,)
    standing = await ledger.open_account(KEY, CASH)
    assert standing.portfolio.quantity(SYMBOL) == 1_000_000
    assert standing.snapshot.at == report.at


async def test_book_settles_follow_one_another(actions: Actions, ledger: SqlLedger) -> None:
    seen: list[int] = []

    def watching(settle: Settle) -> Settle:
        def watch(standing: Standing, now: datetime) -> Settlement:
            seen.append(standing.portfolio.quantity(SYMBOL))
            return settle(standing, now)

        return watch

    report = await do(actions, [watching(purchase("a")), watching(purchase("b")), watching(place("c"))])
    assert seen == [0, 1_000_000, 2_000_000]
    assert [order.id for order in report.orders] == ["a", "b", "c"]
    assert [trade.order_id for trade in report.fills] == ["a", "b"]
    assert (report.reason_code, report.reason) == ("placed", "Taken.")
    assert [order.id for order in (await ledger.load_standing(KEY)).orders] == ["c"]


async def test_book_nothing_says_so(actions: Actions, ledger: SqlLedger) -> None:
    assert (await do(actions, [])).reason_code == "nothing_to_do"
    assert (await ledger.list_trades(limit=9)).items == ()


async def test_book_that_fails_leaves_nothing(actions: Actions, ledger: SqlLedger) -> None:
    before = await ledger.load_standing(KEY)

    def refuse(_: Standing, __: datetime) -> Settlement:
        raise ConflictError("No.", code="halted")

    with pytest.raises(ConflictError):
        await do(actions, [purchase("a"), refuse], ONCE)
    assert await ledger.load_standing(KEY) == before
    assert await actions.find_replay(ONCE) is None


async def test_book_same_key_again_replays_and_another_request_is_refused(actions: Actions, ledger: SqlLedger) -> None:
    first = await do(actions, [purchase("a")], ONCE)
    assert await do(actions, [purchase("b")], ONCE, number=2) == first
    assert await actions.find_replay(ONCE) == first
    other = IdempotencyKey(ONCE.key, "another")
    for attempt in (do(actions, [], other), actions.find_replay(other), ledger.find_replay(other)):
        with pytest.raises(InvalidInputError) as caught:
            await attempt
        assert caught.value.code == "idempotency_key_reused"
    assert len((await ledger.list_trades(limit=9)).items) == 1


async def test_book_key_of_a_cycle_is_refused_and_the_other_way_round(
    actions: Actions, ledger: SqlLedger, clock: SteppingClock
) -> None:
    await book(ledger, make_draft(1), buy(), clock, ONCE)
    with pytest.raises(InvalidInputError):
        await do(actions, [purchase("a")], ONCE)
    key = IdempotencyKey("key-2", "fingerprint-1")
    await do(actions, [place()], key)
    with pytest.raises(InvalidInputError):
        await book(ledger, make_draft(2), buy(), clock, key)


async def test_book_many_at_once_with_one_key_book_once(database_url: str, actions: Actions, ledger: SqlLedger) -> None:
    async with Database(database_url) as other:
        both = (actions, SqlActions(other, SteppingClock()))
        reports = await asyncio.gather(
            *(do(both[number % 2], [purchase(f"order-{number}")], ONCE, number) for number in range(10))
        )
    assert len({report.id for report in reports}) == 1
    assert len((await ledger.list_trades(limit=99)).items) == 1


async def test_book_many_at_once_by_two_processes_follow_one_another(
    database_url: str, actions: Actions, ledger: SqlLedger, clock: SteppingClock
) -> None:
    async with Database(database_url) as other:
        second, elsewhere = SqlActions(other, SteppingClock()), SqlLedger(other, SteppingClock())
        await asyncio.gather(
            *(do((actions, second)[n % 2], [purchase(f"order-{n}", "0.001")], None, n) for n in range(10)),
            *(book((ledger, elsewhere)[n % 2], make_draft(n), buy("0.001"), clock) for n in range(10)),
        )
    standing = await ledger.open_account(KEY, CASH)
    assert standing.portfolio.quantity(SYMBOL) == 20 * 100_000
    assert standing.portfolio.cash == to_units(CASH - 20 * Decimal("65.01"))


async def test_cancel_ends_a_resting_order(actions: Actions, ledger: SqlLedger) -> None:
    placed = await do(actions, [place("a"), place("b")])
    report = await actions.cancel(KEY, "booking-2", {"order_id": "a"}, "a")
    (ended,) = report.orders
    assert (ended.id, ended.status, ended.reason_code) == ("a", OrderStatus.CANCELED, "canceled")
    assert ended.closed_at == report.at > placed.at
    assert [order.id for order in (await ledger.load_standing(KEY)).orders] == ["b"]
    with pytest.raises(ConflictError) as caught:
        await actions.cancel(KEY, "booking-3", {}, "a")
    assert caught.value.code == "order_ended"


async def test_cancel_liquidation_is_refused(actions: Actions, ledger: SqlLedger) -> None:
    await do(actions, [place("a", origin=Origin.LIQUIDATION)])
    with pytest.raises(ConflictError) as caught:
        await actions.cancel(KEY, "booking-2", {}, "a")
    assert caught.value.code == "order_required"
    assert len((await ledger.load_standing(KEY)).orders) == 1


async def test_cancel_order_that_is_not_there_or_another_keys_is_not_found(actions: Actions, ledger: SqlLedger) -> None:
    other = RunKey("binance")
    await ledger.open_account(other, CASH)
    await do(actions, [place("a")])
    for key, order_id in ((other, "a"), (KEY, "unknown"), (KEY, ""), (KEY, "\x00"), (KEY, "\ud800"), (KEY, "x" * 999)):
        with pytest.raises(NotFoundError) as caught:
            await actions.cancel(key, "booking-2", {}, order_id)
        assert caught.value.code == "order_not_found"


async def test_reset_opens_a_new_run_and_keeps_the_old_one(
    actions: Actions, ledger: SqlLedger, clock: SteppingClock
) -> None:
    await book(ledger, make_draft(1), buy(), clock)
    await do(actions, [place("a")])
    report = await actions.reset(KEY, "reset-1", Decimal(500), ONCE)
    assert (report.run, report.reason_code) == ("simulated.forest.main.2", "reset")
    assert [(order.id, order.status, order.reason_code) for order in report.orders] == [
        ("a", OrderStatus.CANCELED, "run_ended")
    ]
    standing = await ledger.load_standing(KEY)
    assert (standing.run.id, standing.run.generation, standing.orders) == (report.run, 2, ())
    assert (standing.portfolio.cash, standing.portfolio.positions) == (500 * UNITS, {})
    again = await book(ledger, make_draft(1, cycle_id="again"), buy("0.001"), clock)
    assert again.execution is not None
    assert again.execution.status is ExecutionStatus.FILLED
    assert again.run == "simulated.forest.main.2"
    for run, count in (("simulated.forest.main.1", 1), ("simulated.forest.main.2", 1)):
        assert len((await ledger.list_trades(limit=9, wanted=Selection(run=run))).items) == count
    assert await actions.reset(KEY, "reset-2", Decimal(500), ONCE) == report
    assert (await ledger.open_account(KEY, CASH)).run.generation == 2


async def test_reset_without_cash_is_refused(actions: Actions, ledger: SqlLedger) -> None:
    with pytest.raises(StorageError):
        await actions.reset(KEY, "reset-1", Decimal(0), None)
    assert (await ledger.load_standing(KEY)).run.generation == 1


async def test_halt_stays_over_a_reset_and_resume_ends_it(actions: Actions, ledger: SqlLedger) -> None:
    halted = await actions.set_halt(KEY, "h1", "Holidays.", is_halted=True)
    assert (halted.kind, halted.reason_code) == (ActionKind.HALT, "halted")
    await actions.reset(KEY, "r1", CASH, None)
    assert (await ledger.load_standing(KEY)).halt == Halt("halted", "Holidays.", halted.at)
    resumed = await actions.set_halt(KEY, "h2", "Back.", is_halted=False)
    assert (resumed.kind, resumed.reason_code) == (ActionKind.RESUME, "resumed")
    assert (await ledger.load_standing(KEY)).halt is None


async def test_halt_twice_changes_nothing_more(actions: Actions, ledger: SqlLedger) -> None:
    first = await actions.set_halt(KEY, "h1", "First.", is_halted=True)
    await actions.set_halt(KEY, "h2", "Second.", is_halted=True)
    assert (await ledger.load_standing(KEY)).halt == Halt("halted", "First.", first.at)


async def test_halt_by_a_person_replaces_that_of_the_drawdown_and_outlives_a_reset(
    actions: Actions, ledger: SqlLedger
) -> None:
    await do(actions, [lose_and_halt])
    assert await halt_code(ledger) == "max_drawdown"
    await actions.set_halt(KEY, "h1", "By hand.", is_halted=True)
    await actions.reset(KEY, "r1", CASH, None)
    assert await halt_code(ledger) == "halted"


async def test_reset_ends_the_halt_of_the_drawdown(actions: Actions, ledger: SqlLedger) -> None:
    await do(actions, [lose_and_halt])
    await actions.reset(KEY, "r1", CASH, None)
    assert await halt_code(ledger) is None


async def test_resume_forgets_the_peak_once(actions: Actions, ledger: SqlLedger) -> None:
    await actions.set_halt(KEY, "h0", "Nothing to resume.", is_halted=False)
    await do(actions, [lose_and_halt])
    halted = (await ledger.load_standing(KEY)).snapshot
    assert halted.equity < halted.peak_equity == to_units(CASH)
    await actions.set_halt(KEY, "h1", "Go on.", is_halted=False)
    resumed = await ledger.open_account(KEY, CASH)
    assert (resumed.halt, resumed.snapshot.peak_equity) == (None, halted.equity)
    await do(actions, [purchase("b", "0.001", 20_000)], None, 2)
    lower = (await ledger.load_standing(KEY)).snapshot
    assert lower.equity < lower.peak_equity
    await actions.set_halt(KEY, "h2", "Again.", is_halted=False)
    assert (await ledger.load_standing(KEY)).snapshot == lower


def lose_and_halt(standing: Standing, now: datetime) -> Settlement:
    """Buys, and the price falls."""
    settlement = purchase("a")(standing, now)
    fallen = settlement.snapshot.marked(SYMBOL, 30_000 * UNITS)
    return replace(settlement, snapshot=fallen, halt=Halt("max_drawdown", "It lost too much.", now))


async def halt_code(ledger: SqlLedger) -> str | None:
    halt = (await ledger.load_standing(KEY)).halt
    return halt.reason_code if halt else None


async def test_clock_set_back_dates_nothing_before_its_cause(actions: Actions, clock: SteppingClock) -> None:
    placed = await do(actions, [place("a"), place("b")])
    clock.set_back(timedelta(hours=1))
    ended = await actions.cancel(KEY, "c1", {}, "a")
    halted = await actions.set_halt(KEY, "h1", "x", is_halted=True)
    bought = await do(actions, [purchase("c")], None, 2)
    reset = await actions.reset(KEY, "r1", CASH, None)
    assert {report.at for report in (ended, halted, bought, reset)} == {placed.at}
    assert reset.orders[0].closed_at == placed.at


async def test_every_action_is_a_link_of_the_chain(database: Database, actions: Actions) -> None:
    reports = [await do(actions, [place("a")]), await actions.cancel(KEY, "c1", {"order_id": "a"}, "a")]
    reports.append(await actions.set_halt(KEY, "h1", "x", is_halted=True))
    reports.append(await actions.reset(KEY, "r1", CASH, None))
    columns = (records.c.kind, records.c.cycle_id, records.c.document, records.c.hash)
    rows = await database.read(lambda connection: connection.execute(select(*columns).order_by(records.c.number)).all())
    assert [row.kind for row in rows] == ["order", "cancel", "halt", "reset"]
    link = FIRST_LINK
    for row, report in zip(rows, reports, strict=True):
        document = json.loads(row.document)
        assert row.document == canonical(document)
        assert document["report"] == to_plain(report)
        link = next_link(link, row.document, "")
        assert (row.hash, row.cycle_id) == (link, None)
    assert json.loads(rows[1].document)["request"] == {"order_id": "a"}
