"""What every source of market data owes its callers, whichever it is.

A source joins by an entry in `SOURCES`: an async context manager that yields it and the moment it believes it is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from app.domain.candle import Interval
from app.domain.data_quality import check_history, check_snapshot
from app.domain.ports import MarketData
from app.errors import NotFoundError
from app.exchanges.binance import BinanceMarketDataClient
from app.exchanges.simulated import SimulatedMarketData
from tests.support.candles import MILLISECOND
from tests.support.exchange_client import NOW, PATIENT, MachineClock
from tests.support.exchange_server import ExchangeServer

pytestmark = pytest.mark.anyio

END = NOW.replace(second=0)


@asynccontextmanager
async def binance() -> AsyncIterator[MarketData]:
    with ExchangeServer() as exchange:
        exchange.set_time(NOW)
        client = BinanceMarketDataClient(exchange.url, "", MachineClock(exchange), timing=PATIENT)
        yield client
        await client.aclose()


class StoppedClock:
    def now(self) -> datetime:
        return NOW


@asynccontextmanager
async def simulated() -> AsyncIterator[MarketData]:
    market = SimulatedMarketData(StoppedClock(), seed=7)
    yield market
    await market.aclose()


SOURCES: dict[str, Callable[[], AbstractAsyncContextManager[MarketData]]] = {
    "binance": binance,
    "simulated": simulated,
}


@pytest.fixture(params=sorted(SOURCES))
async def source(request: pytest.FixtureRequest) -> AsyncIterator[MarketData]:
    async with SOURCES[request.param]() as market_data:
        assert market_data.source == request.param
        yield market_data


@pytest.mark.parametrize("interval", [Interval.M1, Interval.H1, Interval.D1])
async def test_snapshot_is_fit_to_trade_on(source: MarketData, interval: Interval) -> None:
    snapshot = await source.fetch_snapshot("BTCUSDT", interval, 100)

    check_snapshot(snapshot, minimum_bars=100)
    assert (snapshot.source, snapshot.symbol, snapshot.interval) == (source.source, "BTCUSDT", interval)
    assert len(snapshot.candles) == 100
    assert snapshot.exchange_time.tzinfo is UTC
    assert snapshot.quote.at <= snapshot.exchange_time
    assert abs(snapshot.clock_skew_seconds) < 1


async def test_snapshot_newest_candle_is_the_last_one_closed(source: MarketData) -> None:
    snapshot = await source.fetch_snapshot("ETHUSDT", Interval.M1, 10)

    age = snapshot.exchange_time - snapshot.candles[-1].close_time
    assert timedelta(0) < age <= timedelta(minutes=1)


async def test_snapshot_twice_in_a_minute_has_the_same_candles(source: MarketData) -> None:
    first = await source.fetch_snapshot("SOLUSDT", Interval.M1, 50)
    second = await source.fetch_snapshot("SOLUSDT", Interval.M1, 50)

    assert second.candles == first.candles


async def test_snapshot_agrees_with_range(source: MarketData) -> None:
    snapshot = await source.fetch_snapshot("BNBUSDT", Interval.M5, 80)
    candles = await source.fetch_range("BNBUSDT", Interval.M5, END - timedelta(hours=10), END)

    assert len(candles) == 120
    assert tuple(candles[-80:]) == snapshot.candles


@pytest.mark.parametrize("interval", [Interval.M1, Interval.H1, Interval.D1])
async def test_range_starts_at_its_first_moment_and_ends_before_its_last(
    source: MarketData, interval: Interval
) -> None:
    start = datetime(2025, 6, 1, tzinfo=UTC)
    step = interval.duration

    candles = await source.fetch_range("BTCUSDT", interval, start, start + 100 * step)
    between = await source.fetch_range("BTCUSDT", interval, start + step / 2, start + 3 * step + MILLISECOND)

    check_history(candles)
    assert [candle.open_time for candle in candles] == [start + place * step for place in range(100)]
    assert between == candles[1:4]
    assert await source.fetch_range("BTCUSDT", interval, start + MILLISECOND, start + step) == []
    assert await source.fetch_range("BTCUSDT", interval, start + step, start) == []


async def test_range_longer_than_a_page_gives_its_oldest_candles(source: MarketData) -> None:
    start = END - timedelta(days=3)

    page = await source.fetch_range("BTCUSDT", Interval.M1, start, END)
    few = await source.fetch_range("BTCUSDT", Interval.M1, start, END, limit=3)

    assert len(page) == 1_000
    assert page[0].open_time == start
    assert few == page[:3]


async def test_range_beyond_now_holds_closed_candles_only(source: MarketData) -> None:
    candles = await source.fetch_range("ADAUSDT", Interval.M1, END - timedelta(minutes=5), END + timedelta(days=1))
    future = await source.fetch_range("ADAUSDT", Interval.M1, END + timedelta(hours=1), END + timedelta(days=1))

    assert [candle.open_time for candle in candles] == [END - timedelta(minutes=left) for left in (5, 4, 3, 2, 1)]
    assert future == []


async def test_instrument_has_usable_steps(source: MarketData) -> None:
    instrument = await source.fetch_instrument("BTCUSDT")

    assert (instrument.symbol, instrument.base_asset, instrument.quote_asset) == ("BTCUSDT", "BTC", "USDT")
    assert instrument.tick_size > 0
    assert instrument.lot_step > 0
    assert instrument.minimum_notional >= Decimal(0)
    assert instrument.trading
    snapshot = await source.fetch_snapshot("BTCUSDT", Interval.M1, 5)
    assert snapshot.instrument == instrument
    assert snapshot.quote.price % instrument.tick_size == 0


async def test_unknown_symbol_not_found_everywhere(source: MarketData) -> None:
    for call in (
        source.fetch_instrument("NOSUCHCOIN"),
        source.fetch_snapshot("NOSUCHCOIN", Interval.M1, 5),
        source.fetch_range("NOSUCHCOIN", Interval.M1, END - timedelta(hours=1), END),
    ):
        with pytest.raises(NotFoundError) as caught:
            await call
        assert caught.value.code == "unknown_symbol"


async def test_probe_small_skew_where_clocks_agree(source: MarketData) -> None:
    assert abs(await source.probe()) < 1
