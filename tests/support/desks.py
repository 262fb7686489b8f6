"""Markets and accounts for the tests of the paper desk: few candles, round prices, a fee of ten basis points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from app.broker.desk import Desk, Terms
from app.domain.candle import Candle, Interval
from app.domain.cycle import Settlement
from app.domain.instrument import Instrument
from app.domain.market import MarketSnapshot, Quote
from app.domain.money import UNITS
from app.domain.order import Order, OrderKind, Origin, Side
from app.domain.portfolio import Portfolio, Position
from app.domain.standing import Halt, Snapshot, Standing
from app.engine.memory_ledger import follow
from tests.support.candles import MILLISECOND
from tests.support.standings import NOON, RUN

MINUTE = Interval.M1.duration
NOW = NOON + timedelta(seconds=5)
TERMS = Terms(fee_bps=Decimal(10), slippage_bps=Decimal(0), volume_share=Decimal(0))
SHORT_TERMS = replace(TERMS, allow_short=True)
BITCOIN = Instrument("BTCUSDT", "BTC", "USDT", Decimal("0.01"), Decimal("0.1"), Decimal(5))
FLAT = (100, 100, 100, 100)

Prices = tuple[float, float, float, float] | tuple[float, float, float, float, float]
"""Open, high, low and close of a candle, and its volume (1000 where it is left out)."""


def make_candles(prices: Sequence[Prices], end: datetime = NOON) -> tuple[Candle, ...]:
    """Candles of a minute, the last of which closes just before `end`."""
    first = end - MINUTE * len(prices)
    return tuple(
        Candle(
            first + place * MINUTE,
            first + (place + 1) * MINUTE - MILLISECOND,
            *(Decimal(str(price)) for price in ((*one, 1_000) if len(one) == 4 else one)),
        )
        for place, one in enumerate(prices)
    )


def make_market(*prices: Prices, quote: float | str = 100, end: datetime = NOON, **more: Any) -> MarketSnapshot:
    """A market of these candles; `more` are other fields, those of the instrument among them."""
    of_instrument: dict[str, Any] = {
        name: Decimal(str(more.pop(name))) for name in ("tick_size", "lot_step", "minimum_notional") if name in more
    }
    return MarketSnapshot(
        source="simulated",
        symbol="BTCUSDT",
        interval=Interval.M1,
        candles=make_candles(prices or [FLAT], end),
        quote=Quote(Decimal(str(quote)), end),
        instrument=replace(BITCOIN, **of_instrument),
        exchange_time=more.pop("exchange_time", end + timedelta(seconds=5)),
        clock_skew_seconds=more.pop("clock_skew_seconds", 0.0),
    )


def hold(quantity: float = 10, price: float = 100, cash: float = 10_000, fees: float = 0) -> Standing:
    """An account that holds so much of BTCUSDT, bought (or, where negative, sold short) at `price`."""
    units, cost = round(quantity * UNITS), round(quantity * price * UNITS)
    positions = {"BTCUSDT": Position(units, cost, round(fees * UNITS), NOON - MINUTE)} if units else {}
    portfolio = Portfolio(round(cash * UNITS), positions)
    marks = {"BTCUSDT": round(price * UNITS)} if units else {}
    equity = portfolio.cash + portfolio.market_value(marks)
    return Standing(RUN, Snapshot(NOON - MINUTE, portfolio, equity, equity, equity, marks))


def resting(order_id: str, side: Side, kind: OrderKind, quantity: float, price: float | None, **more: Any) -> Order:
    """An order that rests since before all candles; `more` are other fields."""
    order = Order(
        id=order_id,
        symbol="BTCUSDT",
        side=side,
        kind=kind,
        quantity=Decimal(str(quantity)),
        origin=Origin.PERSON,
        created_at=NOON - 60 * MINUTE,
        active_from=NOON - 60 * MINUTE,
        price=None if price is None else Decimal(str(price)),
    )
    return replace(order, **more)


def with_orders(standing: Standing, *orders: Order, halt: Halt | None = None) -> Standing:
    """The account with these orders resting."""
    return replace(standing, orders=orders, halt=halt)


def open_desk(standing: Standing, market: MarketSnapshot | None = None, terms: Terms = TERMS, **more: Any) -> Desk:
    """A desk for one booking of the account, five seconds after the newest candle's close."""
    seen = market or make_market()
    now = more.pop("now", seen.quote.at + timedelta(seconds=5))
    return Desk(terms, more.pop("booking_id", "booking"), standing, seen, now, **more)


def units(amount: float | str) -> int:
    """An amount in whole 1e-8 units."""
    return int(Decimal(str(amount)) * UNITS)


def after(standing: Standing, settlement: Settlement) -> Standing:
    """Where the account stands once the settlement is booked."""
    return follow(standing, settlement)
