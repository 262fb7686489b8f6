"""Books fills and lets protective orders rest, compiled: `Desk` and `Portfolio`."""

from __future__ import annotations

from app.broker import fill_rules, order_rules
from app.domain.money import multiply_divide
from app.research.backtest.kernel.account import is_below_minimum
from app.research.backtest.kernel.layout import (
    ACTIVE_FROM,
    BAR,
    CASH,
    COST,
    CYCLE,
    DUST,
    DUST_COST,
    DUST_FEES,
    FEES,
    FILLS,
    HAS_LOST,
    KIND,
    LAST_LOSS,
    LIQUIDATION,
    LOSSES,
    NOW,
    OPEN,
    OPEN_QUANTITY,
    PRICE,
    QUANTITY,
    QUOTE,
    RESTING,
    SERIES,
    SIDE,
    STOP,
    TARGET,
    TRAIL,
    Facts,
    Market,
    Rules,
    State,
)
from app.research.backtest.native import compiled, within_bounds
from app.risk import protection
from ml.bars import IntegerArray


@compiled
def book_fill(facts: Facts, rules: Rules, state: State, what: tuple[int, int, int, int, int]) -> None:
    """`Desk.fill` of (side, price, quantity, reference, origin), without what it does to the order itself.

    A fill for which there is no room is counted all the same, so that the caller knows how much there must be.
    """
    side, price, quantity, reference, origin = what
    account, at = state.account, state.at
    series = at[SERIES]
    holding = state.holdings[series]
    notional = fill_rules.buy_notional(price, quantity) if side > 0 else fill_rules.sell_notional(price, quantity)
    fee = fill_rules.fee(notional, rules.fee_ppm)
    paid, signed, held = side * notional, side * quantity, holding[QUANTITY]
    profit, released = 0, 0
    is_exit = held != 0 and (held > 0) != (side > 0)
    if is_exit:
        cost = multiply_divide(holding[COST], quantity, abs(held))
        released = multiply_divide(holding[FEES], quantity, abs(held))
        profit = -paid - cost
        holding[COST] -= cost
        holding[FEES] -= released
        _count_loss(account, at[NOW], is_lost=profit - released - fee < 0)
    else:
        account[OPEN] += held == 0
        holding[COST] += paid
        holding[FEES] += fee
    holding[QUANTITY] += signed
    account[CASH] = within_bounds(account[CASH] - paid - fee)
    if account[FILLS] < len(state.fills):
        row = state.fills[account[FILLS]]
        row[0], row[1], row[2], row[3], row[4], row[5] = at[CYCLE], side, origin, quantity, price, reference
        row[6], row[7], row[8], row[9] = notional, fee, profit, released
        row[10], row[11] = account[CASH], holding[QUANTITY] + holding[DUST]
    account[FILLS] += 1
    if holding[QUANTITY] == 0:
        account[OPEN] -= 1
        _cancel_orders(state, series)
    elif is_exit and holding[QUANTITY] > 0 and is_below_minimum(facts, series, price, holding[QUANTITY]):
        move_to_dust(state, series)


@compiled
def _count_loss(account: IntegerArray, now: int, is_lost: bool) -> None:  # noqa: FBT001 - numba has no keyword-only arguments
    """`Snapshot.followed_by`, what it says of an exit."""
    if is_lost:
        account[LOSSES] += 1
        account[LAST_LOSS], account[HAS_LOST] = now, 1
    else:
        account[LOSSES] = 0


@compiled
def sweep_dust(holding: IntegerArray) -> None:
    """`Portfolio.from_dust`."""
    for own, dust in ((QUANTITY, DUST), (COST, DUST_COST), (FEES, DUST_FEES)):
        holding[own] += holding[dust]
        holding[dust] = 0


@compiled
def move_to_dust(state: State, series: int) -> None:
    """`Desk.move_to_dust`."""
    holding = state.holdings[series]
    for own, dust in ((QUANTITY, DUST), (COST, DUST_COST), (FEES, DUST_FEES)):
        holding[dust] += holding[own]
        holding[own] = 0
    state.account[OPEN] -= 1
    _cancel_orders(state, series)


@compiled
def _cancel_orders(state: State, series: int) -> None:
    for place in range(3):
        state.orders[series, place, OPEN_QUANTITY] = 0
    state.holdings[series, RESTING] = 0


@compiled
def _rest(state: State, place: int, what: tuple[int, int, int, int, int]) -> None:
    """Let an order of (kind, side, price, trail, active from) rest, unless its price is nothing."""
    kind, side, price, trail, active_from = what
    series = state.at[SERIES]
    if price <= 0:
        return
    order = state.orders[series, place]
    order[KIND], order[SIDE], order[PRICE], order[TRAIL], order[ACTIVE_FROM] = kind, side, price, trail, active_from
    order[OPEN_QUANTITY] = abs(state.holdings[series, QUANTITY])
    state.holdings[series, RESTING] += 1


@compiled
def protect(market: Market, facts: Facts, rules: Rules, state: State, levels: tuple[int, int, int]) -> None:
    """`Desk._guard_short` and `market_orders.protect` of (entry price, stop distance, target distance)."""
    entry, stop, target = levels
    at = state.at
    series = at[SERIES]
    holding, tick = state.holdings[series], facts.tick[series]
    held = holding[QUANTITY]
    side = -1 if held > 0 else 1
    opened = market.open_time_ms[at[BAR]] + facts.duration_ms[series]
    if held < 0:
        price = order_rules.liquidation_price(-holding[COST], -held)
        _rest(state, LIQUIDATION, (order_rules.LIQUIDATION, side, price, 0, opened))
    if rules.has_stop and rules.is_trailing:
        trail = protection.trail_ppm(stop, at[QUOTE])
        price = order_rules.trailing_trigger(side, entry, trail, tick)
        _rest(state, STOP, (order_rules.TRAILING_STOP, side, price, trail, opened))
    elif rules.has_stop:
        price = order_rules.round_trigger(side, entry + side * stop, tick)
        _rest(state, STOP, (order_rules.STOP_LOSS, side, price, 0, opened))
    if rules.target_hundredths > 0:
        price = order_rules.round_limit(side, entry - side * target, tick)
        late = max(1, -((opened - at[NOW]) // facts.duration_ms[series])) * facts.duration_ms[series]
        _rest(state, TARGET, (order_rules.TAKE_PROFIT, side, price, 0, opened + late))
