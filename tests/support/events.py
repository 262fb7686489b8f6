"""Events for tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from app.domain.events import Event, EventType

BEGIN = datetime(2026, 11, 21, tzinfo=UTC)


def make_event(
    index: int = 0, kind: EventType = EventType.TRADE_FILLED, symbol: str | None = "BTCUSDT", message: str = ""
) -> Event:
    """The event of second `index`; its message is that number, unless another is given."""
    return Event(BEGIN + timedelta(seconds=index), kind, message or str(index), ("trade",), symbol, "BUY")


def make_events(count: int) -> list[Event]:
    """`count` events, a second apart."""
    return [make_event(index) for index in range(count)]
