"""vectorbt at the sweep of 1,000 pairs, some at a time: that fits in memory, and in the caches."""

from __future__ import annotations

from itertools import product
from typing import Any

import pandas as pd
import vectorbt as vbt

from benchmarks.peers import work
from benchmarks.peers.run_vectorbt import ENGINES, frame_of, run

AT_ONCE = 10  # of 10, 40, 100 and 250 the quickest, and all 1,000 do not fit


def run_all(opened: pd.Series, close: pd.Series) -> list[float]:
    found: list[float] = []
    pairs = list(product(work.SWEEP_FAST, work.SWEEP_SLOW))
    for begin in range(0, len(pairs), AT_ONCE):
        fast, slow = zip(*pairs[begin : begin + AT_ONCE], strict=True)
        found.extend(run(opened, close, list(fast), list(slow)).final_value())
    return found


def measure(candles: work.Candles, repeats: int) -> dict[str, Any]:
    opened, close = frame_of(candles)
    found = {}
    for name, engine in ENGINES.items():
        vbt.settings["engine"] = engine
        run(opened, close, [10, 11], [50, 50]).final_value()  # compiles
        first, best, equities = work.best_seconds(lambda: run_all(opened, close), repeats)
        found[name] = {
            "bars": len(equities) * len(close),
            "first_seconds": first,
            "seconds": min(first, best),
            "equities": equities,
        }
    return found


if __name__ == "__main__":
    work.main(measure)
