"""The simulated market: a pure function of seed, symbol and time that looks like a market."""

from __future__ import annotations

import hashlib
import itertools
import random
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from app.domain.candle import Candle, Interval
from app.domain.data_quality import check_snapshot
from app.engine.clocks import SimulatedClock
from app.errors import NotFoundError
from app.exchanges.simulated import SimulatedMarketData
from tests.support.candles import EPOCH

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parents[3]
NOW = datetime(2026, 11, 21, 13, 37, 42, 123_456, tzinfo=UTC)
SYMBOLS = {"BTCUSDT": 60_000.0, "ETHUSDT": 3_000.0, "SOLUSDT": 150.0, "BNBUSDT": 600.0, "ADAUSDT": 0.5}
PROGRAM = """
import asyncio, hashlib
from datetime import datetime
from app.domain.candle import Interval
from app.engine.clocks import SimulatedClock
from app.exchanges.simulated import SimulatedMarketData
market = SimulatedMarketData(SimulatedClock(datetime.fromisoformat("2026-11-21T13:37:42+00:00")), 7)
end = datetime.fromisoformat("2026-11-21T13:35:00+00:00")
candles = asyncio.run(market.fetch_range("ETHUSDT", Interval.M5, end - 700 * Interval.M5.duration, end))
print(hashlib.sha256(repr(candles).encode()).hexdigest())
"""


def open_market(now: datetime = NOW, seed: int = 7) -> SimulatedMarketData:
    return SimulatedMarketData(SimulatedClock(now), seed)


async def history(now: datetime, bars: int, interval: Interval = Interval.M1, symbol: str = "BTCUSDT") -> list[Candle]:
    return await newest(open_market(now), now, bars, interval, symbol)


async def newest(
    market: SimulatedMarketData, now: datetime, bars: int, interval: Interval = Interval.M1, symbol: str = "BTCUSDT"
) -> list[Candle]:
    end = now - (now - EPOCH) % interval.duration
    return await market.fetch_range(symbol, interval, end - bars * interval.duration, end, limit=bars)


def merge(minutes: Sequence[Candle]) -> Candle:
    return Candle(
        minutes[0].open_time,
        minutes[-1].close_time,
        minutes[0].open,
        max(candle.high for candle in minutes),
        min(candle.low for candle in minutes),
        minutes[-1].close,
        sum((candle.volume for candle in minutes), Decimal(0)),
    )


async def test_windows_are_the_same_in_whatever_order_they_are_asked_for() -> None:
    clock = SimulatedClock(NOW)
    market = SimulatedMarketData(clock, 7)
    everything = {candle.open_time: candle for candle in await history(NOW + timedelta(days=3), 9_000)}
    shuffled = random.Random(1)
    for _ in range(30):
        clock.advance(NOW + timedelta(minutes=shuffled.randrange(-1_000, 4_000)) - clock.now())
        await market.fetch_snapshot("ETHUSDT", Interval.H1, 5)
        for candle in await newest(market, clock.now(), shuffled.randrange(1, 2_000)):
            assert candle == everything[candle.open_time]


async def test_another_instance_and_another_process_tell_the_same_history() -> None:
    candles = await history(NOW, 700, Interval.M5, "ETHUSDT")
    assert candles == await history(NOW, 700, Interval.M5, "ETHUSDT")
    digest = hashlib.sha256(repr(candles).encode()).hexdigest()
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest


async def test_another_seed_and_another_symbol_are_another_history() -> None:
    candles = await history(NOW, 50)
    other = await newest(open_market(seed=8), NOW, 50)
    assert open_market(seed=7).candle_source != open_market(seed=8).candle_source
    assert [candle.close for candle in candles] != [candle.close for candle in other]
    ether = await history(NOW, 50, symbol="ETHUSDT")
    assert [candle.close / candles[0].open for candle in candles] != [candle.close / ether[0].open for candle in ether]


