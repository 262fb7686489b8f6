"""What the account holds, is worth and may spend, compiled."""

from __future__ import annotations

import numpy as np

from app.broker import fill_rules, order_rules
from app.domain.money import multiply_divide
from app.domain.portfolio import SHORT_COLLATERAL, worth
from app.research.backtest.kernel.layout import Account, Candle, Desk, Facts, Holding, Rules
from app.research.backtest.native import inner, within_bounds


@inner
def compute_equity(account: Account, holdings: np.ndarray) -> int:
    """Cash and what everything held is worth at the newest quotes (`Portfolio.market_value`), which it notes."""
    value = account.cash
    for holding in holdings:
        holding.worth = exposure(holding)
        value = within_bounds(value + holding.worth)
    return value


@inner
def exposure(holding: Holding) -> int:
    """What is held of a series is worth, dust included; negative when short (`limits._exposure`)."""
    held = holding.quantity + holding.dust
    return worth(held, holding.mark) if held != 0 else 0


@inner
def compute_free_cash(account: Account, holdings: np.ndarray) -> int:
    """`Portfolio.available`."""
    free = account.cash
    for holding in holdings:
        if holding.quantity < 0:
            free -= SHORT_COLLATERAL * -holding.cost
    return free


@inner
def compute_gross_exposure(holdings: np.ndarray) -> int:
    """What all that is held is worth, longs and shorts added (`limits.check_gross_exposure`)."""
    gross = 0
    for holding in holdings:
        gross += abs(exposure(holding))
    return gross


@inner
def is_below_minimum(facts: Facts, price: int, quantity: int) -> bool:
    """`Desk.below_minimum`."""
    value = worth(quantity, price)
    return value == 0 or value < facts.minimum_notional


@inner
def slippage(rules: Rules, candle: Candle) -> tuple[int, int]:
    """`Desk.slippage` beside a bar."""
    return fill_rules.slippage_ratio(candle.high, candle.low, candle.close, rules.slippage_ppm)


@inner
def market_price(desk: Desk, side: int) -> int:
    """`Desk.market_price`."""
    ratio, quote, tick = slippage(desk.rules, desk.candle), desk.moment.quote, desk.facts.tick
    return fill_rules.buy_price(quote, ratio, tick) if side > 0 else fill_rules.sell_price(quote, ratio, tick)


@inner
def capped(desk: Desk, side: int, price: int, quantity: int) -> int:
    """`Desk.capped`."""
    if side < 0:
        return price
    holding = desk.holding
    collateral = multiply_divide(SHORT_COLLATERAL * -holding.cost, quantity, -holding.quantity)
    return min(price, order_rules.cover_cap(collateral, quantity, desk.rules.fee_ppm, desk.facts.tick))
