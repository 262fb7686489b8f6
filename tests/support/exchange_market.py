"""What Binance would answer: the bodies of its REST interface for a market that tests describe."""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from app.domain.candle import Candle, Interval
from tests.support.candles import EPOCH, MILLISECOND, made_candle

WEIGHTS = {"klines": 2, "ticker/price": 2, "exchangeInfo": 20, "time": 1}
DEFAULT_ROWS, MOST_ROWS = 500, 1_000

_LEGAL_SYMBOL = re.compile(r"[A-Z0-9_.-]{1,20}")
_LEGAL_NUMBER = re.compile(r"[0-9]{1,20}")
_QUOTES = ("USDT", "USDC", "BTC", "ETH", "BNB")


class BinanceError(Exception):
    """An answer with status 400 and one of Binance's own codes."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.body = json.dumps({"code": code, "msg": message}).encode()


@dataclass(slots=True)
class Listing:
    """One pair and its rules; `since` is when its first made-up candle opened.

    `candles` are given ones by interval, oldest first, served instead of made-up ones.
    """

    symbol: str
    status: str = "TRADING"
    tick_size: str = "0.01000000"
    lot_step: str = "0.00001000"
    minimum_notional: str = "5.00000000"
    since: datetime = EPOCH
    candles: dict[Interval, list[Candle]] = field(default_factory=dict)

    @property
    def assets(self) -> tuple[str, str]:
        """The base and the quote asset."""
        quote = next((quote for quote in _QUOTES if self.symbol.endswith(quote)), self.symbol[-3:])
        return self.symbol.removesuffix(quote), quote


class Market:
    """All listings; every answer is a pure function of the request and the exchange's time."""

    def __init__(self, symbols: Iterable[str], *, weight_limit: int) -> None:
        self.listings = {symbol: Listing(symbol) for symbol in symbols}
        self.weight_limit = weight_limit

    def answer(self, endpoint: str, query: Mapping[str, str], now: datetime) -> bytes:
        """The JSON body for a good request.

        Raises:
            BinanceError: The request is not good.
        """
        if endpoint == "time":
            return _dump({"serverTime": _milliseconds(now)})
        if endpoint == "exchangeInfo":
            return _dump(self._exchange_info(query, now))
        listing = self._listing(query)
        if endpoint == "ticker/price":
            return _dump({"symbol": listing.symbol, "price": str(self.price(listing.symbol, now))})
        return _dump([_row(candle) for candle in self._candles(listing, query, now)])

    def price(self, symbol: str, now: datetime) -> Decimal:
        """The latest price: the close of the newest one-minute candle (or of whatever candles were given)."""
        listing = self.listings[symbol]
        interval = next(iter(listing.candles), Interval.M1)
        return _window(listing, interval, None, _milliseconds(now), 1)[-1].close

    def _exchange_info(self, query: Mapping[str, str], now: datetime) -> dict[str, object]:
        listings = [self._listing(query)] if "symbol" in query else list(self.listings.values())
        limit = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": self.weight_limit}
        return {
            "timezone": "UTC",
            "serverTime": _milliseconds(now),
            "rateLimits": [limit],
            "exchangeFilters": [],
            "symbols": [_rules(listing) for listing in listings],
        }

    def _listing(self, query: Mapping[str, str]) -> Listing:
        symbol = query.get("symbol", "")
        if not symbol:
            raise BinanceError(-1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
        if not _LEGAL_SYMBOL.fullmatch(symbol):
            raise _illegal("symbol", "^[A-Z0-9-_.]{1,20}$")
        if symbol not in self.listings:
            raise BinanceError(-1121, "Invalid symbol.")
        return self.listings[symbol]

    def _candles(self, listing: Listing, query: Mapping[str, str], now: datetime) -> list[Candle]:
        if not query.get("interval"):
            raise BinanceError(-1102, "Mandatory parameter 'interval' was not sent, was empty/null, or malformed.")
        if query["interval"] not in set(Interval):
            raise BinanceError(-1120, "Invalid interval.")
        limit = min(_number(query, "limit") or DEFAULT_ROWS, MOST_ROWS)
        start, end = _number(query, "startTime"), _number(query, "endTime")
        newest = _milliseconds(now) if end is None else min(end, _milliseconds(now))
        return _window(listing, Interval(query["interval"]), start, newest, limit)


def _window(listing: Listing, interval: Interval, start: int | None, end: int, limit: int) -> list[Candle]:
    """Candles that opened from `start` to `end`: the oldest of them with a start, the newest without."""
    given = listing.candles.get(interval)
    if given is not None:
        low = 0 if start is None else bisect_left(given, start, key=_opened)
        high = bisect_right(given, end, key=_opened)
    else:
        since = _milliseconds(listing.since)
        low = -(-max(since, start or 0) // interval.milliseconds)
        high = max(low, end // interval.milliseconds + 1)
    low, high = (max(low, high - limit), high) if start is None else (low, min(high, low + limit))
    if given is not None:
        return given[low:high]
    return [made_candle(listing.symbol, interval, index) for index in range(low, high)]


def _opened(candle: Candle) -> int:
    return _milliseconds(candle.open_time)


def _row(candle: Candle) -> list[object]:
    quote_volume = (candle.volume * candle.close).quantize(Decimal("0.00000001"))
    half = (candle.volume / 2).quantize(Decimal("0.00000001"))
    return [
        _milliseconds(candle.open_time),
        *(f"{value:.8f}" for value in (candle.open, candle.high, candle.low, candle.close, candle.volume)),
        _milliseconds(candle.close_time),
        f"{quote_volume:.8f}",
        100,
        f"{half:.8f}",
        f"{half * candle.close:.8f}",
        "0",
    ]


def _rules(listing: Listing) -> dict[str, object]:
    base, quote = listing.assets
    return {
        "symbol": listing.symbol,
        "status": listing.status,
        "baseAsset": base,
        "baseAssetPrecision": 8,
        "quoteAsset": quote,
        "quotePrecision": 8,
        "isSpotTradingAllowed": True,
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": listing.tick_size,
                "maxPrice": "1000000.00000000",
                "tickSize": listing.tick_size,
            },
            {
                "filterType": "LOT_SIZE",
                "minQty": listing.lot_step,
                "maxQty": "9000.00000000",
                "stepSize": listing.lot_step,
            },
            {"filterType": "ICEBERG_PARTS", "limit": 100},
            {"filterType": "MARKET_LOT_SIZE", "minQty": "0.00000000", "stepSize": "0.00000000"},
            {"filterType": "NOTIONAL", "minNotional": listing.minimum_notional, "applyMinToMarket": True},
        ],
        "permissions": [],
    }


def _number(query: Mapping[str, str], name: str) -> int | None:
    if name not in query:
        return None
    if not _LEGAL_NUMBER.fullmatch(query[name]):
        raise _illegal(name, "^[0-9]{1,20}$")
    return int(query[name])


def _illegal(name: str, legal: str) -> BinanceError:
    return BinanceError(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'.")


def _milliseconds(moment: datetime) -> int:
    return (moment - EPOCH) // MILLISECOND


def _dump(content: object) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()
