"""Cycles in which nothing can be filled, compiled: all they change is what the account is worth."""

from __future__ import annotations

from app.domain.money import UNITS
from app.domain.portfolio import worth
from app.research.backtest.books import FIRST_REFUSAL
from app.research.backtest.kernel.candles import price_at
from app.research.backtest.kernel.layout import (
    ALREADY_IN_POSITION,
    CONFIDENT,
    NO_POSITION,
    OPEN,
    Account,
    Cycles,
    Holding,
    Market,
    Progress,
    State,
)
from app.research.backtest.native import QUICKLY_DIVIDED, divide_quickly, inlined, within_bounds
from app.research.backtest.units import nearest_units
from app.risk import limit_rules

NEVER_HALTED = -(2**62)
"""Less than any equity."""

_MOST_CASH = 2**61
"""To which a quickly divided amount may be added."""


@inlined
def go_to_signal(progress: Progress, cycles: Cycles, place: int) -> None:
    """Look out for a signal of those that passed the gate."""
    progress.place = place
    progress.next_busy = cycles.busy[place] if place < len(cycles.busy) else progress.count


@inlined
def end_days(state: State, cycles: Cycles) -> None:
    """`Snapshot.on_day_of` the day of the cycle."""
    account, progress = state.account[0], state.progress[0]
    while progress.cycle >= progress.day_end:
        cycles.daily[progress.day] = account.day_equity = account.equity
        account.trades = 0
        progress.day += 1
        progress.day_end = cycles.day_ends[progress.day]


@inlined
def find_idle(held: int, side: int, allow_short: bool) -> int:  # noqa: FBT001 - numba has no keyword-only arguments
    """What comes of a signal that asks for nothing; `CONFIDENT` where it asks for something."""
    if held == 0:
        return NO_POSITION if side < 0 and not allow_short else CONFIDENT
    return ALREADY_IN_POSITION if (held > 0) == (side > 0) else CONFIDENT


@inlined
def mark_quietly(account: Account, holding: Holding, progress: Progress, deepest_ppm: int) -> None:
    """The equity at a new quote of one series, and the halt where it has fallen to the limit.

    A loss of the peak that is no larger than one that was checked need not be checked again.
    """
    quantity = holding.quantity + holding.dust
    if quantity != 0:
        value = worth(quantity, holding.mark)
        account.equity = within_bounds(within_bounds(account.equity - holding.worth) + value)
        holding.worth = value
        if account.equity > account.peak:
            account.peak = account.equity
            progress.safe = account.peak if progress.safe > NEVER_HALTED else NEVER_HALTED
    if account.equity < progress.safe:
        progress.safe = account.equity
        if limit_rules.loss_ppm(account.peak, account.equity) >= deepest_ppm:
            account.halted_in, progress.safe = progress.cycle, NEVER_HALTED


@inlined
def can_pass(state: State) -> bool:
    """Whether nothing can happen before the next signal that asks for something: of one series, as several differ."""
    account, progress, holding = state.account[0], state.progress[0], state.holdings[0]
    is_watched = progress.safe > NEVER_HALTED
    may_fall = is_watched and (holding.quantity + holding.dust != 0 or account.equity < progress.safe)
    return len(state.holdings) == 1 and holding.resting == 0 and not may_fall


@inlined
def pass_by(market: Market, state: State, cycles: Cycles) -> None:
    """Go to the next signal that asks for something."""
    account, progress, holding = state.account[0], state.progress[0], state.holdings[0]
    is_noted, quantity, is_held = len(cycles.outcomes) > 0, holding.quantity + holding.dust, account.positions > 0
    while progress.next_busy < progress.count:
        outcome = find_idle(holding.quantity, cycles.sides[progress.place], state.rules[0].allow_short)
        if outcome == CONFIDENT:
            break
        if is_noted:
            cycles.outcomes[progress.next_busy] = outcome
        go_to_signal(progress, cycles, progress.place + 1)
    while progress.cycle < progress.next_busy:
        end_days(state, cycles)
        stop = min(progress.next_busy, progress.day_end)
        if is_noted:
            cycles.held[progress.cycle : stop] = is_held
        if quantity != 0:
            _mark_until(market, state, cycles, stop, quantity)
        elif is_noted:
            cycles.equity[progress.cycle : stop] = account.equity
        progress.cycle = stop


@inlined
def _mark_until(market: Market, state: State, cycles: Cycles, stop: int, quantity: int) -> None:
    """The equity after the cycles that are passed by; after the last alone where no one asks for the others."""
    account, holding, equity = state.account[0], state.holdings[0], state.account[0].equity
    cycle, cash = state.progress[0].cycle, account.cash
    is_noted = len(cycles.outcomes) > 0
    if not is_noted:
        last = stop - 1
        while last > cycle and market.verdicts[last] >= FIRST_REFUSAL:
            last -= 1
        cycle, stop = last, last + 1
    elif _mark_quickly(market, cycles, cycle, stop, quantity, cash):
        cycle, equity = stop, cycles.equity[stop - 1]
        holding.mark = price_at(market.open, market.exact, OPEN, stop)
    for one in range(cycle, stop):
        if market.verdicts[one] < FIRST_REFUSAL:
            holding.mark = price_at(market.open, market.exact, OPEN, one + 1)
            equity = within_bounds(cash + worth(quantity, holding.mark))
        if is_noted:
            cycles.equity[one] = equity
    account.equity, holding.worth = equity, equity - cash


@inlined
def _mark_quickly(market: Market, cycles: Cycles, start: int, stop: int, quantity: int, cash: int) -> bool:
    """Write the equity after some cycles; False where not all of it is right, as one is refused or a number is large.

    The loop has no branches, so that the compiler does many cycles at once.
    """
    if market.exact.shape[1] or abs(cash) >= _MOST_CASH:
        return False
    opens, verdicts, unfit = market.open[start + 1 : stop + 1], market.verdicts[start:stop], 0
    equities = cycles.equity[start:stop]
    for one in range(len(equities)):
        value = divide_quickly(quantity, int(nearest_units(opens[one])), UNITS)
        equities[one] = cash + value
        unfit += (verdicts[one] >= FIRST_REFUSAL) | (value >= QUICKLY_DIVIDED) | (value <= -QUICKLY_DIVIDED)
    return unfit == 0
