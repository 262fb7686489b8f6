"""The books in SQL: everything that a booking changes is one transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select

from app.domain.booking import in_plain_numbers, make_duplicate_report, make_report, make_trades
from app.domain.cycle import CycleDraft, CycleReport, Trade
from app.domain.cycle_record import CandleReference, write_inputs, write_outcome
from app.domain.ports import EVERYTHING, Clock, IdempotencyKey, Page, Selection, Settle
from app.domain.record import canonical, digest
from app.domain.standing import RunKey, Standing
from app.domain.telling import tell_cycle
from app.errors import NotFoundError
from app.storage import bookings, events, idempotency, opening, standings
from app.storage.cycle_candles import CandleKeeper, load_candles
from app.storage.database import Database
from app.storage.idempotency import KeyedResult
from app.storage.pages import MAXIMUM_NUMBER, PageRequest, is_plain, narrow
from app.storage.records import (
    SELECT_CYCLES,
    SELECT_TRADES,
    cycle_values,
    decision_values,
    find_seen,
    report_from_row,
    trade_from_row,
)
from app.storage.tables import cycles, decisions, settings_documents, trades

_SELECT_CYCLE = SELECT_CYCLES.where(cycles.c.id == bindparam("wanted_id"))
_SELECT_TRADE = SELECT_TRADES.where(trades.c.id == bindparam("trade_id"))
_SELECT_FILLS = SELECT_TRADES.where(trades.c.cycle_id == bindparam("wanted_id")).order_by(trades.c.id)
_SELECT_DECIDED = SELECT_TRADES.where(
    trades.c.account_id == bindparam("account_id"),
    trades.c.symbol == bindparam("symbol"),
    trades.c.interval == bindparam("interval"),
    trades.c.candle_open_time == bindparam("candle_open_time"),
    trades.c.confidence.is_not(None),
)
_INSERT_CYCLE = insert(cycles).inline()
_INSERT_DECISION = insert(decisions).inline()


class SqlLedger:
    """The ledger port on SQLite or PostgreSQL.

    Args:
        database: An open database.
        clock: Stamps new accounts.
        on_booked: Called after each commit that the event log has news of.
        keeps_records: Whether cycles leave a record that they can be replayed from; only a benchmark goes without.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        on_booked: Callable[[], None] = lambda: None,
        *,
        keeps_records: bool = True,
    ) -> None:
        self._database = database
        self._clock = clock
        self._on_booked = on_booked
        self.keeps_records = keeps_records
        self._candles = CandleKeeper()

    async def open_account(self, key: RunKey, cash: Decimal) -> Standing:
        """Open the account of `key` with `cash` unless it exists; check the books; return where it stands.

        Balances come from the fills: a changed `cash` is not applied to an account that exists.

        Raises:
            StorageError: `ledger_mismatch`, when the fills do not add up to what is recorded.
        """
        return await self._database.write(
            lambda connection: opening.open_account(connection, key, cash, self._clock.now())
        )

    async def keep_settings(self, document: Mapping[str, object]) -> str:
        """Keep the settings that cycles run with, once; returns the digest by which records name them."""
        name = digest(canonical(document))

        def job(connection: Connection) -> None:
            if connection.execute(
                select(settings_documents.c.digest).where(settings_documents.c.digest == name)
            ).first():
                return
            connection.execute(insert(settings_documents), {"digest": name, "document": dict(document)})

        await self._database.write(job)
        return name

    async def load_standing(self, key: RunKey) -> Standing:
        """Where the newest run of `key` stands."""
        return await self._database.read(
            lambda connection: standings.load_standing(connection, standings.get_account(connection, key))
        )

    async def record_cycle(
        self, draft: CycleDraft, settle: Settle, clock: Clock, key: IdempotencyKey | None = None
    ) -> CycleReport:
        """Book a cycle and everything that came of it in one transaction; return once it is on the disk.

        `settle` and `clock` are called within the transaction: on a thread of the database, and again where the
        transaction must be run again.

        Raises:
            InvalidInputError: `idempotency_key_reused`, the key came with another request before.
            StorageError: Nothing was recorded.
        """
        booking = _CycleBooking(draft, settle, clock, key, self._candles, self.keeps_records)
        report = await self._database.write(booking.run)
        self._candles.remember(draft.snapshot, booking.seen)
        self._on_booked()
        return report

    async def record_refusal(self, report: CycleReport, key: RunKey) -> None:
        """Keep a REFUSED cycle; it trades nothing and uses up no idempotency key."""

        def job(connection: Connection) -> None:
            standings.lock_key(connection, key)
            account = standings.get_account(connection, key)
            refusal = replace(report, run=account.run.id)
            connection.execute(_INSERT_CYCLE, cycle_values(refusal, account.id))
            bookings.save_record(connection, account, "cycle", report.id, canonical({}), write_outcome(refusal))
            events.append(connection, account.id, tell_cycle(refusal))

        await self._database.write(job)
        self._on_booked()

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
            report = await self._database.read(lambda connection: find_cycle(connection, cycle_id))
        if report is None:
            raise NotFoundError("There is no cycle with this id.", code="cycle_not_found")
        return report

    async def list_cycles(
        self, *, limit: int, cursor: str | None = None, wanted: Selection = EVERYTHING
    ) -> Page[CycleReport]:
        """Cycles without their candles and the fills of resting orders, newest first; `limit` from 1 to 1000.

        Raises:
            InvalidInputError: `invalid_cursor`.
        """
        page = PageRequest.parse("cycle", limit, cursor)
        statement = narrow(SELECT_CYCLES, wanted, cycles.c.account_id, cycles.c.symbol, cycles.c.finished_at)
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
        self, *, limit: int, cursor: str | None = None, wanted: Selection = EVERYTHING
    ) -> Page[Trade]:
        """Trades, newest first; `limit` from 1 to 1000; raises `InvalidInputError` (`invalid_cursor`)."""
        page = PageRequest.parse("trade", limit, cursor)
        statement = narrow(SELECT_TRADES, wanted, trades.c.account_id, trades.c.symbol, trades.c.executed_at)
        return await self._database.read(
            lambda connection: page.fetch(connection, statement, trades.c.id, trade_from_row)
        )


