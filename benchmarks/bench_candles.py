"""How long a million candles take from the local store into arrays: python -m benchmarks.bench_candles."""

from __future__ import annotations

import asyncio
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from sqlalchemy import Connection

from app.domain.candle import Interval
from app.storage.candle_store import CandleStore
from app.storage.database import Database
from benchmarks.bench_training import made_bars
from ml.bars import Bars, FloatArray

CANDLES = 1_000_000
SERIES = ("simulated", "BTCUSDT", Interval.M1)
_SPAN = (datetime(1970, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC))
_BATCH = 10_000
_DECIMALS = 8


def written(values: FloatArray) -> list[str]:
    """As the store keeps numbers: plain decimals, as short as they can be."""
    return [f"{value:.{_DECIMALS}f}".rstrip("0").rstrip(".") for value in values]


async def fill(database: Database, bars: Bars) -> None:
    """Put candles into the table, not through `CandleStore.save`, which takes minutes for as many."""
    columns = (written(values) for values in (bars.open, bars.high, bars.low, bars.close, bars.volume))
    rows = list(zip(bars.open_time_ms.tolist(), *columns, strict=True))

    def insert_batch(connection: Connection, first: int) -> None:
        source, symbol, interval = SERIES
        connection.exec_driver_sql(
            f"INSERT INTO candles VALUES ('{source}', '{symbol}', '{interval}', ?, ?, ?, ?, ?, ?)",  # noqa: S608
            rows[first : first + _BATCH],
        )

    for first in range(0, len(rows), _BATCH):
        await database.write(lambda connection, first=first: insert_batch(connection, first))  # type: ignore[misc]


async def _measure(folder: Path) -> float:
    bars = made_bars(CANDLES)
    seconds = []
    async with Database(f"sqlite:///{folder / 'candles.db'}") as database:
        await fill(database, bars)
        for _ in range(5):
            began = time.perf_counter()
            loaded = await CandleStore(database).load_bars(*SERIES, *_SPAN)
            seconds.append(time.perf_counter() - began)
    assert np.array_equal(loaded.open_time_ms, bars.open_time_ms)
    assert np.array_equal(loaded.close, [float(text) for text in written(bars.close)])
    return sorted(seconds)[2]


def measure_loading() -> float:
    """Seconds to load a million candles from a SQLite file into arrays, the median of five times."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_measure(Path(folder)))


if __name__ == "__main__":
    print(f"a million candles from the store into arrays: {measure_loading():.2f} s")
