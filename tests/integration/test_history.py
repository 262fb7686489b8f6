"""History is fetched once and kept: in pages, over failures and killed processes, up to what the exchange has."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from app.domain.candle import Candle, Interval
from app.errors import DataQualityError, NotFoundError, UpstreamError
from app.exchanges.binance import BinanceMarketDataClient
from app.research.history import HistoryKeeper
from app.storage.candle_store import CandleStore, Coverage, Gap
from app.storage.database import Database
from app.strategies.bars import bars_from_candles
from ml.bars import Bars
from tests.support.candles import EPOCH, MILLISECOND, made_candles
from tests.support.exchange_client import NOW, PATIENT, MachineClock, Stopwatch
from tests.support.exchange_faults import Rows, rows
from tests.support.exchange_server import ExchangeServer

pytest_plugins = ("tests.support.databases",)
pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)
END = NOW.replace(second=0)
SERIES = ("binance", "BTCUSDT", Interval.M1)
ROOT = Path(__file__).parents[2]
PROGRAM = """
import asyncio, sys
from datetime import timedelta
from app.domain.candle import Interval
from app.exchanges.binance import BinanceMarketDataClient
from app.research.history import HistoryKeeper
from app.storage.candle_store import CandleStore
from app.storage.database import Database
from tests.support.exchange_client import NOW

class Clock:
    def now(self):
        return NOW

async def main():
    async with Database(sys.argv[1]) as database:
        market = BinanceMarketDataClient(sys.argv[2], "", Clock())
        keeper = HistoryKeeper(market, CandleStore(database), Clock())
        say = lambda done, total: print(done, flush=True)
        await keeper.download("BTCUSDT", Interval.M1, NOW - timedelta(minutes=16_000), NOW, say)

