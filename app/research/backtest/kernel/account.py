"""What the account holds, is worth and may spend, compiled."""

from __future__ import annotations

from app.broker import fill_rules, order_rules
from app.domain.money import multiply_divide
from app.domain.portfolio import SHORT_COLLATERAL, worth
from app.research.backtest.kernel.layout import (
    BAR,
    CASH,
    COST,
    DUST,
    MARK,
    QUANTITY,
    QUOTE,
    SERIES,
    Facts,
    Market,
    Rules,
    State,
)
from app.research.backtest.native import compiled, within_bounds
from ml.bars import IntegerArray


@compiled
def compute_equity(account: IntegerArray, holdings: IntegerArray) -> int:
    """Cash and what everything held is worth at the newest quotes (`Portfolio.market_value`)."""
    value = int(account[CASH])
    for series in range(len(holdings)):
        held = holdings[series, QUANTITY] + holdings[series, DUST]
        if held != 0:
            value = within_bounds(value + worth(held, holdings[series, MARK]))
    return value


@compiled
def exposure(state: State, series: int) -> int:
    """What is held of a series is worth, dust included; negative when short (`limits._exposure`)."""
    holding = state.holdings[series]
    held = holding[QUANTITY] + holding[DUST]
    return worth(held, holding[MARK]) if held != 0 else 0


@compiled
def free_cash(state: State) -> int:
    """`Portfolio.available`."""
    free = int(state.account[CASH])
    for series in range(len(state.holdings)):
        if state.holdings[series, QUANTITY] < 0:
            free -= SHORT_COLLATERAL * -state.holdings[series, COST]
    return free


@compiled
def is_below_minimum(facts: Facts, series: int, price: int, quantity: int) -> bool:
    """`Desk.below_minimum`."""
    value = worth(quantity, price)
    return value == 0 or value < facts.minimum_notional[series]


@compiled
def slippage(market: Market, rules: Rules, bar: int) -> tuple[int, int]:
    """`Desk.slippage` beside a bar."""
    return fill_rules.slippage_ratio(market.high[bar], market.low[bar], market.close[bar], rules.slippage_ppm)


@compiled
def market_price(market: Market, facts: Facts, rules: Rules, at: IntegerArray, side: int) -> int:
    """`Desk.market_price`."""
    ratio, tick = slippage(market, rules, at[BAR]), facts.tick[at[SERIES]]
    if side > 0:
        return fill_rules.buy_price(at[QUOTE], ratio, tick)
    return fill_rules.sell_price(at[QUOTE], ratio, tick)


@compiled
def capped(facts: Facts, rules: Rules, state: State, wanted: tuple[int, int, int]) -> int:
    """`Desk.capped` of (side, price, quantity)."""
    side, price, quantity = wanted
    if side < 0:
        return price
    holding = state.holdings[state.at[SERIES]]
    collateral = multiply_divide(SHORT_COLLATERAL * -holding[COST], quantity, -holding[QUANTITY])
    return min(price, order_rules.cover_cap(collateral, quantity, rules.fee_ppm, facts.tick[state.at[SERIES]]))
