"""One pass over the bars, compiled: what the engine, its agents and the desk do in a cycle, on whole numbers.

The arithmetic is that of the live broker and limits (`native`); the order in which it is asked is that of
`TradingEngine`, `RiskAgent`, `Desk`, `judge_resting` and `market_orders`, and each function here names its model. The
parity suite holds both against each other. Imported only where a compiled backtest runs: it loads numba.
"""

from __future__ import annotations

import numpy as np

from app.domain.portfolio import worth
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
from app.research.backtest.native import compiled, inlined, inner, within_bounds
from app.risk import limit_rules
from ml.bars import IntegerArray

NEVER_HALTED = -(2**62)
"""Less than any equity."""


@compiled
def run_cycles(market: Market, facts: np.ndarray, rules: np.ndarray, state: State, cycles: Cycles) -> None:
    """Run every cycle, as `ExecutionAgent.settle` and `Snapshot.followed_by` do.

    What most cycles do is done here, on numbers that need no memory.
    """
    account, moment, holdings, fills, looks = (
        state.account[0],
        state.moment[0],
        state.holdings,
        state.fills,
        state.looks,
    )
    verdicts, times, opening, exact = market.verdicts, market.open_time_ms, market.open, market.exact
    true_ranges, shares, too_old = market.true_ranges, market.shares, market.too_old
    order, bars, busy, sides, day_ends = cycles.series, cycles.bars, cycles.busy, cycles.sides, cycles.day_ends
    outcomes, equities, held, daily = cycles.outcomes, cycles.equity, cycles.held, cycles.daily
    count, is_single, is_noted = (day_ends[-1] if len(day_ends) else 0), len(facts) == 1, len(outcomes) > 0
    deepest_ppm, allow_short = rules[0].max_drawdown_ppm, rules[0].allow_short
    equity, peak, is_held = account.equity, account.peak, False
    safe = equity if deepest_ppm > 0 else NEVER_HALTED
    cycle, day, day_end, next_, first_look, looks_end = 0, 0, day_ends[0] if count else 0, 0, 0, 0
    next_busy = busy[0] if len(busy) else count
    while cycle < count:
        holding = holdings[0]
        quantity = holding.quantity + holding.dust
        if is_single and holding.resting == 0 and (safe == NEVER_HALTED or (quantity == 0 and equity >= safe)):
            # Nothing can happen before the next signal that may be acted on.
            while next_busy < count:
                outcome = find_idle(holding.quantity, sides[next_], allow_short)
                if outcome == CONFIDENT:
                    break
                if is_noted:
                    outcomes[next_busy] = outcome
                next_ += 1
                next_busy = busy[next_] if next_ < len(busy) else count
            while cycle < next_busy:
                while cycle >= day_end:
                    day, day_end = end_day(account, daily, day_ends, day, equity)
                stop = min(next_busy, day_end)
                if quantity != 0:
                    if is_noted:
                        for one in range(cycle, stop):
                            if verdicts[one] < FIRST_REFUSAL:
                                holding.mark = price_at(opening, exact, OPEN, one + 1)
                                equity = within_bounds(account.cash + worth(quantity, holding.mark))
                            equities[one] = equity
                    else:
                        seen = stop - 1
                        while seen >= cycle and verdicts[seen] >= FIRST_REFUSAL:
                            seen -= 1
                        if seen >= cycle:
                            holding.mark = price_at(opening, exact, OPEN, seen + 1)
                            equity = within_bounds(account.cash + worth(quantity, holding.mark))
                    holding.worth = equity - account.cash
                elif is_noted:
                    equities[cycle:stop] = equity
                if is_noted:
                    held[cycle:stop] = is_held
                cycle = stop
            if cycle == count:
                break
        while cycle >= day_end:
            day, day_end = end_day(account, daily, day_ends, day, equity)
        bar, series = (cycle, 0) if is_single else (bars[cycle], order[cycle])
        is_busy, verdict = cycle == next_busy, np.int64(verdicts[bar])
        if verdict < FIRST_REFUSAL:
            holding = holdings[series]
            holding.mark = price_at(opening, exact, OPEN, bar + 1)
            outcome = find_idle(holding.quantity, sides[next_], allow_short) if is_busy else verdict
            if holding.resting > 0 or (is_busy and outcome == CONFIDENT):
                moment.cycle, moment.now_ms, moment.quote = cycle, times[bar + 1], holding.mark
                moment.side = sides[next_] if is_busy else 0
                moment.true_range = true_ranges[bar] if len(true_ranges) else 0
                moment.share = shares[bar] if len(shares) else 0
                moment.is_too_old = too_old[bar] if len(too_old) else False
                account.equity, account.peak = equity, peak
                if holding.resting > 0:
                    desk = Desk(rules[0], facts[series], account, holding, state.candle[0], moment, state.fill[0])
                    judge_resting(desk, market, fills, bar)
                else:
                    if next_ >= looks_end or next_ < first_look:
                        first_look, looks_end = next_, look_ahead(market, cycles, looks, next_)
                    desk = Desk(
                        rules[0], facts[series], account, holding, looks[next_ - first_look], moment, state.fill[0]
                    )
                mark(account, holdings, deepest_ppm, cycle)
                if is_busy:
                    booked = account.fills
                    verdict = act(desk, holdings)
                    if booked < account.fills and booked < len(fills):
                        fills[booked] = desk.fill
                    account.equity = compute_equity(account, holdings)
                equity, peak, is_held = account.equity, max(account.peak, account.equity), account.positions > 0
                safe = peak if deepest_ppm > 0 and account.halted_in < 0 else NEVER_HALTED
            else:
                verdict, quantity = outcome, holding.quantity + holding.dust
                if quantity != 0:
                    value = worth(quantity, holding.mark)
                    equity = within_bounds(within_bounds(equity - holding.worth) + value)
                    holding.worth = value
                    if equity > peak:
                        peak = equity
                        safe = peak if safe > NEVER_HALTED else safe
                if equity < safe:
                    safe = equity
                    if limit_rules.loss_ppm(peak, equity) >= deepest_ppm:
                        account.halted_in, safe = cycle, NEVER_HALTED
        if is_busy:
            next_ += 1
            next_busy = busy[next_] if next_ < len(busy) else count
        if is_noted:
            outcomes[cycle], equities[cycle], held[cycle] = verdict, equity, is_held
        cycle += 1
    account.equity = equity
    daily[day:] = equity


