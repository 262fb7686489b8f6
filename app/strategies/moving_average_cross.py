"""BUY when the fast moving average of the closes rises above the slow one, SELL when it falls below."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from app.domain.money import LARGEST, UNITS
from app.strategies.rules import Parameter, Rule, Values
from app.strategies.signals import SignalCodes
from ml.bars import Bars, FloatArray, IntegerArray

_COMPILED_BARS = 50_000
"""From how many bars on a second of compiling pays."""

_FAST = Parameter("fast_bars", "integer", 1, 500, 10, 1, "How many closes the fast average is of.")
_SLOW = Parameter("slow_bars", "integer", 2, 900, 50, 1, "How many closes the slow average is of; more than the fast.")


def add_up_closes(close: FloatArray, sums: Any) -> None:  # noqa: ANN401 - a list, or an array that numba compiles
    """Write the sums of all closes before each bar, in 1e-8 quote units, shape (n_bars,) to (n_bars + 1,).

    Compiled, they wrap around 64 bits; differences of two are right all the same.
    """
    total = 0
    sums[0] = 0
    for bar in range(len(close)):
        total += int(np.rint(close[bar] * UNITS))
        sums[bar + 1] = total


def mark_crosses(sums: Any, edges: IntegerArray, fast_bars: int, slow_bars: int, signals: SignalCodes) -> None:  # noqa: ANN401
    """Write the signal after each bar: the numbers of SELL 0, HOLD 1, BUY 2 (`ml.labels`).

    Whole numbers decide, so that no value depends on where the series began: the sums of both windows, each times the
    length of the other. The first `slow_bars` of each run have no bar before them to cross from, and are HOLD.

    Args:
        sums: From `add_up_closes`, shape (n_bars + 1,).
        edges: Where the runs of bars without a gap begin, then the number of bars.
        fast_bars: From 1 on.
        slow_bars: More than `fast_bars`.
        signals: Written over, shape (n_bars,).
    """
    for run in range(len(edges) - 1):
        first, stop = edges[run], edges[run + 1]
        signals[first : min(first + slow_bars, stop)] = 1
        if stop - first <= slow_bars:
            continue
        # Slices of one length, so that the compiled loop checks no bounds and does many bars at once.
        newest = sums[first + slow_bars : stop + 1]
        before_fast = sums[first + slow_bars - fast_bars : stop + 1 - fast_bars]
        before_slow = sums[first : stop + 1 - slow_bars]
        said = signals[first + slow_bars : stop]
        was = (newest[0] - before_fast[0]) * slow_bars - (newest[0] - before_slow[0]) * fast_bars
        for bar in range(len(said)):
            new = newest[bar + 1]
            ahead = (new - before_fast[bar + 1]) * slow_bars - (new - before_slow[bar + 1]) * fast_bars
            said[bar] = 1 + ((ahead > 0) & (was <= 0)) - ((ahead < 0) & (was >= 0))
            was = ahead


@lru_cache(maxsize=1)
def compile_kernels() -> tuple[Callable[..., None], Callable[..., None]]:
    """`add_up_closes` and `mark_crosses`, compiled; they take arrays only, and hold no lock while they run."""
    import numba  # noqa: PLC0415 - a second that only many bars repay

    return numba.njit(add_up_closes, nogil=True), numba.njit(mark_crosses, nogil=True)


class _Crosses:
    """Says where averages of some closes cross; what it adds up of them is the same for all lengths."""

    def __init__(self, bars: Bars, edges: IntegerArray) -> None:
        self._close, self._edges = bars.close, edges

    def __call__(self, values: Values) -> SignalCodes:
        lengths = int(values["fast_bars"]), int(values["slow_bars"])
        signals = np.empty(len(self._close), dtype=np.int8)
        if len(signals) >= _COMPILED_BARS and self._largest * lengths[0] * lengths[1] < LARGEST / 2:
            compile_kernels()[1](self._sums, self._edges, *lengths, signals)
        else:
            mark_crosses(self._exact_sums, self._edges, *lengths, signals)
        return signals

    @cached_property
    def _largest(self) -> float:
        """The largest close, in 1e-8 quote units: times both lengths it must fit what `mark_crosses` compares."""
        return float(self._close.max(initial=0.0)) * UNITS

    @cached_property
    def _sums(self) -> IntegerArray:
        sums = np.empty(len(self._close) + 1, dtype=np.int64)
        compile_kernels()[0](self._close, sums)
        return sums

    @cached_property
    def _exact_sums(self) -> list[int]:
        sums = [0] * (len(self._close) + 1)
        add_up_closes(self._close, sums)
        return sums


def _find_conflict(values: Values) -> str | None:
    if values["fast_bars"] < values["slow_bars"]:
        return None
    return f"fast_bars is {values['fast_bars']}; it must be less than slow_bars, which is {values['slow_bars']}."


MOVING_AVERAGE_CROSS = Rule(
    name="moving-average-cross",
    summary="Says BUY after a bar that takes the fast average of closes above the slow one, SELL below, else HOLD.",
    parameters=(_FAST, _SLOW),
    lookback=lambda values: int(values["slow_bars"]) + 1,
    find_signals=_Crosses,
    find_conflict=_find_conflict,
)
