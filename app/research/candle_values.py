"""Turns columns of candle files, as pyarrow has them, into times and numbers, whatever they were written as."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from math import nan
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute, types

from app.research.candle_checks import NO_TIME
from ml.bars import FloatArray, IntegerArray

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LAST_MILLISECOND = 253_402_300_799_999  # of the year 9999
_PADDING = " \t\"'"
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_WHOLE_NUMBER = re.compile(r"\d{1,18}", re.ASCII)
_LEAST_MILLISECONDS, _LEAST_MICROSECONDS, _LEAST_NANOSECONDS = 10**11, 10**14, 10**17
"""A count since 1970 below the first is of seconds. In its own unit each is a day in March 1973."""
_UNITS = {"s": (1_000, 1), "ms": (1, 1), "us": (1, 1_000), "ns": (1, 1_000_000)}


def is_read(kind: Any, *, is_time: bool) -> bool:  # noqa: ANN401 - pyarrow has no types
    """Whether a column of this pyarrow type can hold times, or numbers."""
    if types.is_integer(kind) or types.is_floating(kind) or types.is_null(kind) or _is_text(kind):
        return True
    return bool(types.is_timestamp(kind) or types.is_date(kind)) if is_time else bool(types.is_decimal(kind))


def read_numbers(column: Any) -> FloatArray:  # noqa: ANN401
    """The nearest 64-bit floats of a column, of shape (n_rows,); NaN where there is no number."""
    if types.is_decimal(column.type):
        column = column.cast(pa.string())
    if _is_text(column.type):
        texts = compute.utf8_trim(column, _PADDING)
        try:
            column = texts.cast(pa.float64())  # the nearest float
        except pa.ArrowInvalid:
            return np.array([_read_number(text) for text in texts.to_pylist()], dtype=np.float64)
    numbers: FloatArray = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return numbers


def read_times(column: Any) -> IntegerArray:  # noqa: ANN401
    """The times of a column in milliseconds since the epoch, of shape (n_rows,); `NO_TIME` where there is none.

    A time without a zone is in UTC. A number counts seconds, milliseconds, microseconds or nanoseconds, whichever
    makes it a time after March 1973, each number by itself: Binance's dumps changed from one to the other. A time that
    is no whole millisecond becomes an odd one, which no candle opens at.
    """
    kind = column.type
    if _is_text(kind):
        return _read_written_times(compute.utf8_trim(column, _PADDING))
    if types.is_date(kind):
        column = column.cast(pa.timestamp("ms"))
    if types.is_floating(kind):
        return _count_milliseconds_of_floats(column.cast(pa.float64()).to_numpy(zero_copy_only=False))
    counts: IntegerArray = compute.fill_null(column.cast(pa.int64(), safe=False), NO_TIME).to_numpy(
        zero_copy_only=False
    )
    if types.is_timestamp(column.type):
        return _to_milliseconds(counts, *_UNITS[column.type.unit])
    return _count_milliseconds(counts)


def _read_written_times(texts: Any) -> IntegerArray:  # noqa: ANN401
    for kind in (pa.int64(), pa.timestamp("ns", "UTC"), pa.timestamp("ns"), pa.float64()):
        try:
            return read_times(texts.cast(kind))
        except pa.ArrowInvalid:
            continue
    return _count_milliseconds(np.array([_read_time(text) for text in texts.to_pylist()], dtype=np.int64))


def _read_number(text: str | None) -> float:
    return float(text) if text and _NUMBER.fullmatch(text) else nan


def _read_time(text: str | None) -> int:
    """A whole number as it is, a moment in microseconds where such a count is told from others."""
    try:
        if text and _WHOLE_NUMBER.fullmatch(text):
            return int(text)
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return NO_TIME
    count = ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND
    return count if _LEAST_MICROSECONDS <= count < _LEAST_NANOSECONDS else NO_TIME


def _count_milliseconds_of_floats(counts: FloatArray) -> IntegerArray:
    is_count = (counts >= 0) & (counts < 2.0**63)  # neither is NaN
    whole = np.where(is_count, counts, NO_TIME).astype(np.int64)
    return np.where(is_count & (whole != counts), _count_milliseconds(whole) | 1, _count_milliseconds(whole))


def _count_milliseconds(counts: IntegerArray) -> IntegerArray:
    """Milliseconds since the epoch of counts of whichever unit."""
    multipliers = np.where(counts < _LEAST_MILLISECONDS, 1_000, 1)
    divisors = np.select([counts < _LEAST_MICROSECONDS, counts < _LEAST_NANOSECONDS], [1, 1_000], 1_000_000)
    return _to_milliseconds(counts, multipliers, divisors)


def _to_milliseconds(counts: IntegerArray, multiplier: int | IntegerArray, divisor: int | IntegerArray) -> IntegerArray:
    whole, rest = np.divmod(np.clip(counts, NO_TIME, (2**63 - 1) // multiplier) * multiplier, divisor)
    times: IntegerArray = np.where(counts < 0, NO_TIME, np.minimum(whole | (rest != 0), _LAST_MILLISECOND))
    return times


def _is_text(kind: Any) -> bool:  # noqa: ANN401
    return bool(types.is_string(kind) or types.is_large_string(kind))
