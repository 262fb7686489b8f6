"""The rule that every other has to beat: buy, and keep what was bought."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from app.strategies.rules import Rule, Values
from app.strategies.signals import SignalCodes
from ml.bars import Bars, IntegerArray
from ml.labels import BUY


def _find_signals(bars: Bars, _edges: IntegerArray) -> Callable[[Values], SignalCodes]:
    return lambda _values: np.full(len(bars), BUY, dtype=np.int8)


BUY_AND_HOLD = Rule(
    name="buy-and-hold",
    summary="Says BUY after every bar and never SELL: an entry that is refused is tried again, and kept once made.",
    parameters=(),
    lookback=lambda _values: 1,
    find_signals=_find_signals,
)
