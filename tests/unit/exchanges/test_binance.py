"""What the client makes of a healthy exchange: closed candles, paged history, rules, and the exchange's own time."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from app.domain.candle import Interval
from app.domain.data_quality import check_snapshot
from app.errors import DataQualityError, NotFoundError, NotReadyError, UpstreamTimeoutError
from app.exchanges import binance
from app.exchanges.binance import BinanceMarketDataClient
from tests.support.candles import made_candles
from tests.support.exchange_client import NOW, PATIENT, MachineClock, Stopwatch
from tests.support.exchange_faults import body, differing_duplicate, rows
from tests.support.exchange_market import Listing
from tests.support.exchange_server import ExchangeServer
from tests.unit.exchanges.conftest import MakeClient

pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)
NEWEST_PAGE = {"symbol": "BTCUSDT", "interval": "1m", "limit": "1000"}


async def test_snapshot_holds_what_the_exchange_sent(exchange: ExchangeServer, client: BinanceMarketDataClient) -> None:
    snapshot = await client.fetch_snapshot("BTCUSDT", Interval.M1, 100)

    assert list(snapshot.candles) == made_candles("BTCUSDT", Interval.M1, end=NOW, bars=100)
    assert snapshot.quote.price == exchange.market.price("BTCUSDT", NOW)
    assert timedelta(0) <= snapshot.exchange_time - NOW < timedelta(seconds=5)
    assert timedelta(0) <= snapshot.exchange_time - snapshot.quote.at < timedelta(seconds=2)
    assert snapshot.instrument.tick_size == Decimal("0.01")
    assert (snapshot.source, snapshot.symbol, snapshot.interval) == ("binance", "BTCUSDT", Interval.M1)
    check_snapshot(snapshot, minimum_bars=100)


@pytest.mark.parametrize("interval", list(Interval))
async def test_snapshot_of_every_interval_is_fit_to_trade_on(
    client: BinanceMarketDataClient, interval: Interval
) -> None:
    snapshot = await client.fetch_snapshot("ADAUSDT", interval, 61)

    check_snapshot(snapshot, minimum_bars=61)


@pytest.mark.parametrize("packs", [False, True])
async def test_snapshot_of_999_bars_in_one_call(
    exchange: ExchangeServer, client: BinanceMarketDataClient, packs: bool
) -> None:
    exchange.packs = packs

    snapshot = await client.fetch_snapshot("BTCUSDT", Interval.M1, 999)

    assert len(snapshot.candles) == 999
    assert (exchange.count("klines"), exchange.requests[0].query.get("limit", "1000")) == (1, "1000")


async def test_snapshot_price_and_candles_asked_for_at_the_same_time(
    exchange: ExchangeServer, client: BinanceMarketDataClient
) -> None:
    await client.fetch_snapshot("BTCUSDT", Interval.M1, 5)
    exchange.requests.clear()
    exchange.delay_seconds = 0.1

    await client.fetch_snapshot("BTCUSDT", Interval.M1, 5)

    first, second = exchange.requests
    assert {first.endpoint, second.endpoint} == {"klines", "ticker/price"}
    assert second.at - first.at < 0.1


@pytest.mark.parametrize("hours", [-1, 1, 24])
async def test_snapshot_machine_clock_wrong_by_hours_still_drops_the_open_candle(
    client: BinanceMarketDataClient, clock: MachineClock, hours: int
) -> None:
    clock.skew = timedelta(hours=hours)

    snapshot = await client.fetch_snapshot("BTCUSDT", Interval.M1, 100)

    assert snapshot.candles[-1].close_time == NOW.replace(second=0) - timedelta(milliseconds=1)
    assert snapshot.clock_skew_seconds == pytest.approx(hours * 3_600, abs=1)
    with pytest.raises(NotReadyError, match="NTP"):
        check_snapshot(snapshot, minimum_bars=61)


async def test_snapshot_exchange_clock_moves_on_unnoticed_and_is_measured_again(
    exchange: ExchangeServer, client: BinanceMarketDataClient
) -> None:
    await client.fetch_snapshot("BTCUSDT", Interval.M1, 5)
    # As when a virtual machine was paused: none of our clocks has moved.
    exchange.advance(3 * MINUTE)

    snapshot = await client.fetch_snapshot("BTCUSDT", Interval.M1, 5)

    assert snapshot.candles[-1].close_time == NOW.replace(second=0) + 3 * MINUTE - timedelta(milliseconds=1)
    assert exchange.count("time") == 2


async def test_snapshot_second_measurement_hangs_ends_in_time(
    exchange: ExchangeServer, make_client: MakeClient
) -> None:
    client = make_client(timing=replace(PATIENT, total=1.0))
    await client.fetch_snapshot("BTCUSDT", Interval.M1, 5)
    exchange.advance(3 * MINUTE)
    exchange.fail("time", "no_answer")
    started = time.monotonic()

    with pytest.raises(UpstreamTimeoutError):
        await client.fetch_snapshot("BTCUSDT", Interval.M1, 5)

    assert time.monotonic() - started < 15


async def test_snapshot_first_measurement_wrong_is_measured_again(
    exchange: ExchangeServer, client: BinanceMarketDataClient
) -> None:
    exchange.set_time(NOW + timedelta(hours=2))
    await client.probe()
    exchange.set_time(NOW)

    snapshot = await client.fetch_snapshot("BTCUSDT", Interval.M1, 5)

    assert snapshot.candles[-1].close_time == NOW.replace(second=0) - timedelta(milliseconds=1)


async def test_time_measured_hourly(
    exchange: ExchangeServer, client: BinanceMarketDataClient, stopwatch: Stopwatch
) -> None:
    for _ in range(3):
        await client.fetch_snapshot("BTCUSDT", Interval.M1, 5)
    assert exchange.count("time") == 1

    stopwatch.passed += 3_601
    exchange.advance(timedelta(seconds=3_601))
    await client.fetch_snapshot("BTCUSDT", Interval.M1, 5)

    assert exchange.count("time") == 2
    assert exchange.count("exchangeInfo") == 2


async def test_time_slow_first_round_trip_measured_twice(
    exchange: ExchangeServer, client: BinanceMarketDataClient
) -> None:
    exchange.delay_seconds = 0.12

    await client.fetch_snapshot("BTCUSDT", Interval.M1, 5)

    assert exchange.count("time") == 2
    assert client.clock_skew_seconds == pytest.approx(0, abs=0.2)


async def test_snapshot_concurrent_callers_share_rules_and_time(
    exchange: ExchangeServer, client: BinanceMarketDataClient
) -> None:
    await asyncio.gather(*(client.fetch_snapshot("BTCUSDT", Interval.M1, 5) for _ in range(10)))

    assert exchange.count("klines") == 10
    assert (exchange.count("exchangeInfo"), exchange.count("time")) == (1, 1)


async def test_snapshot_cancelled_sharer_leaves_the_call_to_the_other(
    exchange: ExchangeServer, client: BinanceMarketDataClient
) -> None:
    exchange.delay_seconds = 0.05
    first = asyncio.create_task(client.fetch_instrument("BTCUSDT"))
    await asyncio.sleep(0.01)
    second = asyncio.create_task(client.fetch_instrument("BTCUSDT"))
    await asyncio.sleep(0.01)

    first.cancel()

    assert (await second).symbol == "BTCUSDT"
    assert exchange.count("exchangeInfo") == 1


async def test_snapshot_new_listing_gives_what_there_is(
    exchange: ExchangeServer, client: BinanceMarketDataClient
) -> None:
    exchange.market.listings["BTCUSDT"].since = NOW - 10 * MINUTE

    snapshot = await client.fetch_snapshot("BTCUSDT", Interval.M1, 100)

    assert len(snapshot.candles) == 9


async def test_snapshot_candle_ended_early_by_a_halt_is_closed(
    exchange: ExchangeServer, client: BinanceMarketDataClient
) -> None:
    candles = made_candles("BTCUSDT", Interval.M15, end=NOW + timedelta(minutes=15), bars=20)
    candles[-1] = replace(candles[-1], close_time=candles[-1].open_time + timedelta(seconds=12, milliseconds=646))
    exchange.give_candles("BTCUSDT", Interval.M15, candles)

    snapshot = await client.fetch_snapshot("BTCUSDT", Interval.M15, 10)

    assert snapshot.candles[-1] == candles[-1]


async def test_range_is_one_call_for_what_the_exchange_has(
    exchange: ExchangeServer, client: BinanceMarketDataClient
) -> None:
    every = made_candles("BTCUSDT", Interval.M1, end=NOW, bars=1_000)
    given = [*every[100:300], *every[380:]]
    exchange.give_candles("BTCUSDT", Interval.M1, given)

    assert await client.fetch_range("BTCUSDT", Interval.M1, every[0].open_time, NOW) == given
    assert exchange.count("klines") == 1
    assert await client.fetch_range("BTCUSDT", Interval.M1, every[300].open_time, every[380].open_time) == []


async def test_range_identical_duplicates_dropped_and_differing_ones_refused(
    exchange: ExchangeServer, client: BinanceMarketDataClient
) -> None:
    expected = made_candles("BTCUSDT", Interval.M1, end=NOW, bars=50)
    exchange.fail("klines", "duplicated")
    assert await client.fetch_range("BTCUSDT", Interval.M1, expected[0].open_time, NOW) == expected

    exchange.fail("klines", rows(differing_duplicate))
    with pytest.raises(DataQualityError) as caught:
        await client.fetch_range("BTCUSDT", Interval.M1, expected[0].open_time, NOW)
    assert caught.value.code == "candle_duplicate"


@pytest.mark.parametrize(("ago", "ahead"), [(2_000, 1_500), (990, 0)])
async def test_range_exchange_that_sends_other_candles_refused(
    exchange: ExchangeServer, client: BinanceMarketDataClient, ago: int, ahead: int
) -> None:
    exchange.fail("klines", body(exchange.market.answer("klines", NEWEST_PAGE, NOW)))

    with pytest.raises(DataQualityError) as caught:
        await client.fetch_range("BTCUSDT", Interval.M1, NOW - ago * MINUTE, NOW - ahead * MINUTE)

    assert caught.value.code == "candle_out_of_span"


async def test_instrument_cached_for_an_hour(
    exchange: ExchangeServer, client: BinanceMarketDataClient, stopwatch: Stopwatch
) -> None:
    listing = exchange.market.listings["ETHUSDT"]
    listing.tick_size, listing.lot_step = "0.10000000", "1.00000000"
    instrument = await client.fetch_instrument("ETHUSDT")
    stopwatch.passed += 3_599

    assert await client.fetch_instrument("ETHUSDT") is instrument
    assert (instrument.base_asset, instrument.quote_asset) == ("ETH", "USDT")
    assert (str(instrument.tick_size), str(instrument.lot_step)) == ("0.1", "1")
    assert str(instrument.minimum_notional) == "5"
    assert instrument.trading
    stopwatch.passed += 2
    assert await client.fetch_instrument("ETHUSDT") is not instrument


async def test_instrument_of_a_halted_symbol_says_so(exchange: ExchangeServer, client: BinanceMarketDataClient) -> None:
    exchange.set_status("BTCUSDT", "BREAK")

    assert (await client.fetch_instrument("BTCUSDT")).trading is False


async def test_unknown_symbol_asked_for_again_after_ten_minutes(
    exchange: ExchangeServer, client: BinanceMarketDataClient, stopwatch: Stopwatch
) -> None:
    with pytest.raises(NotFoundError, match="NEWUSDT"):
        await client.fetch_instrument("NEWUSDT")
    exchange.market.listings["NEWUSDT"] = Listing("NEWUSDT")
    stopwatch.passed += 601

    assert (await client.fetch_instrument("NEWUSDT")).symbol == "NEWUSDT"


async def test_unknown_symbols_remembered_are_bounded(
    exchange: ExchangeServer, client: BinanceMarketDataClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binance, "_UNKNOWN_SYMBOLS_KEPT", 3)
    for number in (1, 2, 3, 4, 4, 2, 1):
        with pytest.raises(NotFoundError, match=f"NONE{number}"):
            await client.fetch_instrument(f"NONE{number}")

    assert [request.query["symbol"][-1] for request in exchange.requests] == ["1", "2", "3", "4", "1"]
