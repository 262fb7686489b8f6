"""What happens, in the words in which it is told afterwards: the event log, its file and its stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum


class EventType(StrEnum):
    """Everything that is told of."""

    CYCLE_COMPLETED = "cycle.completed"
    CYCLE_REFUSED = "cycle.refused"
    ORDER_PLACED = "order.placed"
    ORDER_FILLED = "order.filled"
    ORDER_REJECTED = "order.rejected"
    ORDER_CANCELED = "order.canceled"
    ORDER_EXPIRED = "order.expired"
    TRADE_FILLED = "trade.filled"
    TRADING_HALTED = "trading.halted"
    TRADING_RESUMED = "trading.resumed"
    PORTFOLIO_RESET = "portfolio.reset"
    BOOKS_MISMATCH = "books.mismatch"
    MODEL_ACTIVATED = "model.activated"
    SERVICE_STARTED = "service.started"
    SERVICE_STOPPED = "service.stopped"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Args:
        at: When, aware UTC.
        type: What.
        message: A sentence for people.
        tags: Words to search for.
        symbol: The market it is about, where it is about one.
        action: BUY, SELL, HOLD or another verb, where there is one.
        cycle_id: The cycle it happened in, where it did in one.
        data: What else there is to know, as plain JSON; money in strings.
        sequence: Its place in the log, counted from 1; 0 before it is there.
    """

    at: datetime
    type: EventType
    message: str
    tags: tuple[str, ...] = ()
    symbol: str | None = None
    action: str | None = None
    cycle_id: str | None = None
    data: Mapping[str, object] = field(default_factory=dict)
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events are asked for; None is any. `since` is aware UTC, and an event of that very moment counts."""

    type: EventType | None = None
    symbol: str | None = None
    since: datetime | None = None


def to_document(event: Event) -> dict[str, object]:
    """The event as plain JSON, the same in the file, the stream and the terminal.

    >>> told = Event(datetime(2026, 11, 21, tzinfo=UTC), EventType.TRADING_HALTED, "Halted.", sequence=7)
    >>> to_document(told)["at"], to_document(told)["sequence"]
    ('2026-11-21T00:00:00.000Z', 7)
    """
    return {
        "sequence": event.sequence,
        "at": event.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "type": event.type.value,
        "tags": list(event.tags),
        "symbol": event.symbol,
        "action": event.action,
        "cycle_id": event.cycle_id,
        "message": event.message,
        "data": dict(event.data),
    }
