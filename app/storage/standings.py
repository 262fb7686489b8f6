"""Where an account stands, in SQL: its run, its newest snapshot, its resting orders and whether it is halted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import BindParameter, Connection, Select, bindparam, func, insert, select, update

from app.domain.money import from_units, to_units
from app.domain.order import Order, OrderKind, OrderStatus, Origin, Side
from app.domain.portfolio import Portfolio, Position
from app.domain.record import from_microseconds, microseconds
from app.domain.standing import Halt, Run, RunKey, Snapshot, Standing
from app.errors import StorageError
from app.storage.account_tables import accounts, halts, orders, snapshots

_ACCOUNT: BindParameter[int] = bindparam("account_id")

ACCOUNT_COLUMNS = (
    accounts.c.id,
    accounts.c.source,
    accounts.c.strategy,
    accounts.c.name,
    accounts.c.generation,
    accounts.c.initial_cash,
    accounts.c.created_at,
)
_OF_KEY = (
    (accounts.c.source == bindparam("source"))
    & (accounts.c.strategy == bindparam("strategy"))
    & (accounts.c.name == bindparam("name"))
)
_SELECT_NEWEST = select(*ACCOUNT_COLUMNS).where(_OF_KEY).order_by(accounts.c.generation.desc()).limit(1)
# Of the first generation, which outlives every reset.
_LOCK = select(accounts.c.id).where(_OF_KEY, accounts.c.generation == 1).with_for_update()

SNAPSHOT_COLUMNS = (
    snapshots.c.taken_at,
    snapshots.c.cash,
    snapshots.c.realised,
    snapshots.c.fees,
    snapshots.c.holdings,
    snapshots.c.equity,
    snapshots.c.peak_equity,
    snapshots.c.day_equity,
    snapshots.c.trades_today,
    snapshots.c.losses_in_a_row,
    snapshots.c.last_loss_at,
)
_SELECT_SNAPSHOT = (
    select(*SNAPSHOT_COLUMNS).where(snapshots.c.account_id == _ACCOUNT).order_by(snapshots.c.number.desc()).limit(1)
)
_SELECT_HALT = (
    select(halts.c.is_halted, halts.c.reason_code, halts.c.reason, halts.c.changed_at)
    .join_from(halts, accounts)
    .where(_OF_KEY)
    .order_by(halts.c.number.desc())
    .limit(1)
)
ORDER_COLUMNS = (
    orders.c.id,
    orders.c.symbol,
    orders.c.side,
    orders.c.kind,
    orders.c.quantity,
    orders.c.origin,
    orders.c.created_at,
    orders.c.active_from,
    orders.c.price,
    orders.c.trail_fraction,
    orders.c.reduce_only,
    orders.c.expires_at,
    orders.c.cycle_id,
    orders.c.status,
    orders.c.reason_code,
    orders.c.reason,
    orders.c.filled_quantity,
    orders.c.closed_at,
)
_ORDER_FIELDS = tuple(column.name for column in ORDER_COLUMNS)
_SELECT_RESTING: Select[Any] = (
    select(*ORDER_COLUMNS)
    .where(orders.c.account_id == _ACCOUNT, orders.c.status == OrderStatus.NEW.value)
    .order_by(orders.c.number)
)
_SELECT_ORDER: Select[Any] = (
    select(*ORDER_COLUMNS).join_from(orders, accounts).where(_OF_KEY, orders.c.id == bindparam("order_id"))
)
_INSERT_ACCOUNT = insert(accounts).returning(accounts.c.id)
_INSERT_ORDER = insert(orders).inline()
_INSERT_SNAPSHOT = insert(snapshots).inline()
_INSERT_HALT = insert(halts).inline()
_UPDATE_ORDER = (
    update(orders)
    .where(orders.c.id == bindparam("order_id"))
    .values(
        {
            column: bindparam(f"new_{column}")
            for column in ("price", "active_from", "status", "reason_code", "reason", "filled_quantity", "closed_at")
        }
    )
)


@dataclass(frozen=True, slots=True)
class Account:
    """A row of `accounts`."""

    id: int
    run: Run


def lock_key(connection: Connection, key: RunKey) -> None:
    """Let nobody else book on any run of `key` until the transaction ends; SQLite has one writer anyway."""
    if connection.dialect.name != "sqlite":
        connection.execute(_LOCK, _of(key))


def find_account(connection: Connection, key: RunKey) -> Account | None:
    """The newest run of `key`, or None before there is one."""
    row = connection.execute(_SELECT_NEWEST, _of(key)).first()
    return None if row is None else account_from_row(row)


def get_account(connection: Connection, key: RunKey) -> Account:
    """As `find_account`; raises StorageError `account_missing` where none was ever opened."""
    account = find_account(connection, key)
    if account is None:
        raise StorageError(f"There is no account for {key.source}; open it first.", code="account_missing")
    return account


def account_from_row(row: Sequence[Any]) -> Account:
    """The account in a row of `ACCOUNT_COLUMNS`."""
    number, source, strategy, name, generation, cash, opened_at = row
    return Account(number, Run(RunKey(source, strategy, name), generation, cash, opened_at))


def create_account(connection: Connection, key: RunKey, generation: int, cash: Decimal, at: datetime) -> Account:
    """A new run of `key` that holds `cash` and nothing else."""
    values = {**_of(key), "generation": generation, "initial_cash": cash, "created_at": at}
    number = connection.execute(_INSERT_ACCOUNT, values).scalar_one()
    return Account(number, Run(key, generation, cash, at))


def load_standing(connection: Connection, account: Account) -> Standing:
    """Where `account` stands; raises StorageError `account_missing` where it has no snapshot."""
    snapshot = find_snapshot(connection, account)
    if snapshot is None:
        raise StorageError(f"The account {account.run.id} was never opened.", code="account_missing")
    resting = connection.execute(_SELECT_RESTING, {"account_id": account.id}).all()
    return Standing(
        account.run, snapshot, tuple(order_from_row(row) for row in resting), find_halt(connection, account.run.key)
    )


def find_order(connection: Connection, key: RunKey, order_id: str) -> Order | None:
    """One order of any run of `key`, None where there is none."""
    row = connection.execute(_SELECT_ORDER, {**_of(key), "order_id": order_id}).first()
    return None if row is None else order_from_row(row)


def find_orders(connection: Connection, order_ids: Sequence[str]) -> dict[str, Order]:
    """The orders of `order_ids`, by their ids, whoever's they are."""
    rows = connection.execute(select(*ORDER_COLUMNS).where(orders.c.id.in_(order_ids)))
    return {row.id: order_from_row(row) for row in rows}


