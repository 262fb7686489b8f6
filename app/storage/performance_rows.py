"""What the performance of an account is computed from, read a part at a time, as plain numbers."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, bindparam, func, select

from app.domain.money import PPM, UNITS
from app.domain.order import Side
from app.domain.ports import Selection
from app.domain.record import microseconds
from app.domain.standing import RunKey
from app.errors import NotFoundError
from app.storage import standings
from app.storage.account_tables import accounts, closed_trades, snapshots
from app.storage.database import Database
from app.storage.pages import narrow
from app.storage.rebuild import whole
from app.storage.standings import ACCOUNT_COLUMNS, Account, account_from_row
from app.storage.tables import trades

CHUNK = 5_000
"""How many rows are read at once: no reader is held for longer than these take, 50 ms."""

_ACCOUNT = bindparam("account_id", type_=accounts.c.id.type)
_BPS = 10_000
_SELECT_NEWEST = select(func.max(snapshots.c.number)).where(snapshots.c.account_id == _ACCOUNT)


class SnapshotRow(NamedTuple):
    """The account after one booking.

    `symbol` is None where the booking was about none, `price` its quote in quote units, `side_cost` a fraction of the
    notional, `equity` in 1e-8 quote units. `last_fill` is the number of the account's newest fill then, 0 before there
    is one.
    """

    number: int
    time_ms: int
    symbol: str | None
    price: float
    side_cost: float
    equity: int
    held: bool
    is_cycle: bool
    last_fill: int


class FillRow(NamedTuple):
    """One fill, in quote units; `profit`, after fees, is None where it closed nothing."""

    number: int
    symbol: str
    notional: float
    fee: float
    slippage: float
    profit: float | None


class SqlPerformanceRows:
    """Reads runs, their snapshots and their fills on SQLite or PostgreSQL.

    Args:
        database: An open database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_run(self, key: RunKey, run_id: str | None) -> Account:
        """The run of this id, of any key; without one the newest of `key`.

        Raises:
            NotFoundError: `run_not_found`.
            StorageError: `account_missing`, nothing was ever opened for `key`.
        """
        if run_id is None:
            return await self._database.read(lambda connection: standings.get_account(connection, key))
        statement = narrow(
            select(*ACCOUNT_COLUMNS), Selection(run=run_id), accounts.c.id, accounts.c.source, accounts.c.created_at
        )
        row = await self._database.read(lambda connection: connection.execute(statement).first())
        if row is None:
            raise NotFoundError("There is no run with this id.", code="run_not_found")
        return account_from_row(row)

    async def find_newest(self, account: Account) -> int:
        """The number of the run's newest snapshot, 0 before there is one."""
        return await self._database.read(
            lambda connection: connection.execute(_SELECT_NEWEST, {"account_id": account.id}).scalar() or 0
        )

    async def load_snapshots(self, account: Account, after: int, through: int) -> list[SnapshotRow]:
        """The first `CHUNK` snapshots with numbers above `after` up to `through`, oldest first."""

        def query(connection: Connection) -> list[SnapshotRow]:
            found = connection.execute(
                _select_snapshots(connection), {"account_id": account.id, "after": after, "through": through}
            )
            return [
                SnapshotRow(
                    number,
                    microseconds(taken_at) // 1_000,
                    symbol,
                    (price or 0) / UNITS,
                    (side_cost_ppm or 0) / PPM,
                    equity,
                    positions != "{}",
                    cycle_id is not None,
                    last_fill or 0,
                )
                for number, taken_at, symbol, price, side_cost_ppm, equity, positions, cycle_id, last_fill in found
            ]

        return await self._database.read(query)

    async def load_fills(self, account: Account, after: int, through: int) -> list[FillRow]:
        """The first `CHUNK` fills with numbers above `after` up to `through`, oldest first."""

        def query(connection: Connection) -> list[FillRow]:
            found = connection.execute(
                _select_fills(connection), {"account_id": account.id, "after": after, "through": through}
            )
            return [
                FillRow(
                    number,
                    symbol,
                    notional / UNITS,
                    fee / UNITS,
                    _slippage(Side(side), notional / UNITS, slippage_bps / _BPS),
                    None if profit is None else (profit - entry_fees - fee) / UNITS,
                )
                for number, symbol, side, notional, fee, slippage_bps, profit, entry_fees in found
            ]

        return await self._database.read(query)


def _slippage(side: Side, notional: float, moved: float) -> float:
    """What `notional` would have been less (bought) or more (sold) had the quote not `moved` by this fraction of it."""
    return notional * moved / (1.0 + moved if side is Side.BUY else 1.0 - moved)


def _select_snapshots(connection: Connection) -> Select[Any]:
    return (
        select(
            snapshots.c.number,
            snapshots.c.taken_at,
            snapshots.c.symbol,
            whole(connection, snapshots.c.price),
            snapshots.c.side_cost_ppm,
            whole(connection, snapshots.c.equity),
            snapshots.c.holdings["positions"].as_string(),
            snapshots.c.cycle_id,
            snapshots.c.last_trade_id,
        )
        .where(
            snapshots.c.account_id == _ACCOUNT,
            snapshots.c.number > bindparam("after"),
            snapshots.c.number <= bindparam("through"),
        )
        .order_by(snapshots.c.number)
        .limit(CHUNK)
    )


def _select_fills(connection: Connection) -> Select[Any]:
    return (
        select(
            trades.c.id,
            trades.c.symbol,
            trades.c.side,
            whole(connection, trades.c.notional),
            whole(connection, trades.c.fee),
            trades.c.slippage_bps,
            whole(connection, closed_trades.c.profit),
            whole(connection, closed_trades.c.entry_fees),
        )
        .outerjoin_from(trades, closed_trades, closed_trades.c.trade_id == trades.c.id)
        .where(trades.c.account_id == _ACCOUNT, trades.c.id > bindparam("after"), trades.c.id <= bindparam("through"))
        .order_by(trades.c.id)
        .limit(CHUNK)
    )
