"""One pass over the bars, compiled: what the engine, its agents and the desk do in a cycle, on whole numbers.

The arithmetic is that of the live broker and limits (`native`); the order in which it is asked is that of
`TradingEngine`, `RiskAgent`, `Desk`, `judge_resting` and `market_orders`, and each function here names its model. The
parity suite holds both against each other. Imported only where a compiled backtest runs: it loads numba.
"""

from __future__ import annotations

import numpy as np

from app.research.backtest.books import FIRST_REFUSAL
from app.research.backtest.kernel.account import compute_equity
from app.research.backtest.kernel.actions import act
from app.research.backtest.kernel.candles import load_candle, price_at
from app.research.backtest.kernel.layout import (
    CONFIDENT,
    OPEN,
    Account,
    Candle,
    Cycles,
    Desk,
    Market,
    State,
)
from app.research.backtest.kernel.quiet import (
    NEVER_HALTED,
    can_pass,
    end_days,
    find_idle,
    go_to_signal,
    mark_quietly,
    pass_by,
)
from app.research.backtest.kernel.resting import find_oldest, judge_bar
from app.research.backtest.native import borrowed, compiled, inlined, inner
from app.risk import limit_rules


@compiled
def run_cycles(market: Market, state: State, cycles: Cycles) -> None:
    """Run every cycle, as `ExecutionAgent.settle` and `Snapshot.followed_by` do."""
    market, state, cycles = borrowed(market), borrowed(state), borrowed(cycles)
    account, progress, day_ends = state.account[0], state.progress[0], cycles.day_ends
    if len(day_ends) == 0:
        return
    progress.count, progress.day_end = day_ends[-1], day_ends[0]
    progress.safe = account.equity if state.rules[0].max_drawdown_ppm > 0 else NEVER_HALTED
    go_to_signal(progress, cycles, 0)
    while progress.cycle < progress.count:
        if can_pass(state):
            pass_by(market, state, cycles)
        if progress.cycle < progress.count:
            _run_cycle(market, state, cycles)
    cycles.daily[progress.day :] = account.equity


@inlined
def _run_cycle(market: Market, state: State, cycles: Cycles) -> None:
    account, progress = state.account[0], state.progress[0]
    end_days(state, cycles)
    cycle = progress.cycle
    bar, series = (cycle, 0) if len(cycles.bars) == 0 else (cycles.bars[cycle], cycles.series[cycle])
    verdict, side = int(np.int64(market.verdicts[bar])), 0
    if verdict < FIRST_REFUSAL:
        holding = state.holdings[series]
        holding.mark = price_at(market.open, market.exact, OPEN, bar + 1)
        if cycle == progress.next_busy:
            side = int(np.int64(cycles.sides[progress.place]))
            verdict = find_idle(holding.quantity, side, state.rules[0].allow_short)
        if holding.resting > 0 or (side != 0 and verdict == CONFIDENT):
            outcome = _trade(market, state, cycles, bar, series, side)
            verdict = outcome if side != 0 else verdict
        else:
            mark_quietly(account, holding, progress, state.rules[0].max_drawdown_ppm)
    if cycle == progress.next_busy:
        go_to_signal(progress, cycles, progress.place + 1)
    if len(cycles.outcomes) > 0:
        cycles.outcomes[cycle], cycles.equity[cycle], cycles.held[cycle] = (
            verdict,
            account.equity,
            account.positions > 0,
        )
    progress.cycle = cycle + 1


@inlined
def _trade(market: Market, state: State, cycles: Cycles, bar: int, series: int, side: int) -> int:
    """A cycle in which something may be filled; what came of the signal, of which `side` is 0 where there is none."""
    account, moment, progress, rules = state.account[0], state.moment[0], state.progress[0], state.rules[0]
    holding, holdings, fills = state.holdings[series], state.holdings, state.fills
    moment.cycle, moment.now_ms, moment.quote = progress.cycle, market.open_time_ms[bar + 1], holding.mark
    moment.side, moment.true_range = side, market.true_ranges[bar] if len(market.true_ranges) else 0
    moment.share = market.shares[bar] if len(market.shares) else 0
    moment.is_too_old = market.too_old[bar] if len(market.too_old) else False
    candle = state.candle[0] if holding.resting > 0 else _look(market, state, cycles)
    desk = Desk(rules, state.facts[series], account, holding, candle, moment, state.fill[0])
    if holding.resting > 0:
        _judge_resting(desk, market, fills, bar)
    _mark(account, holdings, rules.max_drawdown_ppm, progress.cycle)
    outcome = CONFIDENT
    if side != 0:
        booked = account.fills
        outcome = act(desk, holdings)
        if booked < account.fills and booked < len(fills):
            fills[booked] = desk.fill
        account.equity = compute_equity(account, holdings)
    account.peak = max(account.peak, account.equity)
    progress.safe = account.peak if rules.max_drawdown_ppm > 0 and account.halted_in < 0 else NEVER_HALTED
    return outcome


@inner
def _mark(account: Account, holdings: np.ndarray, deepest_ppm: int, cycle: int) -> None:
    """Work out the equity at the newest quotes, and halt where it has fallen to the limit (`RiskAgent.find_halt`)."""
    account.equity = compute_equity(account, holdings)
    if deepest_ppm == 0 or account.equity >= account.peak or account.halted_in >= 0:
        return
    if limit_rules.loss_ppm(account.peak, account.equity) >= deepest_ppm:
        account.halted_in = cycle


@inlined
def _judge_resting(desk: Desk, market: Market, fills: np.ndarray, bar: int) -> None:
    """`resting.judge_resting` on the candles of the cycle's window not judged yet; looks at the last of them."""
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


@inlined
def _look(market: Market, state: State, cycles: Cycles) -> Candle:
    """The bar of the signal; that of the next ones are looked at with it, as each is far from the others in memory."""
    progress, looks, busy = state.progress[0], state.looks, cycles.busy
    if not progress.first_look <= progress.place < progress.looks_end:
        progress.first_look = progress.place
        progress.looks_end = min(progress.place + len(looks), len(busy))
        for place in range(progress.first_look, progress.looks_end):
            bar = busy[place] if len(cycles.bars) == 0 else cycles.bars[busy[place]]
            load_candle(looks[place - progress.first_look], market, bar)
    candle: Candle = looks[progress.place - progress.first_look]
    return candle
