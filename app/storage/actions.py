"""What people do to their accounts, in SQL: orders of their own, closing, cancelling, resetting, halting."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection, select

from app.domain.action import ALREADY_HALTED, NOT_HALTED, ActionKind, ActionReport
from app.domain.booking import make_trades
from app.domain.cycle import Trade
from app.domain.order import Order, OrderStatus, Origin
from app.domain.ports import Clock, IdempotencyKey, Settle
from app.domain.record import canonical, from_plain, to_plain
from app.domain.standing import MAX_DRAWDOWN, RunKey, Snapshot
from app.domain.telling import tell_action
from app.errors import ConflictError, NotFoundError
from app.storage import bookings, events, idempotency, opening, standings
from app.storage.database import Database
from app.storage.idempotency import KeyedResult
from app.storage.pages import is_plain
from app.storage.standings import Account
from app.storage.tables import records

_HALTED = "halted"
"""The reason code of a halt by a person; one that the account's losses led to has another."""


@dataclass(frozen=True, slots=True)
class _Request:
    """What a person asks for: the booking's id, what is done, and the words it was asked in, as plain JSON."""

    id: str
    kind: ActionKind
    words: Mapping[str, object]
    key: IdempotencyKey | None = None


_Change = Callable[[Connection, Account], ActionReport]


class SqlActions:
    """Books what people do, each in one transaction with its link of the account's chain.

    Args:
        database: An open database.
        clock: Stamps what is booked.
        on_booked: Called after each commit that the event log has news of.
    """

    def __init__(self, database: Database, clock: Clock, on_booked: Callable[[], None] = lambda: None) -> None:
        self._database = database
        self._clock = clock
        self._on_booked = on_booked

    async def find_replay(self, key: IdempotencyKey) -> ActionReport | None:
        """What was done under `key`, or None.

        Raises:
            InvalidInputError: `idempotency_key_reused`, the key came with another request before.
        """
        return await self._database.read(lambda connection: _find_replay(connection, key))

    async def book(
        self,
        key: RunKey,
        kind: ActionKind,
        booking_id: str,
        words: Mapping[str, object],
        settles: Sequence[Settle],
        idempotency_key: IdempotencyKey | None,
    ) -> ActionReport:
        """Book what `settles` decide, one after another, each from where the one before left the account."""

        def change(connection: Connection, account: Account) -> ActionReport:
            orders: list[Order] = []
            fills: list[Trade] = []
            now = self._now(connection, account)
            code, reason = "nothing_to_do", "There was nothing to do."
            for settle in settles:
                before = standings.load_standing(connection, account)
                settlement = settle(before, now)
                made = make_trades(account.run, settlement, None, None, now)
                fills += bookings.save_settlement(connection, account, before, settlement, made, None)
                orders += settlement.orders
                code, reason = settlement.reason_code, settlement.reason
            told = (code, reason, tuple(orders), tuple(fills))
            return ActionReport(booking_id, kind, account.run.id, now, *told)

        return await self._run(key, _Request(booking_id, kind, words, idempotency_key), change)

    async def cancel(self, key: RunKey, booking_id: str, words: Mapping[str, object], order_id: str) -> ActionReport:
        """Cancel a resting order.

        Raises:
            NotFoundError: `order_not_found`.
            ConflictError: `order_ended`, it does not rest any more, or the account would be unguarded without it.
        """
        kind = ActionKind.CANCEL

        def change(connection: Connection, account: Account) -> ActionReport:
            now = self._now(connection, account)
            ended = _cancel(connection, account, order_id, now)
            return ActionReport(booking_id, kind, account.run.id, now, "canceled", str(ended.reason), (ended,))

        return await self._run(key, _Request(booking_id, kind, words), change)

    async def reset(
        self, key: RunKey, booking_id: str, cash: Decimal, idempotency_key: IdempotencyKey | None
    ) -> ActionReport:
        """Start a new run with `cash`; the old one stays readable, its resting orders are cancelled.

        A halt that the drawdown of the old run led to ends with it; one by a person stays.
        """
        kind = ActionKind.RESET

        def change(connection: Connection, account: Account) -> ActionReport:
            before = standings.load_standing(connection, account)
            now = before.booked_at(self._clock.now())
            words = "A new run was started."
            ended = [
                replace(order, status=OrderStatus.CANCELED, reason_code="run_ended", reason=words, closed_at=now)
                for order in before.orders
            ]
            standings.save_orders(connection, account, before, ended)
            opened = opening.open_run(connection, key, account.run.generation + 1, cash, now)
            if before.halt is not None and before.halt.reason_code == MAX_DRAWDOWN:
                newest = standings.get_account(connection, key)
                standings.save_halt(connection, newest, "reset", words, now, is_halted=False)
            reason = f"{words} It is {opened.run.id}."
            return ActionReport(booking_id, kind, opened.run.id, now, "reset", reason, tuple(ended))

        request = _Request(booking_id, kind, {"cash": to_plain(cash)}, idempotency_key)
        return await self._run(key, request, change)

    async def set_halt(self, key: RunKey, booking_id: str, reason: str, *, is_halted: bool) -> ActionReport:
        """Halt or resume the runs of `key`; doing it twice changes nothing more."""
        kind = ActionKind.HALT if is_halted else ActionKind.RESUME

        def change(connection: Connection, account: Account) -> ActionReport:
            before = standings.load_standing(connection, account)
            now, halt = before.booked_at(self._clock.now()), before.halt
            if is_halted and halt is not None and halt.reason_code == _HALTED:
                return ActionReport(booking_id, kind, account.run.id, now, ALREADY_HALTED, halt.reason)
            if not is_halted and halt is None:
                return ActionReport(booking_id, kind, account.run.id, now, NOT_HALTED, "Trading was not halted.")
            if not is_halted and standings.was_halted_by(connection, key, MAX_DRAWDOWN):
                _forget_peak(connection, account, before.snapshot)
            code = _HALTED if is_halted else "resumed"
            standings.save_halt(connection, account, code, reason, now, is_halted=is_halted)
            return ActionReport(booking_id, kind, account.run.id, now, code, reason)

        return await self._run(key, _Request(booking_id, kind, {"reason": reason}), change)

    def _now(self, connection: Connection, account: Account) -> datetime:
        return standings.load_standing(connection, account).booked_at(self._clock.now())

    async def _run(self, key: RunKey, request: _Request, change: _Change) -> ActionReport:
        def job(connection: Connection) -> ActionReport:
            standings.lock_key(connection, key)
            if request.key is not None and (earlier := _find_replay(connection, request.key)) is not None:
                return earlier
            account = standings.get_account(connection, key)
            report = change(connection, account)
            document = canonical({"request": to_plain(request.words), "report": to_plain(report)})
            number = bookings.save_record(connection, account, request.kind.value, None, document, "")
            if request.key is not None:
                idempotency.keep_result(connection, request.key, KeyedResult(record_number=number), report.at)
            events.append(connection, account.id, tell_action(report))
            return report

        report = await self._database.write(job)
        self._on_booked()
        return report