def find_snapshot(connection: Connection, account: Account) -> Snapshot | None:
    """The newest snapshot of `account`, None before there is one."""
    row = connection.execute(_SELECT_SNAPSHOT, {"account_id": account.id}).first()
    return None if row is None else snapshot_from_row(row)


def find_equity(connection: Connection, account: Account, at: datetime) -> Decimal:
    """What `account` was worth after its newest booking at `at` or before; its cash before there was one."""
    statement = (
        select(snapshots.c.equity)
        .where(snapshots.c.account_id == account.id, snapshots.c.taken_at <= at)
        .order_by(snapshots.c.number.desc())
        .limit(1)
    )
    found: Decimal | None = connection.execute(statement).scalar()
    return account.run.initial_cash if found is None else found


def find_halt(connection: Connection, key: RunKey) -> Halt | None:
    """Why the runs of `key` are halted, None where they are not."""
    row = connection.execute(_SELECT_HALT, _of(key)).first()
    return Halt(*row[1:]) if row is not None and row[0] else None


def was_halted_by(connection: Connection, key: RunKey, reason_code: str) -> bool:
    """Whether `reason_code` has halted the runs of `key` since they were resumed last."""
    of_key = select(halts.c.number).join_from(halts, accounts).where(_OF_KEY)
    resumed = of_key.where(halts.c.is_halted.is_(False)).order_by(halts.c.number.desc()).limit(1).scalar_subquery()
    since = of_key.where(halts.c.reason_code == reason_code, halts.c.number > func.coalesce(resumed, 0))
    return connection.execute(since, _of(key)).first() is not None


def save_halt(
    connection: Connection, account: Account, reason_code: str, reason: str, at: datetime, *, is_halted: bool
) -> None:
    """Halt the runs of an account's key, or let them trade again."""
    connection.execute(
        _INSERT_HALT,
        {
            "account_id": account.id,
            "is_halted": is_halted,
            "reason_code": reason_code,
            "reason": reason,
            "changed_at": at,
        },
    )


