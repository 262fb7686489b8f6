"""An account computed again from its fills alone, and how a stored one differs from that."""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Connection, Numeric, Select, bindparam, cast, select, type_coerce
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import NullType

from app.domain.money import UNITS, plain, to_units
from app.domain.order import Side
from app.domain.portfolio import Exit, Portfolio, Position, find_contradictions, postings
from app.storage.account_tables import closed_trades, dust_transfers
from app.storage.column_types import MAXIMUM_UNITS
from app.storage.standings import Account
from app.storage.tables import trades

_CHUNK = 10_000
"""So many fills are read at a time."""

_SIDES = {side.value: side for side in Side}

_Amounts = tuple[int, int, int]
_Facts = tuple[bool, int, int, int]
_DustMoves = dict[int, list[tuple[str, _Amounts, datetime]]]


class Step(NamedTuple):
    """The account after one fill, or after one move of dust behind it.

    `exit` is what a fill took out of a position, `fee` what it cost; a move of dust has neither. `is_decided` says
    whether it is the fill of a decision.
    """

    trade_id: int
    portfolio: Portfolio
    exit: Exit | None
    at: datetime
    fee: int = 0
    is_decided: bool = False
    is_fill: bool = True


def replay_fills(
    connection: Connection, account: Account, *, has_exits: bool = True, last: int = MAXIMUM_UNITS
) -> Iterator[tuple[Step, list[str]]]:
    """The account after each fill (up to the trade `last`) and each move of dust, oldest first, and what is wrong.

    What can be wrong, in words: balances that do not follow from the ones before, a notional that is not price times
    quantity, postings that do not sum to zero, a position turned round, an exit that is recorded otherwise, dust that
    is not there, a fill dated before the one before it. Fills without an order are of older versions, which went by the
    clock alone, and kept no exits (`has_exits`).
    """
    portfolio = Portfolio(to_units(account.run.initial_cash))
    before = account.run.opened_at
    for rows, dust, recorded in _load_chunks(connection, account, last):
        for row in rows:
            number, symbol, side, at, order_id, is_decided, quantity, price, notional, fee, cash, holding = row
            if isinstance(at, str):
                at = datetime.fromisoformat(at)
            try:
                portfolio, exit_ = portfolio.apply(symbol, _SIDES[side], quantity, notional, fee, at)
            except ValueError as error:
                yield Step(number, portfolio, None, at), [f"trade {number}: {error}"]
                return
            is_worth = -UNITS < notional * UNITS - price * quantity < UNITS
            is_as_told = is_worth and portfolio.cash == cash and portfolio.holding(symbol) == holding
            wrong = [] if is_as_told else _find_wrong(row, portfolio)
            if order_id is not None and at < before:
                wrong.append(f"trade {number}: it is dated before what came before it")
            if has_exits and (exit_ is not None or number in recorded):
                wrong += _find_wrong_exit(row, exit_, recorded.get(number))
            before = at
            yield Step(number, portfolio, exit_, at, fee, bool(is_decided)), wrong
            for moved, of_dust, moved_at in dust.get(number, ()):
                portfolio, fits = _move_dust(portfolio, moved, of_dust)
                words = f"trade {number}: the dust of {moved} that was moved after it is not what is held"
                yield Step(number, portfolio, None, moved_at, is_fill=False), [] if fits else [words]


def rebuild(connection: Connection, account: Account) -> tuple[Portfolio, list[str]]:
    """What the account holds by its fills alone, and what is wrong about them, in words."""
    portfolio, wrong = Portfolio(to_units(account.run.initial_cash)), []
    with _without_collections():
        for step, found in replay_fills(connection, account):
            portfolio = step.portfolio
            wrong += found
    return portfolio, wrong + find_contradictions(portfolio, to_units(account.run.initial_cash))


