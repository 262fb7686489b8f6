"""Candles for tests: made up without end and without chance, or recorded ones moved in time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from zlib import crc32

from app.domain.candle import Candle, Interval

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)

_CENTS = Decimal("0.01000000")
_VOLUME_STEP = Decimal("0.00001000")


@lru_cache(maxsize=20_000)
def made_candle(symbol: str, interval: Interval, index: int) -> Candle:
    """The `index`th candle since the epoch of an endless market: two waves and a little pseudo-noise.

    It is a pure function of its arguments; each candle opens where the one before closed.
    """
    seed = crc32(f"{symbol} {interval}".encode())
    first, last = _close(symbol, seed, index - 1), _close(symbol, seed, index)
    opened = EPOCH + index * interval.duration
    wick = 1 + 0.0008 * _noise(seed + 1, index)
    return Candle(
        open_time=opened,
        close_time=opened + interval.duration - MILLISECOND,
        open=_rounded(first, _CENTS),
        high=_rounded(max(first, last) * wick, _CENTS),
        low=_rounded(min(first, last) / wick, _CENTS),
        close=_rounded(last, _CENTS),
        volume=_rounded(1 + 20 * _noise(seed + 2, index), _VOLUME_STEP),
    )


def made_candles(symbol: str, interval: Interval, *, end: datetime, bars: int) -> list[Candle]:
    """The `bars` newest candles that have closed by `end`, oldest first."""
    closed = (end - EPOCH) // interval.duration
    return [made_candle(symbol, interval, index) for index in range(closed - bars, closed)]


def move_to_end_at(candles: Sequence[Candle], interval: Interval, end: datetime) -> list[Candle]:
    """Move candles by whole intervals, so that the last one is the newest that has closed by `end`."""
    last_open = EPOCH + ((end - EPOCH) // interval.duration - 1) * interval.duration
    shift = last_open - candles[-1].open_time
    return [
        replace(candle, open_time=candle.open_time + shift, close_time=candle.close_time + shift) for candle in candles
    ]


def load_recorded(path: Path, end_at: datetime, *, bars: int | None = None) -> list[Candle]:
    """Read the last `bars` (all when None) rows of a parquet file of candles, moved to end at `end_at`.

    The interval stands in the file's name, as in `BTCUSDT-1m.parquet`; `close_time` may be missing. An exchange
    that is to run on for a while needs candles that end later than now; it hides them until their time.

    Raises:
        ImportError: pandas or pyarrow is not installed.
    """
    import pandas as pd  # noqa: PLC0415 - a second of importing that only tests with recorded candles pay

    interval = Interval(path.stem.split("-")[1].split(".")[0])
    frame = pd.read_parquet(path)
    frame = frame.tail(bars) if bars else frame
    closes = frame["close_time"] if "close_time" in frame else frame["open_time"] + interval.milliseconds - 1
    columns = [
        [Decimal(f"{value:.8f}") for value in frame[name]] for name in ("open", "high", "low", "close", "volume")
    ]
    candles = [
        Candle(EPOCH + int(opened) * MILLISECOND, EPOCH + int(closed) * MILLISECOND, *values)
        for opened, closed, *values in zip(frame["open_time"], closes, *columns, strict=True)
    ]
    return move_to_end_at(candles, interval, end_at)


def _close(symbol: str, seed: int, index: int) -> float:
    base = 20 + crc32(symbol.encode()) % 50_000
    wave = 0.004 * math.sin(index / 7.3 + seed % 6) + 0.01 * math.sin(index / 61.0 + seed % 5)
    return base * (1 + wave + 0.001 * (_noise(seed, index) - 0.5))


def _noise(seed: int, index: int) -> float:
    """A number from 0 to 1 that looks random and depends on nothing else."""
    return crc32(index.to_bytes(8, "little", signed=True), seed & 0xFFFFFFFF) / 0xFFFFFFFF


def _rounded(value: float, step: Decimal) -> Decimal:
    return Decimal(f"{value:.8f}").quantize(step.normalize()).quantize(Decimal("0.00000001"))
