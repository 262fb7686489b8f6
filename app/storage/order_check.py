"""Looks for orders that their fills contradict, and for what is dated before its cause."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, func, select
from sqlalchemy.sql.elements import ColumnElement

from app.domain.order import OrderStatus
from app.storage.account_tables import orders, snapshots
from app.storage.standings import Account
from app.storage.tables import cycles, trades

_FILLS = (
    select(
        trades.c.order_id,
        func.sum(trades.c.quantity).label("quantity"),
        func.min(trades.c.executed_at).label("first"),
        func.max(trades.c.executed_at).label("last"),
    )
    .where(trades.c.order_id.is_not(None))
    .group_by(trades.c.order_id)
    .subquery()
)
_FILLED = func.coalesce(_FILLS.c.quantity, Decimal(0))


def _is(status: OrderStatus) -> ColumnElement[bool]:
    return orders.c.status == status.value


_WRONG_ORDERS: tuple[tuple[ColumnElement[bool], str], ...] = (
    (orders.c.filled_quantity != _FILLED, "what is recorded as filled is not the sum of its fills"),
    (_is(OrderStatus.FILLED) & (orders.c.quantity != _FILLED), "it is FILLED, and not all of it is"),
    (_is(OrderStatus.NEW) & (orders.c.quantity <= _FILLED), "it rests, and all of it is filled"),
    (_is(OrderStatus.REJECTED) & _FILLS.c.quantity.is_not(None), "it is REJECTED, and has a fill"),
    (_FILLS.c.first < orders.c.created_at, "it was filled before it was placed"),
    (_FILLS.c.last > orders.c.closed_at, "it was filled after it had ended"),
)


def check_orders(connection: Connection, account: Account) -> Iterator[str]:
    """What is wrong about the orders of a run and their fills, in words; each statement sees one moment."""
    for condition, words in _WRONG_ORDERS:
        statement = (
            select(orders.c.id)
            .join_from(orders, _FILLS, _FILLS.c.order_id == orders.c.id, isouter=True)
            .where(orders.c.account_id == account.id, condition)
            .order_by(orders.c.number)
        )
        for order_id in connection.scalars(statement):
            yield f"order {order_id}: {words}"
    strange = (
        (trades.c.account_id != orders.c.account_id)
        | (trades.c.symbol != orders.c.symbol)
        | (trades.c.side != orders.c.side)
        | (trades.c.origin != orders.c.origin)
    )
    fills = select(trades.c.id, trades.c.order_id).join_from(trades, orders)
    for number, order_id in _rows(connection, fills.where(trades.c.account_id == account.id, strange)):
        yield f"trade {number}: it is no fill that order {order_id} could have"


def check_dates(connection: Connection, account: Account) -> Iterator[str]:
    """What is dated before its cause, in words."""
    of_run = trades.c.account_id == account.id
    early = select(trades.c.id, cycles.c.id).join_from(trades, cycles, cycles.c.id == trades.c.cycle_id)
    # Older versions, whose fills have no order, went by the clock alone, even where it had been set back.
    early = early.where(of_run, trades.c.order_id.is_not(None), trades.c.executed_at < cycles.c.started_at)
    for number, cycle_id in _rows(connection, early):
        yield f"trade {number}: it is dated before cycle {cycle_id}, which made it, began"
    taken = select(snapshots.c.number, trades.c.id).join_from(
        snapshots, trades, trades.c.id == snapshots.c.last_trade_id
    )
    for number, trade in _rows(connection, taken.where(of_run, snapshots.c.taken_at < trades.c.executed_at)):
        yield f"snapshot {number}: it is dated before trade {trade}, which it has booked"


def _rows(connection: Connection, statement: Any) -> Iterator[tuple[Any, Any]]:  # noqa: ANN401 - any SELECT of two
    return ((row[0], row[1]) for row in connection.execute(statement))