@contextmanager
def _without_collections() -> Iterator[None]:
    """Hold the garbage collector off: nothing here goes round in circles, and it would walk the process each time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


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


def _find_wrong(row: Sequence[Any], portfolio: Portfolio) -> list[str]:
    number, symbol, _, _, _, _, quantity, price, notional, _, cash, holding = row
    wrong: list[str] = []
    if portfolio.cash != cash or portfolio.holding(symbol) != holding:
        own = f"{plain(portfolio.cash)} and {plain(portfolio.holding(symbol))}"
        wrong.append(f"cash of {plain(cash)} and {plain(holding)} {symbol} are recorded, and its fills come to {own}")
    if not -UNITS < notional * UNITS - price * quantity < UNITS:
        own = f"{plain(quantity)} at {plain(price)}"
        wrong.append(f"a notional of {plain(notional)} is recorded, which is not {own}")
    return [f"trade {number}: {words}" for words in wrong]


def _find_wrong_exit(row: Sequence[Any], exit_: Exit | None, recorded: _Facts | None) -> list[str]:
    """What is wrong about the record of an exit; an entry's postings sum to zero whatever it says."""
    if recorded == _facts(exit_):
        return []  # its postings are those of a fill that follows: they sum to zero
    number, symbol, side, at, _, _, _, _, notional, fee, *_ = row
    wrong = [f"trade {number}: what it closed is not what is recorded of it"]
    if recorded is not None:
        is_long, cost, entry_fees, profit = recorded
        told = Exit(0, cost, entry_fees, profit, at, is_long)
        if sum(postings(_SIDES[side], notional, fee, symbol, told).values()):
            wrong.append(f"trade {number}: its postings do not sum to zero")
    return wrong


def _amounts(position: Position | None) -> _Amounts:
    return (position.quantity, position.cost, position.entry_fees) if position else (0, 0, 0)


def _facts(exit_: Exit | None) -> _Facts | None:
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


def _load_chunks(
    connection: Connection, account: Account, last: int
) -> Iterator[tuple[Sequence[Any], _DustMoves, dict[int, _Facts]]]:
    """The fills, oldest first, a piece at a time, with the dust that moved after each, and their exits."""
    statement, after = _select_fills(connection), 0
    while True:
        span = {"account_id": account.id, "after": after, "last": last}
        rows = connection.execute(statement, span).all()
        if not rows:
            return
        span["last"] = rows[-1][0]
        yield rows, _load_dust(connection, span), _load_exits(connection, span)
        after = rows[-1][0]


def _select_fills(connection: Connection) -> Select[Any]:
    amounts = (
        trades.c.quantity,
        trades.c.price,
        trades.c.notional,
        trades.c.fee,
        trades.c.cash_after,
        trades.c.position_after,
    )
    return (
        select(
            trades.c.id,
            trades.c.symbol,
            trades.c.side,
            # As SQLite keeps it: reading the moment here takes a tenth of what the column's own type does.
            type_coerce(trades.c.executed_at, NullType).label("executed_at"),
            trades.c.order_id,
            trades.c.confidence.is_not(None).label("is_decided"),
            *(whole(connection, column).label(column.name) for column in amounts),
        )
        .where(_in_span(trades.c.account_id, trades.c.id))
        .order_by(trades.c.id)
        .limit(_CHUNK)
    )


def _in_span(account_id: ColumnElement[int], number: ColumnElement[int]) -> ColumnElement[bool]:
    return (account_id == bindparam("account_id")) & (number > bindparam("after")) & (number <= bindparam("last"))


def _load_dust(connection: Connection, span: Mapping[str, int]) -> _DustMoves:
    amounts = (dust_transfers.c.quantity, dust_transfers.c.cost, dust_transfers.c.entry_fees)
    rows = connection.execute(
        select(
            dust_transfers.c.after_trade_id,
            dust_transfers.c.symbol,
            dust_transfers.c.transferred_at,
            *(whole(connection, column) for column in amounts),
        )
        .where(_in_span(dust_transfers.c.account_id, dust_transfers.c.after_trade_id))
        .order_by(dust_transfers.c.id),
        span,
    )
    moves: _DustMoves = defaultdict(list)
    for number, symbol, at, quantity, cost, fees in rows:
        moves[number].append((symbol, (quantity, cost, fees), at))
    return moves


def _load_exits(connection: Connection, span: Mapping[str, int]) -> dict[int, _Facts]:
    amounts = (closed_trades.c.cost, closed_trades.c.entry_fees, closed_trades.c.profit)
    rows = connection.execute(
        select(closed_trades.c.trade_id, closed_trades.c.is_long, *(whole(connection, column) for column in amounts))
        .join_from(closed_trades, trades)
        .where(_in_span(trades.c.account_id, trades.c.id)),
        span,
    )
    return {number: (is_long, cost, fees, profit) for number, is_long, cost, fees, profit in rows}