asyncio.run(main())
"""


def unheard(_done: int, _total: int) -> None:
    """Progress is not what this is about."""


def minutes(bars: int) -> list[Candle]:
    return made_candles("BTCUSDT", Interval.M1, end=END, bars=bars)


def asked(exchange: ExchangeServer) -> list[tuple[datetime, datetime]]:
    """The spans that candles were asked for, oldest first; what was asked is forgotten."""
    queries = [request.query for request in exchange.requests if request.endpoint == "klines"]
    exchange.requests.clear()
    return sorted(
        (EPOCH + int(query["startTime"]) * MILLISECOND, EPOCH + (int(query["endTime"]) + 1) * MILLISECOND)
        for query in queries
    )


def assert_within(gaps: list[Gap], spans: list[tuple[datetime, datetime]]) -> None:
    """Each of the spans lies within a gap: what was kept was not asked for."""
    assert spans
    assert [span for span in spans if not any(gap.since <= span[0] and span[1] <= gap.until for gap in gaps)] == []


def assert_same_bars(bars: Bars, candles: list[Candle]) -> None:
    expected = bars_from_candles(candles)
    for name in Bars.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(bars, name), getattr(expected, name), strict=True)


@pytest.fixture
def exchange() -> Iterator[ExchangeServer]:
    with ExchangeServer() as server:
        server.set_time(NOW)
        yield server


@pytest.fixture
def store(sqlite_database: Database) -> CandleStore:
    return CandleStore(sqlite_database)


@pytest.fixture
def stopwatch() -> Stopwatch:
    return Stopwatch()


@pytest.fixture
async def keeper(exchange: ExchangeServer, store: CandleStore, stopwatch: Stopwatch) -> AsyncIterator[HistoryKeeper]:
    clock = MachineClock(exchange)
    client = BinanceMarketDataClient(exchange.url, "", clock, timing=replace(PATIENT, monotonic=stopwatch))
    yield HistoryKeeper(client, store, clock)
    await client.aclose()


async def test_download_keeps_the_span_in_pages_and_asks_for_nothing_twice(
    exchange: ExchangeServer, keeper: HistoryKeeper, store: CandleStore
) -> None:
    heard: list[tuple[int, int]] = []
    start = END - 6_500 * MINUTE

    first = await keeper.download("BTCUSDT", Interval.M1, start, END, lambda *share: heard.append(share))

    assert (first.fetched, first.stored, first.gaps) == (6_500, 6_500, ())
    assert (first.source, first.symbol, first.interval) == SERIES
    assert (first.since, first.until) == (start, END)
    assert heard == sorted(heard)
    assert (heard[0], heard[-1], len(heard)) == ((0, 6_500), (6_500, 6_500), 8)
    assert_same_bars(await store.load_bars(*SERIES, start, END), minutes(6_500))
    assert asked(exchange) == [
        (start + page * 1_000 * MINUTE, min(start + (page + 1) * 1_000 * MINUTE, END)) for page in range(7)
    ]

    again = await keeper.download("BTCUSDT", Interval.M1, start, END, unheard)
    assert (again.fetched, again.stored) == (0, 6_500)
    longer = await keeper.download("BTCUSDT", Interval.M1, start - 10 * MINUTE, END, unheard)
    assert (longer.fetched, longer.stored) == (10, 6_510)
    assert asked(exchange) == [(start - 10 * MINUTE, start)]


async def test_download_span_between_candles_and_into_the_future_is_cut_to_closed_candles(
    keeper: HistoryKeeper, store: CandleStore
) -> None:
    done = await keeper.download("BTCUSDT", Interval.M1, END - 2.5 * MINUTE, END + timedelta(days=2), unheard)

    assert (done.since, done.until) == (END - 2 * MINUTE, END)
    assert (done.fetched, done.stored, done.gaps) == (2, 2, ())
    assert await store.coverage(*SERIES) == Coverage(2, END - 2 * MINUTE, END - MINUTE)
    nothing = await keeper.download("BTCUSDT", Interval.M1, END + MINUTE, END + 2 * MINUTE, unheard)
    assert (nothing.fetched, nothing.stored, nothing.gaps) == (0, 0, ())


async def test_download_broken_off_goes_on_from_what_was_reached(
    exchange: ExchangeServer, keeper: HistoryKeeper, store: CandleStore
) -> None:
    start = END - 10_000 * MINUTE

    def stop(done: int, _total: int) -> None:
        if done >= 4_000:
            exchange.fail("klines", "busy")

    with pytest.raises(UpstreamError) as caught:
        await keeper.download("BTCUSDT", Interval.M1, start, END, stop)
    assert caught.value.code == "upstream_unavailable"
    kept = await store.find_gaps(*SERIES, start, END)
    assert sum(gap.missing for gap in kept) <= 6_000
    exchange.heal()
    exchange.requests.clear()

    done = await keeper.download("BTCUSDT", Interval.M1, start, END, unheard)

    assert done.fetched == sum(gap.missing for gap in kept)
    assert (done.stored, done.gaps) == (10_000, ())
    assert_within(kept, asked(exchange))
    assert_same_bars(await store.load_bars(*SERIES, start, END), minutes(10_000))


async def test_download_killed_loses_no_more_than_the_pages_under_way(
    exchange: ExchangeServer, keeper: HistoryKeeper, store: CandleStore, sqlite_url: str
) -> None:
    exchange.delay_seconds = 0.05
    process = subprocess.Popen(  # noqa: ASYNC220 - it starts in a moment, and the exchange has a thread of its own
        [sys.executable, "-c", PROGRAM, sqlite_url, exchange.url], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    while int(process.stdout.readline()) < 5_000:
        pass
    process.kill()
    process.communicate()
    exchange.delay_seconds = 0.0
    lost = await store.find_gaps(*SERIES, NOW - timedelta(minutes=16_000), END)
    missing = sum(gap.missing for gap in lost)
    assert 0 < missing <= 15_999 - 5_000
    exchange.requests.clear()

    done = await keeper.download("BTCUSDT", Interval.M1, NOW - timedelta(minutes=16_000), NOW, unheard)

    assert (done.fetched, done.stored, done.gaps) == (missing, 15_999, ())
    assert_within(lost, asked(exchange))


async def test_gaps_of_the_exchange_are_reported_and_asked_for_once_a_download(
    exchange: ExchangeServer, keeper: HistoryKeeper
) -> None:
    every = minutes(3_000)
    exchange.give_candles("BTCUSDT", Interval.M1, [*every[:500], *every[600:2_200], *every[2_201:]])
    halts = (
        Gap(every[500].open_time, every[600].open_time, 100),
        Gap(every[2_200].open_time, every[2_201].open_time, 1),
    )

    first = await keeper.download("BTCUSDT", Interval.M1, every[0].open_time, END, unheard)
    assert (first.fetched, first.stored, first.gaps) == (2_899, 2_899, halts)
    assert len(asked(exchange)) == 3
    again = await keeper.download("BTCUSDT", Interval.M1, every[0].open_time, END, unheard)
    assert (again.fetched, again.stored, again.gaps) == (0, 2_899, halts)
    assert asked(exchange) == [(gap.since, gap.until) for gap in halts]

    exchange.give_candles("BTCUSDT", Interval.M1, every)
    later = await keeper.download("BTCUSDT", Interval.M1, every[0].open_time, END, unheard)
    assert (later.fetched, later.stored, later.gaps) == (101, 3_000, ())


async def test_years_before_the_first_candle_cost_a_few_calls(exchange: ExchangeServer, keeper: HistoryKeeper) -> None:
    exchange.market.listings["BTCUSDT"].since = END - 1_500 * MINUTE
    start = END - timedelta(days=3_000)

    done = await keeper.download("BTCUSDT", Interval.M1, start, END, unheard)

    assert (done.fetched, done.stored) == (1_500, 1_500)
    assert done.gaps == (Gap(start, END - 1_500 * MINUTE, 3_000 * 1_440 - 1_500),)
    assert len(asked(exchange)) == 4 + 1 + 2


async def test_page_no_market_can_have_produced_is_refused_and_the_pages_before_are_kept(
    exchange: ExchangeServer, keeper: HistoryKeeper, store: CandleStore
) -> None:
    bad = str((END - 100 * MINUTE - EPOCH) // MILLISECOND)

    def upside_down(page: Rows) -> Rows:
        return [[*row[:2], "0.01", *row[3:]] if str(row[0]) == bad else row for row in page]

    exchange.fail("klines", rows(upside_down))
    with pytest.raises(DataQualityError) as caught:
        await keeper.download("BTCUSDT", Interval.M1, END - 5_000 * MINUTE, END, unheard)

    assert caught.value.code == "candle_impossible"
    assert (await store.coverage(*SERIES)).candles == 4_000


async def test_newest_bars_are_fetched_once_and_then_only_what_closed_since(
    exchange: ExchangeServer, keeper: HistoryKeeper, stopwatch: Stopwatch
) -> None:
    heard: list[tuple[int, int]] = []
    bars = await keeper.load_newest("BTCUSDT", Interval.M1, 2_500, lambda *share: heard.append(share))

    assert_same_bars(bars, minutes(2_500))
    assert heard == sorted(heard)
    assert heard[-1] == (2_500, 2_500)
    assert len(asked(exchange)) == 3

    exchange.advance(5 * MINUTE)
    stopwatch.passed += 300
    bars = await keeper.load_newest("BTCUSDT", Interval.M1, 2_500, unheard)
    assert_same_bars(bars, made_candles("BTCUSDT", Interval.M1, end=END + 5 * MINUTE, bars=2_500))
    assert asked(exchange) == [(END, END + 5 * MINUTE)]
    assert_same_bars(
        await keeper.load_newest("BTCUSDT", Interval.M1, 10, unheard),
        made_candles("BTCUSDT", Interval.M1, end=END + 5 * MINUTE, bars=10),
    )
    assert asked(exchange) == []


async def test_newest_bars_reach_back_over_gaps_longer_than_a_page(
    exchange: ExchangeServer, keeper: HistoryKeeper
) -> None:
    every = minutes(6_000)
    given = [*every[:1_000], *every[3_040:4_500], *every[4_580:]]
    exchange.give_candles("BTCUSDT", Interval.M1, given)

    assert_same_bars(await keeper.load_newest("BTCUSDT", Interval.M1, 3_500, unheard), given[-3_500:])


@pytest.mark.parametrize("there", [0, 1, 2_500])
async def test_newest_bars_of_a_young_market_are_all_there_are(
    exchange: ExchangeServer, keeper: HistoryKeeper, there: int
) -> None:
    exchange.give_candles("BTCUSDT", Interval.M1, minutes(there))

    assert_same_bars(await keeper.load_newest("BTCUSDT", Interval.M1, 10_000, unheard), minutes(there))


async def test_symbol_the_exchange_does_not_know_is_not_found(keeper: HistoryKeeper) -> None:
    for call in (
        keeper.download("NOSUCHCOIN", Interval.M1, END - 5 * MINUTE, END, unheard),
        keeper.load_newest("NOSUCHCOIN", Interval.M1, 10, unheard),
    ):
        with pytest.raises(NotFoundError) as caught:
            await call
        assert caught.value.code == "unknown_symbol"