def save_snapshot(connection: Connection, account: Account, snapshot: Snapshot, **of_booking: object) -> None:
    """Keep where `account` stands; `of_booking` are the columns that tell of the booking behind it."""
    connection.execute(
        _INSERT_SNAPSHOT, {"account_id": account.id, **_NO_BOOKING, **_snapshot_values(snapshot), **of_booking}
    )


_NO_BOOKING = {"cycle_id": None, "symbol": None, "price": None, "side_cost_ppm": None, "last_trade_id": None}


def save_orders(connection: Connection, account: Account, before: Standing, changed: Sequence[Order]) -> None:
    """Keep orders that are new, and what has changed of those that rested `before`."""
    resting = {order.id for order in before.orders}
    new = [_order_values(order, account.id) for order in changed if order.id not in resting]
    moved = [_moved_values(order) for order in changed if order.id in resting]
    if new:
        connection.execute(_INSERT_ORDER, new)
    if moved:
        connection.execute(_UPDATE_ORDER, moved)


def order_from_row(row: Sequence[Any]) -> Order:
    """The order in a row of `ORDER_COLUMNS`."""
    values = dict(zip(_ORDER_FIELDS, row, strict=True))
    kinds = {"side": Side, "kind": OrderKind, "origin": Origin, "reduce_only": bool, "status": OrderStatus}
    return Order(**{**values, **{name: kind(values[name]) for name, kind in kinds.items()}})


def snapshot_from_row(row: Sequence[Any]) -> Snapshot:
    """The snapshot in a row of the columns that a standing is read from."""
    taken_at, cash, realised, fees, holdings, equity, peak, day, trades_today, losses, last_loss_at = row
    portfolio = Portfolio(
        to_units(cash),
        _positions(holdings["positions"]),
        _positions(holdings["dust"]),
        to_units(realised),
        to_units(fees),
    )
    return Snapshot(
        taken_at,
        portfolio,
        to_units(equity),
        to_units(peak),
        to_units(day),
        holdings["marks"],
        trades_today,
        losses,
        last_loss_at,
    )


def _of(key: RunKey) -> dict[str, Any]:
    return {"source": key.source, "strategy": key.strategy, "name": key.name}


def _positions(document: Mapping[str, Sequence[int]]) -> dict[str, Position]:
    return {
        symbol: Position(quantity, cost, fees, from_microseconds(opened))
        for symbol, (quantity, cost, fees, opened) in document.items()
    }


def _positions_document(positions: Mapping[str, Position]) -> dict[str, list[int]]:
    return {
        symbol: [one.quantity, one.cost, one.entry_fees, microseconds(one.opened_at)]
        for symbol, one in positions.items()
    }


def _snapshot_values(snapshot: Snapshot) -> dict[str, Any]:
    portfolio = snapshot.portfolio
    return {
        "taken_at": snapshot.at,
        "cash": from_units(portfolio.cash),
        "equity": from_units(snapshot.equity),
        "peak_equity": from_units(snapshot.peak_equity),
        "day_equity": from_units(snapshot.day_equity),
        "realised": from_units(portfolio.realised),
        "fees": from_units(portfolio.fees),
        "trades_today": snapshot.trades_today,
        "losses_in_a_row": snapshot.losses_in_a_row,
        "last_loss_at": snapshot.last_loss_at,
        "holdings": {
            "positions": _positions_document(portfolio.positions),
            "dust": _positions_document(portfolio.dust),
            "marks": dict(snapshot.marks),
        },
    }


def _order_values(order: Order, account_id: int) -> dict[str, Any]:
    return {
        "id": order.id,
        "account_id": account_id,
        "cycle_id": order.cycle_id,
        "symbol": order.symbol,
        "side": order.side.value,
        "kind": order.kind.value,
        "origin": order.origin.value,
        "quantity": order.quantity,
        "price": order.price,
        "trail_fraction": order.trail_fraction,
        "reduce_only": order.reduce_only,
        "created_at": order.created_at,
        "active_from": order.active_from,
        "expires_at": order.expires_at,
        "status": order.status.value,
        "reason_code": order.reason_code,
        "reason": order.reason,
        "filled_quantity": order.filled_quantity,
        "closed_at": order.closed_at,
    }


def _moved_values(order: Order) -> dict[str, Any]:
    return {
        "order_id": order.id,
        "new_price": order.price,
        "new_active_from": order.active_from,
        "new_status": order.status.value,
        "new_reason_code": order.reason_code,
        "new_reason": order.reason,
        "new_filled_quantity": order.filled_quantity,
        "new_closed_at": order.closed_at,
    }
