"""The seat between decision and execution: how much an order may risk, and whether it may be placed at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from app.domain.data_quality import contiguous_bars
from app.domain.market import MarketSnapshot
from app.domain.money import plain, to_units
from app.domain.order import Check, Side
from app.domain.risk import SizingMethod, StopRule
from app.domain.signal import Prediction
from app.domain.standing import Halt, Snapshot, Standing
from app.risk import limits as rules
from app.risk.limits import LimitRules
from app.risk.protection import (
    Distances,
    ProtectionRule,
    measure_distances,
    multiple_of,
    to_hundredths,
    to_price,
)
from app.risk.sizing import Basis, SizingRule, annualise, size_entry
from app.strategies.bars import bars_from_candles
from ml.bars import Bars
from ml.indicators import compute_atr, compute_volatility

APPROVED = "approved"
"""The reason code of the only review after which an order may be placed."""

WINDOW_BARS = 61
"""How many of the newest candles sizes and stops are measured over: 60 returns, however many a cycle looks at."""


@dataclass(frozen=True, slots=True)
class Review:
    """Whether an order may be placed, how large, and how it is protected.

    Attributes:
        is_entry: Whether it opens a position; False for one that closes it, or would add to it.
        approved: Whether it may be placed.
        reason_code: "approved", or what speaks against it: the first check that failed, most often.
        reason: The same as a sentence.
        checks: Every check that ran, in their order.
        budget: What an entry may spend, fee included, in 1e-8 quote units; 0 for an exit.
        quantity_cap: The most an entry may buy or sell short, in 1e-8 base units.
        stop_distance: How far from the entry price its stop-loss is, in 1e-8 quote units; 0 for none.
        target_distance: How far from the entry price its profit is taken, in 1e-8 quote units; 0 for never.
        trail_fraction: How far its trailing stop stays from the best price, a fraction; 0 for none.
    """

    is_entry: bool
    approved: bool
    reason_code: str
    reason: str
    checks: tuple[Check, ...] = ()
    budget: int = 0
    quantity_cap: int = rules.UNLIMITED
    stop_distance: int = 0
    target_distance: int = 0
    trail_fraction: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class _Order:
    """What is judged: an order that a decision asks for, at the quote, for the account as it is worth now."""

    side: Side
    prediction: Prediction
    market: MarketSnapshot
    standing: Standing
    account: Snapshot
    price: int
    now: datetime

    @property
    def symbol(self) -> str:
        return self.market.symbol

    @property
    def last_close(self) -> int:
        return to_units(self.market.candles[-1].close)


class RiskAgent:
    """Sizes entries and holds them to the limits; exits meet the price band only, so that nothing keeps anybody in.

    Args:
        sizing: How much an entry may spend.
        limits: What it must keep to.
        protection: How it is protected. Risk per trade places a stop-loss where there would be none: its size means it.
        allow_short: Whether a SELL of what is not held is an entry.
    """

    def __init__(
        self, sizing: SizingRule, limits: LimitRules, protection: ProtectionRule, *, allow_short: bool
    ) -> None:
        self._sizing = sizing
        self._limits = limits
        self._allow_short = allow_short
        if sizing.method is SizingMethod.RISK_PER_TRADE and protection.stop is StopRule.NONE:
            protection = replace(protection, stop=StopRule.STOP_LOSS)
        self._protection = protection
        self._is_protected = protection.stop is not StopRule.NONE or protection.target_atr_multiple > 0

    def review(
        self,
        side: Side,
        prediction: Prediction,
        market: MarketSnapshot,
        standing: Standing,
        model_age: timedelta | None,
        now: datetime,
    ) -> Review:
        """Judge the order that a decision asks for. Changes nothing.

        Args:
            side: What the decision says.
            prediction: What it was decided on; Kelly's rule reads its probabilities and returns.
            market: The candles and the quote.
            standing: The account.
            model_age: How old the model is, None where that is not known.
            now: The present moment, aware UTC.
        """
        price = to_units(market.quote.price)
        account = standing.snapshot.on_day_of(now).marked(market.symbol, price)
        order = _Order(side, prediction, market, standing, account, price, now)
        held = account.portfolio.quantity(market.symbol)
        base = market.instrument.base_asset
        if held == 0:
            review = self._review_entry(order, model_age)
        elif (held > 0) is (side is Side.BUY):
            words = (
                f"{plain(held)} {base} are held already." if held > 0 else f"{plain(-held)} {base} are short already."
            )
            review = Review(is_entry=False, approved=False, reason_code="already_in_position", reason=words)
        else:
            words = f"{side} closes the whole position, {plain(abs(held))} {base}."
            review = _conclude((self._check_band(order),), words, is_entry=False)
        return review

    def find_halt(self, standing: Standing, now: datetime) -> Halt | None:
        """The halt that an account is due whose equity has fallen to the drawdown limit, None where it is not."""
        drawdown = rules.check_drawdown(standing.snapshot, self._limits.max_drawdown)
        if standing.halt is not None or drawdown is None or drawdown.passed:
            return None
        return Halt(drawdown.code, drawdown.detail, now)

    def _review_entry(self, order: _Order, model_age: timedelta | None) -> Review:
        short = rules.check_short(order.side, allowed=self._allow_short)
        if not short.passed:
            words = f"There is no {order.market.instrument.base_asset} to sell."
            return Review(is_entry=False, approved=False, reason_code="no_position", reason=words, checks=(short,))
        limits, account = self._limits, order.account
        pause = timedelta(minutes=limits.cooldown_minutes)
        checks = (
            rules.check_halt(order.standing.halt),
            short,
            rules.check_daily_loss(account, limits.max_daily_loss),
            rules.check_drawdown(account, limits.max_drawdown),
            rules.check_cooldown(account, limits.cooldown_losses, pause, order.now),
            rules.check_trades(account, limits.max_trades_per_day),
            rules.check_positions(account, order.symbol, limits.max_open_positions),
            self._check_band(order),
            rules.check_model_age(model_age, limits.model_maximum_age),
        )
        return self._size(order, checks)

    def _check_band(self, order: _Order) -> Check | None:
        return rules.check_price_band(order.price, order.last_close, self._limits.price_band_percent)

    def _size(self, order: _Order, before: tuple[Check | None, ...]) -> Review:
        limits, account, symbol = self._limits, order.account, order.symbol
        basis, distances, stop = self._measure(order)
        sized, budget = size_entry(self._sizing, basis, account.equity, account.portfolio.available)
        if not sized.passed:
            return _conclude((*before, sized), "", is_entry=True)
        instrument, volume = order.market.instrument, to_units(order.market.candles[-1].volume)
        cash = rules.check_cash(budget, to_units(instrument.lot_step), order.price)
        of_symbol, budget = rules.cap_symbol_exposure(budget, account, symbol, limits.max_symbol_exposure)
        gross, budget = rules.cap_gross_exposure(budget, account, limits.max_gross_exposure)
        share, budget, most = rules.cap_volume(budget, order.price, volume, limits.max_volume_share)
        notional = rules.check_notional(budget, to_units(instrument.minimum_notional))
        return _conclude(
            (*before, sized, cash, of_symbol, gross, share, notional, stop),
            f"{order.side} may spend {plain(budget)} {instrument.quote_asset}, fee included.",
            is_entry=True,
            budget=budget,
            quantity_cap=most,
            distances=distances,
        )

    def _measure(self, order: _Order) -> tuple[Basis, Distances, Check | None]:
        """What the size is computed from, where the protective orders stand, and whether they can."""
        method, protection, price = self._sizing.method, self._protection, order.price
        basis, distances, check = Basis(order.side, order.prediction, price), Distances(), None
        if self._is_protected:
            atr = to_price(compute_atr(_window(order.market)) or 0.0)
            distances = measure_distances(protection, atr, price)
            stop = multiple_of(atr, to_hundredths(protection.stop_atr_multiple))
            basis = replace(basis, stop_distance=stop)
            asked = [stop] if protection.stop is not StopRule.NONE else []
            asked += [distances.target] if protection.target_atr_multiple else []
            check = rules.check_stop(asked, price)
        if method is SizingMethod.VOLATILITY_TARGET:
            spread = compute_volatility(_window(order.market)) or 0.0
            basis = replace(basis, volatility=annualise(spread, order.market.interval.duration))
        return basis, distances, check


def _window(market: MarketSnapshot) -> Bars:
    """The newest candles without a gap, at most `WINDOW_BARS`."""
    newest = market.candles[-WINDOW_BARS:]
    return bars_from_candles(newest[-contiguous_bars(newest, market.interval) :])


def _conclude(
    asked: Sequence[Check | None],
    words: str,
    *,
    is_entry: bool,
    budget: int = 0,
    quantity_cap: int = rules.UNLIMITED,
    distances: Distances | None = None,
) -> Review:
    """The first check that failed refuses; `words` where none did."""
    checks = tuple([check for check in asked if check is not None])
    failed = next((check for check in checks if not check.passed), None)
    if failed is not None:
        return Review(is_entry, approved=False, reason_code=failed.code, reason=failed.detail, checks=checks)
    placed = distances or Distances()
    return Review(
        is_entry,
        approved=True,
        reason_code=APPROVED,
        reason=words,
        checks=checks,
        budget=budget,
        quantity_cap=quantity_cap,
        stop_distance=placed.stop,
        target_distance=placed.target,
        trail_fraction=placed.trail_fraction,
    )
