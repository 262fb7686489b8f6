"""The ledger port in memory: for replays, backtests and tests, with the rules that the database keeps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from itertools import count
from typing import TypeVar

from app.domain.booking import in_plain_numbers, make_duplicate_report, make_report, make_trades
from app.domain.candle import Interval
from app.domain.cycle import CycleDraft, CycleReport, Settlement, Trade
from app.domain.money import to_units
from app.domain.order import Order, OrderStatus
from app.domain.ports import EVERYTHING, Clock, IdempotencyKey, Page, Selection, Settle
from app.domain.standing import Run, RunKey, Standing, open_snapshot
from app.errors import InvalidInputError, NotFoundError, StorageError

T = TypeVar("T", CycleReport, Trade)

_Candle = tuple[str, str, Interval | None, datetime | None]
"""What a decision is on, of which there may be one trade: run, symbol, interval and the candle's open time."""


class MemoryLedger:
    """Keeps the books of one run in memory.

    Args:
        clock: Stamps new accounts.
        trade_numbers: Gives its trades their numbers; from 1 on where it is left out.
    """

    def __init__(self, clock: Clock, trade_numbers: Iterator[int] | None = None) -> None:
        self._clock = clock
        self._trade_numbers = trade_numbers or count(1)
        self._opened: Standing | None = None
        self._reports: dict[str, CycleReport] = {}
        self._trades: dict[int, Trade] = {}
        self._decided: dict[_Candle, Trade] = {}
        self._keys: dict[str, tuple[str, str]] = {}

    @property
    def standing(self) -> Standing:
        """Where the account stands; raises StorageError (`account_missing`) before it is opened."""
        if self._opened is None:
            raise StorageError("There is no account; open it first.", code="account_missing")
        return self._opened

    @standing.setter
    def standing(self, standing: Standing) -> None:
        self._opened = standing

    def resume(self, standing: Standing, trades: Sequence[Trade] = ()) -> None:
        """Go on from where an account stood, with what is known of its trades so far."""
        self._opened = standing
        self._trades, self._decided = {}, {}
        self._keep_trades(trades)

    async def open_account(self, key: RunKey, cash: Decimal) -> Standing:
        """Open the account with `cash` unless it is open."""
        if self._opened is None:
            now = self._clock.now()
            self._opened = Standing(Run(key, 1, cash, now), open_snapshot(to_units(cash), now))
        return self._opened

    async def load_standing(self, key: RunKey) -> Standing:
        """Where the run stands."""
        if self._opened is None or self._opened.run.key != key:
            raise StorageError(f"There is no account for {key.source}; open it first.", code="account_missing")
        return self._opened

    async def record_cycle(
        self, draft: CycleDraft, settle: Settle, clock: Clock, key: IdempotencyKey | None = None
    ) -> CycleReport:
        """Book a cycle, its decision and its fills; raises as the port says."""
        before = await self.load_standing(draft.key)
        if key is not None and (earlier := await self.find_replay(key)) is not None:
            return earlier
        decided, now = self._find_decided(before.run, draft), before.booked_at(clock.now(), draft.started_at)
        if decided is not None:
            report = make_duplicate_report(before.run, _in_plain_numbers(draft), decided, now)
        else:
            settlement = settle(before, now)
            report = self._report(before.run, draft, settlement, now)
            self._opened = follow(before, settlement)
        self._keep(report)
        if key is not None:
            self._keys[key.key] = (key.fingerprint, report.id)
        return report

    async def record_refusal(self, report: CycleReport, key: RunKey) -> None:
        """Keep a REFUSED cycle."""
        self._keep(replace(report, run=(await self.load_standing(key)).run.id))

    async def find_replay(self, key: IdempotencyKey) -> CycleReport | None:
        """The report recorded under `key`, or None; raises as the port says."""
        if key.key not in self._keys:
            return None
        fingerprint, cycle_id = self._keys[key.key]
        if fingerprint != key.fingerprint:
            raise InvalidInputError(
                "This Idempotency-Key was used for another request before; take a new one.",
                code="idempotency_key_reused",
            )
        return self._reports[cycle_id]

    async def get_cycle(self, cycle_id: str) -> CycleReport:
        """One cycle; raises `NotFoundError`."""
        if cycle_id not in self._reports:
            raise NotFoundError("There is no cycle with this id.", code="cycle_not_found")
        return self._reports[cycle_id]

    async def list_cycles(
        self, *, limit: int, cursor: str | None = None, wanted: Selection = EVERYTHING
    ) -> Page[CycleReport]:
        """Cycles, newest first."""
        reports = [one for one in self._reports.values() if _is_wanted(one, one.finished_at, wanted)]
        return _page(reports, limit, cursor)

    async def get_trade(self, trade_id: int) -> Trade:
        """One trade; raises `NotFoundError`."""
        if trade_id not in self._trades:
            raise NotFoundError("There is no trade with this id.", code="trade_not_found")
        return self._trades[trade_id]

    async def list_trades(
        self, *, limit: int, cursor: str | None = None, wanted: Selection = EVERYTHING
    ) -> Page[Trade]:
        """Trades, newest first."""
        found = [one for one in self._trades.values() if _is_wanted(one, one.executed_at, wanted)]
        return _page(found, limit, cursor)

    def _report(self, run: Run, draft: CycleDraft, settlement: Settlement, now: datetime) -> CycleReport:
        draft = _in_plain_numbers(draft)
        made = make_trades(run, settlement, draft.id, draft.decision, now, self._trade_numbers)
        return make_report(run, draft, settlement, made, now)

    def _keep(self, report: CycleReport) -> None:
        self._reports[report.id] = report
        self._keep_trades(report.fills)

    def _keep_trades(self, trades: Sequence[Trade]) -> None:
        self._trades |= {trade.id: trade for trade in trades}
        self._decided |= {
            (trade.run, trade.symbol, trade.interval, trade.candle_open_time): trade
            for trade in trades
            if trade.confidence is not None
        }

    def _find_decided(self, run: Run, draft: CycleDraft) -> Trade | None:
        return self._decided.get((run.id, draft.symbol, draft.interval, draft.market.candle_open_time))


def follow(before: Standing, settlement: Settlement) -> Standing:
    """Where an account stands once a settlement is booked."""
    orders: dict[str, Order] = {order.id: order for order in before.orders}
    orders |= {order.id: order for order in (*settlement.moved, *settlement.orders)}
    resting = tuple(order for order in orders.values() if order.status is OrderStatus.NEW)
    return Standing(before.run, settlement.snapshot, resting, settlement.halt or before.halt)


def _in_plain_numbers(draft: CycleDraft) -> CycleDraft:
    return replace(draft, decision=in_plain_numbers(draft.decision))


def _is_wanted(row: CycleReport | Trade, at: datetime, wanted: Selection) -> bool:
    return (
        wanted.symbol in (None, row.symbol)
        and wanted.source in (None, row.source)
        and wanted.run in (None, row.run)
        and (wanted.since is None or at >= wanted.since)
        and (wanted.until is None or at < wanted.until)
    )


def _page(rows: Sequence[T], limit: int, cursor: str | None) -> Page[T]:
    if cursor is not None and not cursor.isdecimal():
        raise InvalidInputError("cursor is not one that this listing gave out.", code="invalid_cursor")
    end = len(rows) if cursor is None else int(cursor)
    start = max(0, end - limit)
    return Page(tuple(rows[start:end][::-1]), str(start) if start else None)
