"""Judges the resting orders of a symbol on the candles that have closed since they were judged last."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from app.broker import order_rules
from app.broker.desk import Desk
from app.domain.candle import Candle
from app.domain.money import PPM, from_units, plain, to_units
from app.domain.order import Order, OrderKind, OrderStatus, Origin, Side

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_SIDES = {Side.BUY: order_rules.BUY, Side.SELL: order_rules.SELL}
_KINDS = {
    OrderKind.LIMIT: order_rules.LIMIT,
    OrderKind.STOP_LOSS: order_rules.STOP_LOSS,
    OrderKind.TAKE_PROFIT: order_rules.TAKE_PROFIT,
    OrderKind.TRAILING_STOP: order_rules.TRAILING_STOP,
}


def judge_resting(desk: Desk) -> None:
    """Fill, move and end the resting orders of the desk's symbol by its closed candles, the oldest candle first."""
    if not desk.resting():
        return
    _tell_of_gap(desk)
    candles = desk.snapshot.candles
    oldest = min(_milliseconds(order.active_from) for order in desk.resting())
    for candle in candles[bisect_left(candles, oldest, key=_opened_ms) :]:
        judged = [order for order in desk.resting() if _is_judged(order, candle)]
        if judged:
            _judge_candle(desk, judged, candle)
    for order in desk.resting():
        if order.expires_at is not None and order.expires_at <= desk.open_from:
            desk.end(order, OrderStatus.EXPIRED, "expired", f"It was good until {order.expires_at.isoformat()}.")


def _opened_ms(candle: Candle) -> int:
    return _milliseconds(candle.open_time)


def _is_judged(order: Order, candle: Candle) -> bool:
    expires = order_rules.NEVER if order.expires_at is None else _milliseconds(order.expires_at)
    return order_rules.is_judged(_opened_ms(candle), _milliseconds(order.active_from), expires)


def _tell_of_gap(desk: Desk) -> None:
    oldest = min(order.active_from for order in desk.resting())
    first = desk.snapshot.candles[0].open_time
    if oldest < first:
        desk.say("execution", f"No cycle has seen the candles from {oldest.isoformat()} on; orders go on from here.")


def _judge_candle(desk: Desk, judged: Sequence[Order], candle: Candle) -> None:
    prices = [to_units(order.price) if order.price is not None else 0 for order in judged]
    events = order_rules.judge_candle(
        [_kind(order) for order in judged],
        [_SIDES[order.side] for order in judged],
        prices,
        *(to_units(price) for price in (candle.open, candle.high, candle.low)),
    )
    left = _volume(desk, candle)
    for place, raw in events:
        left -= _fill(desk, judged[place].id, raw, candle, left)
    for order in judged:
        _move_on(desk, order.id, candle)


def _kind(order: Order) -> int:
    return order_rules.LIQUIDATION if order.origin is Origin.LIQUIDATION else _KINDS[order.kind]


def _volume(desk: Desk, candle: Candle) -> int:
    if desk.terms.volume_share_ppm == 0:
        return order_rules.NEVER
    return order_rules.volume_share(to_units(candle.volume), desk.terms.volume_share_ppm, desk.lot)


def _fill(desk: Desk, order_id: str, raw: int, candle: Candle, left: int) -> int:
    """Fill an order as far as the account and the candle's volume let it; returns how much of the volume it took."""
    order = _find(desk, order_id)
    if order is None:
        return 0
    kind = _kind(order)
    price = order_rules.fill_price(kind, _SIDES[order.side], raw, desk.slippage(candle), desk.tick)
    wanted = to_units(order.remaining)
    if desk.is_exit(order.side):
        wanted = min(wanted, abs(desk.held))
    quantity = order_rules.fill_quantity(kind, wanted, left)
    if quantity == 0 or not _is_possible(desk, order, price, quantity):
        return 0
    if desk.is_exit(order.side):
        price = desk.capped(order.side, price, quantity)
    if desk.notional(order.side, price, quantity) == 0:
        return 0  # less than the smallest amount of money there is; more may fill on another candle
    words = f"{plain(raw)} ({order.kind}, candle of {candle.open_time.isoformat()})"
    desk.fill(order, price, quantity, raw, words, candle)
    return 0 if order_rules.is_stop(kind) else quantity


def _is_possible(desk: Desk, order: Order, price: int, quantity: int) -> bool:
    """Whether an order may fill; one that never will is ended, with the reason."""
    if desk.is_exit(order.side):
        if quantity != desk.held or not desk.below_minimum(price, quantity):
            return True
        desk.move_to_dust()
        if _find(desk, order.id) is not None:
            desk.end(order, OrderStatus.CANCELED, "moved_to_dust", "What it would sell is worth too little.")
        return False
    if order.reduce_only:
        desk.end(order, OrderStatus.CANCELED, "position_closed", "There is no position that it could make smaller.")
    elif desk.standing.halt is not None:
        desk.end(order, OrderStatus.CANCELED, "halted", "Trading is halted; nothing is opened.")
    elif order.side is Side.SELL and not desk.terms.allow_short:
        desk.end(order, OrderStatus.CANCELED, "no_position", "There is nothing left to sell.")
    elif desk.affordable(desk.portfolio.available, price) < quantity:
        free = plain(desk.portfolio.available)
        desk.end(order, OrderStatus.CANCELED, "insufficient_cash", f"The free cash, {free}, does not pay for it.")
    else:
        return True
    return False


def _move_on(desk: Desk, order_id: str, candle: Candle) -> None:
    """Note that an order has been judged on a candle; a trailing stop then follows the best price of it."""
    order = _find(desk, order_id)
    if order is None:
        return
    moved = replace(order, active_from=candle.close_time + _MILLISECOND)
    if order.price is not None and order.trail_fraction is not None:
        side, best = _SIDES[order.side], to_units(candle.low if order.side is Side.BUY else candle.high)
        trigger = order_rules.trailing_trigger(side, best, int(order.trail_fraction * PPM), desk.tick)
        # The trigger of the best of several prices is the best of their triggers: it never goes back.
        moved = replace(moved, price=from_units(order_rules.worse_price(-side, to_units(order.price), trigger)))
    desk.rest(moved)


def _find(desk: Desk, order_id: str) -> Order | None:
    return next((order for order in desk.resting() if order.id == order_id), None)


def _milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MILLISECOND
