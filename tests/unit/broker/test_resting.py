"""Resting orders on closed candles: when they fill, at what price, how much of them, and how they end."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from app.broker.desk import Desk
from app.broker.resting import judge_resting
from app.domain.cycle import BookedFill, DustTransfer, ExecutionStatus, Settlement
from app.domain.order import Order, OrderKind, OrderStatus, Origin, Side
from app.domain.standing import Halt
from tests.support.desks import (
    FLAT,
    MINUTE,
    SHORT_TERMS,
    TERMS,
    Prices,
    after,
    hold,
    make_market,
    open_desk,
    resting,
    units,
    with_orders,
)
from tests.support.standings import NOON

BUY_LIMIT = resting("limit", Side.BUY, OrderKind.LIMIT, 10, 98)
STOP = resting("stop", Side.SELL, OrderKind.STOP_LOSS, 10, 95, reduce_only=True)
TARGET = resting("target", Side.SELL, OrderKind.TAKE_PROFIT, 10, 110, reduce_only=True)
DROP: Prices = (100, 100, 97, 99)


def judge(desk: Desk) -> Settlement:
    judge_resting(desk)
    return desk.settle(ExecutionStatus.SKIPPED, "hold", "Nothing decided.")


def ends(settlement: Settlement) -> dict[str, tuple[OrderStatus, str | None]]:
    return {order.id: (order.status, order.reason_code) for order in settlement.orders}


def prices(settlement: Settlement) -> list[tuple[str, Decimal, Decimal]]:
    return [(one.order_id, one.fill.price, one.fill.quantity) for one in settlement.fills]


def test_limit_buy_fills_at_its_price_once_the_market_is_past_it() -> None:
    before = with_orders(hold(0), BUY_LIMIT)
    settlement = judge(open_desk(before, make_market((100, 100, 98, 99))))
    assert (settlement.fills, settlement.orders) == ((), ())
    settlement = judge(open_desk(before, make_market(DROP), cycle_id="cycle-1"))
    assert prices(settlement) == [("limit", Decimal(98), Decimal(10))]
    booked = settlement.fills[0]
    assert (booked.fill.fee, booked.fill.slippage_bps) == (Decimal("0.98"), 0)
    assert (booked.origin, booked.decided) == (Origin.PERSON, False)
    assert (booked.interval, booked.candle_open_time) == ("1m", NOON - MINUTE)
    assert ends(settlement) == {"limit": (OrderStatus.FILLED, "filled")}
    standing = after(before, settlement)
    assert (standing.orders, standing.portfolio.cash) == ((), units("9019.02"))
    assert standing.snapshot.trades_today == 0, "not a decision's"


def test_limit_opened_beyond_its_price_fills_at_the_open() -> None:
    settlement = judge(open_desk(with_orders(hold(0), BUY_LIMIT), make_market((96, 99, 95, 99))))
    assert prices(settlement) == [("limit", Decimal(96), Decimal(10))]


def test_limit_takes_its_share_of_the_volume_and_goes_on_resting() -> None:
    terms = replace(TERMS, volume_share=Decimal("0.1"))
    second = replace(BUY_LIMIT, id="second", price=Decimal("97.5"))
    before = with_orders(hold(0), BUY_LIMIT, second)
    market = make_market((*DROP, 60.55), (*DROP, 0), (*DROP, 70))
    settlement = judge(open_desk(before, market, terms))
    assert prices(settlement) == [
        ("limit", Decimal(98), Decimal(6)),
        ("limit", Decimal(98), Decimal(4)),
        ("second", Decimal("97.5"), Decimal(3)),
    ]
    assert ends(settlement) == {"limit": (OrderStatus.FILLED, "filled"), "second": (OrderStatus.NEW, None)}
    (left,) = after(before, settlement).orders
    assert (left.filled_quantity, left.remaining, left.active_from) == (Decimal(3), Decimal(7), NOON)


def test_limit_without_cash_for_it_ends() -> None:
    settlement = judge(open_desk(with_orders(hold(0, cash=900), BUY_LIMIT), make_market(DROP)))
    assert ends(settlement) == {"limit": (OrderStatus.CANCELED, "insufficient_cash")}


def test_candle_that_closed_before_the_order_counts_is_passed_over() -> None:
    order = replace(BUY_LIMIT, active_from=NOON - MINUTE)
    before = with_orders(hold(0), order)
    settlement = judge(open_desk(before, make_market(DROP, FLAT)))
    assert settlement.fills == ()
    assert settlement.moved == (replace(order, active_from=NOON),)
    assert judge(open_desk(after(before, settlement), make_market(DROP, FLAT))).moved == ()


def test_candles_seen_late_are_judged_one_after_another() -> None:
    before = with_orders(hold(0), BUY_LIMIT, replace(STOP, side=Side.SELL))
    market = make_market(FLAT, DROP, (96, 97, 94, 96), (90, 90, 90, 90))
    settlement = judge(open_desk(before, market))
    assert [one.order_id for one in settlement.fills] == ["limit", "stop"]
    assert [one.candle_open_time for one in settlement.fills] == [NOON - 3 * MINUTE, NOON - 2 * MINUTE]


def test_gap_before_the_first_candle_is_told() -> None:
    order = replace(BUY_LIMIT, active_from=NOON - 5 * MINUTE)
    settlement = judge(open_desk(with_orders(hold(0), order)))
    assert [agent for agent, _ in settlement.logs] == ["execution"]
    assert "No cycle has seen the candles from 2026-11-21T11:55:00+00:00 on" in settlement.logs[0][1]


def test_stop_fills_before_the_target_and_the_target_ends() -> None:
    before = with_orders(hold(10), TARGET, STOP)
    settlement = judge(open_desk(before, make_market((112, 113, 90, 100))))
    assert [one.order_id for one in settlement.fills] == ["stop"]
    assert ends(settlement) == {
        "stop": (OrderStatus.FILLED, "filled"),
        "target": (OrderStatus.CANCELED, "position_closed"),
    }
    assert after(before, settlement).portfolio.positions == {}


def test_stop_pays_the_slippage_of_its_candle() -> None:
    settlement = judge(open_desk(with_orders(hold(10), STOP), make_market((100, 101, 94, 100))))
    # 15 % of 7 over 100 is 1.05 %; 95 x 0.9895 = 94.0025.
    assert prices(settlement) == [("stop", Decimal(94), Decimal(10))]
    assert settlement.fills[0].fill.slippage_bps == 105.2632


def test_stop_gapped_through_fills_at_the_open() -> None:
    settlement = judge(open_desk(with_orders(hold(10), STOP), make_market((90, 90, 90, 90))))
    assert prices(settlement) == [("stop", Decimal(90), Decimal(10))]


def test_stop_larger_than_the_position_sells_what_there_is() -> None:
    before = with_orders(hold(4), STOP)
    settlement = judge(open_desk(before, make_market((95, 95, 95, 95))))
    assert prices(settlement) == [("stop", Decimal(95), Decimal(4))]
    assert ends(settlement) == {"stop": (OrderStatus.CANCELED, "position_closed")}
    assert settlement.orders[0].filled_quantity == Decimal(4)


def test_limit_sell_larger_than_the_position_sells_what_there_is_and_opens_no_short() -> None:
    order = resting("sell", Side.SELL, OrderKind.LIMIT, 10, 105)
    before = with_orders(hold(4), order)
    settlement = judge(open_desk(before, make_market((100, 106, 100, 100), (100, 106, 100, 100))))
    assert prices(settlement) == [("sell", Decimal(105), Decimal(4))]
    assert ends(settlement) == {"sell": (OrderStatus.CANCELED, "no_position")}


def test_reduce_only_without_a_position_ends() -> None:
    settlement = judge(open_desk(with_orders(hold(0), TARGET), make_market((100, 111, 100, 100)), SHORT_TERMS))
    assert ends(settlement) == {"target": (OrderStatus.CANCELED, "position_closed")}
    assert settlement.fills == ()


def test_trailing_stop_follows_the_best_price_and_never_goes_back() -> None:
    order = resting(
        "trail", Side.SELL, OrderKind.TRAILING_STOP, 10, 98, trail_fraction=Decimal("0.02"), reduce_only=True
    )
    before = with_orders(hold(10), order)
    settlement = judge(open_desk(before, make_market((100, 105, 99, 104), (104, 104, 103, 103))))
    assert settlement.orders == ()
    (moved,) = settlement.moved
    assert (moved.price, moved.active_from) == (Decimal("102.9"), NOON)  # 105 x 0.98
    standing = after(before, settlement)
    market = make_market((103, 103, 102.9, 103), end=NOON + MINUTE)
    settlement = judge(open_desk(standing, market))
    assert [one.order_id for one in settlement.fills] == ["trail"]
    assert settlement.fills[0].fill.price == Decimal("102.88")  # 102.9 less 15 % of 0.1 over 103


def test_trailing_stop_of_a_short_follows_the_lowest() -> None:
    order = resting(
        "trail", Side.BUY, OrderKind.TRAILING_STOP, 10, 102, trail_fraction=Decimal("0.02"), reduce_only=True
    )
    settlement = judge(open_desk(with_orders(hold(-10, cash=11_000), order), make_market((100, 101, 95, 96))))
    assert settlement.moved[0].price == Decimal("96.9")


def test_order_expires_only_once_its_last_candle_was_judged() -> None:
    order = replace(BUY_LIMIT, expires_at=NOON + timedelta(seconds=2))
    before = with_orders(hold(0), order)
    settlement = judge(open_desk(before))
    assert settlement.orders == (), "the candle within which it expires is still open"
    later = judge(open_desk(after(before, settlement), make_market(DROP, end=NOON + MINUTE)))
    assert ends(later) == {"limit": (OrderStatus.FILLED, "filled")}
    quiet = judge(open_desk(after(before, settlement), make_market(FLAT, end=NOON + MINUTE)))
    assert ends(quiet) == {"limit": (OrderStatus.EXPIRED, "expired")}


def test_order_is_not_judged_on_candles_from_its_expiry_on() -> None:
    order = replace(BUY_LIMIT, expires_at=NOON - MINUTE)
    settlement = judge(open_desk(with_orders(hold(0), order), make_market(FLAT, DROP)))
    assert ends(settlement) == {"limit": (OrderStatus.EXPIRED, "expired")}


def test_halt_ends_an_entry_where_it_would_fill_and_lets_exits_go_on() -> None:
    halt = Halt("halted", "Holidays.", NOON)
    before = with_orders(hold(10), BUY_LIMIT, STOP, halt=halt)
    assert judge(open_desk(before)).orders == ()
    settlement = judge(open_desk(before, make_market((94, 94, 94, 94))))
    assert ends(settlement) == {"stop": (OrderStatus.FILLED, "filled"), "limit": (OrderStatus.CANCELED, "halted")}


def test_exit_of_too_little_becomes_dust() -> None:
    before = with_orders(hold(0.4), STOP)
    settlement = judge(open_desk(before, make_market((95, 95, 95, 95), minimum_notional=50)))
    assert settlement.entries == (DustTransfer("BTCUSDT", units("0.4"), units(40), 0),)
    assert ends(settlement) == {"stop": (OrderStatus.CANCELED, "position_closed")}
    limit = resting("sell", Side.SELL, OrderKind.LIMIT, 10, 94)
    settlement = judge(open_desk(with_orders(hold(0.4), limit), make_market((95, 95, 95, 95), minimum_notional=50)))
    assert ends(settlement) == {"sell": (OrderStatus.CANCELED, "moved_to_dust")}


def test_partial_target_that_leaves_too_little_puts_the_rest_to_dust() -> None:
    terms = replace(TERMS, volume_share=Decimal("0.1"))
    before = with_orders(hold(10), TARGET, STOP)
    market = make_market((100, 111, 100, 110, 96), minimum_notional=50)
    settlement = judge(open_desk(before, market, terms))
    assert prices(settlement) == [("target", Decimal(110), Decimal("9.6"))]
    assert isinstance(settlement.entries[0], BookedFill)
    assert settlement.entries[1] == DustTransfer("BTCUSDT", units("0.4"), units(40), 0)
    assert set(ends(settlement).values()) == {(OrderStatus.CANCELED, "position_closed")}


def guard(**more: object) -> Order:
    return resting("guard", Side.BUY, OrderKind.STOP_LOSS, 10, 190, origin=Origin.LIQUIDATION, reduce_only=True, **more)


def test_short_is_liquidated_at_its_trigger() -> None:
    before = with_orders(hold(-10, cash=2_000), guard())
    settlement = judge(open_desk(before, make_market((150, 190, 150, 190)), SHORT_TERMS))
    (booked,) = settlement.fills
    assert booked.origin is Origin.LIQUIDATION
    assert booked.fill.price == Decimal(196)  # 190 x (1 + 15 % of 40 over 190)
    standing = after(before, settlement)
    assert (standing.portfolio.positions, standing.orders) == ({}, ())
    assert standing.portfolio.cash == units(2_000) - units("1961.96")


def test_short_gapped_beyond_its_collateral_pays_no_more_than_that() -> None:
    before = with_orders(hold(-10, cash=2_000), guard())
    settlement = judge(open_desk(before, make_market((900, 900, 900, 900)), SHORT_TERMS))
    assert settlement.fills[0].fill.price == Decimal("199.8")
    assert after(before, settlement).portfolio.cash == units("0.002")


def test_short_entered_on_an_old_candle_is_liquidated_on_a_later_one() -> None:
    order = resting("sell", Side.SELL, OrderKind.LIMIT, 10, 105)
    before = with_orders(hold(0), order)
    market = make_market((100, 106, 100, 106), (300, 300, 300, 300), FLAT)
    settlement = judge(open_desk(before, market, SHORT_TERMS))
    assert [(one.origin, one.candle_open_time) for one in settlement.fills] == [
        (Origin.PERSON, NOON - 3 * MINUTE),
        (Origin.LIQUIDATION, NOON - 2 * MINUTE),
    ]
    assert settlement.fills[1].fill.price == Decimal("209.79")  # 2 x 105 / 1.001
    assert after(before, settlement).orders == ()


@pytest.mark.parametrize(
    ("seconds_late", "skew", "candles"), [(5, 0.0, 1), (-5, 0.0, 1), (60, 0.0, 1), (61, 0.0, 2), (65, 10.0, 1)]
)
def test_limit_is_never_judged_on_a_candle_that_was_open_before_it(
    seconds_late: float, skew: float, candles: int
) -> None:
    now = NOON + timedelta(seconds=seconds_late)
    desk = open_desk(hold(0), make_market(clock_skew_seconds=skew), now=now)
    order = desk.order(Side.BUY, OrderKind.LIMIT, units(1), Origin.PERSON, price=Decimal(1))
    assert order.active_from == NOON + candles * MINUTE
    stop = desk.order(Side.SELL, OrderKind.TRAILING_STOP, units(1), Origin.PERSON)
    assert stop.active_from == NOON
    assert [order.id, stop.id] == ["booking-1", "booking-2"]


def test_partly_filled_limit_is_an_order_of_the_booking_and_not_merely_moved() -> None:
    terms = replace(TERMS, volume_share=Decimal("0.1"))
    settlement = judge(open_desk(with_orders(hold(0), BUY_LIMIT), make_market((*DROP, 60)), terms))
    assert [order.filled_quantity for order in settlement.orders] == [Decimal(6)]
    assert settlement.moved == ()


def test_orders_of_other_symbols_are_left_alone() -> None:
    other = replace(BUY_LIMIT, symbol="ETHUSDT")
    settlement = judge(open_desk(with_orders(hold(0), other), make_market(DROP)))
    assert (settlement.orders, settlement.moved, settlement.fills) == ((), (), ())
