"""The books in SQL: a cycle, its decision, its fill and its key are one transaction."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from decimal import Decimal

import structlog
from sqlalchemy import Connection, ScalarSelect, bindparam, insert, select

from app.domain.cycle import CycleDraft, CycleReport, Decision, Execution, ExecutionStatus, Settlement, Trade
from app.domain.order import Fill, Side
from app.domain.portfolio import Portfolio
from app.domain.ports import Clock, IdempotencyKey, Page, Settle
from app.domain.signal import Signal
from app.errors import NotFoundError, StorageError
from app.storage import books, idempotency
from app.storage.account_tables import accounts
from app.storage.books import Account
from app.storage.column_types import exact
from app.storage.database import Database
from app.storage.idempotency import KeyedResult
from app.storage.pages import MAXIMUM_NUMBER, PageRequest, is_plain
from app.storage.records import (
    SELECT_CYCLES,
    SELECT_TRADES,
    cycle_values,
    decision_values,
    report_from_row,
    trade_from_row,
    trade_values,
)
from app.storage.tables import cycles, decisions, trades

log = structlog.get_logger()

_SELECT_CYCLE = SELECT_CYCLES.where(cycles.c.id == bindparam("cycle_id"))
_SELECT_TRADE = SELECT_TRADES.where(trades.c.id == bindparam("trade_id"))
_INSERT_CYCLE = insert(cycles).inline()
_INSERT_DECISION = insert(decisions).inline()
_INSERT_TRADE = insert(trades).returning(trades.c.id)


class SqlLedger:
    """The ledger port on SQLite or PostgreSQL.

    Args:
        database: An open database.
        clock: Stamps new accounts.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def open_account(self, source: str, cash: Decimal) -> Portfolio:
        """Create the account of `source` with `cash` unless it exists; check the books; return what it holds.

        Balances come from the fills: a changed `cash` is not applied to an account that exists.

        Raises:
            StorageError: `ledger_mismatch`, when the fills do not add up to the recorded balances.
        """
        return await self._database.write(lambda connection: _open_account(connection, source, cash, self._clock))

    async def load_portfolio(self, source: str) -> Portfolio:
        """What the account of `source` holds now."""
        return await self._database.read(
            lambda connection: books.load_holdings(connection, books.get_account(connection, source))
        )

    async def record_cycle(
        self, draft: CycleDraft, settle: Settle, clock: Clock, key: IdempotencyKey | None = None
    ) -> CycleReport:
        """Book a cycle, its decision and its fill in one transaction, and return the report once it is on the disk.

        `settle` and `clock` are called within the transaction: on a thread of the database, and again where the
        transaction must be run again.

        Raises:
            InvalidInputError: `idempotency_key_reused`, the key came with another request before.
            StorageError: Nothing was recorded.
        """
        return await self._database.write(lambda connection: _book(connection, draft, settle, clock, key))

    async def record_refusal(self, report: CycleReport) -> None:
        """Keep a REFUSED cycle; it trades nothing and uses up no idempotency key."""

        def job(connection: Connection) -> None:
            account = books.get_account(connection, report.source)
            connection.execute(_INSERT_CYCLE, cycle_values(report, account.id))

        await self._database.write(job)

    async def find_replay(self, key: IdempotencyKey) -> CycleReport | None:
        """The report recorded under `key`, or None.

        Raises:
            InvalidInputError: `idempotency_key_reused`, the key came with another request before.
        """
        return await self._database.read(lambda connection: _find_replay(connection, key))

    async def get_cycle(self, cycle_id: str) -> CycleReport:
        """One cycle; raises `NotFoundError` (`cycle_not_found`)."""
        report = None
        if is_plain(cycle_id):
            report = await self._database.read(lambda connection: _find_cycle(connection, cycle_id))
        if report is None:
            raise NotFoundError("There is no cycle with this id.", code="cycle_not_found")
        return report

    async def list_cycles(
        self, *, limit: int, cursor: str | None = None, symbol: str | None = None, source: str | None = None
    ) -> Page[CycleReport]:
        """Cycles, newest first; `limit` from 1 to 1000; raises `InvalidInputError` (`invalid_cursor`)."""
        page = PageRequest.parse("cycle", limit, cursor)
        statement = SELECT_CYCLES
        if symbol is not None:
            statement = statement.where(cycles.c.symbol == _matchable(symbol))
        if source is not None:
            statement = statement.where(cycles.c.account_id == _account_id(source))
        return await self._database.read(
            lambda connection: page.fetch(connection, statement, cycles.c.number, report_from_row)
        )

    async def get_trade(self, trade_id: int) -> Trade:
        """One trade; raises `NotFoundError` (`trade_not_found`)."""
        row = None
        if 0 < trade_id <= MAXIMUM_NUMBER:
            row = await self._database.read(
                lambda connection: connection.execute(_SELECT_TRADE, {"trade_id": trade_id}).first()
            )
        if row is None:
            raise NotFoundError("There is no trade with this id.", code="trade_not_found")
        return trade_from_row(row)

    async def list_trades(
        self, *, limit: int, cursor: str | None = None, symbol: str | None = None, source: str | None = None
    ) -> Page[Trade]:
        """Trades, newest first; `limit` from 1 to 1000; raises `InvalidInputError` (`invalid_cursor`)."""
        page = PageRequest.parse("trade", limit, cursor)
        statement = SELECT_TRADES
        if symbol is not None:
            statement = statement.where(trades.c.symbol == _matchable(symbol))
        if source is not None:
            statement = statement.where(trades.c.account_id == _account_id(source))
        return await self._database.read(
            lambda connection: page.fetch(connection, statement, trades.c.id, trade_from_row)
        )


