"""Candles and the intervals they span."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

_UNIT_SECONDS = {"m": 60, "h": 3_600, "d": 86_400}
_MILLISECOND = timedelta(milliseconds=1)


class Interval(StrEnum):
    """How much time one candle spans; the value is the exchange's own spelling.

    Seconds, weeks and months are left out: their candles do not start on whole multiples of their length
    since the epoch, or are of no fixed length.
    """

    M1 = "1m"
    M3 = "3m"
    M5 = "5m"
    M15 = "15m"
    M30 = "30m"
    H1 = "1h"
    H2 = "2h"
    H4 = "4h"
    H6 = "6h"
    H8 = "8h"
    H12 = "12h"
    D1 = "1d"

    @property
    def duration(self) -> timedelta:
        """The length of one candle."""
        return _DURATIONS[self]

    @property
    def milliseconds(self) -> int:
        """The length of one candle in whole milliseconds."""
        return _DURATIONS[self] // _MILLISECOND


_DURATIONS = {one: timedelta(seconds=int(one.value[:-1]) * _UNIT_SECONDS[one.value[-1]]) for one in Interval}


@dataclass(frozen=True, slots=True)
class Candle:
    """One closed candle: prices in quote units, volume in base units, times in aware UTC.

    `close_time` is the last millisecond that belongs to the candle, as Binance counts it.
    """

    open_time: datetime
    close_time: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
