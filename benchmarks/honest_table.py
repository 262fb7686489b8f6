"""What the model knows of a real market: python -m benchmarks.honest_table FOLDER, with BTCUSDT-1m.parquet and so on.

The files have the columns open_time (milliseconds, UTC), open, high, low, close and volume. Everything is trained and
judged as the service does it: walk-forward, purged, embargoed, calibrated, beside the shares of the classes.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from ml.bars import Bars
from ml.training import train

ROWS = (
    ("1m", 60_000, {"kind": "fixed", "horizon_bars": 60, "threshold_percent": 0.5}),
    ("1m", 60_000, {"kind": "volatility", "horizon_bars": 5, "threshold_percent": 0.5}),
    ("15m", 900_000, {"kind": "triple_barrier", "horizon_bars": 16, "threshold_percent": 0.5}),
    ("1h", 3_600_000, {"kind": "triple_barrier", "horizon_bars": 24, "threshold_percent": 0.5}),
)


def load(path: Path) -> Bars:
    frame = pd.read_parquet(path)
    prices = (frame[name].to_numpy(dtype="float64") for name in ("open", "high", "low", "close", "volume"))
    return Bars(frame["open_time"].to_numpy(dtype="int64"), *prices)


def judge(bars: Bars, interval: str, interval_ms: int, rule: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        request = {
            "folder": folder,
            "source": "binance",
            "interval": interval,
            "interval_ms": interval_ms,
            "label_rule": rule,
            "forest": {},
            "min_confidence": 0.45,
            "fee_bps": 2.0,
            "slippage_bps": 3.0,
            "require_positive_return": True,
            "trained_at": "2030-01-01T00:00:00+00:00",
            "candidates": len(ROWS),
            "backend": "loky",
            "champion": None,
        }
        path = train({"BTCUSDT": bars}, request, lambda _share, _words: None)
        metrics: dict[str, Any] = json.loads((path / "card.json").read_text())["metrics"]
        return metrics


def show(estimate: dict[str, float], scale: float, unit: str) -> str:
    return f"{scale * estimate['value']:+.2f}{unit} [{scale * estimate['low']:+.2f}, {scale * estimate['high']:+.2f}]"


def main(folder: Path) -> None:
    print("| candles | label | judged on | skill | of it direction | calibration error | gate lets pass | edge |")
    print("|---|---|---|---|---|---|---|---|")
    for interval, interval_ms, rule in ROWS:
        metrics = judge(load(folder / f"BTCUSDT-{interval}.parquet"), interval, interval_ms, rule)
        gate = next(line for line in metrics["gate"] if line["confidence"] == 0.45)
        print(
            f"| {interval} | {rule['kind']}, {rule['horizon_bars']} ahead | {metrics['rows']:,} "
            f"| {show(metrics['skill'], 100, ' %')} | {show(metrics['direction_skill'], 100, ' %')} "
            f"| {metrics['calibration']['error']['value']:.3f} | {gate['coverage']['value']:.2%} | {metrics['edge']} |",
            flush=True,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
