"""The last seat of a cycle, end to end on the ledger in memory: what comes before the decision, and what of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from app.agents.execution import ExecutionAgent
from app.agents.risk import RiskAgent
from app.broker.desk import Terms
from app.domain.candle import Interval
from app.domain.cycle import Circumstances, CycleDraft, CycleReport, Decision, Execution, ExecutionStatus, MarketView
from app.domain.market import Indicators, MarketSnapshot, Quote
from app.domain.money import UNITS
from app.domain.order import Order, OrderKind, OrderStatus, Origin, Side
from app.domain.risk import StopRule
from app.domain.signal import Signal
from app.domain.standing import Halt, Standing
from app.engine.memory_ledger import MemoryLedger
from app.risk.limits import LimitRules
from app.risk.protection import ProtectionRule
from app.risk.sizing import SizingRule
from tests.support.fakes import PREDICTION, FakeClock
from tests.support.standings import NOON, RUN, make_account, make_market, make_standing

pytestmark = pytest.mark.anyio

TERMS = Terms(fee_bps=Decimal(0), slippage_bps=Decimal(0), volume_share=Decimal("0.1"))
"""The candles' range still makes a slippage of 30 basis points."""

STOP = Order(
    id="before-2",
    symbol="BTCUSDT",
    side=Side.SELL,
    kind=OrderKind.STOP_LOSS,
    quantity=Decimal(10),
    origin=Origin.PROTECTION,
    created_at=NOON - timedelta(minutes=2),
    active_from=NOON - timedelta(minutes=1),
    price=Decimal("99.5"),
    reduce_only=True,
)
TARGET = replace(STOP, id="before-3", kind=OrderKind.TAKE_PROFIT, price=Decimal(120))


class Seat:
    """An execution agent over an account of one's own; candles run from 99 to 101, so that the ATR is 2."""

    def __init__(self, standing: Standing | None = None, protection: ProtectionRule | None = None) -> None:
        self.clock = FakeClock(NOON)
        self.ledger = MemoryLedger(self.clock)
        self.ledger.resume(standing or make_standing())
        risk = RiskAgent(SizingRule(), LimitRules(), protection or ProtectionRule(), allow_short=False)
        self.agent = ExecutionAgent(self.ledger, TERMS, risk, self.clock)

    async def run(
        self, action: Signal = Signal.BUY, market: MarketSnapshot | None = None, code: str = "confident"
    ) -> CycleReport:
        return await self.agent.execute(make_draft(action, market or make_market(), code), None)

    async def standing(self) -> Standing:
        return await self.ledger.load_standing(RUN.key)


def make_draft(action: Signal, market: MarketSnapshot, code: str) -> CycleDraft:
    newest = market.candles[-1]
    view = MarketView(
        market.quote.price,
        newest.open_time,
        newest.close_time,
        Indicators(None, None, None, None),
        tuple(market.candles[-1:]),
    )
    return CycleDraft(
        id="cycle-1",
        key=RUN.key,
        symbol=market.symbol,
        interval=Interval.M1,
        started_at=NOON,
        market=view,
        decision=Decision(action, 0.5, PREDICTION.probabilities, code, "The model says so.", "forest-test"),
        prediction=PREDICTION,
        snapshot=market,
        circumstances=Circumstances("model", "settings", "1.0", 0),
        logs=(),
    )


def executed(report: CycleReport) -> Execution:
    assert report.execution is not None
    return report.execution


def holding(*orders: Order, **account: object) -> Standing:
    """An account with 9,000 in cash and ten BTC that were bought at 100."""
    return replace(make_standing(make_account(9_000, {"BTCUSDT": 10}, **account)), orders=orders)  # type: ignore[arg-type]


