"""Candle files for tests, written as others write them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import feather, parquet

from ml.bars import Bars

START_MS = 1_735_689_600_000  # 2025-01-01, when Binance's dumps changed to microseconds
MINUTE_MS = 60_000
NOW = datetime(2026, 1, 1, tzinfo=UTC)
FUTURES_HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"
)
COLUMNS = ("open", "high", "low", "close", "volume")

Row = tuple[object, ...]


def made_rows(count: int, start: int = START_MS, step: int = MINUTE_MS) -> list[Row]:
    """Rows of (open_time, open, high, low, close, volume), prices with two decimals as text."""
    return [
        (start + step * place, f"{100 + place}.10", f"{102 + place}.30", f"{99 + place}.70", f"{101 + place}.20", "7.5")
        for place in range(count)
    ]


def bars_of(rows: Sequence[Row]) -> Bars:
    """What rows of (milliseconds, numbers as text) are, to the last bit."""
    times, *columns = zip(*rows, strict=True)
    return Bars(np.array(times, dtype=np.int64), *(np.array([float(str(x)) for x in column]) for column in columns))


def made_bars(count: int) -> Bars:
    """The bars of `made_rows`."""
    return bars_of(made_rows(count))


def as_csv(rows: Iterable[Sequence[object]], header: str | None = "open_time,open,high,low,close,volume") -> str:
    """Rows as CSV text."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return (f"{header}\n" if header else "") + text.getvalue()


def as_dump(rows: Iterable[Row], per_millisecond: int = 1, header: str | None = None) -> str:
    """Rows as Binance gives them out: twelve columns."""
    return as_csv(
        [
            (
                int(str(opened)) * per_millisecond,
                *values,
                (int(str(opened)) + MINUTE_MS) * per_millisecond - 1,
                *("1234.5", 17, "3.25", "617.25", 0),
            )
            for opened, *values in rows
        ],
        header,
    )


def as_table(bars: Bars, time: str = "open_time", times: pa.Array | None = None) -> pa.Table:
    """Bars as a table; `times` instead of milliseconds."""
    columns = {name: getattr(bars, name) for name in COLUMNS}
    return pa.table({time: bars.open_time_ms if times is None else times, **columns})


def write_table(path: Path, table: pa.Table) -> Path:
    """Write a table as the ending of the path says."""
    if path.suffix == ".parquet":
        parquet.write_table(table, path)
    else:
        feather.write_feather(table, str(path))
    return path


def assert_same_bits(found: Bars, expected: Bars) -> None:
    """Hold bars against others, to the last bit."""
    for name in Bars.__dataclass_fields__:
        one, other = getattr(found, name), getattr(expected, name)
        assert one.dtype == other.dtype
        assert one.tobytes() == other.tobytes(), name
