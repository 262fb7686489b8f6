"""The records of bookings in their order, each with the cycle as it is read back: what can be verified and replayed."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import BindParameter, Connection, LargeBinary, bindparam, func, select, type_coerce
from sqlalchemy.sql.elements import ColumnElement

from app.domain.cycle import CycleReport, Trade
from app.domain.ports import Selection
from app.domain.record import canonical, digest
from app.errors import ServiceError
from app.storage.cycle_candles import CandleReader
from app.storage.pages import narrow
from app.storage.records import SELECT_CYCLES, SELECT_TRADES, find_seen, report_from_row, trade_from_row
from app.storage.tables import cycles, records, settings_documents, trades

_IDS: BindParameter[Any] = bindparam("wanted_ids", expanding=True)
_SELECT_REPORTS = SELECT_CYCLES.where(cycles.c.id.in_(_IDS))
_SELECT_FILLS = SELECT_TRADES.where(trades.c.cycle_id.in_(_IDS)).order_by(trades.c.id)
# As bytes: a document that cannot be unpacked is a finding about one record, and no reason not to read the others.
_SELECT_LINKS = (
    select(
        records.c.number,
        records.c.kind,
        records.c.cycle_id,
        type_coerce(records.c.document, LargeBinary),
        records.c.hash,
        records.c.account_id,
    )
    .where(records.c.number > bindparam("after"), records.c.number <= bindparam("last"))
    .order_by(records.c.number)
    .limit(bindparam("at_most"))
)
_SELECT_OF_ACCOUNT = _SELECT_LINKS.where(records.c.account_id == bindparam("account_id"))
_UNREADABLE = (ServiceError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True, slots=True)
class Link:
    """One record of an account's chain.

    `document` is None where it cannot be unpacked. `report` is the cycle as it is read back now, None where the record
    is of a person's doing or the cycle cannot be read; `trouble` says why then.
    """

    number: int
    kind: str
    cycle_id: str | None
    document: str | None
    hash: str
    report: CycleReport | None
    trouble: str | None = None


class Archive:
    """Reads records a piece at a time; it remembers candles from one piece to the next."""

    def __init__(self) -> None:
        self._candles = CandleReader()

    @property
    def candles(self) -> CandleReader:
        """What reads, and remembers, their candles."""
        return self._candles

    def load_chain(self, connection: Connection, account_id: int, after: int, last: int, at_most: int) -> list[Link]:
        """The next links of an account's chain, of those with numbers above `after` and up to `last`."""
        span = {"account_id": account_id, "after": after, "last": last, "at_most": at_most}
        return self._links(connection, connection.execute(_SELECT_OF_ACCOUNT, span).all())

    def load_cycles(self, connection: Connection, wanted: Selection, after: int, last: int, at_most: int) -> list[Link]:
        """The next records of cycles that are wanted, whoever's they are, the refused ones included."""
        of_cycles = _SELECT_LINKS.join(cycles, cycles.c.id == records.c.cycle_id)
        statement = narrow(of_cycles, wanted, cycles.c.account_id, cycles.c.symbol, cycles.c.finished_at)
        span = {"after": after, "last": last, "at_most": at_most}
        return self._links(connection, connection.execute(statement, span).all())

    def find(self, connection: Connection, cycle_id: str) -> Link | None:
        """The record of one cycle, None where none was kept."""
        statement = select(records.c.number).where(records.c.cycle_id == cycle_id)
        number = connection.execute(statement).scalar()
        if number is None:
            return None
        span = {"after": number - 1, "last": number, "at_most": 1}
        return self._links(connection, connection.execute(_SELECT_LINKS, span).all())[0]

    def _links(self, connection: Connection, rows: Sequence[Any]) -> list[Link]:
        ids = [row[2] for row in rows if row[2] is not None]
        reports = self._read_reports(connection, ids) if ids else {}
        links = []
        for number, kind, cycle_id, packed, link, _ in rows:
            found = reports.get(cycle_id)
            report = found if isinstance(found, CycleReport) else None
            trouble = found if isinstance(found, str) else None
            links.append(Link(number, kind, cycle_id, _unpack(packed), link, report, trouble))
        return links

    def _read_reports(self, connection: Connection, ids: Sequence[str]) -> dict[str, CycleReport | str]:
        """The cycles of `ids`, or in words why one cannot be read."""
        try:
            return {**self._load_reports(connection, ids)}
        except _UNREADABLE as error:
            if len(ids) == 1:
                return {ids[0]: error.message if isinstance(error, ServiceError) else f"it cannot be read ({error!r})"}
        return {cycle_id: one for each in ids for cycle_id, one in self._read_reports(connection, [each]).items()}

    def _load_reports(self, connection: Connection, ids: Sequence[str]) -> dict[str, CycleReport]:
        fills: dict[str | None, list[Trade]] = defaultdict(list)
        for row in connection.execute(_SELECT_FILLS, {"wanted_ids": ids}):
            trade = trade_from_row(row)
            fills[trade.cycle_id].append(trade)
        found = {}
        for row in connection.execute(_SELECT_REPORTS, {"wanted_ids": ids}).all():
            report = replace(report_from_row(row), fills=tuple(fills.get(row[1], ())))
            seen = find_seen(row)
            if seen is not None and report.market is not None:
                candles = self._candles.read(connection, report.source, report.symbol, report.interval, seen)
                report = replace(report, market=replace(report.market, candles=candles))
            found[report.id] = report
        return found


def count_cycles(connection: Connection, wanted: Selection) -> tuple[int, int]:
    """How many cycles that are wanted have a record, and the number of the newest record (0 without one)."""
    counted: list[ColumnElement[Any]] = [func.count(), func.max(records.c.number)]
    of_cycles = select(*counted).join_from(records, cycles, cycles.c.id == records.c.cycle_id)
    statement = narrow(of_cycles, wanted, cycles.c.account_id, cycles.c.symbol, cycles.c.finished_at)
    count, newest = connection.execute(statement).one()
    return count, newest or 0


def measure_chain(connection: Connection, account_id: int, since: datetime | None) -> tuple[int, int, int]:
    """A part of an account's chain: the first record's number, the last one's, and how many there are.

    It begins with the first cycle that ended at `since` or later; without one there is nothing, (0, 0, 0).
    """
    first = select(func.min(records.c.number)).join_from(records, cycles, cycles.c.id == records.c.cycle_id)
    first = first.where(records.c.account_id == account_id)
    if since is not None:
        first = first.where(cycles.c.finished_at >= since)
    start = connection.execute(first).scalar()
    if start is None:
        return 0, 0, 0
    counted: list[ColumnElement[Any]] = [func.max(records.c.number), func.count()]
    part = select(*counted).where(records.c.account_id == account_id, records.c.number >= start)
    last, count = connection.execute(part).one()
    return start, last, count


def find_settings(connection: Connection, name: str) -> dict[str, Any] | None:
    """The settings that records call `name`, None where they are missing or are not what they were."""
    statement = select(settings_documents.c.document).where(settings_documents.c.digest == name)
    document: dict[str, Any] | None = connection.execute(statement).scalar()
    return None if document is None or digest(canonical(document)) != name else document


def find_altered_settings(connection: Connection) -> list[str]:
    """The names of settings documents that are not what they were."""
    rows = connection.execute(select(settings_documents.c.digest, settings_documents.c.document))
    return [name for name, document in rows if digest(canonical(document)) != name]


def _unpack(packed: bytes) -> str | None:
    try:
        return zlib.decompress(packed).decode()
    except (zlib.error, UnicodeDecodeError, TypeError):
        return None