async def test_settle_resting_stop_is_judged_before_the_decision() -> None:
    seat = Seat(holding(STOP, TARGET))
    report = await seat.run(Signal.SELL)
    out, after = executed(report), await seat.standing()
    assert (out.status, out.reason_code, out.trade) == (ExecutionStatus.SKIPPED, "no_position", None)
    (trade,) = report.fills
    assert (trade.order_id, trade.origin, trade.price) == ("before-2", Origin.PROTECTION, Decimal("99.2"))
    assert (trade.confidence, trade.model_id, trade.cycle_id) == (None, None, "cycle-1")
    assert trade.candle_open_time == NOON - timedelta(minutes=1)
    assert trade.realised_profit == Decimal(-8)
    ends = {order.id: (order.status, order.reason_code) for order in report.orders}
    assert ends == {
        "before-2": (OrderStatus.FILLED, "filled"),
        "before-3": (OrderStatus.CANCELED, "position_closed"),
    }
    assert (after.portfolio.cash, after.portfolio.positions, after.orders) == (9_992 * UNITS, {}, ())
    assert after.snapshot.trades_today == 0, "no decision led to it"
    assert after.snapshot.losses_in_a_row == 1


async def test_settle_stop_frees_the_way_for_an_entry_of_the_same_cycle() -> None:
    seat = Seat(holding(STOP))
    report = await seat.run(Signal.BUY)
    assert executed(report).status is ExecutionStatus.FILLED
    assert [trade.side for trade in report.fills] == [Side.SELL, Side.BUY]
    assert executed(report).trade == report.fills[1]
    assert (await seat.standing()).snapshot.trades_today == 1


async def test_settle_decision_that_is_not_to_be_traded_still_judges_resting_orders() -> None:
    seat = Seat(holding(STOP))
    report = await seat.run(Signal.HOLD, code="hold_signal")
    assert (executed(report).reason_code, executed(report).reason) == ("hold_signal", "The model says so.")
    assert report.checks == ()
    assert len(report.fills) == 1


async def test_settle_order_that_was_not_reached_rests_on_and_is_judged_no_candle_twice() -> None:
    far = replace(STOP, price=Decimal(90))
    seat = Seat(holding(far))
    report = await seat.run(Signal.HOLD, code="hold_signal")
    assert (report.orders, report.fills) == ((), ())
    assert (await seat.standing()).orders == (replace(far, active_from=NOON),)


async def test_settle_drawdown_at_its_limit_halts_the_account_and_refuses_the_entry() -> None:
    seat = Seat(make_standing(make_account(7_500, peak_equity=10_000 * UNITS)))
    report = await seat.run(Signal.BUY)
    assert executed(report).reason_code == "halted"
    words = "Equity is 25 % below its peak; from 25 % on trading halts (MAX_DRAWDOWN)."
    assert (await seat.standing()).halt == Halt("max_drawdown", words, NOON)
    assert [check.code for check in report.checks if not check.passed] == ["halted", "max_drawdown"]


async def test_settle_drawdown_at_its_limit_halts_and_lets_the_position_be_closed() -> None:
    seat = Seat(holding(peak_equity=20_000 * UNITS))
    report = await seat.run(Signal.SELL)
    assert executed(report).status is ExecutionStatus.FILLED
    after = await seat.standing()
    assert after.portfolio.positions == {}
    assert after.halt is not None


async def test_settle_halt_by_a_person_stays_as_it_was_said() -> None:
    halt = Halt("by_person", "Holidays.", NOON)
    seat = Seat(make_standing(make_account(1, peak_equity=10_000 * UNITS), halt))
    assert executed(await seat.run(Signal.BUY)).reason_code == "halted"
    assert (await seat.standing()).halt == halt


