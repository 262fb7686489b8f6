"""Market orders: what enters, leaves and protects a position at the quote."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from app.broker import order_rules
from app.broker.desk import Desk
from app.domain.money import PPM, from_units, plain, to_units
from app.domain.order import OrderKind, OrderStatus, Origin, Side


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an order was not filled."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Protection:
    """The orders that are to guard a new position, at these distances from its entry price (1e-8 quote units).

    A distance of 0 is no such order. `trail_fraction` is how far a trailing stop stays from the best price, 0 for none.
    """

    stop_distance: int = 0
    target_distance: int = 0
    trail_fraction: Decimal = Decimal(0)


def enter(desk: Desk, side: Side, budget: int, quantity_cap: int, origin: Origin) -> Refusal | None:
    """Open a position at the market, or add to it, with at most `budget` (1e-8 quote units, fee included).

    `quantity_cap` (1e-8 base units) bounds it, too. Returns why nothing was filled, or None.
    """
    price = desk.market_price(side)
    quantity = 0
    if price > 0:
        quantity = min(desk.affordable(budget, price), quantity_cap // desk.lot * desk.lot)
    return _fill_entry(desk, side, price, quantity, origin)


def buy_or_sell(desk: Desk, side: Side, quantity: int, origin: Origin) -> Refusal | None:
    """Fill a market order of a given quantity; one against the position makes it smaller, and never turns it round.

    Returns why nothing was filled, or None.
    """
    if desk.is_exit(side):
        return leave(desk, min(quantity, abs(desk.held)), origin)
    price = desk.market_price(side)
    if price > 0 and desk.affordable(desk.portfolio.available, price) < quantity:
        return _reject(desk, side, quantity, origin, "insufficient_cash", _words_for_cash(desk))
    return _fill_entry(desk, side, price, quantity, origin)


def leave(desk: Desk, quantity: int, origin: Origin) -> Refusal | None:
    """Close `quantity` (1e-8 base units) of the position at the market; all of it takes the symbol's dust along.

    What is worth too little to be sold becomes dust. Returns why nothing was filled, or None.
    """
    side = Side.SELL if desk.held > 0 else Side.BUY
    price = desk.capped(side, desk.market_price(side), quantity)
    if price <= 0:
        return _reject(desk, side, quantity, origin, "price_not_positive", "After slippage the price would be nothing.")
    if side is Side.SELL:
        if quantity == desk.held:
            dust = desk.portfolio.holding(desk.symbol) - desk.held
            if desk.below_minimum(price, quantity + dust):
                desk.move_to_dust()
                reason = f"{plain(quantity)} at {plain(price)} is too little to be sold; it is dust now."
                return _reject(desk, side, quantity, origin, "moved_to_dust", reason)
            desk.sweep_dust()
            quantity += dust
        elif desk.below_minimum(price, quantity):
            return _reject(desk, side, quantity, origin, "below_minimum_notional", _words_for_minimum(desk))
    order = desk.order(side, OrderKind.MARKET, quantity, origin)
    desk.fill(order, price, quantity, desk.quote, "the quote", desk.decided_on(origin))
    return None


def protect(desk: Desk, protection: Protection) -> None:
    """Place the orders that guard the position in the desk's symbol, measured from its newest fill's price."""
    entry, side = desk.last_price, Side.SELL if desk.held > 0 else Side.BUY
    away = -1 if side is Side.SELL else 1
    sign = order_rules.SELL if side is Side.SELL else order_rules.BUY
    if protection.stop_distance:
        trigger = order_rules.round_trigger(sign, entry + away * protection.stop_distance, desk.tick)
        _guard(desk, side, OrderKind.STOP_LOSS, trigger)
    if protection.trail_fraction:
        trigger = order_rules.trailing_trigger(sign, entry, int(protection.trail_fraction * PPM), desk.tick)
        _guard(desk, side, OrderKind.TRAILING_STOP, trigger, protection.trail_fraction)
    if protection.target_distance:
        target = order_rules.round_limit(sign, entry - away * protection.target_distance, desk.tick)
        _guard(desk, side, OrderKind.TAKE_PROFIT, target)


def _guard(desk: Desk, side: Side, kind: OrderKind, price: int, trail_fraction: Decimal | None = None) -> None:
    if price > 0:
        desk.rest(
            desk.order(
                side,
                kind,
                abs(desk.held),
                Origin.PROTECTION,
                price=from_units(price),
                trail_fraction=trail_fraction,
                reduce_only=True,
            )
        )


def _fill_entry(desk: Desk, side: Side, price: int, quantity: int, origin: Origin) -> Refusal | None:
    if price <= 0:
        return _reject(desk, side, quantity, origin, "price_not_positive", "After slippage the price would be nothing.")
    if quantity == 0:
        return _reject(desk, side, quantity, origin, "insufficient_cash", _words_for_cash(desk))
    if desk.below_minimum(price, quantity):
        return _reject(desk, side, quantity, origin, "below_minimum_notional", _words_for_minimum(desk))
    order = desk.order(side, OrderKind.MARKET, quantity, origin)
    desk.fill(order, price, quantity, desk.quote, "the quote", desk.decided_on(origin))
    return None


def _reject(desk: Desk, side: Side, quantity: int, origin: Origin, code: str, reason: str) -> Refusal:
    desk.end(desk.order(side, OrderKind.MARKET, quantity, origin), OrderStatus.REJECTED, code, reason)
    return Refusal(code, reason)


def _words_for_cash(desk: Desk) -> str:
    return (
        f"The free cash, {plain(desk.portfolio.available)}, or the share of it set aside for one order, does not pay "
        f"for it, or not for one lot of {desk.snapshot.instrument.lot_step.normalize():f}."
    )


def _words_for_minimum(desk: Desk) -> str:
    minimum = to_units(desk.snapshot.instrument.minimum_notional)
    return f"The order is worth less than the {plain(minimum)} that the exchange asks for."
