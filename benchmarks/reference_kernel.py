"""The speed reference: the common work in bare floats, without books: python -m benchmarks.reference_kernel."""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from benchmarks.market import made_candles
from benchmarks.peers.work import (
    CASH,
    FAST_BARS,
    FEE,
    SLIPPAGE,
    SLOW_BARS,
    SWEEP_FAST,
    SWEEP_SLOW,
    FloatArray,
    Outcome,
    best_seconds,
)


@njit(nogil=True)
def run_kernel(opened: FloatArray, close: FloatArray, fast_bars: int, slow_bars: int) -> tuple[float, int]:
    """The equity at the last close, in quote units, and how many fills led to it."""
    buying, selling = (1 + SLIPPAGE) * (1 + FEE), (1 - SLIPPAGE) * (1 - FEE)
    cash, quantity, fills = CASH, 0.0, 0
    fast, slow = 0.0, 0.0
    for bar in range(slow_bars - 1):
        slow += close[bar]
    for bar in range(slow_bars - fast_bars, slow_bars - 1):
        fast += close[bar]
    was_above = True  # a cross needs a bar before it
    for bar in range(slow_bars - 1, len(close) - 1):
        slow += close[bar]
        fast += close[bar]
        is_above = fast * slow_bars > slow * fast_bars
        if is_above != was_above:
            if is_above:
                quantity, cash = cash / (opened[bar + 1] * buying), 0.0
                fills += 1
            elif quantity > 0:
                cash, quantity = quantity * opened[bar + 1] * selling, 0.0
                fills += 1
            was_above = is_above
        slow -= close[bar + 1 - slow_bars]
        fast -= close[bar + 1 - fast_bars]
    return cash + quantity * close[-1], fills


@njit(nogil=True, parallel=True)
def run_sweep(opened: FloatArray, close: FloatArray, pairs: NDArray[np.int64]) -> FloatArray:
    """The equity that each row (fast, slow) of `pairs` (n_pairs, 2) ends with, in quote units, on all cores."""
    equities = np.empty(len(pairs))
    for index in prange(len(pairs)):
        equities[index] = run_kernel(opened, close, pairs[index, 0], pairs[index, 1])[0]
    return equities


def sweep_pairs() -> NDArray[np.int64]:
    """The 1,000 pairs of the sweep (n_pairs, 2)."""
    return np.array([(fast, slow) for fast in SWEEP_FAST for slow in SWEEP_SLOW], dtype=np.int64)


def measure_kernel(opened: FloatArray, close: FloatArray, repeats: int = 20) -> tuple[float, Outcome]:
    """Bars a second of one core, and what the account came to."""
    _, seconds, found = best_seconds(lambda: run_kernel(opened, close, FAST_BARS, SLOW_BARS), repeats)
    return len(close) / seconds, Outcome(*found)


def measure_sweep(opened: FloatArray, close: FloatArray, repeats: int = 5) -> tuple[float, FloatArray]:
    """Seconds of the sweep on all cores, and what each pair came to."""
    pairs = sweep_pairs()
    _, seconds, equities = best_seconds(lambda: run_sweep(opened, close, pairs), repeats)
    return seconds, equities


if __name__ == "__main__":
    candles = made_candles(1_000_000)
    rate, outcome = measure_kernel(candles.open, candles.close)
    print(f"kernel: {rate / 1e6:,.0f} million bars a second, {outcome}")
    candles = candles.first(100_000)
    print(f"sweep of 1,000 pairs over 100,000 bars: {measure_sweep(candles.open, candles.close)[0]:.3f} s")
