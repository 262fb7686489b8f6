"""The common work of the side-by-side measurement, as peers and we do it; needs nothing but numpy.

SMA(10)/SMA(50) cross on 1-minute candles: all in when the fast average gets above the slow one, out when it gets
below, decided at a close, filled at the next open, with 2 bps fee and 3 bps slippage on every fill.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

FAST_BARS = 10
SLOW_BARS = 50
FEE = 2e-4
SLIPPAGE = 3e-4
# For a library without slippage, the one rate a side that costs a round trip exactly what the two do together:
# (1 - c) / (1 + c) = (1 - fee) (1 - slippage) / ((1 + fee) (1 + slippage)).
COST = (FEE + SLIPPAGE) / (1 + FEE * SLIPPAGE)
CASH = 10_000.0
PRICE_DIGITS = 2

# The sweep: 40 fast spans by 25 slow ones.
SWEEP_FAST = tuple(range(5, 45))
SWEEP_SLOW = tuple(range(50, 175, 5))

FloatArray = NDArray[np.float64]
_Run = TypeVar("_Run")


class Candles(NamedTuple):
    """1-minute candles, an array (n_bars,) a column: open times in ms since the epoch, prices in quote units."""

    open_time_ms: NDArray[np.int64]
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray

    def first(self, count: int) -> Candles:
        """The first `count` of them."""
        return Candles(self.open_time_ms[:count], *(column[:count] for column in self[1:]))


class Outcome(NamedTuple):
    """What an account came to: its equity at the last close in quote units, and how many fills took it there."""

    equity: float
    fills: int


def save_candles(path: Path, candles: Candles) -> None:
    np.savez(path, **candles._asdict())


def load_candles(path: Path) -> Candles:
    with np.load(path) as columns:
        return Candles(**columns)


def best_seconds(
    work: Callable[[], _Run], repeats: int, before: Callable[[], object] = lambda: None
) -> tuple[float, float, _Run]:
    """Time `work`, each time after `before`, which is not timed.

    Returns:
        The seconds of the first call, which may compile, those of the best of `repeats` calls after it, and what the
        last returned.
    """
    seconds = []
    for _ in range(repeats + 1):
        before()
        began = time.perf_counter()
        found = work()
        seconds.append(time.perf_counter() - began)
    return seconds[0], min(seconds[1:]), found


def main(measure: Callable[[Candles, int], dict[str, Any]]) -> None:
    """What a peer's script does: `python -m benchmarks.peers.run_x CANDLES.npz BARS REPEATS` prints JSON as its end."""
    path, bars, repeats = sys.argv[1:]
    candles = load_candles(Path(path)).first(int(bars))
    print(json.dumps(measure(candles, int(repeats))))


def report(bars: int, timing: tuple[float, float, Any], outcome: Outcome) -> dict[str, Any]:
    """What is printed of one way to do the work, from `best_seconds`."""
    first, best, _ = timing
    return {"bars": bars, "first_seconds": first, "seconds": best, **outcome._asdict()}
