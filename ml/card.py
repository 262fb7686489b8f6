"""What a model's card tells of the candles that taught it, of its libraries, and of what its user must know."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import sklearn

from ml.bars import Bars, find_segments
from ml.evaluation import LEAST_BLOCKS
from ml.features import FEATURE_NAMES
from ml.forest import Rows
from ml.labels import CLASSES


def name_libraries() -> dict[str, str]:
    """The versions of what a training's numbers depend on."""
    return {"python": platform.python_version(), "numpy": np.__version__, "scikit-learn": sklearn.__version__}


def describe_window(history: Mapping[str, Bars], interval_ms: int, rows: Rows) -> dict[str, Any]:
    """Which candles taught: from when to when, how many, and where some were missing."""
    gaps: list[dict[str, Any]] = [
        {"symbol": symbol, "after": _iso(int(bars.open_time_ms[end - 1])), "missing": _missing(bars, end, interval_ms)}
        for symbol, bars in history.items()
        for end in (segment.stop for segment in find_segments(bars.open_time_ms, interval_ms)[:-1])
    ]
    counts = np.bincount(rows.labels, minlength=len(CLASSES)).tolist()
    return {
        "first_open_time": _iso(min(int(bars.open_time_ms[0]) for bars in history.values())),
        "last_open_time": _iso(max(int(bars.open_time_ms[-1]) for bars in history.values())),
        "taught_until_ms": int(rows.settled_at.max()),
        "candles": sum(len(bars) for bars in history.values()),
        "rows": len(rows),
        "gaps": len(gaps),
        "largest_gaps": sorted(gaps, key=lambda gap: -gap["missing"])[:10],
        "class_counts": dict(zip(CLASSES, counts, strict=True)),
    }


def _missing(bars: Bars, end: int, interval_ms: int) -> int:
    return int(bars.open_time_ms[end] - bars.open_time_ms[end - 1]) // interval_ms - 1


def _iso(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1_000, UTC).isoformat()


def list_warnings(rows: Rows, metrics: dict[str, Any]) -> list[str]:
    """What a user must know of a model before trusting it, in whole sentences."""
    warnings = [
        f"The feature {name} never changes."
        for name, spread in zip(FEATURE_NAMES, np.ptp(rows.features, axis=0), strict=True)
        if spread == 0
    ]
    counts = np.bincount(rows.labels, minlength=len(CLASSES))
    warnings += [f"No candle is {name}." for name, count in zip(CLASSES, counts, strict=True) if count == 0]
    if metrics["verdict"]["blocks"] < LEAST_BLOCKS:
        warnings.append(
            f"The {metrics['rows']:,} rows out of sample are {metrics['verdict']['blocks']} independent blocks: "
            "too few to claim anything."
        )
    if metrics["edge"] == "none":
        warnings.append("No edge: out of sample the model does not tell BUY from SELL better than chance.")
    elif metrics["edge"] == "statistical":
        warnings.append("The edge is statistical only: after fee and slippage it has not been shown to earn anything.")
    error = metrics["calibration"]["error"]
    if error["low"] is not None and error["low"] > 0.05:
        warnings.append(f"Stated confidence was off by {error['value']:.1%} on average.")
    return warnings
