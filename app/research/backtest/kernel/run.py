"""One pass over the bars, compiled: what the engine, its agents and the desk do in a cycle, on whole numbers.

The arithmetic is that of the live broker and limits (`native`); the order in which it is asked is that of
`TradingEngine`, `RiskAgent`, `Desk`, `judge_resting` and `market_orders`, and each function here names its model. The
parity suite holds both against each other. Imported only where a compiled backtest runs: it loads numba.
"""

from __future__ import annotations

import numpy as np

from app.research.backtest.books import FIRST_REFUSAL
from app.research.backtest.kernel.account import (
    capped,
    compute_equity,
    compute_free_cash,
    compute_gross_exposure,
    is_below_minimum,
    market_price,
)
from app.research.backtest.kernel.candles import load_candle, price_at
from app.research.backtest.kernel.entries import check_account, enter, is_out_of_band
from app.research.backtest.kernel.fills import book_fill, move_to_dust, sweep_dust
from app.research.backtest.kernel.layout import (
    ALREADY_IN_POSITION,
    BY_SIGNAL,
    CONFIDENT,
    DAY_MS,
    FILLED,
    NO_POSITION,
    NOT_POSITIVE,
    OPEN,
    PRICE_BAND,
    TO_DUST,
    Account,
    Cycles,
    Desk,
    Market,
    State,
)
from app.research.backtest.kernel.resting import find_oldest, judge_bar
from app.domain.portfolio import worth
from app.research.backtest.native import compiled, inlined, inner
from app.risk import limit_rules
NEVER_HALTED = -(2**62)
"""Less than any equity."""


@inlined
def run_busy(desk: Desk, market: Market, holdings: np.ndarray, fills: np.ndarray, bar: int) -> int:
    """Run a cycle in which something may be filled: what came of it.

    The cycle, its time and its quote stand in `desk.moment`, the equity and the peak of before in `desk.account`.
    """
    account, holding, candle, moment = desk.account, desk.holding, desk.candle, desk.moment
    verdict, judged = np.int64(market.verdicts[bar]), bar
    if holding.resting > 0:
        oldest = find_oldest(holding)
        first = max(desk.facts.first_bar, bar - desk.rules.window_bars + 1)
        while judged > first and market.open_time_ms[judged - 1] >= oldest:
            judged -= 1
        while judged < bar and holding.resting > 0:
            load_candle(candle, market, judged)
            judge_bar(desk, fills)
            judged += 1
    load_candle(candle, market, bar)
    if holding.resting > 0:
        judge_bar(desk, fills)
    mark(account, holdings, desk.rules.max_drawdown_ppm, moment.cycle)
    if verdict == CONFIDENT:
        moment.true_range = market.true_ranges[bar] if len(market.true_ranges) else 0
        moment.share = market.shares[bar] if len(market.shares) else 0
        moment.is_too_old = market.too_old[bar] if len(market.too_old) else False
        booked = account.fills
        verdict = act(desk, holdings, np.int64(market.sides[bar]))
        if booked < account.fills and booked < len(fills):
            fills[booked] = desk.fill
        account.equity = compute_equity(account, holdings)
    account.peak = max(account.peak, account.equity)
    return verdict


@compiled
def run_cycles(market: Market, facts: np.ndarray, rules: np.ndarray, state: State, cycles: Cycles) -> None:
    """Run every cycle, as `ExecutionAgent.settle` and `Snapshot.followed_by` do.

    What most cycles do is done here, on numbers that need no memory.
    """
    account, moment, holdings = state.account[0], state.moment[0], state.holdings
    verdicts, times, opening, exact = market.verdicts, market.open_time_ms, market.open, market.exact
    bars, order, outcomes, equities, held = cycles.bars, cycles.series, cycles.outcomes, cycles.equity, cycles.held
    deepest_ppm = rules[0].max_drawdown_ppm
    equity, peak, day_ends_ms, is_held = account.equity, account.peak, account.day_ends_ms, account.positions > 0
    safe = equity if deepest_ppm > 0 else NEVER_HALTED
    is_single = len(facts) == 1
    for cycle in range(len(outcomes)):
        bar, series = (cycle, 0) if is_single else (bars[cycle], order[cycle])
        verdict = verdicts[bar]
        if verdict < FIRST_REFUSAL:
            now_ms = times[bar + 1]
            if now_ms >= day_ends_ms:
                day_ends_ms = begin_day(account, equity, now_ms)
            holding = holdings[series]
            if verdict == CONFIDENT or holding.resting > 0:
                quote = price_at(opening, exact, OPEN, bar + 1)
                moment.cycle, moment.now_ms, moment.quote = cycle, now_ms, quote
                account.equity, account.peak, holding.mark = equity, peak, quote
                desk = Desk(
                    rules[0], facts[series], account, holding, state.candle[0], moment, state.fill[0]
                )
                verdict = run_busy(desk, market, holdings, state.fills, bar)
                equity, peak, is_held = account.equity, account.peak, account.positions > 0
                safe = peak if deepest_ppm > 0 and account.halted_in < 0 else NEVER_HALTED
            else:
                quantity = holding.quantity + holding.dust
                if quantity != 0:
                    holding.mark = price_at(opening, exact, OPEN, bar + 1)
                    value = worth(quantity, holding.mark)
                    equity += value - holding.worth
                    holding.worth = value
                    if equity > peak:
                        peak = equity
                        safe = peak if safe > NEVER_HALTED else safe
                if equity < safe:
                    safe = equity
                    if limit_rules.loss_ppm(peak, equity) >= deepest_ppm:
                        account.halted_in, safe = cycle, NEVER_HALTED
        outcomes[cycle], equities[cycle], held[cycle] = verdict, equity, is_held


@inner
def begin_day(account: Account, equity: int, now_ms: int) -> int:
    """`Snapshot.on_day_of`; when the day ends."""
    account.day_equity, account.trades = equity, 0
    return (now_ms // DAY_MS + 1) * DAY_MS


@inner
def mark(account: Account, holdings: np.ndarray, deepest_ppm: int, cycle: int) -> None:
    """Work out the equity at the newest quotes, and halt where it has fallen to the limit (`RiskAgent.find_halt`)."""
    account.equity = compute_equity(account, holdings)
    if deepest_ppm == 0 or account.equity >= account.peak or account.halted_in >= 0:
        return
    if limit_rules.loss_ppm(account.peak, account.equity) >= deepest_ppm:
        account.halted_in = cycle


@inner
def act(desk: Desk, holdings: np.ndarray, side: int) -> int:
    """`RiskAgent.review`, and what is done where it approves."""
    held = desk.holding.quantity
    if held == 0:
        if side < 0 and not desk.rules.allow_short:
            return NO_POSITION
        outcome = check_account(desk)
        if outcome == CONFIDENT:
            desk.moment.free_cash = compute_free_cash(desk.account, holdings)
            desk.moment.gross_exposure = compute_gross_exposure(holdings) if desk.rules.max_gross_ppm > 0 else 0
            outcome = enter(desk, side)
        return outcome
    if (held > 0) == (side > 0):
        return ALREADY_IN_POSITION
    if is_out_of_band(desk):
        return PRICE_BAND
    return _leave(desk)


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
