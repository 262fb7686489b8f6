"""The smallest case of each fault that the machines of this folder found."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from random import Random

import pytest

from app.agents.execution import ExecutionAgent
from app.agents.market_monitoring import Observation
from app.agents.risk import RiskAgent
from app.broker.desk import Desk, Terms
from app.broker.market_orders import buy_or_sell
from app.domain.action import ActionReport
from app.domain.candle import Interval
from app.domain.cycle import CycleReport
from app.domain.market import MarketSnapshot
from app.domain.order import OrderKind, Origin, Side
from app.domain.portfolio import Portfolio, Position
from app.domain.risk import StopRule
from app.domain.signal import Signal
from app.domain.standing import Run, RunKey, Snapshot, Standing
from app.engine.portfolio_desk import OrderRequest, PortfolioDesk
from app.errors import InvalidInputError
from app.risk.limits import LimitRules
from app.risk.protection import ProtectionRule
from app.risk.sizing import SizingRule
from app.storage.actions import SqlActions
from app.storage.database import Database
from app.storage.events import SqlEvents
from app.storage.ledger import SqlLedger
from tests.support.fire_market import INSTRUMENTS, MINUTE, FireMarket, draft_of, view_of

pytest_plugins = ("tests.support.databases",)
pytestmark = pytest.mark.anyio

KEY = RunKey("simulated")
CASH = Decimal(10_000)


class Account:
    """An account in an open database, with a market of one symbol that stands still."""

    def __init__(
        self, database: Database, terms: Terms, protection: ProtectionRule | None = None, chosen: str = "100"
    ) -> None:
        self.market = FireMarket(Random(3), [chosen])
        self.symbol = INSTRUMENTS[chosen].symbol
        self.clock = self.market.clock
        self.ledger, self.actions = SqlLedger(database, self.clock), SqlActions(database, self.clock)
        limits = LimitRules(max_volume_share=Decimal(0), price_band_percent=Decimal(0))
        risk = RiskAgent(SizingRule(), limits, protection or ProtectionRule(), allow_short=terms.allow_short)
        self.agent = ExecutionAgent(self.ledger, terms, risk, self.clock)
        self.number = 0
        self.desk = PortfolioDesk(
            KEY,
            self.market,
            self.ledger,
            self.actions,
            terms,
            Interval.M1,
            self.new_id,  # type: ignore[arg-type]
        )

    def new_id(self) -> str:
        self.number += 1
        return f"b{self.number}"

    async def cycle(self, signal: Signal = Signal.HOLD) -> CycleReport:
        draft = draft_of(self.market.snapshot(self.symbol), KEY, self.new_id(), signal, 0.6)
        return await self.agent.execute(draft, None)

    async def order(
        self, side: Side, quantity: str, kind: OrderKind = OrderKind.MARKET, price: str | None = None
    ) -> ActionReport:
        asked = OrderRequest(self.symbol, side, kind, Decimal(quantity), None if price is None else Decimal(price))
        return (await self.desk.place(asked, None))[0]


def terms(fee: str = "2", share: str = "0", *, allow_short: bool = False) -> Terms:
    return Terms(Decimal(fee), Decimal(3), Decimal(share), allow_short=allow_short)


async def test_clock_set_back_books_no_earlier_than_before(sqlite_database: Database) -> None:
    account = Account(sqlite_database, terms())
    await account.ledger.open_account(KEY, CASH)
    await account.order(Side.BUY, "1")
    account.clock.moment -= timedelta(hours=1)
    report = await account.order(Side.SELL, "1")
    assert report.fills[0].executed_at == (await account.ledger.get_trade(1)).executed_at
    assert (await account.ledger.open_account(KEY, CASH)).snapshot.at == report.at


async def test_trailing_stop_by_rule_is_placed_and_follows(sqlite_database: Database) -> None:
    account = Account(sqlite_database, terms(), ProtectionRule(StopRule.TRAILING_STOP))
    await account.ledger.open_account(KEY, CASH)
    report = await account.cycle(Signal.BUY)
    (stop,) = [order for order in report.orders if order.kind is OrderKind.TRAILING_STOP]
    entry = report.fills[0].price
    assert stop.trail_fraction is not None
    assert stop.price is not None
    assert 0 <= entry * (1 - stop.trail_fraction) - stop.price < Decimal("0.01")


async def test_partial_fill_is_not_told_as_a_new_order(sqlite_database: Database) -> None:
    account = Account(sqlite_database, terms(share="0.01"))
    await account.ledger.open_account(KEY, CASH)
    await account.order(Side.BUY, "50", OrderKind.LIMIT, "100")
    account.market.add(account.symbol, "101", "101")
    account.market.add(account.symbol, "101", "50", volume="100")
    report = await account.cycle()
    assert [fill.quantity for fill in report.fills] == [Decimal(1)]
    told = (await SqlEvents(sqlite_database).list(limit=100)).items
    assert [event.type.value for event in told] == ["trade.filled", "cycle.completed", "order.placed"]


@pytest.mark.parametrize("quantity", ["0", "-1", "92233720369", "1e400"])
async def test_order_of_a_quantity_that_no_books_hold_is_refused(sqlite_database: Database, quantity: str) -> None:
    account = Account(sqlite_database, terms())
    await account.ledger.open_account(KEY, CASH)
    with pytest.raises(InvalidInputError) as caught:
        await account.order(Side.BUY, quantity)
    assert caught.value.code == "order_invalid"


async def test_resting_fill_that_comes_to_nothing_waits_for_one_that_does_not(sqlite_database: Database) -> None:
    account = Account(sqlite_database, terms(share="0.00001"), chosen="0.5")
    await account.ledger.open_account(KEY, CASH)
    await account.order(Side.BUY, "100")
    account.market.add(account.symbol, "0.5", "0.00000001")
    await account.order(Side.SELL, "100", OrderKind.LIMIT, "0.00000002")
    account.market.add(account.symbol, "0.00000001", "0.00000001")
    account.market.add(account.symbol, "0.00000001", "0.00000003", volume="1000")
    assert (await account.cycle()).fills == ()
    account.market.add(account.symbol, "0.00000001", "0.00000003", volume="1000000000")
    assert [fill.quantity for fill in (await account.cycle()).fills] == [Decimal(100)]


def test_part_of_a_short_bought_back_at_the_cap_costs_no_more_than_its_collateral() -> None:
    market = FireMarket(Random(3), ["0.5"])
    snapshot = market.snapshot("TINYUSDT")
    held, cost = 353_000_000, 444_000
    short = Position(-held, -cost, 0, market.clock.moment)
    account = Snapshot(market.clock.moment, Portfolio(2 * cost, {"TINYUSDT": short}), 1, 1, 1)
    high = replace(snapshot, quote=replace(snapshot.quote, price=Decimal(9)))
    desk = Desk(terms(), "b", Standing(Run(KEY, 1, CASH, market.clock.moment), account), high, market.clock.moment)
    assert buy_or_sell(desk, Side.BUY, 15_000_000, Origin.PERSON) is None
    assert desk.portfolio.available >= 0


async def test_order_booked_after_its_candle_closed_is_not_judged_on_that_candle(sqlite_database: Database) -> None:
    account = Account(sqlite_database, terms())
    await account.ledger.open_account(KEY, CASH)
    draft = draft_of(account.market.snapshot(account.symbol), KEY, "late", Signal.HOLD, 0.6)
    asked = OrderRequest(account.symbol, Side.BUY, OrderKind.LIMIT, Decimal(1), Decimal(90))
    account.market.observe = later(account.market, draft.snapshot)  # type: ignore[method-assign]
    (order,) = (await account.desk.place(asked, None))[0].orders
    assert draft.snapshot.candles[-1].close_time + MINUTE < order.created_at
    assert order.created_at <= order.active_from < order.created_at + MINUTE


def later(market: FireMarket, snapshot: MarketSnapshot) -> Callable[[str, Interval], Awaitable[Observation]]:
    async def observe(_symbol: str, _interval: Interval) -> Observation:
        market.add(snapshot.symbol, "100", "80")
        market.clock.moment += timedelta(seconds=20)
        return Observation(snapshot, view_of(snapshot))

    return observe


async def test_short_opened_on_an_earlier_candle_is_liquidated_on_a_later_one(sqlite_database: Database) -> None:
    account = Account(sqlite_database, terms(allow_short=True))
    await account.ledger.open_account(KEY, CASH)
    await account.order(Side.SELL, "1", OrderKind.LIMIT, "120")
    for opening, to in (("100", "100"), ("100", "121"), ("121", "240"), ("100", "100")):
        account.market.add(account.symbol, opening, to)
    report = await account.cycle()
    assert [fill.origin for fill in report.fills] == [Origin.PERSON, Origin.LIQUIDATION]


async def test_orders_of_a_cycle_name_it(sqlite_database: Database) -> None:
    account = Account(sqlite_database, terms(), ProtectionRule(StopRule.STOP_LOSS))
    await account.ledger.open_account(KEY, CASH)
    report = await account.cycle(Signal.BUY)
    assert {order.cycle_id for order in report.orders} == {report.id}
    assert {order.cycle_id for order in (await account.ledger.load_standing(KEY)).orders} == {report.id}
    assert {order.cycle_id for order in (await account.order(Side.SELL, "1")).orders} == {None}