async def test_settle_entry_that_a_limit_refuses_shows_every_check_and_changes_nothing() -> None:
    account = make_account(trades_today=200)
    seat = Seat(make_standing(account))
    report = await seat.run(Signal.BUY)
    failed = [check for check in report.checks if not check.passed]
    assert (executed(report).status, executed(report).reason_code) == (ExecutionStatus.SKIPPED, "max_trades_per_day")
    assert [(check.code, check.value, check.limit) for check in failed] == [("max_trades_per_day", "200", "200")]
    assert len(report.checks) == 14, "the model's age is not known"
    assert (report.orders, report.fills) == ((), ())
    assert (await seat.standing()).snapshot == account
    assert [(line.agent, line.message) for line in report.logs] == [
        ("risk", failed[0].detail),
        ("execution", failed[0].detail),
    ]


async def test_settle_entry_places_its_stop_and_target() -> None:
    seat = Seat(protection=ProtectionRule(StopRule.STOP_LOSS, Decimal(2), Decimal(3)))
    report = await seat.run(Signal.BUY)
    trade = executed(report).trade
    assert trade is not None
    bought = Decimal("24.92522")
    assert (trade.quantity, trade.price, trade.origin) == (bought, Decimal("100.3"), Origin.SIGNAL)
    market, stop, target = report.orders
    assert (market.kind, market.status, market.filled_quantity) == (OrderKind.MARKET, OrderStatus.FILLED, bought)
    assert market.id == trade.order_id == "cycle-1-1"
    assert (stop.kind, stop.price, stop.active_from) == (OrderKind.STOP_LOSS, Decimal("96.3"), NOON)
    later = NOON + timedelta(minutes=1)
    assert (target.kind, target.price, target.active_from) == (OrderKind.TAKE_PROFIT, Decimal("106.3"), later)
    for order in (stop, target):
        assert (order.side, order.quantity, order.status) == (Side.SELL, bought, OrderStatus.NEW)
        assert order.reduce_only
        assert order.origin is Origin.PROTECTION
    assert {order.cycle_id for order in report.orders} == {"cycle-1"}
    assert (await seat.standing()).orders == (stop, target)


async def test_settle_entry_with_a_trailing_stop_places_it_as_far_away_as_the_review_says() -> None:
    seat = Seat(protection=ProtectionRule(StopRule.TRAILING_STOP, Decimal(2)))
    report = await seat.run(Signal.BUY)
    _, stop = report.orders
    assert (stop.kind, stop.price, stop.trail_fraction) == (OrderKind.TRAILING_STOP, Decimal("96.28"), Decimal("0.04"))
    assert (await seat.standing()).orders == (stop,)


async def test_settle_sell_closes_the_whole_position_and_cancels_what_guarded_it() -> None:
    guards = (replace(STOP, price=Decimal(90)), TARGET)
    seat = Seat(holding(*guards))
    market = replace(make_market(), quote=Quote(Decimal(101), NOON))
    report = await seat.run(Signal.SELL, market)
    trade = executed(report).trade
    assert trade is not None
    assert (trade.price, trade.quantity, trade.position_after) == (Decimal("100.69"), Decimal(10), Decimal(0))
    assert (trade.realised_profit, trade.cash_after) == (Decimal("6.9"), Decimal("10006.9"))
    ended = {order.id: order.reason_code for order in report.orders}
    assert ended == {"before-2": "position_closed", "before-3": "position_closed", "cycle-1-1": "filled"}
    after = await seat.standing()
    assert (after.portfolio.positions, after.orders, after.portfolio.realised) == ({}, (), 690_000_000)


async def test_settle_buy_while_long_leaves_the_account_as_it_is() -> None:
    seat = Seat(holding(TARGET))
    report = await seat.run(Signal.BUY)
    assert executed(report).reason_code == "already_in_position"
    assert report.checks == ()
    assert (await seat.standing()).portfolio == holding().portfolio


async def test_execute_same_candle_again_asks_nothing_and_shows_the_earlier_trade() -> None:
    seat = Seat()
    first = await seat.run(Signal.BUY)
    before = await seat.standing()
    second = await seat.run(Signal.SELL)
    assert executed(second).duplicate
    assert executed(second).trade == executed(first).trade
    assert await seat.standing() == before
