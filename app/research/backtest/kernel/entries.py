"""Holds an entry to the limits, sizes and fills it, compiled: `RiskAgent` and `app.broker.market_orders`."""

from __future__ import annotations

from app.broker import fill_rules
from app.domain.money import LARGEST
from app.research.backtest.kernel.account import exposure, free_cash, is_below_minimum, market_price
from app.research.backtest.kernel.fills import book_fill, protect
from app.research.backtest.kernel.layout import (
    AT_RISK,
    BAR,
    BELOW_MINIMUM,
    BY_SIGNAL,
    CONFIDENT,
    COOLDOWN,
    DAILY_LOSS,
    DAY_EQUITY,
    DUST,
    EQUITY,
    FILLED,
    FIXED,
    HALTED,
    HALTED_IN,
    HAS_LOST,
    INSUFFICIENT_CASH,
    LAST_LOSS,
    LOSSES,
    MAX_DRAWDOWN,
    MAX_GROSS,
    MAX_POSITIONS,
    MAX_SYMBOL,
    MAX_TRADES,
    MODEL_TOO_OLD,
    NOT_POSITIVE,
    NOW,
    OPEN,
    PEAK,
    PRICE_BAND,
    QUOTE,
    SERIES,
    SIZE_UNKNOWN,
    SIZE_ZERO,
    STOP_UNKNOWN,
    TRADES,
    VOLUME_SHARE,
    Facts,
    Market,
    Rules,
    State,
)
from app.research.backtest.native import compiled
from app.risk import limit_rules, protection, sizing
from ml.bars import IntegerArray


@compiled
def check_account(market: Market, rules: Rules, state: State) -> int:
    """The checks of `RiskAgent._review_entry` before an order is sized; `CONFIDENT` where all pass."""
    account, at = state.account, state.at
    if account[HALTED_IN] >= 0:
        return HALTED
    refusal = _check_losses(rules, state)
    if refusal != CONFIDENT:
        return refusal
    if 0 < rules.max_trades <= account[TRADES]:
        return MAX_TRADES
    if rules.max_positions > 0 and account[OPEN] >= rules.max_positions:
        return MAX_POSITIONS
    if is_out_of_band(market, rules, at):
        return PRICE_BAND
    return MODEL_TOO_OLD if market.too_old[at[BAR]] else CONFIDENT


@compiled
def _check_losses(rules: Rules, state: State) -> int:
    """`limits.check_daily_loss`, `check_drawdown` and `check_cooldown`."""
    account = state.account
    daily, deepest = rules.max_daily_loss_ppm, rules.max_drawdown_ppm
    if daily > 0 and limit_rules.loss_ppm(account[DAY_EQUITY], account[EQUITY]) >= daily:
        return DAILY_LOSS
    peak = max(account[PEAK], account[EQUITY])
    if deepest > 0 and limit_rules.loss_ppm(peak, account[EQUITY]) >= deepest:
        return MAX_DRAWDOWN
    return COOLDOWN if _is_cooling_down(rules, account, state.at[NOW]) else CONFIDENT


@compiled
def _is_cooling_down(rules: Rules, account: IntegerArray, now: int) -> bool:
    """`limits.check_cooldown`."""
    if rules.cooldown_losses == 0 or account[HAS_LOST] == 0 or account[LOSSES] < rules.cooldown_losses:
        return False
    return bool(now < account[LAST_LOSS] + rules.cooldown_ms)


@compiled
def is_out_of_band(market: Market, rules: Rules, at: IntegerArray) -> bool:
    """`limits.check_price_band`."""
    if rules.price_band_ppm == 0:
        return False
    return limit_rules.distance_ppm(at[QUOTE], market.close[at[BAR]]) > rules.price_band_ppm


@compiled
def enter(market: Market, facts: Facts, rules: Rules, state: State, side: int) -> int:
    """`RiskAgent._size`, `market_orders.enter` and `market_orders.protect`."""
    bar, price = state.at[BAR], state.at[QUOTE]
    true_range = market.true_ranges[bar]
    stop = protection.multiple_of(true_range, rules.stop_hundredths)
    target = protection.multiple_of(true_range, rules.target_hundredths)
    refusal, budget, most = _size(market, facts, rules, state, stop)
    if refusal != CONFIDENT:
        return refusal
    if (rules.has_stop or rules.target_hundredths > 0) and not _are_placeable(rules, stop, target, price):
        return STOP_UNKNOWN
    refusal, entry = _buy_or_sell_short(market, facts, rules, state, (side, budget, most))
    if refusal == FILLED:
        state.account[TRADES] += 1
        protect(market, facts, rules, state, (entry, stop, target))
    return refusal


