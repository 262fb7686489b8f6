"""What people do to their accounts and read of them, on each database."""

from __future__ import annotations

from decimal import Decimal

import pytest
from sqlalchemy import Connection

from app.domain.order import OrderStatus
from app.domain.ports import Selection
from app.domain.standing import MAX_DRAWDOWN, RunKey, Standing
from app.engine.clocks import SimulatedClock
from app.errors import NotFoundError
from app.storage import standings
from app.storage.actions import SqlActions
from app.storage.database import Database
from app.storage.ledger import SqlLedger
from app.storage.portfolio_views import SqlPortfolio
from tests.support.standings import NOON

pytest_plugins = ("tests.support.databases",)
pytestmark = pytest.mark.anyio

KEY = RunKey("simulated")


@pytest.fixture
async def actions(database: Database) -> SqlActions:
    await SqlLedger(database, SimulatedClock(NOON)).open_account(KEY, Decimal(10_000))
    return SqlActions(database, SimulatedClock(NOON))


async def lose_half(database: Database) -> None:
    """Let the account stand at half its peak, and halt it for that."""

    def job(connection: Connection) -> None:
        account = standings.get_account(connection, KEY)
        newest = standings.find_snapshot(connection, account)
        assert newest is not None
        halved = {"peak_equity": Decimal(20_000)}
        standings.save_snapshot(connection, account, newest, **halved)
        standings.save_halt(connection, account, MAX_DRAWDOWN, "Half is lost.", NOON, is_halted=True)

    await database.write(job)


async def standing_of(database: Database) -> Standing:
    """Where the account stands."""
    return await SqlPortfolio(database).load_standing(KEY)


async def test_resume_after_a_drawdown_lets_it_count_anew_also_under_a_halt_by_a_person(
    database: Database, actions: SqlActions
) -> None:
    await lose_half(database)
    await actions.set_halt(KEY, "one", "To be sure.", is_halted=True)
    halted = await standing_of(database)
    await actions.set_halt(KEY, "two", "Go on.", is_halted=False)
    resumed = await standing_of(database)

    assert halted.halt is not None
    assert (halted.halt.reason_code, halted.halt.reason, halted.snapshot.drawdown) == ("halted", "To be sure.", 0.5)
    assert (resumed.halt, resumed.snapshot.drawdown) == (None, 0.0)


async def test_resume_after_a_halt_by_a_person_leaves_the_drawdown(database: Database, actions: SqlActions) -> None:
    await lose_half(database)
    await actions.set_halt(KEY, "one", "Go on.", is_halted=False)
    await lose_half(database)
    await actions.set_halt(KEY, "two", "Go on.", is_halted=False)
    peak = (await standing_of(database)).snapshot.peak_equity
    unneeded = await actions.set_halt(KEY, "three", "Go on.", is_halted=False)
    await actions.set_halt(KEY, "four", "Stop.", is_halted=True)
    await actions.set_halt(KEY, "five", "Go on.", is_halted=False)

    assert unneeded.reason_code == "not_halted"
    assert (await standing_of(database)).snapshot.peak_equity == peak


@pytest.mark.parametrize("is_asked_for", [True, False])
async def test_reset_ends_a_halt_by_the_drawdown_and_keeps_one_by_a_person(
    database: Database, actions: SqlActions, *, is_asked_for: bool
) -> None:
    await lose_half(database)
    if is_asked_for:
        await actions.set_halt(KEY, "one", "To be sure.", is_halted=True)
    await actions.reset(KEY, "two", Decimal(500), None)
    new, old = await standing_of(database), await SqlPortfolio(database).load_standing(KEY, "simulated.forest.main.1")

    assert (new.run.id, new.run.initial_cash) == ("simulated.forest.main.2", Decimal(500))
    assert (new.halt is not None) is is_asked_for
    assert (old.halt, old.snapshot.drawdown) == (None, 0.5)


async def test_listings_take_every_filter(database: Database, actions: SqlActions) -> None:
    await actions.reset(KEY, "one", Decimal(500), None)
    views = SqlPortfolio(database)
    for run, runs in (("simulated.forest.main.1", 1), ("simulated.forest.main.3", 0), ("no.run", 0)):
        wanted = Selection("BTCUSDT", "simulated", run, NOON, NOON.replace(hour=13))
        assert len((await views.list_runs(limit=5, wanted=wanted)).items) == runs
        for listing in (views.list_fills, views.list_closed_trades, views.list_equity):
            assert (await listing(limit=5, wanted=wanted)).items == ()
        assert (await views.list_orders(limit=5, wanted=wanted, status=OrderStatus.NEW)).items == ()
    equity = (await views.list_equity(limit=5, wanted=Selection(source="simulated"))).items
    assert [(point.run, point.equity) for point in equity] == [
        ("simulated.forest.main.2", Decimal(500)),
        ("simulated.forest.main.1", Decimal(10_000)),
    ]
    with pytest.raises(NotFoundError) as caught:
        await views.load_standing(KEY, "no.run")
    assert caught.value.code == "run_not_found"
