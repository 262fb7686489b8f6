"""The accounts as their owners read them: orders, fills, closed trades, equity and runs, newest first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from sqlalchemy import Connection, Select, bindparam, select
from sqlalchemy.sql.elements import ColumnElement

from app.domain.booking import entry_price
from app.domain.closed_trade import ClosedTrade
from app.domain.cycle import Trade
from app.domain.money import from_units, to_units
from app.domain.order import Order, OrderStatus
from app.domain.portfolio import Exit, postings
from app.domain.ports import EVERYTHING, Page, Selection
from app.domain.standing import RunKey, Standing
from app.domain.statement import AccountOrder, EquityPoint, Holding, PostedTrade, Posting, RunEntry, list_holdings
from app.errors import NotFoundError
from app.storage import standings
from app.storage.account_tables import accounts, closed_trades, orders, snapshots
from app.storage.database import Database
from app.storage.pages import PageRequest, decode_cursor, encode_cursor, is_plain, narrow
from app.storage.records import RUN_COLUMNS, SELECT_TRADES, run_from_row, trade_from_row
from app.storage.standings import ACCOUNT_COLUMNS, ORDER_COLUMNS, order_from_row
from app.storage.tables import trades

T = TypeVar("T")

_SELECT_ORDERS: Select[Any] = select(orders.c.number, *ORDER_COLUMNS, *RUN_COLUMNS).join_from(orders, accounts)
_EXIT_COLUMNS = (
    closed_trades.c.is_long,
    closed_trades.c.cost,
    closed_trades.c.entry_fees,
    closed_trades.c.profit,
    closed_trades.c.opened_at,
)
_SELECT_FILLS: Select[Any] = SELECT_TRADES.add_columns(*_EXIT_COLUMNS)
_SELECT_CLOSED: Select[Any] = (
    select(
        trades.c.id,
        trades.c.symbol,
        trades.c.quantity,
        trades.c.price,
        trades.c.fee,
        trades.c.executed_at,
        trades.c.reason,
        *_EXIT_COLUMNS,
        *RUN_COLUMNS,
    )
    .join_from(closed_trades, trades)
    .join(accounts, accounts.c.id == trades.c.account_id)
)
_SELECT_EQUITY: Select[Any] = select(
    snapshots.c.number,
    snapshots.c.taken_at,
    snapshots.c.symbol,
    snapshots.c.price,
    snapshots.c.cash,
    snapshots.c.equity,
    snapshots.c.peak_equity,
    snapshots.c.day_equity,
    *RUN_COLUMNS,
).join_from(snapshots, accounts)
_next = accounts.alias("next_run")
_SELECT_RUNS: Select[Any] = select(accounts.c.id, *RUN_COLUMNS, _next.c.created_at).outerjoin_from(
    accounts,
    _next,
    (_next.c.source == accounts.c.source)
    & (_next.c.strategy == accounts.c.strategy)
    & (_next.c.name == accounts.c.name)
    & (_next.c.generation == accounts.c.generation + 1),
)
_EXITS = len(_EXIT_COLUMNS)
_TRADE_FIELDS = tuple(field.name for field in fields(Trade))
_ORDER_FIELDS = tuple(field.name for field in fields(Order))


class SqlPortfolio:
    """Reads the books of all accounts; each listing is newest first, a page at a time.

    The listings take `limit` from 1 to 1000, and raise `InvalidInputError` (`invalid_cursor`).

    Args:
        database: An open database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load_standing(self, key: RunKey, run: str | None = None) -> Standing:
        """Where the newest run of `key` stands, or the run of that name; no halt holds one that has ended.

        Raises:
            NotFoundError: `run_not_found`.
        """

        def query(connection: Connection) -> Standing:
            if run is None:
                return standings.load_standing(connection, standings.get_account(connection, key))
            row = connection.execute(
                narrow(
                    select(*ACCOUNT_COLUMNS), Selection(run=run), accounts.c.id, accounts.c.name, accounts.c.created_at
                )
            ).first()
            if row is None:
                words = "There is no run with this name; GET /portfolio/runs lists them."
                raise NotFoundError(words, code="run_not_found")
            account = standings.account_from_row(row)
            standing = standings.load_standing(connection, account)
            newest = standings.get_account(connection, account.run.key)
            return standing if newest == account else replace(standing, halt=None)

        return await self._database.read(query)

    async def list_positions(
        self, key: RunKey, *, limit: int, cursor: str | None = None, wanted: Selection = EVERYTHING
    ) -> Page[Holding]:
        """What one run holds, by symbol and dust last: the newest run of `key`, or the one that is wanted.

        Raises:
            NotFoundError: `run_not_found`.
        """
        after = None if cursor is None else _place(decode_cursor("position", cursor, "[!-~]+"))
        standing = await self.load_standing(key, wanted.run)
        found = [
            one
            for one in list_holdings(standing)
            if wanted.symbol in (None, one.symbol)
            and wanted.source in (None, standing.run.key.source)
            and (wanted.since is None or one.opened_at >= wanted.since)
            and (wanted.until is None or one.opened_at < wanted.until)
            and (after is None or _place(one.account) > after)
        ]
        more = len(found) > limit
        return Page(tuple(found[:limit]), encode_cursor("position", found[limit - 1].account) if more else None)

    async def get_order(self, order_id: str) -> AccountOrder:
        """One order; raises `NotFoundError` (`order_not_found`)."""
        row = None
        if is_plain(order_id):
            statement = _SELECT_ORDERS.where(orders.c.id == order_id)
            row = await self._database.read(lambda connection: connection.execute(statement).first())
        if row is None:
            raise NotFoundError("There is no order with this id.", code="order_not_found")
        return _order_from_row(row)

    async def list_orders(
        self,
        *,
        limit: int,
        cursor: str | None = None,
        wanted: Selection = EVERYTHING,
        status: OrderStatus | None = None,
    ) -> Page[AccountOrder]:
        """Orders by when they were placed."""
        statement = narrow(_SELECT_ORDERS, wanted, orders.c.account_id, orders.c.symbol, orders.c.created_at)
        if status is not None:
            # As a literal, so that the index of the resting ones is taken.
            statement = statement.where(orders.c.status == bindparam(None, status.value, literal_execute=True))
        return await self._fetch(PageRequest.parse("order", limit, cursor), statement, orders.c.number, _order_from_row)

    async def list_fills(
        self, *, limit: int, cursor: str | None = None, wanted: Selection = EVERYTHING
    ) -> Page[PostedTrade]:
        """Fills with their double entry."""
        statement = narrow(_SELECT_FILLS, wanted, trades.c.account_id, trades.c.symbol, trades.c.executed_at)
        return await self._fetch(PageRequest.parse("fill", limit, cursor), statement, trades.c.id, _fill_from_row)

    async def list_closed_trades(
        self, *, limit: int, cursor: str | None = None, wanted: Selection = EVERYTHING
    ) -> Page[ClosedTrade]:
        """What exits closed, by when they were filled."""
        page = PageRequest.parse("closed-trade", limit, cursor)
        statement = narrow(_SELECT_CLOSED, wanted, trades.c.account_id, trades.c.symbol, trades.c.executed_at)
        return await self._fetch(page, statement, trades.c.id, _closed_from_row)

    async def list_equity(
        self, *, limit: int, cursor: str | None = None, wanted: Selection = EVERYTHING
    ) -> Page[EquityPoint]:
        """The accounts after each booking."""
        page = PageRequest.parse("equity", limit, cursor)
        statement = narrow(_SELECT_EQUITY, wanted, snapshots.c.account_id, snapshots.c.symbol, snapshots.c.taken_at)
        return await self._fetch(page, statement, snapshots.c.number, _equity_from_row)

    async def list_runs(
        self, *, limit: int, cursor: str | None = None, wanted: Selection = EVERYTHING
    ) -> Page[RunEntry]:
        """Runs by when they were opened; the symbol of `wanted` is not looked at."""
        page = PageRequest.parse("run", limit, cursor)
        statement = narrow(
            _SELECT_RUNS, replace(wanted, symbol=None), accounts.c.id, accounts.c.name, accounts.c.created_at
        )
        return await self._fetch(page, statement, accounts.c.id, _run_from_row)

    async def _fetch(
        self, page: PageRequest, statement: Select[Any], number: ColumnElement[int], build: Callable[[Sequence[Any]], T]
    ) -> Page[T]:
        return await self._database.read(lambda connection: page.fetch(connection, statement, number, build))


