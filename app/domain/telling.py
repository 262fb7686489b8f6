"""What the event log is told of cycles and of what people do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from app.domain.action import ALREADY_HALTED, NOT_HALTED, ActionKind, ActionReport
from app.domain.cycle import CycleReport, CycleStatus, Trade
from app.domain.events import Event, EventType
from app.domain.order import Order, OrderKind, OrderStatus
from app.domain.record import to_plain
from app.domain.standing import Halt

_ENDS = {
    OrderStatus.NEW: EventType.ORDER_PLACED,
    OrderStatus.FILLED: EventType.ORDER_FILLED,
    OrderStatus.REJECTED: EventType.ORDER_REJECTED,
    OrderStatus.CANCELED: EventType.ORDER_CANCELED,
    OrderStatus.EXPIRED: EventType.ORDER_EXPIRED,
}
_ACTIONS = {
    ActionKind.RESET: EventType.PORTFOLIO_RESET,
    ActionKind.HALT: EventType.TRADING_HALTED,
    ActionKind.RESUME: EventType.TRADING_RESUMED,
}


def tell_cycle(report: CycleReport, halt: Halt | None = None) -> list[Event]:
    """The events of a cycle: that it ended, what it filled, what became of resting orders, and a halt it led to."""
    execution = report.execution
    action = report.decision.action.value if report.decision else None
    kind = EventType.CYCLE_COMPLETED if report.status is CycleStatus.COMPLETED else EventType.CYCLE_REFUSED
    code = execution.reason_code if execution else report.reason_code
    told = [
        Event(
            at=report.finished_at,
            type=kind,
            message=(execution.reason if execution else report.reason) or "",
            tags=(code,) if code else (),
            symbol=report.symbol,
            action=action,
            cycle_id=report.id,
        )
    ]
    told += _tell_bookings(report.orders, report.fills, report.finished_at, report.id)
    if halt is not None:
        told.append(Event(halt.at, EventType.TRADING_HALTED, halt.reason, (halt.reason_code,), cycle_id=report.id))
    return told


def tell_action(report: ActionReport) -> list[Event]:
    """The events of what a person did."""
    told = list(_tell_bookings(report.orders, report.fills, report.at, None))
    if report.kind in _ACTIONS and report.reason_code not in (ALREADY_HALTED, NOT_HALTED):
        told.append(Event(report.at, _ACTIONS[report.kind], report.reason, (report.reason_code,)))
    return told


def _tell_bookings(
    orders: Sequence[Order], fills: Sequence[Trade], at: datetime, cycle_id: str | None
) -> Iterator[Event]:
    for trade in fills:
        yield Event(
            at=at,
            type=EventType.TRADE_FILLED,
            message=trade.reason,
            tags=(trade.origin.value,),
            symbol=trade.symbol,
            action=trade.side.value,
            cycle_id=cycle_id,
            data={
                "trade_id": trade.id,
                **{name: to_plain(getattr(trade, name)) for name in ("quantity", "price", "fee")},
            },
        )
    for order in orders:
        if order.kind is OrderKind.MARKET and order.status is OrderStatus.FILLED:
            continue  # its fill has been told
        if order.status is OrderStatus.NEW and order.filled_quantity:
            continue  # the same, and that it was placed, too
        yield Event(
            at=at,
            type=_ENDS[order.status],
            message=order.reason
            or f"{order.kind} {order.side} of {to_plain(order.quantity)} at {to_plain(order.price)}.",
            tags=(order.origin.value, *((order.reason_code,) if order.reason_code else ())),
            symbol=order.symbol,
            action=order.side.value,
            cycle_id=cycle_id,
            data={"order_id": order.id},
        )