def find_cycle(connection: Connection, cycle_id: str) -> CycleReport | None:
    """One cycle with all its fills, None where there is none."""
    row = connection.execute(_SELECT_CYCLE, {"wanted_id": cycle_id}).first()
    if row is None:
        return None
    fills = connection.execute(_SELECT_FILLS, {"wanted_id": cycle_id}).all()
    report = replace(report_from_row(row), fills=tuple(trade_from_row(fill) for fill in fills))
    seen = find_seen(row)
    if seen is None or report.market is None:
        return report
    candles = load_candles(connection, report.source, report.symbol, report.interval, seen)
    return replace(report, market=replace(report.market, candles=candles))


def _find_replay(connection: Connection, key: IdempotencyKey) -> CycleReport | None:
    result = idempotency.find_result(connection, key)
    if result is None:
        return None
    if result.cycle_id is None:
        raise idempotency.reused()
    return find_cycle(connection, result.cycle_id)


@dataclass(slots=True)
class _CycleBooking:
    """One cycle's transaction; `seen` are its candles that are to be remembered once it is committed."""

    draft: CycleDraft
    settle: Settle
    clock: Clock
    key: IdempotencyKey | None
    candles: CandleKeeper
    keeps_record: bool
    seen: dict[int, Any] = field(default_factory=dict)

    def run(self, connection: Connection) -> CycleReport:
        self.seen = {}  # a first attempt that was rolled back kept nothing
        draft = replace(self.draft, decision=in_plain_numbers(self.draft.decision))
        standings.lock_key(connection, draft.key)
        account = standings.get_account(connection, draft.key)
        if self.key is not None and (earlier := _find_replay(connection, self.key)) is not None:
            return earlier
        before = standings.load_standing(connection, account)
        decided = _find_decided(connection, account.id, draft)
        now = before.booked_at(self.clock.now(), draft.started_at)
        reference, shown = None, None
        if self.keeps_record:
            reference, shown, self.seen = self.candles.keep(connection, draft.snapshot, len(draft.market.candles))
        if decided is not None:
            report = make_duplicate_report(account.run, draft, decided, now)
            _insert_cycle(connection, account.id, report, shown)
            halt = None
        else:
            settlement = self.settle(before, now)
            made = make_trades(account.run, settlement, draft.id, draft.decision, now)
            _insert_cycle(connection, account.id, make_report(account.run, draft, settlement, made, now), shown)
            numbered = bookings.save_settlement(connection, account, before, settlement, made, draft.id)
            report = make_report(account.run, draft, settlement, numbered, now)
            halt = settlement.halt
        if reference is not None:
            inputs = write_inputs(draft, before, reference)
            bookings.save_record(connection, account, "cycle", report.id, inputs, write_outcome(report))
        if self.key is not None:
            idempotency.keep_result(connection, self.key, KeyedResult(cycle_id=report.id), now)
        if self.keeps_record:
            events.append(connection, account.id, tell_cycle(report, halt))
        return report


def _insert_cycle(connection: Connection, account_id: int, report: CycleReport, shown: CandleReference | None) -> None:
    connection.execute(_INSERT_CYCLE, cycle_values(report, account_id, shown))
    if report.decision is not None:
        connection.execute(_INSERT_DECISION, decision_values(report.id, report.decision))


def _find_decided(connection: Connection, account_id: int, draft: CycleDraft) -> Trade | None:
    """The account's fill of a decision on the candle of `draft`, or None."""
    row = connection.execute(
        _SELECT_DECIDED,
        {
            "account_id": account_id,
            "symbol": draft.symbol,
            "interval": draft.interval.value,
            "candle_open_time": draft.market.candle_open_time,
        },
    ).first()
    return None if row is None else trade_from_row(row)
