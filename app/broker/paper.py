"""The paper broker: turns a decision into a simulated fill, or says why it cannot."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from app.broker import fill_rules
from app.broker.fill_rules import PPM
from app.domain.cycle import ExecutionStatus, Settlement
from app.domain.market import MarketSnapshot
from app.domain.order import Fill, Side
from app.domain.portfolio import Portfolio

_PPM_PER_BPS = 100


def to_units(value: Decimal) -> int:
    """A decimal amount in whole 1e-8 units; exact for up to eight decimals, finer ones are cut off."""
    return int(value.scaleb(8))


def from_units(units: int) -> Decimal:
    """The decimal amount of `units` 1e-8 units, exact."""
    return Decimal(units).scaleb(-8)


@dataclass(frozen=True, slots=True)
class Costs:
    """What trading costs: fee and least slippage, in basis points (two decimals)."""

    fee_bps: Decimal
    slippage_bps: Decimal

    @property
    def fee_ppm(self) -> int:
        """The fee in parts per million of the notional."""
        return int(self.fee_bps * _PPM_PER_BPS)

    @property
    def slippage_ppm(self) -> int:
        """The least slippage in parts per million of the quote."""
        return int(self.slippage_bps * _PPM_PER_BPS)


class PaperBroker:
    """Fills market orders at the quote, moved against the account. Long only, one position a symbol.

    A BUY spends `cash_fraction` (0 to 1) of the cash, fee included; a SELL closes the position. The rules are
    those of `app.broker.fill_rules`.
    """

    def __init__(self, costs: Costs, cash_fraction: Decimal) -> None:
        self._costs = costs
        self._cash_ppm = int(cash_fraction * PPM)

    def settle(self, side: Side, portfolio: Portfolio, snapshot: MarketSnapshot) -> Settlement:
        """What a market order of `side` comes to, for the account as it stands."""
        if side is Side.BUY:
            return self._buy(portfolio, snapshot)
        return self._sell(portfolio, snapshot)

    def _buy(self, portfolio: Portfolio, snapshot: MarketSnapshot) -> Settlement:
        symbol, instrument = snapshot.symbol, snapshot.instrument
        held = portfolio.quantity(symbol)
        if held > 0:
            return _skip("already_in_position", f"{held.normalize():f} {instrument.base_asset} are held already.")
        tick, lot = to_units(instrument.tick_size), to_units(instrument.lot_step)
        price = fill_rules.buy_price(to_units(snapshot.quote.price), self._slippage(snapshot), tick)
        budget = to_units(portfolio.cash) * self._cash_ppm // PPM
        quantity = fill_rules.affordable_quantity(budget, price, lot, self._costs.fee_ppm)
        if quantity == 0:
            return _skip(
                "insufficient_cash",
                f"The share of the cash set aside for one order, {from_units(budget).normalize():f}, buys not even one "
                f"lot of {instrument.lot_step.normalize():f} {instrument.base_asset}.",
            )
        return self._filled(Side.BUY, price, quantity, snapshot)

    def _sell(self, portfolio: Portfolio, snapshot: MarketSnapshot) -> Settlement:
        held = portfolio.quantity(snapshot.symbol)
        if held == 0:
            return _skip("no_position", f"There is no {snapshot.instrument.base_asset} to sell.")
        tick = to_units(snapshot.instrument.tick_size)
        price = fill_rules.sell_price(to_units(snapshot.quote.price), self._slippage(snapshot), tick)
        if price <= 0:
            return _skip("price_not_positive", "After slippage the price would not be above zero.")
        return self._filled(Side.SELL, price, to_units(held), snapshot)

    def _slippage(self, snapshot: MarketSnapshot) -> tuple[int, int]:
        last = snapshot.candles[-1]
        return fill_rules.slippage_ratio(
            to_units(last.high), to_units(last.low), to_units(last.close), self._costs.slippage_ppm
        )

    def _filled(self, side: Side, price: int, quantity: int, snapshot: MarketSnapshot) -> Settlement:
        rule = fill_rules.buy_notional if side is Side.BUY else fill_rules.sell_notional
        notional = rule(price, quantity)
        minimum = snapshot.instrument.minimum_notional
        if notional == 0 or notional < to_units(minimum):
            return _skip(
                "below_minimum_notional",
                f"The order is worth {from_units(notional).normalize():f}, less than the {minimum.normalize():f} that "
                "the exchange asks for.",
            )
        quote = to_units(snapshot.quote.price)
        fill = Fill(
            side=side,
            quantity=from_units(quantity),
            price=from_units(price),
            notional=from_units(notional),
            fee=from_units(fill_rules.fee(notional, self._costs.fee_ppm)),
            slippage_bps=round(abs(price - quote) / quote * 10_000, 4),
        )
        words = (
            f"{side} {fill.quantity.normalize():f} {snapshot.instrument.base_asset} at {fill.price.normalize():f}, "
            f"{fill.slippage_bps:.2f} bps from the quote, fee {fill.fee.normalize():f}."
        )
        return Settlement(ExecutionStatus.FILLED, "filled", words, fill)


def _skip(reason_code: str, reason: str) -> Settlement:
    return Settlement(ExecutionStatus.SKIPPED, reason_code, reason)