@compiled
def _size(market: Market, facts: Facts, rules: Rules, state: State, stop: int) -> tuple[int, int, int]:
    """What an entry may spend: what refuses it, the budget, and the largest quantity."""
    account, at = state.account, state.at
    share, whole = _find_share(market, rules, at, stop), max(free_cash(state), 0)
    if share <= 0:
        return SIZE_UNKNOWN if share < 0 else SIZE_ZERO, 0, 0
    base = whole if rules.sizing == FIXED else max(account[EQUITY], 0)
    budget = sizing.spend(base, share, whole)
    if budget < limit_rules.least_cost(facts.lot[at[SERIES]], at[QUOTE]):
        return INSUFFICIENT_CASH, 0, 0
    refusal, budget, most = _cut(market, rules, state, budget)
    if refusal == CONFIDENT and budget < facts.minimum_notional[at[SERIES]]:
        refusal = BELOW_MINIMUM
    return refusal, budget, most


@compiled
def _buy_or_sell_short(
    market: Market, facts: Facts, rules: Rules, state: State, wanted: tuple[int, int, int]
) -> tuple[int, int]:
    """`market_orders.enter` of (side, budget, largest quantity): what came of it, and the price."""
    side, budget, most = wanted
    series = state.at[SERIES]
    lot, price = facts.lot[series], market_price(market, facts, rules, state.at, side)
    if price <= 0:
        return NOT_POSITIVE, price
    paid = fill_rules.affordable_quantity(max(0, min(budget, free_cash(state))), price, lot, rules.fee_ppm)
    room = LARGEST - state.holdings[series, DUST]
    quantity = min(paid, room // lot * lot, most // lot * lot)
    if quantity == 0:
        return INSUFFICIENT_CASH, price
    if is_below_minimum(facts, series, price, quantity):
        return BELOW_MINIMUM, price
    book_fill(facts, rules, state, (side, price, quantity, state.at[QUOTE], BY_SIGNAL))
    return FILLED, price


@compiled
def _find_share(market: Market, rules: Rules, at: IntegerArray, stop: int) -> int:
    """`sizing.find_share`, -1 where it is not known."""
    if rules.sizing == FIXED:
        return rules.cash_ppm
    if rules.sizing == AT_RISK:
        return sizing.share_at_risk(rules.risk_ppm, at[QUOTE], stop) if stop > 0 else -1
    return int(market.shares[at[BAR]])


@compiled
def _are_placeable(rules: Rules, stop: int, target: int, price: int) -> bool:
    """`limits.check_stop` of the orders that are asked for."""
    if not rules.has_stop:
        return protection.are_placeable(target, target, price)
    if rules.target_hundredths == 0:
        return protection.are_placeable(stop, stop, price)
    return protection.are_placeable(min(stop, target), max(stop, target), price)


@compiled
def _cut(market: Market, rules: Rules, state: State, budget: int) -> tuple[int, int, int]:
    """The caps of `RiskAgent._size`: what refuses, the budget that is left, and the largest quantity."""
    account, at = state.account, state.at
    series, most = at[SERIES], LARGEST
    if rules.max_symbol_ppm > 0:
        allowed = limit_rules.share_of_equity(account[EQUITY], rules.max_symbol_ppm)
        budget = limit_rules.cut_to_exposure(budget, abs(exposure(state, series)), allowed)
        if budget <= 0:
            return MAX_SYMBOL, budget, most
    if rules.max_gross_ppm > 0:
        held = 0
        for one in range(len(state.holdings)):
            held += abs(exposure(state, one))
        allowed = limit_rules.share_of_equity(account[EQUITY], rules.max_gross_ppm)
        budget = limit_rules.cut_to_exposure(budget, held, allowed)
        if budget <= 0:
            return MAX_GROSS, budget, most
    if rules.max_volume_ppm > 0:
        most = limit_rules.largest_of_volume(market.volume[at[BAR]], rules.max_volume_ppm)
        budget = min(budget, limit_rules.cut_to_quantity(budget, most, at[QUOTE]))
        if budget <= 0:
            return VOLUME_SHARE, budget, most
    return CONFIDENT, budget, most