def _matchable(text: str) -> str:
    return text if is_plain(text) else ""


def _account_id(source: str) -> ScalarSelect[int]:
    return select(accounts.c.id).where(accounts.c.source == _matchable(source)).scalar_subquery()


def _open_account(connection: Connection, source: str, cash: Decimal, clock: Clock) -> Portfolio:
    account = books.find_account(connection, source, lock=True)
    if account is None:
        books.create_account(connection, source, cash, clock.now())
        return Portfolio(exact(cash))
    holdings = books.load_holdings(connection, account)
    differences = books.find_differences(connection, account, holdings)
    if differences:
        log.error("ledger.mismatch", source=source, differences=differences)
        raise StorageError(
            f"The books of {source} do not add up: {'; '.join(differences)}. Nothing is traded until they do; "
            "restore a copy of the database.",
            code="ledger_mismatch",
            context={"source": source, "differences": differences},
        )
    if account.initial_cash != cash:
        log.warning("account.initial_cash_ignored", source=source, opened_with=str(account.initial_cash))
    return holdings


def _find_cycle(connection: Connection, cycle_id: str) -> CycleReport | None:
    row = connection.execute(_SELECT_CYCLE, {"cycle_id": cycle_id}).first()
    return None if row is None else report_from_row(row)


def _find_replay(connection: Connection, key: IdempotencyKey) -> CycleReport | None:
    result = idempotency.find_result(connection, key)
    if result is None:
        return None
    if result.cycle_id is None:
        raise idempotency.reused()
    return _find_cycle(connection, result.cycle_id)


def _book(
    connection: Connection, draft: CycleDraft, settle: Settle, clock: Clock, key: IdempotencyKey | None
) -> CycleReport:
    account = books.get_account(connection, draft.source, lock=True)
    if key is not None and (earlier := _find_replay(connection, key)) is not None:
        return earlier
    draft = replace(draft, decision=_as_read_back(draft.decision))
    fill = books.find_fill(connection, account, draft)
    if fill is not None:
        now = clock.now()
        execution = _duplicate_of(fill)
    else:
        holdings = books.load_holdings(connection, account)
        settlement = settle(holdings)
        now = clock.now()
        execution = _execution(draft, settlement, holdings, now)
    report = _insert(connection, account, draft.finish(execution, now))
    if key is not None:
        idempotency.keep_result(connection, key, KeyedResult(cycle_id=report.id), now)
    return report


def _insert(connection: Connection, account: Account, report: CycleReport) -> CycleReport:
    """Write a report's rows; returns it with the number the database gave its trade."""
    execution, decision = report.execution, report.decision
    connection.execute(_INSERT_CYCLE, cycle_values(report, account.id))
    if decision is not None:
        connection.execute(_INSERT_DECISION, decision_values(report.id, decision))
    if execution is None or execution.trade is None or execution.duplicate:
        return report
    number = connection.execute(_INSERT_TRADE, trade_values(execution.trade, account.id)).scalar_one()
    trade = replace(execution.trade, id=number)
    return replace(report, execution=replace(execution, trade=trade))


def _duplicate_of(fill: Trade) -> Execution:
    return Execution(
        ExecutionStatus.SKIPPED,
        "candle_already_traded",
        f"This candle was traded before: trade {fill.id} of cycle {fill.cycle_id}.",
        trade=fill,
        duplicate=True,
    )


def _execution(draft: CycleDraft, settlement: Settlement, holdings: Portfolio, now: datetime) -> Execution:
    trade = None if settlement.fill is None else _trade(draft, settlement.fill, settlement.reason, holdings, now)
    return Execution(settlement.status, settlement.reason_code, settlement.reason, trade)


def _trade(draft: CycleDraft, fill: Fill, reason: str, holdings: Portfolio, now: datetime) -> Trade:
    sign = 1 if fill.side is Side.BUY else -1
    return Trade(
        id=0,
        cycle_id=draft.id,
        symbol=draft.symbol,
        interval=draft.interval,
        source=draft.source,
        side=fill.side,
        quantity=exact(fill.quantity),
        price=exact(fill.price),
        notional=exact(fill.notional),
        fee=exact(fill.fee),
        slippage_bps=float(fill.slippage_bps),
        confidence=draft.decision.confidence,
        model_id=draft.decision.model_id,
        candle_open_time=draft.market.candle_open_time,
        executed_at=now,
        reason=reason,
        cash_after=exact(holdings.cash - sign * fill.notional - fill.fee),
        position_after=exact(holdings.quantity(draft.symbol) + sign * fill.quantity),
        edge=draft.decision.edge,
    )


def _as_read_back(decision: Decision) -> Decision:
    """The same decision with its numbers as plain floats, in the order in which they are read from the database."""
    probabilities = {signal: float(decision.probabilities[signal]) for signal in Signal}
    return replace(decision, confidence=float(decision.confidence), probabilities=probabilities)
