"""Holds an entry to the limits, sizes and fills it, compiled: `RiskAgent` and `app.broker.market_orders`."""

from __future__ import annotations

from app.broker import fill_rules
from app.domain.money import LARGEST
from app.research.backtest.kernel.account import exposure, is_below_minimum, market_price
from app.research.backtest.kernel.fills import book_fill, protect
from app.research.backtest.kernel.layout import (
    AT_RISK,
    BELOW_MINIMUM,
    BY_SIGNAL,
    CONFIDENT,
    COOLDOWN,
    DAILY_LOSS,
    FILLED,
    FIXED,
    HALTED,
    INSUFFICIENT_CASH,
    MAX_DRAWDOWN,
    MAX_GROSS,
    MAX_POSITIONS,
    MAX_SYMBOL,
    MAX_TRADES,
    MODEL_TOO_OLD,
    NOT_POSITIVE,
    PRICE_BAND,
    SIZE_UNKNOWN,
    SIZE_ZERO,
    STOP_UNKNOWN,
    VOLUME_SHARE,
    Account,
    Desk,
    Rules,
)
from app.research.backtest.native import inner
from app.risk import limit_rules, protection, sizing


@inner
def check_account(desk: Desk) -> int:
    """The checks of `RiskAgent._review_entry` before an order is sized; `CONFIDENT` where all pass."""
    rules, account = desk.rules, desk.account
    if account.halted_in >= 0:
        return HALTED
    refusal = _check_losses(rules, account, desk.moment.now_ms)
    if refusal != CONFIDENT:
        return refusal
    if 0 < rules.max_trades <= account.trades:
        return MAX_TRADES
    if rules.max_positions > 0 and account.positions >= rules.max_positions:
        return MAX_POSITIONS
    if is_out_of_band(desk):
        return PRICE_BAND
    return MODEL_TOO_OLD if desk.moment.is_too_old else CONFIDENT


@inner
def _check_losses(rules: Rules, account: Account, now_ms: int) -> int:
    """`limits.check_daily_loss`, `check_drawdown` and `check_cooldown`."""
    daily, deepest = rules.max_daily_loss_ppm, rules.max_drawdown_ppm
    if daily > 0 and limit_rules.loss_ppm(account.day_equity, account.equity) >= daily:
        return DAILY_LOSS
    peak = max(account.peak, account.equity)
    if deepest > 0 and limit_rules.loss_ppm(peak, account.equity) >= deepest:
        return MAX_DRAWDOWN
    if rules.cooldown_losses == 0 or not account.has_lost or account.losses < rules.cooldown_losses:
        return CONFIDENT
    return COOLDOWN if now_ms < account.last_loss_ms + rules.cooldown_ms else CONFIDENT


@inner
def is_out_of_band(desk: Desk) -> bool:
    """`limits.check_price_band`."""
    band = desk.rules.price_band_ppm
    return band > 0 and limit_rules.distance_ppm(desk.moment.quote, desk.candle.close) > band


@inner
def enter(desk: Desk, side: int) -> int:
    """`RiskAgent._size`, `market_orders.enter` and `market_orders.protect`."""
    rules, true_range = desk.rules, desk.moment.true_range
    stop = protection.multiple_of(true_range, rules.stop_hundredths)
    target = protection.multiple_of(true_range, rules.target_hundredths)
    refusal, budget, most = _size(desk, stop)
    if refusal != CONFIDENT:
        return refusal
    if (rules.has_stop or rules.target_hundredths > 0) and not _are_placeable(rules, stop, target, desk.moment.quote):
        return STOP_UNKNOWN
    refusal, entry = _buy_or_sell_short(desk, side, budget, most)
    if refusal == FILLED:
        desk.account.trades += 1
        protect(desk, entry, stop, target)
    return refusal


@inner
def _size(desk: Desk, stop: int) -> tuple[int, int, int]:
    """What an entry may spend: what refuses it, the budget, and the largest quantity."""
    rules, facts, moment = desk.rules, desk.facts, desk.moment
    share, whole = _find_share(desk, stop), max(moment.free_cash, 0)
    if share <= 0:
        return SIZE_UNKNOWN if share < 0 else SIZE_ZERO, 0, 0
    base = whole if rules.sizing == FIXED else max(desk.account.equity, 0)
    budget = sizing.spend(base, share, whole)
    if budget < limit_rules.least_cost(facts.lot, moment.quote):
        return INSUFFICIENT_CASH, 0, 0
    refusal, budget, most = _cut(desk, budget)
    if refusal == CONFIDENT and budget < facts.minimum_notional:
        refusal = BELOW_MINIMUM
    return refusal, budget, most


@inner
def _find_share(desk: Desk, stop: int) -> int:
    """`sizing.find_share`, -1 where it is not known."""
    rules = desk.rules
    if rules.sizing == FIXED:
        return rules.cash_ppm
    if rules.sizing == AT_RISK:
        return sizing.share_at_risk(rules.risk_ppm, desk.moment.quote, stop) if stop > 0 else -1
    return desk.moment.share


@inner
def _are_placeable(rules: Rules, stop: int, target: int, price: int) -> bool:
    """`limits.check_stop` of the orders that are asked for."""
    if not rules.has_stop:
        return protection.are_placeable(target, target, price)
    if rules.target_hundredths == 0:
        return protection.are_placeable(stop, stop, price)
    return protection.are_placeable(min(stop, target), max(stop, target), price)


@inner
def _cut(desk: Desk, budget: int) -> tuple[int, int, int]:
    """The caps of `RiskAgent._size`: what refuses, the budget that is left, and the largest quantity."""
    rules, account, most = desk.rules, desk.account, LARGEST
    if rules.max_symbol_ppm > 0:
        allowed = limit_rules.share_of_equity(account.equity, rules.max_symbol_ppm)
        budget = limit_rules.cut_to_exposure(budget, abs(exposure(desk.holding)), allowed)
        if budget <= 0:
            return MAX_SYMBOL, budget, most
    if rules.max_gross_ppm > 0:
        allowed = limit_rules.share_of_equity(account.equity, rules.max_gross_ppm)
        budget = limit_rules.cut_to_exposure(budget, desk.moment.gross_exposure, allowed)
        if budget <= 0:
            return MAX_GROSS, budget, most
    if rules.max_volume_ppm > 0:
        most = limit_rules.largest_of_volume(desk.candle.volume, rules.max_volume_ppm)
        budget = min(budget, limit_rules.cut_to_quantity(budget, most, desk.moment.quote))
        if budget <= 0:
            return VOLUME_SHARE, budget, most
    return CONFIDENT, budget, most


@inner
def _buy_or_sell_short(desk: Desk, side: int, budget: int, most: int) -> tuple[int, int]:
    """`market_orders.enter`: what came of it, and the price."""
    facts, moment = desk.facts, desk.moment
    lot, price = facts.lot, market_price(desk, side)
    if price <= 0:
        return NOT_POSITIVE, price
    paid = fill_rules.affordable_quantity(max(0, min(budget, moment.free_cash)), price, lot, desk.rules.fee_ppm)
    room = LARGEST - desk.holding.dust
    quantity = min(paid, room // lot * lot, most // lot * lot)
    if quantity == 0:
        return INSUFFICIENT_CASH, price
    if is_below_minimum(facts, price, quantity):
        return BELOW_MINIMUM, price
    book_fill(desk, side, price, quantity, moment.quote)
    desk.fill.origin = BY_SIGNAL
    return FILLED, price
