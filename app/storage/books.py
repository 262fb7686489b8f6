"""What an account holds, read from its last rows and, to check them, added up from all."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import BindParameter, Connection, bindparam, case, func, insert, select

from app.domain.cycle import CycleDraft, Trade
from app.domain.portfolio import Portfolio
from app.errors import StorageError
from app.storage.account_tables import accounts
from app.storage.records import SELECT_TRADES, trade_from_row
from app.storage.tables import trades


@dataclass(frozen=True, slots=True)
class Account:
    """A row of `accounts`."""

    id: int
    source: str
    initial_cash: Decimal


_ZERO = Decimal(0)

_ACCOUNT: BindParameter[int] = bindparam("account_id")

_SELECT_ACCOUNT = select(accounts.c.id, accounts.c.source, accounts.c.initial_cash).where(
    accounts.c.source == bindparam("source")
)
# On PostgreSQL the lock lets one booking of an account follow another; SQLite has one writer anyway.
_LOCK_ACCOUNT = _SELECT_ACCOUNT.with_for_update()

_SELECT_FILL = SELECT_TRADES.where(
    trades.c.account_id == _ACCOUNT,
    trades.c.symbol == bindparam("symbol"),
    trades.c.interval == bindparam("interval"),
    trades.c.candle_open_time == bindparam("candle_open_time"),
)

# Hops from symbol to symbol through the index (account_id, symbol, id), where GROUP BY would read all of it. The
# last hop finds no symbol; its row carries the cash.
_first_symbol = select(func.min(trades.c.symbol).label("symbol")).where(trades.c.account_id == _ACCOUNT)
_symbols = _first_symbol.cte("symbols", recursive=True)
_next_symbol = select(func.min(trades.c.symbol)).where(
    trades.c.account_id == _ACCOUNT, trades.c.symbol > _symbols.c.symbol
)
_symbols = _symbols.union_all(select(_next_symbol.scalar_subquery()).where(_symbols.c.symbol.is_not(None)))
_last_position = (
    select(trades.c.position_after)
    .where(trades.c.account_id == _ACCOUNT, trades.c.symbol == _symbols.c.symbol)
    .order_by(trades.c.id.desc())
    .limit(1)
)
_last_cash = select(trades.c.cash_after).where(trades.c.account_id == _ACCOUNT).order_by(trades.c.id.desc()).limit(1)
_SELECT_BALANCES = select(
    _symbols.c.symbol,
    case((_symbols.c.symbol.is_(None), _last_cash.scalar_subquery()), else_=_last_position.scalar_subquery()),
)

_IS_BUY = trades.c.side == "BUY"
_SELECT_SUMS = (
    select(
        trades.c.symbol,
        func.sum(case((_IS_BUY, trades.c.quantity), else_=-trades.c.quantity)),
        func.sum(case((_IS_BUY, -trades.c.notional), else_=trades.c.notional) - trades.c.fee),
    )
    .where(trades.c.account_id == _ACCOUNT)
    .group_by(trades.c.symbol)
)


def find_account(connection: Connection, source: str, *, lock: bool = False) -> Account | None:
    """The account of `source`; with `lock`, nobody else books on it until the transaction ends."""
    row = connection.execute(_LOCK_ACCOUNT if lock else _SELECT_ACCOUNT, {"source": source}).first()
    return None if row is None else Account(*row)


def get_account(connection: Connection, source: str, *, lock: bool = False) -> Account:
    """As `find_account`; raises StorageError `account_missing` where it was never opened."""
    account = find_account(connection, source, lock=lock)
    if account is None:
        raise StorageError(f"There is no account for {source}; open it first.", code="account_missing")
    return account


def create_account(connection: Connection, source: str, cash: Decimal, at: datetime) -> None:
    """A new account that holds `cash` and nothing else."""
    connection.execute(insert(accounts), {"source": source, "initial_cash": cash, "created_at": at})


def find_fill(connection: Connection, account: Account, draft: CycleDraft) -> Trade | None:
    """The account's trade on the candle of `draft`, or None."""
    row = connection.execute(
        _SELECT_FILL,
        {
            "account_id": account.id,
            "symbol": draft.symbol,
            "interval": draft.interval.value,
            "candle_open_time": draft.market.candle_open_time,
        },
    ).first()
    return None if row is None else trade_from_row(row)


def load_holdings(connection: Connection, account: Account) -> Portfolio:
    """What the account holds by its last rows; symbols that were sold out are left out."""
    balances = dict(connection.execute(_SELECT_BALANCES, {"account_id": account.id}).all())
    cash = balances.pop(None)
    positions = {symbol: quantity for symbol, quantity in balances.items() if quantity != 0}
    return Portfolio(account.initial_cash if cash is None else cash, positions)


def find_differences(connection: Connection, account: Account, holdings: Portfolio) -> list[str]:
    """Where the last rows differ from the sum of all fills, in words; empty where the books add up."""
    rows = connection.execute(_SELECT_SUMS, {"account_id": account.id}).all()
    cash = account.initial_cash + sum((received for _, _, received in rows), start=_ZERO)
    added_up = {"cash": cash, **{symbol: quantity for symbol, quantity, _ in rows}}
    recorded = {"cash": holdings.cash, **holdings.positions}
    return [
        f"{name} is recorded as {recorded.get(name, _ZERO):f}, and its fills come to {added_up.get(name, _ZERO):f}"
        for name in sorted({*recorded, *added_up})
        if recorded.get(name, _ZERO) != added_up.get(name, _ZERO)
    ]
