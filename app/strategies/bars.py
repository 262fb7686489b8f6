"""Candles of the domain as the arrays that `ml` computes with."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from app.domain.candle import Candle
from ml.bars import Bars

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def bars_from_candles(candles: Sequence[Candle]) -> Bars:
    """The same candles, in the same order, as arrays; prices become the nearest 64-bit floats."""
    return Bars.from_rows(
        [
            (
                (candle.open_time - _EPOCH) // _MILLISECOND,
                float(candle.open),
                float(candle.high),
                float(candle.low),
                float(candle.close),
                float(candle.volume),
            )
            for candle in candles
        ]
    )