def _place(account: str) -> tuple[bool, str]:
    """Where an account stands in the listing of positions."""
    return account.startswith("dust:"), account


def _order_from_row(row: Sequence[Any]) -> AccountOrder:
    split = 1 + len(ORDER_COLUMNS)
    order, run = order_from_row(row[1:split]), run_from_row(row[split:])
    fields_of_order = {name: getattr(order, name) for name in _ORDER_FIELDS}
    return AccountOrder(**fields_of_order, run=run.id, source=run.key.source)


def _fill_from_row(row: Sequence[Any]) -> PostedTrade:
    trade, exit_ = trade_from_row(row[:-_EXITS]), None
    is_long, cost, entry_fees, profit, opened_at = row[-_EXITS:]
    if cost is not None:
        quantity, cost, entry_fees, profit = map(to_units, (trade.quantity, cost, entry_fees, profit))
        exit_ = Exit(quantity, cost, entry_fees, profit, opened_at, bool(is_long))
    entry = postings(trade.side, to_units(trade.notional), to_units(trade.fee), trade.symbol, exit_)
    posted = tuple(Posting(account, from_units(amount)) for account, amount in entry.items())
    return PostedTrade(**{name: getattr(trade, name) for name in _TRADE_FIELDS}, postings=posted)


def _closed_from_row(row: Sequence[Any]) -> ClosedTrade:
    trade_id, symbol, quantity, price, fee, executed_at, reason = row[:7]
    is_long, cost, entry_fees, profit, opened_at, *run_columns = row[7:]
    run = run_from_row(run_columns)
    return ClosedTrade(
        trade_id=trade_id,
        run=run.id,
        symbol=symbol,
        source=run.key.source,
        is_long=bool(is_long),
        quantity=quantity,
        entry_price=entry_price(to_units(cost), to_units(quantity)),
        exit_price=price,
        entry_notional=abs(cost),
        profit=profit,
        fees=fee + entry_fees,
        opened_at=opened_at,
        closed_at=executed_at,
        reason=reason,
    )


def _equity_from_row(row: Sequence[Any]) -> EquityPoint:
    _, taken_at, symbol, price, cash, equity, peak, day, *run_columns = row
    run = run_from_row(run_columns)
    return EquityPoint(
        taken_at=taken_at,
        run=run.id,
        source=run.key.source,
        symbol=symbol,
        price=price,
        cash=cash,
        equity=equity,
        drawdown=to_units(peak - equity) / to_units(peak),
        day_profit=equity - day,
    )


def _run_from_row(row: Sequence[Any]) -> RunEntry:
    return RunEntry(run_from_row(row[1:-1]), row[-1])
