"""Binance's public market data, spot, over REST."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import TypeVar

import structlog

from app.domain.candle import Candle, Interval
from app.domain.data_quality import MAXIMUM_AGE_INTERVALS, check_trading, in_order
from app.domain.instrument import Instrument
from app.domain.market import MarketSnapshot, Quote
from app.domain.ports import Clock, WaitStore
from app.errors import DataQualityError, NotFoundError, UpstreamTimeoutError
from app.exchanges.binance_hosts import BinanceHosts, OnCall, Query, Received, Timing
from app.exchanges.binance_wire import (
    SYMBOL,
    invalid_symbol,
    read_candles,
    read_price,
    read_time,
    read_trading_rules,
    unknown_symbol,
)
from app.exchanges.concurrency import SingleFlight, together
from app.exchanges.exchange_clock import ExchangeClock
from app.exchanges.http_source import Answer

T = TypeVar("T")

log = structlog.get_logger()

PAGE_ROWS = 1_000

_INSTRUMENT_SECONDS = 3_600.0
_DOUBTED_INSTRUMENT_SECONDS = 300.0
_UNKNOWN_SYMBOL_SECONDS = 600.0
_UNKNOWN_SYMBOLS_KEPT = 1_000
_SLOW_ROUND_TRIP_SECONDS = 0.1
_SKEW_WORTH_A_WARNING_SECONDS = 5.0
_CLOCK_TOLERANCE = timedelta(seconds=1)
_MILLISECOND = timedelta(milliseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME = Query("time", 1, read_time)


class BinanceMarketDataClient:
    """Market data of Binance, or of whoever speaks its REST interface; satisfies `ports.MarketData`.

    A cycle costs two calls and a weight of 4, a page of history one call and 2; trading rules (an hour) and the
    exchange's clock (likewise) are kept. Only closed candles leave this class, judged by the exchange's own clock at
    the moment of asking.

    Args:
        base_url: Where the REST interface is, without a path.
        fallback_url: Asked when the first is geo-blocked or unreachable; empty for none.
        clock: The machine's clock.
        waits: Remembers over restarts until when a host must not be called; None forgets.
        on_call: Hears endpoint, outcome ("ok" or an error code) and seconds of every request.
        timing: How long calls may take, and by which clock.
    """

    source = "binance"
    candle_source = "binance"

    def __init__(
        self,
        base_url: str,
        fallback_url: str,
        clock: Clock,
        *,
        waits: WaitStore | None = None,
        on_call: OnCall | None = None,
        timing: Timing | None = None,
    ) -> None:
        self._timing = timing or Timing()
        self._monotonic = self._timing.monotonic
        self._exchange_time = ExchangeClock(clock, self._monotonic)
        self._hosts = BinanceHosts(
            (base_url, fallback_url),
            clock=clock,
            exchange_time=self._exchange_time,
            waits=waits,
            on_call=on_call,
            timing=self._timing,
        )
        self._instruments: dict[str, tuple[float, Instrument]] = {}
        self._unknown_symbols: dict[str, float] = {}
        self._rules_calls: SingleFlight[Instrument] = SingleFlight()
        self._time_calls: SingleFlight[None] = SingleFlight()

    @property
    def active_host(self) -> str:
        """The name of the host in use."""
        return self._hosts.active_host

    @property
    def blocked_until(self) -> datetime | None:
        """Until when no call can be made, by the machine's clock (aware UTC); None when one can."""
        return self._hosts.blocked_until

    @property
    def clock_skew_seconds(self) -> float | None:
        """How far this machine's clock is ahead of the exchange's; None before the first measurement."""
        return self._exchange_time.skew_seconds

    async def fetch_snapshot(self, symbol: str, interval: Interval, bars: int) -> MarketSnapshot:
        """The newest `bars` closed candles (fewer where the exchange has fewer) and the quote after them.

        Args:
            symbol: The pair, such as "BTCUSDT".
            interval: What one candle spans.
            bars: How many candles, 1 to 999.

        Raises:
            UpstreamError: The family; within `Timing.total` seconds.
            NotFoundError: `unknown_symbol`.
            InvalidInputError: `invalid_symbol` or `invalid_interval`.
            ConflictError: `symbol_not_trading`.
        """
        self._refuse_symbol(symbol)
        deadline = asyncio.get_running_loop().time() + self._timing.total
        rows_call = asyncio.create_task(self._fetch_rows(symbol, interval, min(bars + 1, PAGE_ROWS)))
        price_call = asyncio.create_task(self._fetch_price(symbol))
        rules_call = asyncio.create_task(self._instrument(symbol, _INSTRUMENT_SECONDS))
        await together(rows_call, price_call, rules_call, asyncio.create_task(self._keep_time()))
        rows, price, instrument = rows_call.result(), price_call.result(), rules_call.result()
        try:
            async with asyncio.timeout_at(deadline):
                closed = await self._keep_closed(rows, interval)
                if _looks_halted(closed, self._now(), interval):
                    instrument = await self._instrument(symbol, _DOUBTED_INSTRUMENT_SECONDS)
        except TimeoutError:
            raise UpstreamTimeoutError(f"{self.active_host} did not answer in time; try again later.") from None
        check_trading(trading=instrument.trading, symbol=symbol)
        return MarketSnapshot(
            source=self.source,
            symbol=symbol,
            interval=interval,
            candles=tuple(closed[-bars:]),
            quote=Quote(price.value, self._exchange_time.at(price.sent)),
            instrument=instrument,
            exchange_time=self._now(),
            clock_skew_seconds=self._exchange_time.skew_seconds or 0.0,
        )

    async def fetch_range(
        self, symbol: str, interval: Interval, since: datetime, until: datetime, limit: int = PAGE_ROWS
    ) -> list[Candle]:
        """The closed candles that opened from `since` until before `until`, oldest first; gaps are left as they are.

        A page costs a weight of 2 and waits where the minute's weight is nearly used up.

        Args:
            symbol: The pair, such as "BTCUSDT".
            interval: What one candle spans.
            since: Where the span starts, after 1970.
            until: Where it ends.
            limit: How many candles at most, 1 to 1000: the oldest of the span.

        Raises:
            UpstreamError: The family; `candle_out_of_span` where others came than were asked for.
            NotFoundError: `unknown_symbol`.
            InvalidInputError: `invalid_symbol` or `invalid_interval`.
        """
        self._refuse_symbol(symbol)
        await self._hosts.wait_for_room(2)
        await self._keep_time()
        now = self._now()
        end = min(until, now)
        if since >= end:
            return []
        page = (await self._fetch_rows(symbol, interval, limit, (since, end))).value
        _refuse_future(page, now)
        _refuse_others(page, since, end)
        return [candle for candle in page if candle.close_time < now]

    async def fetch_instrument(self, symbol: str) -> Instrument:
        """The trading rules of `symbol`, at most an hour old.

        Raises:
            UpstreamError: The family.
            NotFoundError: `unknown_symbol`.
            InvalidInputError: `invalid_symbol`.
        """
        self._refuse_symbol(symbol)
        return await self._instrument(symbol, _INSTRUMENT_SECONDS)

    async def probe(self) -> float:
        """Ask each host for its time until one answers, `Timing.probe` seconds each.

        Returns:
            How far this machine's clock is ahead of the exchange's, in seconds.

        Raises:
            UpstreamError: The family; no host answered.
        """
        self._note_time(await self._hosts.probe(_TIME))
        return self._exchange_time.skew_seconds or 0.0

    async def aclose(self) -> None:
        """Close all connections; calls under way are cancelled."""
        await self._rules_calls.aclose()
        await self._time_calls.aclose()
        await self._hosts.aclose()

    async def _fetch_rows(
        self, symbol: str, interval: Interval, limit: int, span: tuple[datetime, datetime] | None = None
    ) -> Received[list[Candle]]:
        """Candles in order, the open one included: the newest, or the oldest that opened within `span`."""
        parameters: dict[str, str | int] = {"symbol": symbol, "interval": interval.value, "limit": limit}
        if span is not None:
            since, until = (-((_EPOCH - moment) // _MILLISECOND) for moment in span)
            parameters |= {"startTime": since, "endTime": until - 1}
        return await self._ask(symbol, Query("klines", 2, partial(_read_rows, interval=interval), parameters))

    async def _fetch_price(self, symbol: str) -> Received[Decimal]:
        return await self._ask(symbol, Query("ticker/price", 2, partial(read_price, symbol=symbol), {"symbol": symbol}))

    async def _instrument(self, symbol: str, maximum_age_seconds: float) -> Instrument:
        kept = self._instruments.get(symbol)
        if kept is not None and self._monotonic() - kept[0] < maximum_age_seconds:
            return kept[1]
        return await self._rules_calls.run(symbol, partial(self._fetch_rules, symbol))

    async def _fetch_rules(self, symbol: str) -> Instrument:
        query = Query("exchangeInfo", 20, partial(read_trading_rules, symbol=symbol), {"symbol": symbol})
        rules = (await self._ask(symbol, query)).value
        if rules.weight_limit is not None:
            self._hosts.set_weight_limit(rules.weight_limit)
        self._instruments[symbol] = (self._monotonic(), rules.instrument)
        return rules.instrument

    async def _ask(self, symbol: str, query: Query[T]) -> Received[T]:
        try:
            return await self._hosts.call(query)
        except NotFoundError:
            self._unknown_symbols[symbol] = self._monotonic() + _UNKNOWN_SYMBOL_SECONDS
            if len(self._unknown_symbols) > _UNKNOWN_SYMBOLS_KEPT:
                del self._unknown_symbols[next(iter(self._unknown_symbols))]
            raise unknown_symbol(symbol) from None

    def _refuse_symbol(self, symbol: str) -> None:
        """Save a call whose answer is known: what Binance does not know is not asked for again for ten minutes."""
        if not SYMBOL.fullmatch(symbol):
            raise invalid_symbol()
        if self._unknown_symbols.get(symbol, 0.0) > self._monotonic():
            raise unknown_symbol(symbol)

    async def _keep_closed(self, rows: Received[list[Candle]], interval: Interval) -> list[Candle]:
        """The candles that had closed, by the exchange's clock, when they were asked for."""
        if self._looks_off(rows, interval):
            # The exchange's clock has moved against ours: a machine was suspended, or the last measurement was bad.
            await self._time_calls.run("time", self._measure_time)
        _refuse_future(rows.value, self._exchange_time.at(rows.received))
        asked_at = self._exchange_time.at(rows.sent)
        return [candle for candle in rows.value if candle.close_time < asked_at]

    def _looks_off(self, rows: Received[list[Candle]], interval: Interval) -> bool:
        if not rows.value:
            return False
        newest = rows.value[-1]
        is_ahead = newest.open_time > self._exchange_time.at(rows.received)
        return is_ahead or newest.close_time < self._exchange_time.at(rows.sent) - interval.duration

    async def _keep_time(self) -> None:
        if not self._exchange_time.is_fresh:
            await self._time_calls.run("time", self._measure_time)

    async def _measure_time(self) -> None:
        measured = await self._hosts.call(_TIME)
        if measured.received - measured.sent > _SLOW_ROUND_TRIP_SECONDS:
            # The first call on a connection pays for its handshake, which halving would take for the way there.
            again = await self._hosts.call(_TIME)
            measured = min(measured, again, key=lambda one: one.received - one.sent)
        self._note_time(measured)

    def _note_time(self, measured: Received[datetime]) -> None:
        self._exchange_time.set(measured.value, measured.sent, measured.received)
        skew = self._exchange_time.skew_seconds or 0.0
        if abs(skew) > _SKEW_WORTH_A_WARNING_SECONDS:
            log.warning("clock.skew", host=self.active_host, seconds=round(skew, 3))

    def _now(self) -> datetime:
        return self._exchange_time.at(self._monotonic())


def _read_rows(answer: Answer, interval: Interval) -> list[Candle]:
    return in_order(read_candles(answer, interval))


def _refuse_future(rows: list[Candle], now: datetime) -> None:
    if rows and rows[-1].open_time > now + _CLOCK_TOLERANCE:
        opened = rows[-1].open_time.isoformat()
        raise DataQualityError(
            f"The exchange sent a candle that opens in the future, at {opened}; nothing was done, try again later.",
            code="candle_in_future",
            context={"candle_open_time": opened},
        )


def _refuse_others(rows: list[Candle], since: datetime, until: datetime) -> None:
    if rows and not since <= rows[0].open_time <= rows[-1].open_time < until:
        raise DataQualityError(
            f"The exchange was asked for candles from {since.isoformat()} until {until.isoformat()} and sent others; "
            "check BINANCE_BASE_URL.",
            code="candle_out_of_span",
        )


def _looks_halted(closed: list[Candle], now: datetime, interval: Interval) -> bool:
    """Whether the market stands still, so that the trading rules may have changed since they were fetched."""
    if not closed:
        return True
    newest = closed[-1]
    return not newest.volume or now - newest.close_time > MAXIMUM_AGE_INTERVALS * interval.duration
