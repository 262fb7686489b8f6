"""Candles, on each database: kept exactly, read as arrays, replaced when restated, missed where there are none."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest
from sqlalchemy import select

from app.domain.candle import Candle, Interval
from app.errors import StorageError
from app.storage import candle_store, tables
from app.storage.candle_store import CandleStore, Coverage, Gap
from app.storage.database import Database
from app.strategies.bars import bars_from_candles
from ml.bars import Bars
from tests.support.candles import made_candles
from tests.support.exchange_client import NOW

pytest_plugins = ("tests.support.databases",)
pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)
END = NOW.replace(second=0)
SERIES = ("binance", "BTCUSDT", Interval.M1)


def minutes(bars: int) -> list[Candle]:
    return made_candles("BTCUSDT", Interval.M1, end=END, bars=bars)


def assert_same_bars(bars: Bars, candles: list[Candle]) -> None:
    expected = bars_from_candles(candles)
    for name in Bars.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(bars, name), getattr(expected, name), strict=True)


@pytest.fixture
def store(database: Database) -> CandleStore:
    return CandleStore(database)


async def test_candles_saved_come_back_as_the_bars_that_training_reads(
    store: CandleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candle_store, "CHUNK_BARS", 250)
    candles = minutes(1_000)
    for start in (500, 0):
        await store.save(*SERIES, candles[start : start + 500])

    assert_same_bars(await store.load_bars(*SERIES, candles[0].open_time, END), candles)
    some = await store.load_bars(*SERIES, candles[3].open_time - MINUTE / 2, candles[9].open_time)
    assert_same_bars(some, candles[3:9])


async def test_hole_longer_than_what_is_read_at_once_leaves_the_candles_around_it(
    store: CandleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candle_store, "CHUNK_BARS", 10)
    candles = [*minutes(100)[:15], *minutes(100)[62:63], *minutes(100)[99:]]
    await store.save(*SERIES, candles)

    assert_same_bars(await store.load_bars(*SERIES, candles[0].open_time - 300 * MINUTE, END + MINUTE), candles)


async def test_series_of_other_sources_symbols_and_intervals_do_not_mix(store: CandleStore) -> None:
    (candle,) = minutes(1)
    await store.save("binance", "ETHUSDT", Interval.M1, [candle])
    await store.save("simulated", "BTCUSDT", Interval.M1, [candle])
    await store.save("binance", "BTCUSDT", Interval.M3, [candle])

    assert len(await store.load_bars(*SERIES, candle.open_time, END)) == 0
    assert await store.coverage(*SERIES) == Coverage(0, None, None)
    assert await store.find_gaps(*SERIES, candle.open_time, END) == [Gap(candle.open_time, END, 1)]


@pytest.mark.parametrize(
    "number",
    ["0.00000001", "92233720368.54775808", "123456789012345.12345678", "999999999999999999.123456789012", "0.1"],
)
async def test_number_of_any_size_is_kept_exactly_and_read_as_the_nearest_float(
    database: Database, store: CandleStore, number: str
) -> None:
    candle = replace(minutes(1)[0], volume=Decimal(number), high=Decimal(number))
    await store.save(*SERIES, [candle])

    kept = await database.read(
        lambda connection: connection.execute(select(tables.candles.c.volume, tables.candles.c.high)).one()
    )
    assert tuple(kept) == (Decimal(number), Decimal(number))
    bars = await store.load_bars(*SERIES, candle.open_time, END)
    assert bars.volume.tolist() == bars.high.tolist() == [float(number)]


async def test_candle_restated_is_replaced_and_its_neighbours_are_not(store: CandleStore) -> None:
    candles = minutes(3)
    await store.save(*SERIES, candles)
    restated = replace(candles[1], close=candles[1].high, volume=Decimal("3.5"))

    await store.save(*SERIES, [restated])

    assert await store.coverage(*SERIES) == Coverage(3, candles[0].open_time, candles[2].open_time)
    assert_same_bars(await store.load_bars(*SERIES, candles[0].open_time, END), [candles[0], restated, candles[2]])


async def test_page_with_a_candle_that_cannot_be_kept_is_not_kept_at_all(store: CandleStore) -> None:
    candles = minutes(3)
    candles[1] = replace(candles[1], volume=Decimal("NaN"))

    with pytest.raises(StorageError) as caught:
        await store.save(*SERIES, candles)

    assert caught.value.code == "amount_not_storable"
    await store.save(*SERIES, [])
    assert (await store.coverage(*SERIES)).candles == 0


async def test_gaps_are_found_before_between_and_after_what_is_kept(store: CandleStore) -> None:
    candles = minutes(100)
    await store.save(*SERIES, [*candles[10:20], *candles[21:50], *candles[60:90]])

    def gap(first: int, after: int) -> Gap:
        return Gap(at(first), at(after), after - first)

    def at(place: int) -> datetime:
        return candles[0].open_time + place * MINUTE

    assert await store.find_gaps(*SERIES, at(0), at(100)) == [gap(0, 10), gap(20, 21), gap(50, 60), gap(90, 100)]
    assert await store.find_gaps(*SERIES, at(10), at(20)) == []
    assert await store.find_gaps(*SERIES, at(52), at(55)) == [gap(52, 55)]
    assert await store.find_gaps(*SERIES, at(19) + MINUTE / 2, at(21) - MINUTE / 2) == [gap(20, 21)]
    assert await store.find_gaps(*SERIES, at(55), at(55)) == []
