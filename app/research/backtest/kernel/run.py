"""One pass over the bars, compiled: what the engine, its agents and the desk do in a cycle, on whole numbers.

The arithmetic is that of the live broker and limits (`native`); the order in which it is asked is that of
`TradingEngine`, `RiskAgent`, `Desk`, `judge_resting` and `market_orders`, and each function here names its model. The
parity suite holds both against each other. Imported only where a compiled backtest runs: it loads numba.
"""

from __future__ import annotations

from app.research.backtest.books import FIRST_REFUSAL
from app.research.backtest.kernel.account import capped, compute_equity, is_below_minimum, market_price
from app.research.backtest.kernel.entries import check_account, enter, is_out_of_band
from app.research.backtest.kernel.fills import book_fill, move_to_dust, sweep_dust
from app.research.backtest.kernel.layout import (
    ALREADY_IN_POSITION,
    BAR,
    BY_SIGNAL,
    CONFIDENT,
    CYCLE,
    DAY_END,
    DAY_EQUITY,
    DAY_MS,
    DUST,
    EQUITY,
    FILLED,
    HALTED_IN,
    MARK,
    NO_POSITION,
    NOT_POSITIVE,
    NOW,
    OPEN,
    PEAK,
    PRICE_BAND,
    QUANTITY,
    QUOTE,
    RESTING,
    SERIES,
    TO_DUST,
    TRADES,
    Cycles,
    Facts,
    Market,
    Rules,
    State,
)
from app.research.backtest.kernel.resting import judge_resting
from app.research.backtest.native import compiled
from app.risk import limit_rules
from ml.bars import IntegerArray


@compiled
def run_cycles(market: Market, facts: Facts, rules: Rules, state: State, cycles: Cycles) -> None:
    """Run every cycle, as `ExecutionAgent.settle` and `Snapshot.followed_by` do.

    What most cycles do is done here, with few arrays at hand: each that a call is given costs time.
    """
    account, holdings, at = state.account, state.holdings, state.at
    verdicts, opening, open_time_ms = market.verdicts, market.opening, market.open_time_ms
    outcomes, equity, held = cycles.outcomes, cycles.equity, cycles.held
    cycle_bars, cycle_series = cycles.bars, cycles.series
    for cycle in range(len(cycle_bars)):
        bar, series = cycle_bars[cycle], cycle_series[cycle]
        verdict = verdicts[bar]
        if verdict < FIRST_REFUSAL:
            at[CYCLE], at[SERIES], at[BAR] = cycle, series, bar
            at[NOW], at[QUOTE] = open_time_ms[bar + 1], opening[bar + 1]
            if at[NOW] >= account[DAY_END]:
                _begin_day(account, at[NOW])
            holdings[series, MARK] = at[QUOTE]
            if holdings[series, RESTING] > 0:
                judge_resting(market, facts, rules, state)
            _mark(account, holdings, rules.max_drawdown_ppm, cycle)
            if verdict == CONFIDENT:
                verdict = _act(market, facts, rules, state)
                account[EQUITY] = compute_equity(account, holdings)
            account[PEAK] = max(account[PEAK], account[EQUITY])
        outcomes[cycle], equity[cycle], held[cycle] = verdict, account[EQUITY], account[OPEN] > 0


@compiled
def _begin_day(account: IntegerArray, now: int) -> None:
    """`Snapshot.on_day_of`."""
    account[DAY_END] = (now // DAY_MS + 1) * DAY_MS
    account[DAY_EQUITY], account[TRADES] = account[EQUITY], 0


@compiled
def _mark(account: IntegerArray, holdings: IntegerArray, deepest_ppm: int, cycle: int) -> None:
    """Work out the equity at the newest quotes, and halt where it has fallen to the limit (`RiskAgent.find_halt`)."""
    account[EQUITY] = compute_equity(account, holdings)
    if deepest_ppm == 0 or account[EQUITY] >= account[PEAK] or account[HALTED_IN] >= 0:
        return
    if limit_rules.loss_ppm(account[PEAK], account[EQUITY]) >= deepest_ppm:
        account[HALTED_IN] = cycle


@compiled
def _act(market: Market, facts: Facts, rules: Rules, state: State) -> int:
    """`RiskAgent.review`, and what is done where it approves."""
    at = state.at
    side, held = market.sides[at[BAR]], state.holdings[at[SERIES], QUANTITY]
    if held == 0:
        if side < 0 and not rules.allow_short:
            return NO_POSITION
        refusal = check_account(market, rules, state)
        return refusal if refusal != CONFIDENT else enter(market, facts, rules, state, side)
    if (held > 0) == (side > 0):
        return ALREADY_IN_POSITION
    if is_out_of_band(market, rules, at):
        return PRICE_BAND
    return _leave(market, facts, rules, state)


@compiled
def _leave(market: Market, facts: Facts, rules: Rules, state: State) -> int:
    """`market_orders.leave` of the whole position."""
    at = state.at
    series = at[SERIES]
    holding = state.holdings[series]
    held = holding[QUANTITY]
    side, quantity = (-1, held) if held > 0 else (1, -held)
    price = capped(facts, rules, state, (side, market_price(market, facts, rules, at, side), quantity))
    if price <= 0:
        return NOT_POSITIVE
    if side < 0:
        if is_below_minimum(facts, series, price, quantity + holding[DUST]):
            move_to_dust(state, series)
            return TO_DUST
        quantity += holding[DUST]
        sweep_dust(holding)
    book_fill(facts, rules, state, (side, price, quantity, at[QUOTE], BY_SIGNAL))
    state.account[TRADES] += 1
    return FILLED
