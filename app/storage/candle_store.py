"""Closed candles kept in SQL, so that training and backtests read local data. What is in it can be fetched again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
from sqlalchemy import BigInteger, Connection, Text, bindparam, cast, func, literal, select

from app.domain.candle import Candle, Interval
from app.storage import decimal_text
from app.storage.database import Database
from app.storage.tables import candles
from ml.bars import Bars

CHUNK_BARS = 50_000
"""How many intervals are read at once: three megabytes of text, and some milliseconds of other threads."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_PRICES = ("open", "high", "low", "close", "volume")
_OPENED = candles.c.open_time_ms
_IN_SERIES = (
    (candles.c.source == bindparam("source"))
    & (candles.c.symbol == bindparam("symbol"))
    & (candles.c.interval == bindparam("interval"))
)
_IN_SPAN = (
    _IN_SERIES & (bindparam("start", type_=BigInteger) <= _OPENED) & (bindparam("end", type_=BigInteger) > _OPENED)
)

# As text a number is the same everywhere, while SQLite's own REAL may not be the nearest float. A text for each column
# instead of a value for each candle is three times as fast as the fastest way to fetch those and read them one by one.
# SQLite before 3.44 has no ORDER BY in an aggregate: the rows come in the same order in each text, of whatever kind.
_SELECT_CHUNK = select(
    *(
        func.aggregate_strings(cast(column, Text), decimal_text.SEPARATOR)
        for column in (_OPENED, *(candles.c[name] for name in _PRICES))
    )
).where(_IN_SPAN)
_SELECT_COVERAGE = select(func.count(), func.min(_OPENED), func.max(_OPENED)).where(_IN_SERIES)
_SELECT_FIRST = select(func.min(_OPENED)).where(_IN_SPAN)
_SELECT_LAST = select(func.max(_OPENED)).where(_IN_SPAN)


@dataclass(frozen=True, slots=True)
class Gap:
    """Missing candles in a row: the first opens at `since`, and at `until` one opens that is not missing."""

    since: datetime
    until: datetime
    missing: int


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many candles of a series are kept, and when the first and the last of them opened."""

    candles: int
    first: datetime | None
    last: datetime | None


class CandleStore:
    """Keeps closed candles, a series for each source, symbol and interval.

    Args:
        database: An open database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, source: str, symbol: str, interval: Interval, page: Sequence[Candle]) -> None:
        """Keep candles, all or none of them; one that is kept already is replaced."""
        key = _key(source, symbol, interval)
        rows = [
            {
                "open_time_ms": _milliseconds(candle.open_time),
                **{name: getattr(candle, name) for name in _PRICES},
                **key,
            }
            for candle in page
        ]
        if rows:
            await self._database.write(lambda connection: _upsert(connection, rows))

    async def load_bars(self, source: str, symbol: str, interval: Interval, since: datetime, until: datetime) -> Bars:
        """The kept candles that opened from `since` until before `until`, as `bars_from_candles` has them."""
        span = _span(source, symbol, interval, since, until)
        bounds = await self._database.read(partial(_find_bounds, parameters=span))
        reading = []  # on threads, while the database looks for the next chunk
        for start in range(*bounds, CHUNK_BARS * interval.milliseconds):
            part = span | {"start": start, "end": min(start + CHUNK_BARS * interval.milliseconds, bounds[1])}
            texts = await self._database.read(partial(_load_texts, parameters=part))
            if texts is not None:
                reading.append(asyncio.get_running_loop().run_in_executor(None, _read_bars, texts))
        return await asyncio.to_thread(_join, await asyncio.gather(*reading))

    async def coverage(self, source: str, symbol: str, interval: Interval) -> Coverage:
        """What is kept of a series."""
        key = _key(source, symbol, interval)
        count, first, last = await self._database.read(
            lambda connection: connection.execute(_SELECT_COVERAGE, key).one()
        )
        return Coverage(count, None if first is None else _moment(first), None if last is None else _moment(last))

    async def find_gaps(
        self, source: str, symbol: str, interval: Interval, since: datetime, until: datetime
    ) -> list[Gap]:
        """What is missing of the candles that open from `since` until before `until`, oldest first."""
        step = interval.milliseconds
        span = _span(source, symbol, interval, since, until)
        span |= {name: -(-span[name] // step) * step for name in ("start", "end")}
        holes = await self._database.read(partial(_find_holes, parameters=span, step=step))
        return [Gap(_moment(first), _moment(after), (after - first) // step) for first, after in holes]


def _upsert(connection: Connection, rows: list[dict[str, Any]]) -> None:
    # The same clause, but SQLAlchemy has a class of its own for each dialect.
    statement = import_module(f"sqlalchemy.dialects.{connection.dialect.name}").insert(candles)
    replaced = {name: statement.excluded[name] for name in _PRICES}
    connection.execute(statement.on_conflict_do_update(index_elements=candles.primary_key.columns, set_=replaced), rows)


def _find_bounds(connection: Connection, parameters: dict[str, Any]) -> tuple[int, int]:
    """When the first candle of a span opened, and the millisecond after the last one did; equal where there is none."""
    first = connection.execute(_SELECT_FIRST, parameters).scalar()
    last = connection.execute(_SELECT_LAST, parameters).scalar()
    return (0, 0) if first is None or last is None else (first, last + 1)


def _load_texts(connection: Connection, parameters: dict[str, Any]) -> Sequence[str] | None:
    """A text of each column, or None where there are no candles."""
    texts = connection.execute(_SELECT_CHUNK, parameters).one()
    return None if texts[0] is None else texts


def _read_bars(texts: Sequence[str]) -> Bars:
    """The bars that are written in a text for each column, in order."""
    times, *prices = (decimal_text.read_decimals(text) for text in texts)
    order = np.argsort(times, kind="stable")
    return Bars(times[order].astype(np.int64), *(column[order] for column in prices))


def _join(chunks: Sequence[Bars]) -> Bars:
    parts = chunks or [Bars.from_rows([])]
    return Bars(*(np.concatenate([getattr(part, name) for part in parts]) for name in Bars.__dataclass_fields__))


def _find_holes(connection: Connection, parameters: dict[str, Any], step: int) -> list[tuple[int, int]]:
    """Each hole as the open time of its first candle and of the one after its last; `start` is on the grid."""
    start, end = parameters["start"], parameters["end"]
    expected = func.coalesce(func.lag(_OPENED).over(order_by=_OPENED) + step, literal(start, BigInteger))
    pairs = select(expected.label("expected"), _OPENED).where(_IN_SPAN).subquery()
    jumps = select(pairs).where(pairs.c.open_time_ms > pairs.c.expected).order_by(pairs.c.open_time_ms)
    holes = [(first, after) for first, after in connection.execute(jumps, parameters)]
    last = connection.execute(_SELECT_LAST, parameters).scalar()
    after_last = start if last is None else last + step
    return [*holes, (after_last, end)] if after_last < end else holes


def _key(source: str, symbol: str, interval: Interval) -> dict[str, Any]:
    return {"source": source, "symbol": symbol, "interval": interval.value}


def _span(source: str, symbol: str, interval: Interval, since: datetime, until: datetime) -> dict[str, Any]:
    return {**_key(source, symbol, interval), "start": _milliseconds(since), "end": _milliseconds(until)}


def _milliseconds(moment: datetime) -> int:
    # The first whole millisecond that is not before the moment: candles open on whole ones.
    return -((_EPOCH - moment) // _MILLISECOND)


def _moment(milliseconds: int) -> datetime:
    return _EPOCH + milliseconds * _MILLISECOND