@inlined
def end_day(account: Account, daily: IntegerArray, day_ends: IntegerArray, day: int, equity: int) -> tuple[int, int]:
    """`Snapshot.on_day_of`; the next day, and the first cycle after it."""
    daily[day] = account.day_equity = equity
    account.trades = 0
    return day + 1, day_ends[day + 1]


@inlined
def find_idle(held: int, side: int, allow_short: bool) -> int:  # noqa: FBT001 - numba has no keyword-only arguments
    """What comes of a signal that asks for nothing; `CONFIDENT` where it asks for something."""
    if held == 0:
        return NO_POSITION if side < 0 and not allow_short else CONFIDENT
    return ALREADY_IN_POSITION if (held > 0) == (side > 0) else CONFIDENT


@inlined
def judge_resting(desk: Desk, market: Market, fills: np.ndarray, bar: int) -> None:
    """`resting.judge_resting` on the candles of the cycle's window that are not judged yet; looks at the last of them."""
    holding, times = desk.holding, market.open_time_ms
    judged, oldest = bar, find_oldest(holding)
    first = max(desk.facts.first_bar, bar - desk.rules.window_bars + 1)
    while judged > first and times[judged - 1] >= oldest:
        judged -= 1
    while judged < bar and holding.resting > 0:
        load_candle(desk.candle, market, judged)
        judge_bar(desk, fills)
        judged += 1
    load_candle(desk.candle, market, bar)
    if holding.resting > 0:
        judge_bar(desk, fills)


@inner
def look_ahead(market: Market, cycles: Cycles, looks: np.ndarray, next_: int) -> int:
    """Look at the bars of the next signals, all at once, as each is far from the others in memory; where that ends."""
    stop = min(next_ + len(looks), len(cycles.busy))
    for place in range(next_, stop):
        cycle = cycles.busy[place]
        load_candle(looks[place - next_], market, cycles.bars[cycle] if len(cycles.bars) else cycle)
    return stop


@inner
def mark(account: Account, holdings: np.ndarray, deepest_ppm: int, cycle: int) -> None:
    """Work out the equity at the newest quotes, and halt where it has fallen to the limit (`RiskAgent.find_halt`)."""
    account.equity = compute_equity(account, holdings)
    if deepest_ppm == 0 or account.equity >= account.peak or account.halted_in >= 0:
        return
    if limit_rules.loss_ppm(account.peak, account.equity) >= deepest_ppm:
        account.halted_in = cycle


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
