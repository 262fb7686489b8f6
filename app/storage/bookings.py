"""Writes what is to be booked: orders, fills, what they closed, dust, the snapshot and the link of the chain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import BindParameter, Connection, bindparam, insert, select

from app.domain.cycle import BookedFill, DustTransfer, Settlement, Trade
from app.domain.money import from_units
from app.domain.portfolio import Exit
from app.domain.record import FIRST_LINK, next_link
from app.domain.standing import Standing
from app.storage import standings
from app.storage.account_tables import closed_trades, dust_transfers
from app.storage.records import trade_values
from app.storage.standings import Account
from app.storage.tables import records, trades

_ACCOUNT: BindParameter[int] = bindparam("account_id")
_INSERT_TRADE = insert(trades).returning(trades.c.id)
_INSERT_EXIT = insert(closed_trades).inline()
_INSERT_DUST = insert(dust_transfers).inline()
_INSERT_RECORD = insert(records).returning(records.c.number)
_SELECT_LAST_TRADE = select(trades.c.id).where(trades.c.account_id == _ACCOUNT).order_by(trades.c.id.desc()).limit(1)
_SELECT_LINK = select(records.c.hash).where(records.c.account_id == _ACCOUNT).order_by(records.c.number.desc()).limit(1)


def save_settlement(
    connection: Connection,
    account: Account,
    before: Standing,
    settlement: Settlement,
    made: Sequence[Trade],
    cycle_id: str | None,
) -> list[Trade]:
    """Write everything that a booking changes but its cycle and its record; returns its trades with their numbers.

    Args:
        connection: An open transaction that holds the lock of the account's key.
        account: Whose booking it is.
        before: Where the account stood.
        settlement: What is to be booked.
        made: The settlement's trades, in its order.
        cycle_id: The cycle it belongs to, None for a person's doing.
    """
    standings.save_orders(connection, account, before, (*settlement.orders, *settlement.moved))
    numbered, last = _save_entries(connection, account, settlement, made)
    now = settlement.snapshot.at
    standings.save_snapshot(
        connection,
        account,
        settlement.snapshot,
        cycle_id=cycle_id,
        symbol=settlement.symbol,
        price=from_units(settlement.price),
        side_cost_ppm=settlement.side_cost_ppm,
        last_trade_id=last,
    )
    if settlement.halt is not None:
        halt = settlement.halt
        standings.save_halt(connection, account, halt.reason_code, halt.reason, now, is_halted=True)
    return numbered


def save_exit(connection: Connection, trade_id: int, exit_: Exit) -> None:
    """Keep what the fill `trade_id` took out of a position."""
    connection.execute(
        _INSERT_EXIT,
        {
            "trade_id": trade_id,
            "is_long": exit_.is_long,
            "cost": from_units(exit_.cost),
            "entry_fees": from_units(exit_.entry_fees),
            "profit": from_units(exit_.profit),
            "opened_at": exit_.opened_at,
        },
    )


def save_record(
    connection: Connection, account: Account, kind: str, cycle_id: str | None, document: str, outcome: str
) -> int:
    """Add a link to the account's chain; returns its number."""
    previous = connection.execute(_SELECT_LINK, {"account_id": account.id}).scalar() or FIRST_LINK
    values = {
        "account_id": account.id,
        "kind": kind,
        "cycle_id": cycle_id,
        "document": document,
        "hash": next_link(previous, document, outcome),
    }
    number: int = connection.execute(_INSERT_RECORD, values).scalar_one()
    return number


def find_last_trade(connection: Connection, account: Account) -> int | None:
    """The number of the account's newest trade, None before there is one."""
    return connection.execute(_SELECT_LAST_TRADE, {"account_id": account.id}).scalar()


def _save_entries(
    connection: Connection, account: Account, settlement: Settlement, made: Sequence[Trade]
) -> tuple[list[Trade], int | None]:
    numbered: list[Trade] = []
    last = find_last_trade(connection, account)
    for entry in settlement.entries:
        if isinstance(entry, BookedFill):
            trade = made[len(numbered)]
            last = connection.execute(_INSERT_TRADE, trade_values(trade, account.id)).scalar_one()
            numbered.append(replace(trade, id=last))
            if entry.exit is not None:
                save_exit(connection, last, entry.exit)
        else:
            _save_dust(connection, account, entry, last, settlement.snapshot.at)
    return numbered, last


def _save_dust(connection: Connection, account: Account, moved: DustTransfer, last: int | None, at: datetime) -> None:
    connection.execute(
        _INSERT_DUST,
        {
            "account_id": account.id,
            "after_trade_id": last,
            "symbol": moved.symbol,
            "quantity": from_units(moved.quantity),
            "cost": from_units(moved.cost),
            "entry_fees": from_units(moved.entry_fees),
            "transferred_at": at,
        },
    )
