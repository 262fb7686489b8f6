"""The candles that cycles looked at: each is kept once, and a record names them by where they stand."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select

from app.domain.candle import Candle, Interval
from app.domain.cycle_record import CandleReference
from app.domain.market import MarketSnapshot
from app.domain.record import candle_digest
from app.errors import StorageError
from app.storage.tables import cycle_candles as table

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_REMEMBERED = 2_000
"""How many candles of a series are remembered: twice the most that a cycle looks at."""

_Series = tuple[str, str, str]
_Version = tuple[Candle, bytes, int]

_IN_SERIES = (
    (table.c.source == bindparam("source"))
    & (table.c.symbol == bindparam("symbol"))
    & (table.c.interval == bindparam("interval"))
)
_SELECT_DIGESTS = select(table.c.open_time_ms, table.c.digest, table.c.version).where(
    _IN_SERIES, table.c.open_time_ms.in_(bindparam("wanted", expanding=True))
)
_SELECT_CANDLES = select(
    table.c.open_time_ms,
    table.c.version,
    table.c.close_time_ms,
    table.c.open,
    table.c.high,
    table.c.low,
    table.c.close,
    table.c.volume,
).where(_IN_SERIES, table.c.open_time_ms.between(bindparam("first"), bindparam("last")))
_INSERT = insert(table).inline()


class CandleKeeper:
    """Keeps the candles of cycles, and remembers which of them are kept, so that a cycle writes its new one only."""

    def __init__(self) -> None:
        self._known: dict[_Series, dict[int, _Version]] = {}

    def keep(
        self, connection: Connection, snapshot: MarketSnapshot, shown: int
    ) -> tuple[CandleReference, CandleReference, dict[int, _Version]]:
        """Keep the candles of a snapshot.

        Returns:
            How they are named, how the newest `shown` of them are, and what to `remember` after the commit.
        """
        series = _series(snapshot.source, snapshot.symbol, snapshot.interval)
        known = self._known.get(series, {})
        times = [_milliseconds(candle.open_time) for candle in snapshot.candles]
        new = {
            opened: candle
            for opened, candle in zip(times, snapshot.candles, strict=True)
            if opened not in known or (known[opened][0] is not candle and known[opened][0] != candle)
        }
        found = _save(connection, series, new) if new else {}
        versions = [found.get(opened) or known[opened] for opened in times]
        step = snapshot.interval.milliseconds
        reference = replace(
            _reference(times, versions, step), sha256=hashlib.sha256(b"".join(one[1] for one in versions)).hexdigest()
        )
        return reference, _reference(times[-shown:], versions[-shown:], step), found

    def remember(self, snapshot: MarketSnapshot, found: dict[int, _Version]) -> None:
        """Note what was kept, once that is committed."""
        known = self._known.setdefault(_series(snapshot.source, snapshot.symbol, snapshot.interval), {})
        known.update(found)
        if len(known) > _REMEMBERED:
            for opened in sorted(known)[: len(known) - _REMEMBERED]:
                del known[opened]


def load_candles(
    connection: Connection, source: str, symbol: str, interval: Interval, reference: CandleReference
) -> tuple[Candle, ...]:
    """The candles that a record names, oldest first.

    Raises:
        StorageError: `record_incomplete`, a candle is missing or is not what it was.
    """
    found: list[Candle] = []
    step = interval.milliseconds
    for first, count in reference.runs:
        span = {"first": first, "last": first + (count - 1) * step}
        rows = connection.execute(_SELECT_CANDLES, {**_key(_series(source, symbol, interval)), **span})
        by_version = {(row[0], row[1]): row for row in rows}
        for opened in range(first, first + count * step, step):
            row = by_version.get((opened, reference.restated.get(str(opened), 0)))
            if row is None:
                raise _incomplete(opened)
            found.append(Candle(_moment(opened), _moment(row[2]), *row[3:]))
    kept = reference.sha256
    if kept is not None and hashlib.sha256(b"".join(map(candle_digest, found))).hexdigest() != kept:
        raise _incomplete(reference.runs[0][0])
    return tuple(found)


def _save(connection: Connection, series: _Series, new: dict[int, Candle]) -> dict[int, _Version]:
    kept: dict[int, dict[bytes, int]] = {}
    for opened, digest, version in connection.execute(_SELECT_DIGESTS, {**_key(series), "wanted": list(new)}):
        kept.setdefault(opened, {})[bytes(digest)] = version
    found: dict[int, _Version] = {}
    rows: list[dict[str, Any]] = []
    for opened, candle in new.items():
        digest, versions = candle_digest(candle), kept.get(opened, {})
        version = versions.get(digest, len(versions))
        found[opened] = (candle, digest, version)
        if digest not in versions:
            rows.append({**_key(series), **_values(candle), "version": version, "digest": digest})
    if rows:
        connection.execute(_INSERT, rows)
    return found


def _reference(times: Sequence[int], versions: Sequence[_Version], step: int) -> CandleReference:
    restated = {str(opened): one[2] for opened, one in zip(times, versions, strict=True) if one[2]}
    return CandleReference(tuple(_runs(times, step)), restated)


def _runs(times: Sequence[int], step: int) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for opened in times:
        if runs and opened == runs[-1][0] + runs[-1][1] * step:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((opened, 1))
    return runs


def _values(candle: Candle) -> dict[str, Any]:
    return {
        "open_time_ms": _milliseconds(candle.open_time),
        "close_time_ms": _milliseconds(candle.close_time),
        "open": candle.open,
        "high": candle.high,
        "low": candle.low,
        "close": candle.close,
        "volume": candle.volume,
    }


def _series(source: str, symbol: str, interval: Interval) -> _Series:
    return (source, symbol, interval.value)


def _key(series: _Series) -> dict[str, Any]:
    return {"source": series[0], "symbol": series[1], "interval": series[2]}


def _milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MILLISECOND


def _moment(milliseconds: int) -> datetime:
    return _EPOCH + milliseconds * _MILLISECOND


def _incomplete(opened: int) -> StorageError:
    return StorageError(
        f"A candle of the record, at {_moment(opened).isoformat()} or after it, is missing or not what it was.",
        code="record_incomplete",
    )
