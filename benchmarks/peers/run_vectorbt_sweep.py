"""vectorbt at the sweep of 1,000 pairs, a slow span at a time so that it fits in memory."""

from __future__ import annotations

from typing import Any

import pandas as pd
import vectorbt as vbt

from benchmarks.peers import work
from benchmarks.peers.run_vectorbt import frame_of, run


def run_all(opened: pd.Series, close: pd.Series) -> dict[tuple[int, int], float]:
    found = {}
    for slow in work.SWEEP_SLOW:
        spans = list(work.SWEEP_FAST)
        equities = run(opened, close, spans, [slow] * len(spans)).final_value()
        found.update({(fast, slow): float(equity) for fast, equity in zip(spans, equities, strict=True)})
    return found


def measure(candles: work.Candles, repeats: int) -> dict[str, Any]:
    opened, close = frame_of(candles)
    found = {}
    for name, engine in (("numba", "numba"), ("rust", "auto")):
        vbt.settings["engine"] = engine
        run(opened, close, [10, 11], [50, 50])  # compiles
        first, best, equities = work.best_seconds(lambda: run_all(opened, close), repeats)
        found[name] = {
            "bars": len(close),
            "pairs": len(equities),
            "seconds": min(first, best),
            "equities": [equities[fast, slow] for fast in work.SWEEP_FAST for slow in work.SWEEP_SLOW],
            "version": vbt.__version__,
        }
    return found


if __name__ == "__main__":
    work.main(measure)
