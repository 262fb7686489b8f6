"""The candles that cycles looked at: each is kept once, and a record names them by where they stand."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, tuple_

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
_VERSION_COLUMNS = (
    table.c.open_time_ms,
    table.c.version,
    table.c.close_time_ms,
    table.c.open,
    table.c.high,
    table.c.low,
    table.c.close,
    table.c.volume,
)
_KEY_COLUMNS = (table.c.source, table.c.symbol, table.c.interval, *_VERSION_COLUMNS[:2])
_SELECT_CANDLES = select(*_VERSION_COLUMNS).where(
    _IN_SERIES, table.c.open_time_ms.between(bindparam("first"), bindparam("last"))
)
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


class CandleReader:
    """Reads the candles that records name, and remembers the newest: one cycle's are nearly the next one's."""

    def __init__(self) -> None:
        self._read: dict[_Series, dict[tuple[int, int], tuple[Candle, bytes]]] = {}

    def read(
        self, connection: Connection, source: str, symbol: str, interval: Interval, reference: CandleReference
    ) -> tuple[Candle, ...]:
        """The candles that a record names, oldest first.

        Raises:
            StorageError: `record_incomplete`, a candle is missing or is not what it was.
        """
        series, step = _series(source, symbol, interval), interval.milliseconds
        known, restated = self._read.setdefault(series, {}), reference.restated
        wanted = [
            (opened, restated.get(str(opened), 0) if restated else 0)
            for first, count in reference.runs
            for opened in range(first, first + count * step, step)
        ]
        missing = [one for one in wanted if one not in known]
        if missing:
            known.update(_load_versions(connection, series, missing[0][0], missing[-1][0]))
        found = [known.get(one) for one in wanted]
        if None in found:
            raise _incomplete(wanted[found.index(None)][0])
        whole = [one for one in found if one is not None]
        kept = reference.sha256
        if kept is not None and hashlib.sha256(b"".join([one[1] for one in whole])).hexdigest() != kept:
            raise _incomplete(wanted[0][0])
        if len(known) > _REMEMBERED:
            self._read[series] = dict(zip(wanted, whole, strict=True))
        return tuple([one[0] for one in whole])


def load_candles(
    connection: Connection, source: str, symbol: str, interval: Interval, reference: CandleReference
) -> tuple[Candle, ...]:
    """The candles that a record names, oldest first; raises as `CandleReader.read`."""
    return CandleReader().read(connection, source, symbol, interval, reference)


def load_newest(
    connection: Connection, source: str, symbol: str, interval: Interval, first: datetime, last: datetime
) -> list[Candle]:
    """The kept candles that opened from `first` to `last`, oldest first, each as it was restated last."""
    span = {"first": _milliseconds(first), "last": _milliseconds(last)}
    rows = connection.execute(_SELECT_CANDLES, {**_key(_series(source, symbol, interval)), **span})
    newest = {opened: values for opened, _, *values in sorted(rows)}
    return [Candle(_moment(opened), _moment(closed), *values) for opened, (closed, *values) in newest.items()]


def find_altered(connection: Connection) -> Iterator[tuple[int, str | None]]:
    """Each kept candle: how many there were so far, and in words which one is not what its digest says, None if it is.

    The digests themselves are held by the records that name the candles.
    """
    count = 0
    statement = select(*_KEY_COLUMNS, *_VERSION_COLUMNS[2:], table.c.digest).order_by(*_KEY_COLUMNS).limit(_REMEMBERED)
    rows = connection.execute(statement).all()
    while rows:
        for source, symbol, interval, opened, version, closed, *values, kept in rows:
            count += 1
            if candle_digest(Candle(_moment(opened), _moment(closed), *values)) == bytes(kept):
                yield count, None
            else:
                where = f"{source} {symbol} {interval}, version {version}"
                yield count, f"The candle of {_moment(opened).isoformat()} ({where}) is not the one that was kept."
        rows = connection.execute(statement.where(tuple_(*_KEY_COLUMNS) > tuple_(*rows[-1][:5]))).all()


def _load_versions(
    connection: Connection, series: _Series, first: int, last: int
) -> dict[tuple[int, int], tuple[Candle, bytes]]:
    rows = connection.execute(_SELECT_CANDLES, {**_key(series), "first": first, "last": last})
    found = {}
    for opened, version, closed, *values in rows:
        candle = Candle(_moment(opened), _moment(closed), *values)
        found[opened, version] = (candle, candle_digest(candle))
    return found


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
