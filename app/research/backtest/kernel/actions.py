"""What is done on a signal that passed the gate, compiled: `RiskAgent.review` and `app.broker.market_orders`."""

from __future__ import annotations

import numpy as np

from app.research.backtest.kernel.account import (
    capped,
    compute_free_cash,
    compute_gross_exposure,
    is_below_minimum,
    market_price,
)
from app.research.backtest.kernel.entries import check_account, enter, is_out_of_band
from app.research.backtest.kernel.fills import book_fill, move_to_dust, sweep_dust
from app.research.backtest.kernel.layout import (
    BY_SIGNAL,
    CONFIDENT,
    FILLED,
    NOT_POSITIVE,
    PRICE_BAND,
    TO_DUST,
    Desk,
)
from app.research.backtest.kernel.quiet import find_idle
from app.research.backtest.native import inner


@inner
def act(desk: Desk, holdings: np.ndarray) -> int:
    """`RiskAgent.review`, and what is done where it approves."""
    held, side = desk.holding.quantity, desk.moment.side
    idle = find_idle(held, side, desk.rules.allow_short)
    if idle != CONFIDENT:
        return idle
    if held != 0:
        return PRICE_BAND if is_out_of_band(desk) else _leave(desk)
    refusal = check_account(desk)
    if refusal != CONFIDENT:
        return refusal
    desk.moment.free_cash = compute_free_cash(desk.account, holdings)
    desk.moment.gross_exposure = compute_gross_exposure(holdings) if desk.rules.max_gross_ppm > 0 else 0
    return enter(desk, side)


@inner
def _leave(desk: Desk) -> int:
    """`market_orders.leave` of the whole position."""
    holding = desk.holding
    held = holding.quantity
    side, quantity = (-1, held) if held > 0 else (1, -held)
    price = capped(desk, side, market_price(desk, side), quantity)
    if price <= 0:
        return NOT_POSITIVE
    if side < 0:
        if is_below_minimum(desk.facts, price, quantity + holding.dust):
            move_to_dust(desk.account, holding)
            return TO_DUST
        quantity += holding.dust
        sweep_dust(holding)
    book_fill(desk, side, price, quantity, desk.moment.quote)
    desk.fill.origin = BY_SIGNAL
    desk.account.trades += 1
    return FILLED
