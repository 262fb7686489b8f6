"""What the market looked like at one moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from app.domain.candle import Candle, Interval
from app.domain.instrument import Instrument


@dataclass(frozen=True, slots=True)
class Quote:
    """The latest traded price, in quote units, and the exchange's time when it was asked for."""

    price: Decimal
    at: datetime


@dataclass(frozen=True, slots=True)
class MarketSnapshot:
    """Closed candles, oldest first, and the quote that followed them.

    `exchange_time` is the exchange's own clock; `clock_skew_seconds` is how far this machine's clock is
    ahead of it (negative: behind).
    """

    source: str
    symbol: str
    interval: Interval
    candles: Sequence[Candle]
    quote: Quote
    instrument: Instrument
    exchange_time: datetime
    clock_skew_seconds: float


@dataclass(frozen=True, slots=True)
class Indicators:
    """The seed indicators of the newest closed candle.

    Averages are in quote units, `rsi_14` runs from 0 to 100 (Wilder), `price_change_1m` is a fraction:
    the newest close over the one before, less one. An indicator is None where the candles do not reach
    back far enough or it is undefined.
    """

    sma_10: float | None
    sma_50: float | None
    rsi_14: float | None
    price_change_1m: float | None