def _cancel(connection: Connection, account: Account, order_id: str, now: datetime) -> Order:
    before = standings.load_standing(connection, account)
    order = next((one for one in before.orders if one.id == order_id), None)
    if order is None:
        if not is_plain(order_id) or standings.find_order(connection, account.run.key, order_id) is None:
            raise NotFoundError("There is no order with this id.", code="order_not_found")
        raise ConflictError("The order does not rest any more; nothing was changed.", code="order_ended")
    if order.origin is Origin.LIQUIDATION:
        raise ConflictError(
            "The liquidation of a short cannot be cancelled; close the position instead.", code="order_required"
        )
    words = "It was cancelled on request."
    ended = replace(order, status=OrderStatus.CANCELED, reason_code="canceled", reason=words, closed_at=now)
    standings.save_orders(connection, account, before, (ended,))
    return ended


def _forget_peak(connection: Connection, account: Account, newest: Snapshot) -> None:
    """Let the drawdown count from now on; else a resumed account would be halted again at once."""
    if newest.equity < newest.peak_equity:
        last = bookings.find_last_trade(connection, account)
        standings.save_snapshot(connection, account, replace(newest, peak_equity=newest.equity), last_trade_id=last)


def _find_replay(connection: Connection, key: IdempotencyKey) -> ActionReport | None:
    result = idempotency.find_result(connection, key)
    if result is None:
        return None
    if result.record_number is None:
        raise idempotency.reused()
    statement = select(records.c.document).where(records.c.number == result.record_number)
    report: ActionReport = from_plain(ActionReport, json.loads(connection.execute(statement).scalar_one())["report"])
    return report
