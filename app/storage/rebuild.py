"""An account computed again from its fills alone, and how a stored one differs from that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Connection, Numeric, Select, bindparam, cast, select, type_coerce
from sqlalchemy.sql.elements import ColumnElement

from app.domain.money import UNITS, plain, to_units
from app.domain.order import Side
from app.domain.portfolio import Exit, Portfolio, Position, find_contradictions, postings
from app.storage.account_tables import closed_trades, dust_transfers
from app.storage.standings import Account
from app.storage.tables import trades

_Amounts = tuple[int, int, int]
_DustMoves = dict[int, list[tuple[str, _Amounts]]]


@dataclass(frozen=True, slots=True)
class Step:
    """The account after one fill and the dust moves that followed it; `exit` is what the fill took out."""

    trade_id: int
    portfolio: Portfolio
    exit: Exit | None
    at: datetime


def replay_fills(connection: Connection, account: Account) -> Iterator[tuple[Step, list[str]]]:
    """The account after each fill, oldest first, and what is wrong about the fill, in words.

    What can be wrong: balances that do not follow from the ones before, postings that do not sum to zero, a position
    turned round, an exit that is recorded otherwise, dust that is not there, a fill dated before the one before it.
    Fills without an order are of older versions, which were dated by the clock alone, though it may have gone back.
    """
    portfolio = Portfolio(to_units(account.run.initial_cash))
    dust, recorded = _load_dust(connection, account), _load_exits(connection, account)
    before = account.run.opened_at
    for number, symbol, side_name, at, order_id, quantity, notional, fee, *after in connection.execute(
        _select_fills(connection), {"account_id": account.id}
    ):
        side, wrong = Side(side_name), []
        try:
            portfolio, exit_ = portfolio.apply(symbol, side, quantity, notional, fee, at)
        except ValueError as error:
            yield Step(number, portfolio, None, at), [f"trade {number}: {error}"]
            return
        if [portfolio.cash, portfolio.holding(symbol)] != after:
            wrong.append(
                f"cash of {plain(after[0])} and {plain(after[1])} {symbol} are recorded, and its fills come to "
                f"{plain(portfolio.cash)} and {plain(portfolio.holding(symbol))}"
            )
        if sum(postings(side, notional, fee, symbol, exit_).values()):
            wrong.append("its postings do not sum to zero")
        if recorded and recorded.get(number) != _facts(exit_):
            wrong.append("what it closed is not what is recorded of it")
        if order_id is not None and at < before:
            wrong.append("it is dated before what came before it")
        for moved, amounts in dust.get(number, ()):
            portfolio, fits = _move_dust(portfolio, moved, amounts)
            wrong += [] if fits else [f"the dust of {moved} that was moved after it is not what is held"]
        before = at
        yield Step(number, portfolio, exit_, at), [f"trade {number}: {words}" for words in wrong]


def rebuild(connection: Connection, account: Account) -> tuple[Portfolio, list[str]]:
    """What the account holds by its fills alone, and what is wrong about them, in words."""
    portfolio, wrong = Portfolio(to_units(account.run.initial_cash)), []
    for step, found in replay_fills(connection, account):
        portfolio = step.portfolio
        wrong += found
    return portfolio, wrong + find_contradictions(portfolio, to_units(account.run.initial_cash))


def compare(stored: Portfolio, followed: Portfolio) -> list[str]:
    """Where a stored account differs from the one that follows from its fills, in words."""
    pairs = [("cash", stored.cash, followed.cash)]
    pairs += [("realised profit", stored.realised, followed.realised), ("fees", stored.fees, followed.fees)]
    for name, one, other in (
        ("position", stored.positions, followed.positions),
        ("dust", stored.dust, followed.dust),
    ):
        for symbol in sorted({*one, *other}):
            first, second = _amounts(one.get(symbol)), _amounts(other.get(symbol))
            for label, left, right in zip((f"{name} in", "cost of", "entry fees of"), first, second, strict=True):
                pairs.append((f"{label} {symbol}", left, right))
    return [
        f"{name} is recorded as {plain(left)}, and its fills come to {plain(right)}"
        for name, left, right in pairs
        if left != right
    ]


def _amounts(position: Position | None) -> _Amounts:
    return (position.quantity, position.cost, position.entry_fees) if position else (0, 0, 0)


def _facts(exit_: Exit | None) -> tuple[bool, int, int, int] | None:
    return (exit_.is_long, exit_.cost, exit_.entry_fees, exit_.profit) if exit_ else None


def _move_dust(portfolio: Portfolio, symbol: str, amounts: _Amounts) -> tuple[Portfolio, bool]:
    if amounts[0] > 0:
        fits = symbol in portfolio.positions and _amounts(portfolio.positions[symbol]) == amounts
        return (portfolio.to_dust(symbol), True) if fits else (portfolio, False)
    back = (-amounts[0], -amounts[1], -amounts[2])
    fits = symbol in portfolio.dust and _amounts(portfolio.dust[symbol]) == back
    return (portfolio.from_dust(symbol), True) if fits else (portfolio, False)


def whole(connection: Connection, column: ColumnElement[Any]) -> ColumnElement[Any]:
    """An amount as whole 1e-8 units, past the column's own type, which would make a Decimal of each."""
    if connection.dialect.name == "sqlite":
        return type_coerce(column, BigInteger)
    return cast(type_coerce(column, Numeric) * UNITS, BigInteger)


def _select_fills(connection: Connection) -> Select[Any]:
    amounts = (trades.c.quantity, trades.c.notional, trades.c.fee, trades.c.cash_after, trades.c.position_after)
    return (
        select(
            trades.c.id,
            trades.c.symbol,
            trades.c.side,
            trades.c.executed_at,
            trades.c.order_id,
            *(whole(connection, column) for column in amounts),
        )
        .where(trades.c.account_id == bindparam("account_id"))
        .order_by(trades.c.id)
    )


def _load_dust(connection: Connection, account: Account) -> _DustMoves:
    amounts = (dust_transfers.c.quantity, dust_transfers.c.cost, dust_transfers.c.entry_fees)
    rows = connection.execute(
        select(
            dust_transfers.c.after_trade_id,
            dust_transfers.c.symbol,
            *(whole(connection, column) for column in amounts),
        )
        .where(dust_transfers.c.account_id == account.id)
        .order_by(dust_transfers.c.id)
    )
    moves: _DustMoves = defaultdict(list)
    for number, symbol, quantity, cost, fees in rows:
        moves[number].append((symbol, (quantity, cost, fees)))
    return moves


def _load_exits(connection: Connection, account: Account) -> dict[int, tuple[bool, int, int, int]]:
    amounts = (closed_trades.c.cost, closed_trades.c.entry_fees, closed_trades.c.profit)
    rows = connection.execute(
        select(closed_trades.c.trade_id, closed_trades.c.is_long, *(whole(connection, column) for column in amounts))
        .join_from(closed_trades, trades)
        .where(trades.c.account_id == account.id)
    )
    return {number: (bool(is_long), *amounts) for number, is_long, *amounts in rows}
