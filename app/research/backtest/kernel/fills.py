"""Books fills and lets protective orders rest, compiled: `Desk` and `Portfolio`."""

from __future__ import annotations

from app.broker import fill_rules, order_rules
from app.domain.money import multiply_divide
from app.research.backtest.kernel.account import is_below_minimum
from app.research.backtest.kernel.layout import LIQUIDATION, STOP, TARGET, Account, Desk, Holding, Order
from app.research.backtest.native import inner, within_bounds
from app.risk import protection


@inner
def book_fill(desk: Desk, side: int, price: int, quantity: int, reference: int) -> None:
    """`Desk.fill`, without what it does to the order itself; `desk.fill` says what was booked, but not who ordered."""
    account, holding, fill = desk.account, desk.holding, desk.fill
    notional = fill_rules.buy_notional(price, quantity) if side > 0 else fill_rules.sell_notional(price, quantity)
    fee = fill_rules.fee(notional, desk.rules.fee_ppm)
    paid, held = side * notional, holding.quantity
    is_exit = held != 0 and (held > 0) != (side > 0)
    profit, released = 0, 0
    if is_exit:
        cost = multiply_divide(holding.cost, quantity, abs(held))
        released = multiply_divide(holding.fees, quantity, abs(held))
        profit = -paid - cost
        holding.cost -= cost
        holding.fees -= released
        _count_loss(account, desk.moment.now_ms, profit - released - fee < 0)
    else:
        account.positions += held == 0
        holding.cost += paid
        holding.fees += fee
    holding.quantity += side * quantity
    account.cash = within_bounds(account.cash - paid - fee)
    account.fills += 1
    fill.cycle, fill.side, fill.quantity = desk.moment.cycle, side, quantity
    fill.price, fill.reference, fill.notional, fill.fee = price, reference, notional, fee
    fill.profit, fill.entry_fees, fill.cash_after = profit, released, account.cash
    fill.position_after = holding.quantity + holding.dust
    if holding.quantity == 0:
        account.positions -= 1
        _cancel_orders(holding)
    elif is_exit and holding.quantity > 0 and is_below_minimum(desk.facts, price, holding.quantity):
        move_to_dust(account, holding)


@inner
def _count_loss(account: Account, now_ms: int, is_lost: bool) -> None:  # noqa: FBT001 - numba has no keyword-only arguments
    """`Snapshot.followed_by`, what it says of an exit."""
    if is_lost:
        account.losses += 1
        account.last_loss_ms, account.has_lost = now_ms, True
    else:
        account.losses = 0


@inner
def sweep_dust(holding: Holding) -> None:
    """`Portfolio.from_dust`."""
    holding.quantity += holding.dust
    holding.cost += holding.dust_cost
    holding.fees += holding.dust_fees
    holding.dust, holding.dust_cost, holding.dust_fees = 0, 0, 0


@inner
def move_to_dust(account: Account, holding: Holding) -> None:
    """`Desk.move_to_dust`."""
    holding.dust += holding.quantity
    holding.dust_cost += holding.cost
    holding.dust_fees += holding.fees
    holding.quantity, holding.cost, holding.fees = 0, 0, 0
    account.positions -= 1
    _cancel_orders(holding)


@inner
def _cancel_orders(holding: Holding) -> None:
    if holding.resting > 0:
        for place in range(3):
            holding.orders[place].open_quantity = 0
        holding.resting = 0


@inner
def _rest(holding: Holding, order: Order, side: int, price: int, active_from_ms: int) -> None:
    """Let an order of the kind and the trail that stand in it rest, unless its price is nothing."""
    if price > 0:
        order.side, order.price, order.active_from_ms = side, price, active_from_ms
        order.open_quantity = abs(holding.quantity)
        holding.resting += 1


@inner
def protect(desk: Desk, entry: int, stop: int, target: int) -> None:
    """`Desk._guard_short` and `market_orders.protect`: the entry price, the distances of the stop and the target."""
    rules, holding, tick, duration_ms = desk.rules, desk.holding, desk.facts.tick, desk.facts.duration_ms
    held, liquidation, order, last = (
        holding.quantity,
        holding.orders[LIQUIDATION],
        holding.orders[STOP],
        holding.orders[TARGET],
    )
    side = -1 if held > 0 else 1
    opened = desk.candle.opened_ms + duration_ms
    if held < 0:
        liquidation.kind = order_rules.LIQUIDATION
        _rest(holding, liquidation, side, order_rules.liquidation_price(-holding.cost, -held), opened)
    if rules.has_stop and rules.is_trailing:
        order.kind, order.trail_ppm = order_rules.TRAILING_STOP, protection.trail_ppm(stop, desk.moment.quote)
        _rest(holding, order, side, order_rules.trailing_trigger(side, entry, order.trail_ppm, tick), opened)
    elif rules.has_stop:
        order.kind = order_rules.STOP_LOSS
        _rest(holding, order, side, order_rules.round_trigger(side, entry + side * stop, tick), opened)
    if rules.target_hundredths > 0:
        late = max(1, -((opened - desk.moment.now_ms) // duration_ms)) * duration_ms
        last.kind = order_rules.TAKE_PROFIT
        _rest(holding, last, side, order_rules.round_limit(side, entry - side * target, tick), opened + late)
