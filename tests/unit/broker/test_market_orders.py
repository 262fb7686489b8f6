"""Market orders on an account: what they cost, what they leave, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from app.broker.desk import Desk
from app.broker.market_orders import Protection, Refusal, buy_or_sell, enter, leave, protect
from app.domain.cycle import BookedFill, DustTransfer, ExecutionStatus, Settlement
from app.domain.order import OrderKind, OrderStatus, Origin, Side
from app.domain.portfolio import Position, find_contradictions
from app.domain.standing import Standing
from tests.support.desks import (
    FLAT,
    MINUTE,
    SHORT_TERMS,
    TERMS,
    after,
    hold,
    make_market,
    open_desk,
    resting,
    units,
    with_orders,
)
from tests.support.standings import NOON

BIG = 10**18


def settle(desk: Desk) -> Settlement:
    return desk.settle(ExecutionStatus.FILLED, "filled", "Done.")


def position(standing: Standing) -> Position:
    return standing.portfolio.positions["BTCUSDT"]


def with_dust(standing: Standing, quantity: float, cost: float) -> Standing:
    dust = {"BTCUSDT": Position(units(quantity), units(cost), 7, NOON)}
    marks = {"BTCUSDT": units(100)}
    portfolio = replace(standing.portfolio, dust=dust)
    return replace(standing, snapshot=replace(standing.snapshot, portfolio=portfolio, marks=marks))


def test_enter_buys_what_the_budget_pays_for_fee_included() -> None:
    before = hold(0)
    desk = open_desk(before, cycle_id="cycle-1")
    assert enter(desk, Side.BUY, units(1_001), BIG, Origin.SIGNAL) is None
    settlement = settle(desk)
    (booked,) = settlement.fills
    assert (booked.fill.quantity, booked.fill.price) == (Decimal(10), Decimal(100))
    assert (booked.fill.notional, booked.fill.fee) == (Decimal(1_000), Decimal(1))
    assert (booked.cash_after, booked.position_after) == (units(8_999), units(10))
    assert (booked.decided, booked.interval, booked.candle_open_time) == (True, "1m", NOON - MINUTE)
    (order,) = settlement.orders
    assert (order.id, order.status, order.filled_quantity) == ("booking-1", OrderStatus.FILLED, Decimal(10))
    assert (order.cycle_id, booked.order_id) == ("cycle-1", "booking-1")
    standing = after(before, settlement)
    assert position(standing) == Position(units(10), units(1_000), units(1), NOON + timedelta(seconds=5))
    assert (standing.snapshot.trades_today, standing.snapshot.equity) == (1, units(9_999))
    assert settlement.side_cost_ppm == 1_000


def test_enter_slippage_moves_the_price_to_the_next_tick_and_the_fee_is_rounded_up() -> None:
    terms = replace(TERMS, slippage_bps=Decimal(3))
    desk = open_desk(hold(0), make_market(quote="100.01", lot_step="0.00001"), terms)
    assert enter(desk, Side.BUY, units(2_500), BIG, Origin.SIGNAL) is None
    fill = settle(desk).fills[0].fill
    assert fill.price == Decimal("100.05")  # 100.01 x 1.0003 = 100.040003
    assert fill.quantity == Decimal("24.96254")  # 2500 / 1.001 / 100.05 = 24.962543...
    assert fill.notional == Decimal("2497.502127")
    assert fill.fee == Decimal("2.49750213")  # 2.497502127, up
    assert fill.slippage_bps == 3.9996  # of the quote


def test_enter_after_a_wide_candle_slips_by_a_share_of_its_range() -> None:
    desk = open_desk(hold(0), make_market((100, 101, 99, 100)))
    assert enter(desk, Side.BUY, units(1_000), BIG, Origin.SIGNAL) is None
    assert settle(desk).fills[0].fill.price == Decimal("100.3")  # 15 % of 2 over 100


def test_enter_quantity_cap_bounds_it_in_whole_lots() -> None:
    desk = open_desk(hold(0))
    assert enter(desk, Side.BUY, units(5_000), units("3.99"), Origin.SIGNAL) is None
    assert settle(desk).fills[0].fill.quantity == Decimal("3.9")


@pytest.mark.parametrize(
    ("budget", "market", "code"),
    [
        (units(1), make_market(), "insufficient_cash"),
        (-5, make_market(), "insufficient_cash"),
        (units("4.99"), make_market(lot_step="0.01"), "below_minimum_notional"),
    ],
)
def test_enter_too_small_is_rejected_and_kept(budget: int, market: object, code: str) -> None:
    before = hold(0)
    desk = open_desk(before, market)  # type: ignore[arg-type]
    refusal = enter(desk, Side.BUY, budget, BIG, Origin.SIGNAL)
    assert isinstance(refusal, Refusal)
    assert refusal.code == code
    settlement = settle(desk)
    assert [(order.status, order.reason_code) for order in settlement.orders] == [(OrderStatus.REJECTED, code)]
    assert after(before, settlement).portfolio == before.portfolio


def test_enter_short_after_slippage_below_nothing_is_rejected() -> None:
    desk = open_desk(hold(0), make_market((100, 800, 1, 10), quote="0.01"), SHORT_TERMS)
    refusal = enter(desk, Side.SELL, units(100), BIG, Origin.SIGNAL)
    assert refusal is not None
    assert refusal.code == "price_not_positive"


def test_buy_or_sell_more_than_cash_pays_for_is_refused() -> None:
    refusal = buy_or_sell(open_desk(hold(0, cash=1_000)), Side.BUY, units(10), Origin.PERSON)
    assert refusal is not None
    assert refusal.code == "insufficient_cash"
    assert buy_or_sell(open_desk(hold(0, cash=1_001)), Side.BUY, units(10), Origin.PERSON) is None


def test_buy_or_sell_by_a_person_has_no_candle_and_counts_as_no_trade() -> None:
    before = hold(0)
    desk = open_desk(before)
    assert buy_or_sell(desk, Side.BUY, units(10), Origin.PERSON) is None
    settlement = settle(desk)
    (booked,) = settlement.fills
    assert (booked.decided, booked.interval, booked.candle_open_time) == (False, None, None)
    assert settlement.orders[0].cycle_id is None
    assert after(before, settlement).snapshot.trades_today == 0


def test_buy_adds_to_a_position_at_the_average() -> None:
    before = hold(10, 100)
    desk = open_desk(before, make_market(quote=130))
    assert buy_or_sell(desk, Side.BUY, units(5), Origin.PERSON) is None
    held = position(after(before, settle(desk)))
    assert (held.quantity, held.cost, held.entry_fees) == (units(15), units(1_650), units("0.65"))
    assert held.average_price == units(110)
    assert held.opened_at == NOON - MINUTE


def test_sell_part_takes_its_share_of_the_cost_and_of_the_fees() -> None:
    before = hold(10, 100, fees=1)
    desk = open_desk(before, make_market(quote=110))
    assert buy_or_sell(desk, Side.SELL, units(4), Origin.PERSON) is None
    settlement = settle(desk)
    exit_ = settlement.fills[0].exit
    assert exit_ is not None
    assert (exit_.quantity, exit_.cost, exit_.entry_fees) == (units(4), units(400), units("0.4"))
    assert exit_.profit == units(40)
    standing = after(before, settlement)
    assert (position(standing).quantity, position(standing).cost) == (units(6), units(600))
    assert standing.portfolio.cash == units("10439.56")
    assert (standing.portfolio.realised, standing.portfolio.fees) == (units(40), units("0.44"))
    assert standing.snapshot.losses_in_a_row == 0


def test_sell_more_than_is_held_closes_and_never_turns_round() -> None:
    before = hold(10)
    desk = open_desk(before, terms=SHORT_TERMS)
    assert buy_or_sell(desk, Side.SELL, units(25), Origin.PERSON) is None
    settlement = settle(desk)
    assert settlement.fills[0].fill.quantity == Decimal(10)
    assert after(before, settlement).portfolio.positions == {}
    assert after(before, settlement).snapshot.losses_in_a_row == 1, "the fees lost"


def test_close_cancels_what_guarded_the_position_and_nothing_else() -> None:
    stop = resting("stop", Side.SELL, OrderKind.STOP_LOSS, 10, 90, reduce_only=True)
    limit = resting("limit", Side.BUY, OrderKind.LIMIT, 1, 90)
    before = with_orders(hold(10), stop, limit)
    desk = open_desk(before)
    assert leave(desk, units(10), Origin.SIGNAL) is None
    settlement = settle(desk)
    ends = {order.id: (order.status, order.reason_code) for order in settlement.orders}
    assert ends == {"stop": (OrderStatus.CANCELED, "position_closed"), "booking-1": (OrderStatus.FILLED, "filled")}
    assert [order.id for order in after(before, settlement).orders] == ["limit"]


def test_partial_close_that_leaves_too_little_puts_the_rest_to_dust_and_cancels_its_stop() -> None:
    stop = resting("stop", Side.SELL, OrderKind.STOP_LOSS, 10, 90, reduce_only=True)
    before = with_orders(hold(10), stop)
    desk = open_desk(before, make_market(minimum_notional=50))
    assert leave(desk, units("9.6"), Origin.PERSON) is None
    settlement = settle(desk)
    fill, dust = settlement.entries
    assert isinstance(fill, BookedFill)
    assert dust == DustTransfer("BTCUSDT", units("0.4"), units(40), 0)
    standing = after(before, settlement)
    assert (standing.portfolio.positions, standing.orders) == ({}, ())
    assert standing.portfolio.dust["BTCUSDT"].cost == units(40)
    assert standing.portfolio.holding("BTCUSDT") == units("0.4")
    assert standing.snapshot.marks == {"BTCUSDT": units(100)}
    assert find_contradictions(standing.portfolio, units(11_000)) == []


def test_partial_close_below_the_minimum_is_refused() -> None:
    desk = open_desk(hold(10), make_market(minimum_notional=50))
    refusal = leave(desk, units("0.4"), Origin.PERSON)
    assert refusal is not None
    assert refusal.code == "below_minimum_notional"
    assert settle(desk).entries == ()


def test_close_of_too_little_becomes_dust() -> None:
    before = hold(0.4)
    desk = open_desk(before, make_market(minimum_notional=50))
    refusal = leave(desk, units("0.4"), Origin.SIGNAL)
    assert refusal is not None
    assert refusal.code == "moved_to_dust"
    settlement = settle(desk)
    assert settlement.entries == (DustTransfer("BTCUSDT", units("0.4"), units(40), 0),)
    assert [order.status for order in settlement.orders] == [OrderStatus.REJECTED]
    standing = after(before, settlement)
    assert standing.portfolio.positions == {}
    assert standing.snapshot.equity == before.snapshot.equity


def test_close_takes_the_dust_along() -> None:
    before = with_dust(hold(10), 0.3, 33)
    desk = open_desk(before, make_market(quote=110))
    assert leave(desk, units(10), Origin.SIGNAL) is None
    settlement = settle(desk)
    assert settlement.entries[0] == DustTransfer("BTCUSDT", -units("0.3"), -units(33), -7)
    (booked,) = settlement.fills
    assert (booked.fill.quantity, booked.position_after) == (Decimal("10.3"), 0)
    assert booked.exit is not None
    assert booked.exit.profit == units("1133") - units(1_033)
    standing = after(before, settlement)
    assert (standing.portfolio.positions, standing.portfolio.dust, standing.snapshot.marks) == ({}, {}, {})


def test_close_of_too_little_sells_together_with_enough_dust() -> None:
    before = with_dust(hold(0.4), 0.3, 30)
    desk = open_desk(before, make_market(minimum_notional=50))
    assert leave(desk, units("0.4"), Origin.SIGNAL) is None
    assert settle(desk).fills[0].fill.quantity == Decimal("0.7")


def test_short_entry_holds_twice_its_cost_and_is_guarded() -> None:
    before = hold(0)
    desk = open_desk(before, terms=SHORT_TERMS, cycle_id="cycle-1")
    assert enter(desk, Side.SELL, units(1_001), BIG, Origin.SIGNAL) is None
    settlement = settle(desk)
    standing = after(before, settlement)
    assert position(standing).quantity == -units(10)
    assert standing.portfolio.cash == units(10_999)
    assert (standing.portfolio.margin_held, standing.portfolio.available) == (units(2_000), units(8_999))
    assert standing.snapshot.equity == units(9_999)
    (guard,) = standing.orders
    assert (guard.origin, guard.kind, guard.side) == (Origin.LIQUIDATION, OrderKind.STOP_LOSS, Side.BUY)
    assert (guard.price, guard.quantity, guard.reduce_only) == (Decimal(190), Decimal(10), True)
    assert (guard.active_from, guard.cycle_id) == (NOON, "cycle-1")


def test_short_that_grows_gets_a_new_liquidation_at_its_average() -> None:
    guard = resting("guard", Side.BUY, OrderKind.STOP_LOSS, 10, 190, reduce_only=True, origin=Origin.LIQUIDATION)
    before = with_orders(hold(-10, 100, cash=11_000), guard)
    desk = open_desk(before, make_market(quote=120), SHORT_TERMS)
    assert buy_or_sell(desk, Side.SELL, units(10), Origin.PERSON) is None
    settlement = settle(desk)
    assert [(order.id, order.reason_code) for order in settlement.orders[:2]] == [
        ("booking-1", "filled"),
        ("guard", "replaced"),
    ]
    (new,) = after(before, settlement).orders
    assert (new.price, new.quantity, new.origin) == (Decimal(209), Decimal(20), Origin.LIQUIDATION)


def test_cover_books_the_profit_of_a_fall() -> None:
    before = hold(-10, 100, cash=11_000)
    desk = open_desk(before, make_market(quote=80), SHORT_TERMS)
    assert buy_or_sell(desk, Side.BUY, units(4), Origin.PERSON) is None
    standing = after(before, settle(desk))
    assert standing.portfolio.realised == units(80)
    assert standing.portfolio.cash == units(11_000) - units("320.32")
    assert position(standing).cost == -units(600)
    assert standing.portfolio.available == units(11_000) - units("320.32") - units(1_200)


@pytest.mark.parametrize(("quantity", "price"), [(10, "199.8"), (3, "199.8"), ("0.1", "199.8")])
def test_cover_beyond_the_bankruptcy_price_costs_no_more_than_its_collateral(quantity: object, price: str) -> None:
    before = hold(-10, 100, cash=2_000)
    desk = open_desk(before, make_market(quote=500), SHORT_TERMS)
    assert buy_or_sell(desk, Side.BUY, units(quantity), Origin.PERSON) is None  # type: ignore[arg-type]
    settlement = settle(desk)
    assert settlement.fills[0].fill.price == Decimal(price)  # 200 / 1.001 = 199.800199...
    standing = after(before, settlement)
    assert standing.portfolio.available >= 0


def test_protect_long_measures_from_the_fill() -> None:
    before = hold(0)
    desk = open_desk(before, make_market(FLAT, (100, 101, 99, 100)))
    assert enter(desk, Side.BUY, units(1_000), BIG, Origin.SIGNAL) is None  # at 100.3
    protect(desk, Protection(units("2.005"), units(4), Decimal("0.02")))
    orders = {order.kind: order for order in after(before, settle(desk)).orders}
    assert orders[OrderKind.STOP_LOSS].price == Decimal("98.29")  # 98.295, to the worse tick
    assert orders[OrderKind.TRAILING_STOP].price == Decimal("98.29")  # 100.3 x 0.98 = 98.294
    assert orders[OrderKind.TAKE_PROFIT].price == Decimal("104.3")
    held = desk.held
    for order in orders.values():
        assert (order.side, order.origin, order.reduce_only) == (Side.SELL, Origin.PROTECTION, True)
        assert units(str(order.quantity)) == held
    assert orders[OrderKind.STOP_LOSS].active_from == NOON, "the open candle counts against it"
    assert orders[OrderKind.TAKE_PROFIT].active_from == NOON + MINUTE, "and never for it"


def test_protect_short_mirrors_it() -> None:
    desk = open_desk(hold(0), terms=SHORT_TERMS)
    assert enter(desk, Side.SELL, units(1_001), BIG, Origin.SIGNAL) is None
    protect(desk, Protection(units("2.005"), units("4.005"), Decimal("0.02")))
    orders = {order.kind: order for order in desk.resting() if order.origin is Origin.PROTECTION}
    assert {order.side for order in orders.values()} == {Side.BUY}
    assert orders[OrderKind.STOP_LOSS].price == Decimal("102.01")
    assert orders[OrderKind.TRAILING_STOP].price == Decimal(102)
    assert orders[OrderKind.TAKE_PROFIT].price == Decimal("95.99")  # never promises less than asked


def test_protect_without_distances_places_nothing() -> None:
    desk = open_desk(hold(0))
    assert enter(desk, Side.BUY, units(1_001), BIG, Origin.SIGNAL) is None
    protect(desk, Protection())
    assert desk.resting() == []
