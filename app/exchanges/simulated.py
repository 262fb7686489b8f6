"""A market made of arithmetic, for when there is no exchange to ask. PROFITS ON IT MEAN NOTHING.

It shows the whole path at work (train, gate, trade) without a network. To that end it has a pattern a model can
find: each day consists of four spells of six hours in random order, one that drifts up, one that drifts down and
two quiet ones, and the drifting ones are twice as restless. Real markets are not that kind.

Every candle is a pure function of (seed, symbol, time): the same window is the same bytes whenever, in whatever
order and in whichever process it is asked for. A day is drawn from a counter-based generator and tied to the
levels at its two ends, which wander within fixed bounds, so that any year can be reached at once.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from app.domain.candle import Candle, Interval
from app.domain.instrument import Instrument
from app.domain.market import MarketSnapshot, Quote
from app.domain.ports import Clock
from app.errors import NotFoundError

_MINUTES: Final = 1_440
_MINUTE_MS: Final = 60_000
_DAY_MS: Final = _MINUTES * _MINUTE_MS
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_SPELL: Final = 360
_DRIFT: Final = 0.00014  # a minute, in a drifting spell
_QUIET, _RESTLESS = 0.0004, 0.0008  # the usual move of a minute
_WANDER = ((1, 0.02), (4, 0.04), (16, 0.08), (64, 0.15), (256, 0.25), (1_024, 0.4))  # days, amplitude
_DAYS_KEPT: Final = 128

IntegerArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Listing:
    """A pair: its usual price, the decimals of its tick and lot, and base units traded in a quiet minute."""

    base_asset: str
    price: float
    tick_decimals: int
    lot_decimals: int
    volume: float


_LISTINGS: Final = {
    "BTCUSDT": _Listing("BTC", 60_000.0, 2, 5, 12.0),
    "ETHUSDT": _Listing("ETH", 3_000.0, 2, 4, 180.0),
    "SOLUSDT": _Listing("SOL", 150.0, 2, 3, 2_500.0),
    "BNBUSDT": _Listing("BNB", 600.0, 2, 3, 300.0),
    "ADAUSDT": _Listing("ADA", 0.5, 4, 1, 250_000.0),
}


class SimulatedMarketData:
    """The simulated market; satisfies `ports.MarketData`. Its candles advance with the clock.

    Args:
        clock: Its time is the exchange's time.
        seed: Another seed is another history.
    """

    source = "simulated"

    def __init__(self, clock: Clock, seed: int) -> None:
        self.candle_source = f"simulated-{seed}"
        self._clock = clock
        self._day = lru_cache(maxsize=_DAYS_KEPT)(self._draw_day)
        self._seed = seed

    async def fetch_snapshot(self, symbol: str, interval: Interval, bars: int) -> MarketSnapshot:
        """The newest `bars` closed candles and the price at this moment; raises `NotFoundError`."""
        instrument = await self.fetch_instrument(symbol)
        now = self._clock.now()
        closed = (now - _EPOCH) // interval.duration
        return MarketSnapshot(
            source=self.source,
            symbol=symbol,
            interval=interval,
            candles=tuple(self._candles(symbol, interval, closed - bars, closed)),
            quote=Quote(self._price(symbol, now), now),
            instrument=instrument,
            exchange_time=now,
            clock_skew_seconds=0.0,
        )

    async def fetch_range(
        self, symbol: str, interval: Interval, since: datetime, until: datetime, limit: int = 1_000
    ) -> list[Candle]:
        """The closed candles that opened from `since` until before `until`, oldest first; raises `NotFoundError`."""
        await self.fetch_instrument(symbol)
        start = -((_EPOCH - since) // interval.duration)
        end = min(-((_EPOCH - until) // interval.duration), (self._clock.now() - _EPOCH) // interval.duration)
        return await asyncio.to_thread(self._candles, symbol, interval, start, min(end, start + limit))

    async def fetch_instrument(self, symbol: str) -> Instrument:
        """The trading rules of `symbol`, as Binance has them for the real pair; raises `NotFoundError`."""
        if symbol not in _LISTINGS:
            raise NotFoundError(
                f"The simulated market does not know {symbol}; it has {', '.join(_LISTINGS)}.",
                code="unknown_symbol",
                context={"symbol": symbol},
            )
        listing = _LISTINGS[symbol]
        return Instrument(
            symbol=symbol,
            base_asset=listing.base_asset,
            quote_asset="USDT",
            tick_size=Decimal(1).scaleb(-listing.tick_decimals),
            lot_step=Decimal(1).scaleb(-listing.lot_decimals),
            minimum_notional=Decimal(5),
        )

    async def probe(self) -> float:
        """Always 0: its clock is ours."""
        return 0.0

    async def aclose(self) -> None:
        """Nothing is open."""

    def _candles(self, symbol: str, interval: Interval, first: int, after: int) -> list[Candle]:
        """Candles by their numbers since the epoch, from `first` until before `after`."""
        if after <= max(0, first):
            return []
        listing = _LISTINGS[symbol]
        step = interval.milliseconds
        start, end = max(0, first) * step, after * step
        rows = [
            self._day(symbol, day)[
                :, max(0, start - day * _DAY_MS) // _MINUTE_MS : min(_DAY_MS, end - day * _DAY_MS) // _MINUTE_MS
            ]
            for day in range(start // _DAY_MS, -(-end // _DAY_MS))
        ]
        opened, high, low, close, volume = _aggregate(np.concatenate(rows, axis=1), step // _MINUTE_MS)
        return [
            Candle(
                open_time=_EPOCH + timedelta(milliseconds=start + number * step),
                close_time=_EPOCH + timedelta(milliseconds=start + (number + 1) * step - 1),
                open=Decimal(values[0]).scaleb(-listing.tick_decimals),
                high=Decimal(values[1]).scaleb(-listing.tick_decimals),
                low=Decimal(values[2]).scaleb(-listing.tick_decimals),
                close=Decimal(values[3]).scaleb(-listing.tick_decimals),
                volume=Decimal(values[4]).scaleb(-listing.lot_decimals),
            )
            for number, values in enumerate(
                zip(*(column.tolist() for column in (opened, high, low, close, volume)), strict=True)
            )
        ]

    def _price(self, symbol: str, now: datetime) -> Decimal:
        """The price within the forming minute: on the straight line from its open to its close, on the tick."""
        milliseconds = (now - _EPOCH) // _MILLISECOND
        day, rest = divmod(milliseconds, _DAY_MS)
        minute, rest = divmod(rest, _MINUTE_MS)
        opened, _, _, close, _ = self._day(symbol, day)[:, minute].tolist()
        ticks = opened + (close - opened) * rest // _MINUTE_MS
        return Decimal(ticks).scaleb(-_LISTINGS[symbol].tick_decimals)

    def _draw_day(self, symbol: str, day: int) -> IntegerArray:
        """One day: open, high, low and close in ticks and volume in lots, shape (5, 1440)."""
        listing = _LISTINGS[symbol]
        random = self._generator(symbol, "day", day)
        spells = random.permutation(np.array([1.0, -1.0, 0.0, 0.0]))
        drift = np.repeat(spells, _SPELL)
        mood = np.repeat(np.exp(0.3 * random.standard_normal(_MINUTES // 30)), 30)
        usual = np.where(drift == 0, _QUIET, _RESTLESS) * mood
        path = np.cumsum(drift * _DRIFT + usual * random.standard_normal(_MINUTES))
        share = np.arange(1, _MINUTES + 1) / _MINUTES
        first, last = self._level(symbol, day), self._level(symbol, day + 1)
        logs = np.concatenate(([first], first + path - share * path[-1] + share * (last - first)))
        scale = listing.price * 10**listing.tick_decimals
        closes = np.maximum(np.rint(scale * np.exp(logs)), 1).astype(np.int64)
        opened, close = closes[:-1], closes[1:]
        reach = np.abs(random.standard_normal((2, _MINUTES))) * usual * 0.6 * close
        high = np.maximum(opened, close) + reach[0].astype(np.int64)
        low = np.maximum(np.minimum(opened, close) - reach[1].astype(np.int64), 1)
        traded = listing.volume * 10**listing.lot_decimals * usual / _QUIET
        volume = np.maximum(traded * np.exp(0.5 * random.standard_normal(_MINUTES)), 1).astype(np.int64)
        return np.stack((opened, high, low, close, volume))

    def _level(self, symbol: str, day: int) -> float:
        """Where the logarithm of the price stands, off its usual level, as a day begins."""
        level = 0.0
        for period, amplitude in _WANDER:
            knot, rest = divmod(day, period)
            before, after = (self._draw(symbol, f"wander-{period}", knot + step) for step in (0, 1))
            ease = (1 - math.cos(math.pi * rest / period)) / 2
            level += amplitude * (before + (after - before) * ease)
        return level

    @lru_cache(maxsize=4_096)  # noqa: B019 - one market lives as long as its process
    def _draw(self, symbol: str, purpose: str, number: int) -> float:
        return float(self._generator(symbol, purpose, number).uniform(-1.0, 1.0))

    def _generator(self, symbol: str, purpose: str, number: int) -> np.random.Generator:
        digest = hashlib.sha256(f"{self._seed}/{symbol}/{purpose}".encode()).digest()
        return np.random.Generator(np.random.Philox(key=[int.from_bytes(digest[:8], "big"), number]))


def _aggregate(minutes: IntegerArray, size: int) -> Sequence[npt.NDArray[Any]]:
    """Minutes, shape (5, n), as candles of `size` minutes: open, high, low, close and volume, each (n / size,)."""
    opened, high, low, close, volume = (row.reshape(-1, size) for row in minutes)
    return opened[:, 0], high.max(axis=1), low.min(axis=1), close[:, -1], volume.sum(axis=1)
