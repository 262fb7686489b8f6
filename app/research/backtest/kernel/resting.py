"""Judges resting orders on a bar, compiled: `app.broker.resting`."""

from __future__ import annotations

import numpy as np

from app.broker import fill_rules, order_rules
from app.research.backtest.kernel.account import capped, is_below_minimum, slippage
from app.research.backtest.kernel.fills import book_fill, move_to_dust
from app.research.backtest.kernel.layout import BY_LIQUIDATION, BY_PROTECTION, Candle, Desk, Holding, Order
from app.research.backtest.native import inner


@inner
def find_oldest(holding: Holding) -> int:
    """From when on candles are to be judged."""
    oldest = order_rules.NEVER
    for place in range(3):
        order = holding.orders[place]
        if order.open_quantity > 0:
            oldest = min(oldest, order.active_from_ms)
    return oldest


@inner
def judge_bar(desk: Desk, fills: np.ndarray) -> None:
    """`resting._judge_candle` of `desk.candle`; `fills` is written to where there is room."""
    orders, is_reached = desk.holding.orders, False
    for place in range(3):
        is_reached |= _is_reached(orders[place], desk.candle)
    if is_reached:
        _fill_reached(desk, fills)
    for place in range(3):
        if _is_judged(orders[place], desk.candle):
            _move_on(desk, orders[place])


@inner
def _is_judged(order: Order, candle: Candle) -> bool:
    is_active = order_rules.is_judged(candle.opened_ms, order.active_from_ms, order_rules.NEVER)
    return order.open_quantity > 0 and is_active


@inner
def _is_reached(order: Order, candle: Candle) -> bool:
    order.raw_price = order_rules.NO_FILL
    if _is_judged(order, candle):
        opening, high, low = candle.open, candle.high, candle.low
        order.raw_price = order_rules.raw_price(order.kind, order.side, order.price, opening, high, low)
    return order.raw_price != order_rules.NO_FILL


@inner
def _fill_reached(desk: Desk, fills: np.ndarray) -> None:
    """Fill the orders that are reached, in the order of `order_rules.judge_candle`."""
    orders, left = desk.holding.orders, order_rules.NEVER
    if desk.rules.volume_share_ppm > 0:
        left = order_rules.volume_share(desk.candle.volume, desk.rules.volume_share_ppm, desk.facts.lot)
    place = _find_next(orders, desk.candle.open)
    while place >= 0:
        booked = desk.account.fills
        left -= _fill_resting(desk, orders[place], left)
        orders[place].raw_price = order_rules.NO_FILL
        if booked < desk.account.fills and booked < len(fills):
            fills[booked] = desk.fill
        place = _find_next(orders, desk.candle.open)


@inner
def _find_next(orders: tuple[Order, Order, Order], opening: int) -> int:
    found = -1
    for place in range(3):
        order, first = orders[place], orders[max(found, 0)]
        if order.raw_price != order_rules.NO_FILL:
            rank = order_rules.fill_rank(order.kind, order.raw_price, opening, place)
            if found < 0 or rank < order_rules.fill_rank(first.kind, first.raw_price, opening, found):
                found = place
    return found


@inner
def _fill_resting(desk: Desk, order: Order, left: int) -> int:
    """`resting.fill` with what is left of the volume; what it took of that."""
    rules, facts, holding = desk.rules, desk.facts, desk.holding
    if order.open_quantity == 0:
        return 0
    kind, side, raw = order.kind, order.side, order.raw_price
    price = order_rules.fill_price(kind, side, raw, slippage(rules, desk.candle), facts.tick)
    wanted = min(order.open_quantity, abs(holding.quantity))
    quantity = order_rules.fill_quantity(kind, wanted, left)
    if quantity == 0:
        return 0
    if quantity == holding.quantity and is_below_minimum(facts, price, quantity):
        move_to_dust(desk.account, holding)
        return 0
    price = capped(desk, side, price, quantity)
    value = fill_rules.buy_notional(price, quantity) if side > 0 else fill_rules.sell_notional(price, quantity)
    if value == 0:
        return 0
    order.open_quantity -= quantity
    if order.open_quantity == 0:
        holding.resting -= 1
    book_fill(desk, side, price, quantity, raw)
    desk.fill.origin = BY_LIQUIDATION if kind == order_rules.LIQUIDATION else BY_PROTECTION
    return 0 if order_rules.is_stop(kind) else quantity


@inner
def _move_on(desk: Desk, order: Order) -> None:
    """`resting._move_on`."""
    candle = desk.candle
    if order.open_quantity == 0:
        return
    order.active_from_ms = candle.opened_ms + desk.facts.duration_ms
    if order.trail_ppm > 0:
        side = order.side
        best = candle.low if side > 0 else candle.high
        trigger = order_rules.trailing_trigger(side, best, order.trail_ppm, desk.facts.tick)
        order.price = order_rules.worse_price(-side, order.price, trigger)
