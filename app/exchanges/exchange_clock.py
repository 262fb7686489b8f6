"""The exchange's own time, carried on by a clock that nobody sets."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from app.domain.ports import Clock

FRESH_SECONDS = 3_600.0


class ExchangeClock:
    """Knows the exchange's time from one measurement and the seconds that passed since.

    Args:
        clock: The machine's clock; it only serves to say how far off it is.
        monotonic: Seconds that never go back or jump, whatever happens to the machine's clock.
    """

    def __init__(self, clock: Clock, monotonic: Callable[[], float]) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._anchor: tuple[float, datetime] | None = None

    @property
    def is_fresh(self) -> bool:
        """Whether the last measurement is less than an hour old."""
        return self._anchor is not None and self._monotonic() - self._anchor[0] < FRESH_SECONDS

    @property
    def skew_seconds(self) -> float | None:
        """How far the machine's clock is ahead of the exchange's (negative: behind); None before a measurement."""
        if self._anchor is None:
            return None
        return (self._clock.now() - self.at(self._monotonic())).total_seconds()

    def set(self, exchange_time: datetime, sent: float, received: float) -> None:
        """Take over a measurement: the exchange said `exchange_time` halfway between two monotonic instants."""
        self._anchor = ((sent + received) / 2, exchange_time)

    def at(self, instant: float) -> datetime:
        """The exchange's time at a monotonic instant; the machine's own before the first measurement."""
        if self._anchor is None:
            return self._clock.now() + timedelta(seconds=instant - self._monotonic())
        return self._anchor[1] + timedelta(seconds=instant - self._anchor[0])
