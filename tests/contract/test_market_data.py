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
from app.domain.data_quality import check_history, check_snapshot, in_order
from app.domain.ports import MarketData
from app.errors import NotFoundError
from app.exchanges.binance import BinanceMarketDataClient
from app.exchanges.simulated import SimulatedMarketData
from tests.support.exchange_client import NOW, PATIENT, MachineClock
from tests.support.exchange_server import ExchangeServer

pytestmark = pytest.mark.anyio


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


async def test_snapshot_agrees_with_history(source: MarketData) -> None:
    snapshot = await source.fetch_snapshot("BNBUSDT", Interval.M5, 80)
    history = await source.fetch_history("BNBUSDT", Interval.M5, 200)

    assert tuple(history[-80:]) == snapshot.candles


async def test_history_is_complete_in_order_and_announced(source: MarketData) -> None:
    heard: list[int] = []

    history = await source.fetch_history("BTCUSDT", Interval.M1, 2_500, heard.append)

    check_history(history)
    assert in_order(history) == history
    assert len(history) == 2_500
    assert heard == sorted(heard)
    assert heard[-1] == 2_500


async def test_history_shorter_one_is_the_end_of_a_longer(source: MarketData) -> None:
    longer = await source.fetch_history("ADAUSDT", Interval.H1, 300)
    shorter = await source.fetch_history("ADAUSDT", Interval.H1, 100)

    assert shorter == longer[-100:]


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
        source.fetch_history("NOSUCHCOIN", Interval.M1, 5),
    ):
        with pytest.raises(NotFoundError) as caught:
            await call
        assert caught.value.code == "unknown_symbol"


async def test_probe_small_skew_where_clocks_agree(source: MarketData) -> None:
    assert abs(await source.probe()) < 1
