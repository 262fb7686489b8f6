"""Where the time comes from: the machine, or a test and a demo that set it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class SystemClock:
    """This machine's clock."""

    def now(self) -> datetime:
        """The present moment, aware UTC."""
        return datetime.now(UTC)


class SimulatedClock:
    """A clock that stands still until it is moved.

    Args:
        start: Where it starts, aware UTC.
    """

    def __init__(self, start: datetime) -> None:
        self._now = start

    def now(self) -> datetime:
        """The moment the clock was moved to last."""
        return self._now

    def advance(self, step: timedelta) -> None:
        """Move the clock forward by `step`."""
        self._now += step