@pytest.mark.parametrize("interval", list(Interval), ids=str)
async def test_candles_of_an_interval_are_its_minutes_together(interval: Interval) -> None:
    size = interval.milliseconds // 60_000
    candles = await history(NOW, 3, interval)
    end = candles[-1].close_time + timedelta(milliseconds=1)
    minutes = await history(end, 3 * size)
    assert candles == [merge(minutes[start : start + size]) for start in range(0, 3 * size, size)]


@pytest.mark.parametrize("symbol", list(SYMBOLS))
@pytest.mark.parametrize("interval", [Interval.M1, Interval.H1, Interval.D1], ids=str)
async def test_snapshot_is_fit_to_trade_on(symbol: str, interval: Interval) -> None:
    snapshot = await open_market().fetch_snapshot(symbol, interval, 300)
    check_snapshot(snapshot, minimum_bars=300)
    assert len(snapshot.candles) == 300
    assert snapshot.source == "simulated"
    assert snapshot.exchange_time == snapshot.quote.at == NOW
    assert snapshot.clock_skew_seconds == 0.0
    tick, lot = snapshot.instrument.tick_size, snapshot.instrument.lot_step
    for candle in snapshot.candles:
        assert all(price % tick == 0 for price in (candle.open, candle.high, candle.low, candle.close))
        assert candle.volume % lot == 0
        assert candle.volume > 0


async def test_closed_candles_end_with_the_last_whole_interval() -> None:
    minute = NOW.replace(second=0, microsecond=0)
    before = (await history(minute - timedelta(milliseconds=1), 2))[-1]
    after = (await history(minute, 2))[-1]
    assert before.open_time == minute - timedelta(minutes=2)
    assert after.open_time == minute - timedelta(minutes=1)
    assert after.close_time == minute - timedelta(milliseconds=1)


async def test_quote_lies_within_the_candle_that_is_forming() -> None:
    minute = NOW.replace(second=0, microsecond=0)
    forming = (await history(minute + timedelta(minutes=1), 1))[0]
    for second in range(60):
        snapshot = await open_market(minute + timedelta(seconds=second)).fetch_snapshot("BTCUSDT", Interval.M1, 1)
        assert forming.low <= snapshot.quote.price <= forming.high
        assert snapshot.quote.price % snapshot.instrument.tick_size == 0
    first = await open_market(minute).fetch_snapshot("BTCUSDT", Interval.M1, 1)
    assert first.quote.price == forming.open


@pytest.mark.parametrize("symbol", list(SYMBOLS))
async def test_price_stays_within_bounds_over_decades(symbol: str) -> None:
    usual = SYMBOLS[symbol]
    for year in range(1975, 2130, 5):
        candle = (await history(datetime(year, 7, 1, 5, tzinfo=UTC), 1, Interval.H1, symbol))[0]
        assert usual / 3 < float(candle.low) <= float(candle.high) < usual * 3


async def test_days_join_without_a_jump() -> None:
    candles = await history(datetime(2026, 11, 21, 1, tzinfo=UTC), 5 * 1_440)
    gaps = [abs(later.open / earlier.close - 1) for earlier, later in itertools.pairwise(candles)]
    assert max(gaps) <= Decimal("0.000001")


async def test_history_before_the_epoch_is_left_out() -> None:
    candles = await history(datetime(1970, 1, 1, 0, 10, 30, tzinfo=UTC), 500)
    assert len(candles) == 10
    assert candles[0].open_time == datetime(1970, 1, 1, tzinfo=UTC)
    assert await history(datetime(1970, 1, 1, 0, 0, 30, tzinfo=UTC), 500) == []


async def test_symbol_it_does_not_have_is_unknown() -> None:
    market = open_market()
    for ask in (
        market.fetch_snapshot("DOGEUSDT", Interval.M1, 5),
        market.fetch_range("DOGEUSDT", Interval.M1, NOW - timedelta(hours=1), NOW),
        market.fetch_instrument("DOGEUSDT"),
    ):
        with pytest.raises(NotFoundError) as caught:
            await ask
        assert caught.value.code == "unknown_symbol"
        assert caught.value.context == {"symbol": "DOGEUSDT"}


async def test_clock_of_the_market_is_ours() -> None:
    market = open_market()
    assert await market.probe() == 0.0
    await market.aclose()
