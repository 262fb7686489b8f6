"""Judges resting orders on a bar, compiled: `app.broker.resting`."""

from __future__ import annotations

from app.broker import fill_rules, order_rules
from app.domain.money import LARGEST
from app.research.backtest.kernel.account import capped, is_below_minimum, slippage
from app.research.backtest.kernel.fills import book_fill, move_to_dust
from app.research.backtest.kernel.layout import (
    ACTIVE_FROM,
    BAR,
    BY_LIQUIDATION,
    BY_PROTECTION,
    KIND,
    OPEN_QUANTITY,
    PRICE,
    QUANTITY,
    RESTING,
    SERIES,
    SIDE,
    TRAIL,
    Facts,
    Market,
    Rules,
    State,
)
from app.research.backtest.native import compiled


@compiled
def judge_resting(market: Market, facts: Facts, rules: Rules, state: State) -> None:
    """`resting.judge_resting` on the candles of the cycle's window that are not judged yet."""
    at = state.at
    orders = state.orders[at[SERIES]]
    oldest = order_rules.NEVER
    for place in range(3):
        if orders[place, OPEN_QUANTITY] > 0:
            oldest = min(oldest, orders[place, ACTIVE_FROM])
    first = max(facts.first_bar[at[SERIES]], at[BAR] - rules.window_bars + 1)
    bar = at[BAR]
    while bar > first and market.open_time_ms[bar - 1] >= oldest:
        bar -= 1
    while bar <= at[BAR] and state.holdings[at[SERIES], RESTING] > 0:
        _judge_bar(market, facts, rules, state, bar)
        bar += 1


@compiled
def _judge_bar(market: Market, facts: Facts, rules: Rules, state: State, bar: int) -> None:
    """`resting._judge_candle`."""
    orders = state.orders[state.at[SERIES]]
    opened, opening = market.open_time_ms[bar], market.opening[bar]
    high, low = market.high[bar], market.low[bar]
    places, kinds, sides, prices = [0][:0], [0][:0], [0][:0], [0][:0]  # of whole numbers, as numba must know
    is_reached = False
    for place in range(3):
        order = orders[place]
        if order[OPEN_QUANTITY] > 0 and order_rules.is_judged(opened, order[ACTIVE_FROM], order_rules.NEVER):
            places.append(place)
            kinds.append(order[KIND])
            sides.append(order[SIDE])
            prices.append(order[PRICE])
            raw = order_rules.raw_price(order[KIND], order[SIDE], order[PRICE], opening, high, low)
            is_reached = is_reached or raw != order_rules.NO_FILL
    if is_reached:
        left = order_rules.NEVER
        if rules.volume_share_ppm > 0:
            lot = facts.lot[state.at[SERIES]]
            left = order_rules.volume_share(min(market.volume[bar], LARGEST), rules.volume_share_ppm, lot)
        for event in order_rules.judge_candle(kinds, sides, prices, opening, high, low):
            left -= _fill_resting(market, facts, rules, state, (bar, places[event[0]], event[1], left))
    for place in places:
        _move_on(market, facts, state, bar, place)


@compiled
def _fill_resting(market: Market, facts: Facts, rules: Rules, state: State, what: tuple[int, int, int, int]) -> int:
    """`resting.fill` of (bar, place, raw price, what is left of the volume); what it took of that."""
    bar, place, raw, left = what
    series = state.at[SERIES]
    order, holding = state.orders[series, place], state.holdings[series]
    if order[OPEN_QUANTITY] == 0:
        return 0
    kind, side = order[KIND], order[SIDE]
    price = order_rules.fill_price(kind, side, raw, slippage(market, rules, bar), facts.tick[series])
    wanted = min(order[OPEN_QUANTITY], abs(holding[QUANTITY]))
    quantity = order_rules.fill_quantity(kind, wanted, left)
    if quantity == 0:
        return 0
    if quantity == holding[QUANTITY] and is_below_minimum(facts, series, price, quantity):
        move_to_dust(state, series)
        return 0
    price = capped(facts, rules, state, (side, price, quantity))
    value = fill_rules.buy_notional(price, quantity) if side > 0 else fill_rules.sell_notional(price, quantity)
    if value == 0:
        return 0
    origin = BY_LIQUIDATION if kind == order_rules.LIQUIDATION else BY_PROTECTION
    order[OPEN_QUANTITY] -= quantity
    if order[OPEN_QUANTITY] == 0:
        holding[RESTING] -= 1
    book_fill(facts, rules, state, (side, price, quantity, raw, origin))
    return 0 if order_rules.is_stop(kind) else quantity


@compiled
def _move_on(market: Market, facts: Facts, state: State, bar: int, place: int) -> None:
    """`resting._move_on`."""
    series = state.at[SERIES]
    order = state.orders[series, place]
    if order[OPEN_QUANTITY] == 0:
        return
    order[ACTIVE_FROM] = market.open_time_ms[bar] + facts.duration_ms[series]
    if order[TRAIL] > 0:
        side = order[SIDE]
        best = market.low[bar] if side > 0 else market.high[bar]
        trigger = order_rules.trailing_trigger(side, best, order[TRAIL], facts.tick[series])
        order[PRICE] = order_rules.worse_price(-side, order[PRICE], trigger)
