"""Hashes the chain of a run's records again, from what is stored and from what is read back of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import BindParameter, Connection, bindparam, func, select

from app.domain.action import ActionReport
from app.domain.cycle import CycleReport, Trade
from app.domain.cycle_record import CandleReference, write_outcome
from app.domain.order import Order, OrderKind, OrderStatus
from app.domain.record import FIRST_LINK, find_difference, from_plain, next_link, to_plain
from app.errors import StorageError
from app.storage.account_tables import snapshots
from app.storage.archive import Archive, Link
from app.storage.records import SELECT_TRADES, trade_from_row
from app.storage.standings import Account, find_orders
from app.storage.tables import cycles, records, trades

Finding = tuple[str, str]
"""A kind of thing, and what is wrong about one of its kind, in words."""

_CHUNK = 200
_MOVING = ("status", "reason_code", "reason", "filled_quantity", "closed_at", "active_from")
_IDS: BindParameter[Any] = bindparam("wanted_ids", expanding=True)
_SELECT_TRADES = SELECT_TRADES.where(trades.c.id.in_(_IDS))


def check_chain(connection: Connection, account: Account, last: int) -> Iterator[list[Finding]]:
    """What is wrong about each record, oldest first, up to the record `last`.

    A link that does not follow is told with what it holds; the links after it are hashed from it as it is stored, so
    that each broken place is told once.
    """
    archive, previous, after = Archive(), FIRST_LINK, 0
    while links := archive.load_chain(connection, account.id, after, last, _CHUNK):
        known = _load_mentioned(connection, links)
        for link in links:
            found = _check_link(link, previous)
            if not found:
                found = _check_content(connection, archive, link, known)
            yield found
            previous, after = link.hash, link.number


def count_unrecorded(connection: Connection, account: Account, last: int) -> tuple[int, list[str]]:
    """How many cycles are older than records are, and in words which later ones (up to the cycle `last`) lack one."""
    first = connection.scalar(
        select(func.min(cycles.c.number)).join_from(cycles, records).where(cycles.c.account_id == account.id)
    )
    booked = select(snapshots.c.cycle_id).where(snapshots.c.account_id == account.id, snapshots.c.cycle_id.is_not(None))
    without = (
        select(cycles.c.number, cycles.c.id, cycles.c.id.in_(booked))
        .join_from(cycles, records, isouter=True)
        .where(cycles.c.account_id == account.id, cycles.c.number <= last, records.c.number.is_(None))
        .order_by(cycles.c.number)
    )
    older, missing = 0, []
    for number, cycle_id, has_snapshot in connection.execute(without):
        if has_snapshot or (first is not None and number > first):
            missing.append(f"cycle {cycle_id}: its record is missing")
        else:
            older += 1
    return older, missing


def _check_link(link: Link, previous: str) -> list[Finding]:
    where = f"record {link.number} ({_describe(link)})"
    if link.trouble is not None:
        return [("records", f"{where}: the cycle cannot be read: {link.trouble}")]
    if link.document is None:
        return [("records", f"{where}: its document is damaged")]
    if link.cycle_id is not None and link.report is None:
        return [("records", f"{where}: its cycle is missing")]
    outcome = "" if link.report is None else write_outcome(link.report)
    if next_link(previous, link.document, outcome) == link.hash:
        return []
    words = "the chain breaks here: the record, what is stored of its cycle, or the record before it was changed"
    return [("records", f"{where}: {words}")]


def _describe(link: Link) -> str:
    """What a record holds."""
    report = link.report
    if report is None:
        return f"cycle {link.cycle_id}" if link.cycle_id else f"a person's {link.kind}"
    execution = report.execution
    said = execution.reason if execution else report.reason
    decided = f"{report.decision.action.value}, " if report.decision else ""
    return f"cycle {report.id} of {report.symbol} at {report.started_at.isoformat(timespec='seconds')}: {decided}{said}"


def _check_content(
    connection: Connection, archive: Archive, link: Link, known: Mapping[str | int, Order | Trade]
) -> list[Finding]:
    """What a sound link holds, against what else is stored."""
    try:
        document = json.loads(str(link.document))
        if link.report is None:
            action: ActionReport = from_plain(ActionReport, document["report"])
            return [*_compare_orders(action.orders, known), *_compare_fills(action.fills, known)]
        return [*_check_inputs(connection, archive, link.report, document), *_compare_orders(link.report.orders, known)]
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        return [("records", f"record {link.number} ({_describe(link)}): its document cannot be read ({error!r})")]


def _check_inputs(
    connection: Connection, archive: Archive, report: CycleReport, document: Mapping[str, Any]
) -> Iterator[Finding]:
    if not document:
        return  # that of a refused cycle
    reference: CandleReference = from_plain(CandleReference, document["candles"])
    try:
        archive.candles.read(connection, report.source, report.symbol, report.interval, reference)
    except StorageError as error:
        yield "candles", f"cycle {report.id}: {error.message}"
    lot = Decimal(document["instrument"]["lot_step"])
    for trade in report.fills:
        # An exit takes dust along, which may be of a time when the exchange traded in other lots.
        if trade.realised_profit is None and trade.quantity % lot:
            yield "fills", f"trade {trade.id}: its quantity is finer than the lot, {lot.normalize():f}"


def _load_mentioned(connection: Connection, links: Sequence[Link]) -> dict[str | int, Order | Trade]:
    """The orders and, of people's doings, the trades that records tell of, as they are stored now, by their ids."""
    order_ids: list[str] = []
    trade_ids: list[int] = []
    for link in links:
        if link.report is not None:
            order_ids += [order.id for order in link.report.orders]
        elif link.document is not None and link.cycle_id is None:
            told = json.loads(link.document).get("report", {})
            order_ids += [order["id"] for order in told.get("orders", ())]
            trade_ids += [trade["id"] for trade in told.get("fills", ())]
    known: dict[str | int, Order | Trade] = {}
    if order_ids:
        known.update(find_orders(connection, order_ids))
    if trade_ids:
        rows = connection.execute(_SELECT_TRADES, {"wanted_ids": trade_ids})
        known.update((trade.id, trade) for trade in map(trade_from_row, rows))
    return known


def _compare_orders(told: Sequence[Order], known: Mapping[str | int, Order | Trade]) -> Iterator[Finding]:
    for order in told:
        stored = known.get(order.id)
        ignored: tuple[str, ...] = ()
        if order.status is OrderStatus.NEW:  # it may have moved on
            ignored = (*_MOVING, "price") if order.kind is OrderKind.TRAILING_STOP else _MOVING
        yield from _compare("orders", f"order {order.id}", order, stored, ignored)


def _compare_fills(told: Sequence[Trade], known: Mapping[str | int, Order | Trade]) -> Iterator[Finding]:
    for trade in told:
        yield from _compare("fills", f"trade {trade.id}", trade, known.get(trade.id), ())


def _compare(
    kind: str, name: str, told: Order | Trade, stored: Order | Trade | None, ignored: Sequence[str]
) -> Iterator[Finding]:
    if stored is None:
        yield kind, f"{name}: it is missing"
    elif stored != told:
        one, other = to_plain(told), to_plain(stored)
        for field in ignored:
            other[field] = one[field]
        difference = find_difference(one, other)
        if difference is not None:
            yield kind, f"{name}: its record and what is stored differ in {difference}"
