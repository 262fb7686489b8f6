"""An account kept beside the real one in exact fractions, and what each of its fills must have kept to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from app.broker.desk import Terms
from app.domain.market import MarketSnapshot
from app.domain.order import Order, OrderKind, Origin, Side
from app.domain.standing import Standing

UNITS = 10**8
LATEST = timedelta(minutes=3)
"""How long after the market was seen things are booked here; a stop counts from what was open when it was seen."""


@dataclass
class Holding:
    """What is held of a symbol and what it cost, exactly."""

    quantity: Fraction = Fraction(0)
    cost: Fraction = Fraction(0)


@dataclass
class Model:
    """The account by its fills, in whole base and quote units, with nothing rounded but what each fill rounded."""

    cash: Fraction
    terms: Terms
    fees: Fraction = Fraction(0)
    profit: Fraction = Fraction(0)
    positions: dict[str, Holding] = field(default_factory=dict)
    dust: dict[str, Holding] = field(default_factory=dict)
    exits: int = 0
    decided: Counter[tuple[str, Any]] = field(default_factory=Counter)
    taken: Counter[tuple[str, Any]] = field(default_factory=Counter)

    def position(self, symbol: str) -> Holding:
        return self.positions.setdefault(symbol, Holding())

    def fill(self, trade: Any, order: Order, market: MarketSnapshot) -> None:
        """Take a fill over; asserts everything that a fill must keep to."""
        held, sign = self.position(trade.symbol), 1 if trade.side == "BUY" else -1
        quantity, notional, fee = Fraction(trade.quantity), Fraction(trade.notional), Fraction(trade.fee)
        is_exit = held.quantity * sign < 0
        self._check_amounts(trade, market, quantity, notional, fee)
        self._check_price(trade, order, market, is_capped=is_exit and sign > 0)
        assert order.side == trade.side
        assert trade.executed_at >= order.created_at
        if order.reduce_only:
            assert is_exit, f"a reduce-only order opened: {trade} {order}"
        if is_exit:
            assert quantity <= abs(held.quantity), "a fill turned a position round"
            released = held.cost * quantity / abs(held.quantity)
            self.profit += -sign * notional - released
            held.cost -= released
            self.exits += 1
        else:
            held.cost += sign * notional
        held.quantity += sign * quantity
        if held.quantity == 0:
            assert abs(held.cost) < 1
            del self.positions[trade.symbol]
        self.cash += -sign * notional - fee
        self.fees += fee

    def move_dust(self, symbol: str, quantity: Decimal) -> None:
        """A whole position that became dust, or the whole dust that came back to be sold."""
        first, second = (self.positions, self.dust) if quantity > 0 else (self.dust, self.positions)
        moved, into = first.pop(symbol), second.setdefault(symbol, Holding())
        assert moved.quantity == abs(Fraction(quantity))
        into.quantity += moved.quantity
        into.cost += moved.cost

    def check(self, standing: Standing) -> None:
        """The real account is the one that follows from the fills, to within what its exits rounded."""
        real, slack = standing.portfolio, Fraction(self.exits + 1, UNITS)
        assert Fraction(real.cash, UNITS) == self.cash
        assert Fraction(real.fees, UNITS) == self.fees
        assert abs(Fraction(real.realised, UNITS) - self.profit) <= slack
        for kept, followed in ((real.positions, self.positions), (real.dust, self.dust)):
            assert {symbol: Fraction(one.quantity, UNITS) for symbol, one in kept.items()} == {
                symbol: one.quantity for symbol, one in followed.items()
            }
            for symbol, one in kept.items():
                assert abs(Fraction(one.cost, UNITS) - followed[symbol].cost) <= slack

    def _check_amounts(
        self, trade: Any, market: MarketSnapshot, quantity: Fraction, notional: Fraction, fee: Fraction
    ) -> None:
        exact = quantity * Fraction(trade.price)
        away = notional - exact if trade.side == "BUY" else exact - notional
        assert 0 <= away < Fraction(1, UNITS), "rounded for the account"
        assert 0 <= fee - notional * Fraction(self.terms.fee_bps) / 10_000 < Fraction(1, UNITS)
        assert quantity > 0
        assert notional > 0
        assert quantity % Fraction(market.instrument.lot_step) == 0
        assert trade.price % market.instrument.tick_size == 0

    def _check_price(self, trade: Any, order: Order, market: MarketSnapshot, *, is_capped: bool) -> None:
        sign = 1 if trade.side == "BUY" else -1
        if order.kind is OrderKind.MARKET:
            assert is_capped or sign * (trade.price - market.quote.price) >= 0
            if order.origin is Origin.SIGNAL:
                self._count_decision(trade)
            return
        candle = next(one for one in market.candles if one.open_time == trade.candle_open_time)
        # A short that was opened on a candle of the past is guarded from the next one on.
        is_late = order.origin is Origin.LIQUIDATION
        assert is_late or candle.close_time >= order.created_at - LATEST, (
            "filled on a candle that had closed before the order"
        )
        if order.kind in (OrderKind.LIMIT, OrderKind.TAKE_PROFIT):
            assert candle.open_time >= order.created_at, "filled on a candle that was open before the order"
            assert sign * (trade.price - order.price) <= 0, "worse than its limit"
            assert is_capped or candle.low <= trade.price <= candle.high
            self.taken[trade.symbol, candle.open_time] += trade.quantity
            share = self.terms.volume_share
            assert not share or self.taken[trade.symbol, candle.open_time] <= candle.volume * share
        elif order.kind is OrderKind.STOP_LOSS and order.origin is not Origin.LIQUIDATION:
            assert is_capped or sign * (trade.price - order.price) >= 0 or trade.price == market.instrument.tick_size

    def _count_decision(self, trade: Any) -> None:
        self.decided[trade.symbol, trade.candle_open_time] += 1
        assert self.decided[trade.symbol, trade.candle_open_time] == 1
        assert trade.confidence is not None


def check_standing(standing: Standing, lots: dict[str, int]) -> None:
    """What holds of every account at every moment."""
    portfolio, snapshot = standing.portfolio, standing.snapshot
    value = sum(portfolio.holding(symbol) * snapshot.marks[symbol] // UNITS for symbol in portfolio.symbols())
    assert portfolio.cash + value == snapshot.equity
    assert sorted(snapshot.marks) == portfolio.symbols()
    assert portfolio.cash >= 0
    assert portfolio.available >= 0
    assert snapshot.peak_equity >= snapshot.equity
    for symbol, one in (*portfolio.positions.items(), *portfolio.dust.items()):
        assert one.quantity % lots[symbol] == 0
        assert one.quantity != 0
        assert one.opened_at <= snapshot.at
    assert all(one.quantity > 0 for one in portfolio.dust.values())
    for order in standing.orders:
        _check_order(order, standing, lots)
    for symbol, one in portfolio.positions.items():
        guards = [order for order in standing.orders_of(symbol) if order.origin is Origin.LIQUIDATION]
        assert len(guards) == (one.quantity < 0), "a short has its liquidation, and nothing else has"
        assert all(order.remaining * UNITS >= -one.quantity for order in guards)


def _check_order(order: Order, standing: Standing, lots: dict[str, int]) -> None:
    assert int(order.remaining * UNITS) % lots[order.symbol] == 0
    assert order.remaining > 0
    assert order.created_at <= standing.snapshot.at
    if order.reduce_only:
        held = standing.portfolio.quantity(order.symbol)
        assert held != 0, f"an order rests for a position that is gone: {order}"
        assert (held > 0) is (order.side is Side.SELL), f"an order rests on the wrong side: {order}"
