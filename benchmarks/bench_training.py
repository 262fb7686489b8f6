"""Features against pandas, and whole trainings with their evaluation: python -m benchmarks.bench_training."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from ml.bars import Bars, FloatArray
from ml.features import FEATURE_NAMES, LOOKBACK_BARS, compute_features

MANY_BARS = 1_000_000
_TRAIN = """
import sys
from ml.training import train
from tests.support.models import walk_bars
request = {
    "folder": sys.argv[2], "source": "simulated", "interval": "1m", "interval_ms": 60_000, "forest": {},
    "label_rule": {"horizon_bars": 60, "threshold_percent": 0.5}, "min_confidence": 0.45, "fee_bps": 2.0,
    "slippage_bps": 3.0, "require_positive_return": True, "trained_at": "2030-01-01T00:00:00+00:00",
    "candidates": 1, "backend": "loky", "champion": None,
}
train({"BTCUSDT": walk_bars(int(sys.argv[1]), 1)}, request, lambda _share, _words: None)
"""


def made_bars(count: int) -> Bars:
    random = np.random.default_rng(3)
    close = 100.0 * np.exp(np.cumsum(0.001 * random.standard_normal(count)))
    opened = np.concatenate(([100.0], close[:-1]))
    high, low = np.maximum(opened, close) * 1.0003, np.minimum(opened, close) * 0.9997
    times = 60_000 * np.arange(count, dtype=np.int64)
    return Bars(times, opened, high, low, close, np.floor(10 * random.random(count)))


def compute_by_pandas(bars: Bars) -> pd.DataFrame:
    """The same features as `ml.features`, by rolling windows."""
    frame = pd.DataFrame({"high": bars.high, "low": bars.low, "close": bars.close, "volume": bars.volume})
    close, volume = frame["close"], frame["volume"]
    moves, returns, spread = close.diff(), close.pct_change(), frame["high"] - frame["low"]
    highest, lowest = frame["high"].rolling(50).max(), frame["low"].rolling(50).min()
    minutes = pd.Series(bars.open_time_ms // 60_000 % 1_440)
    columns = {f"return_{span}": close / close.shift(span) - 1 for span in (1, 5, 15, 50)}
    columns["distance_from_mean_50"] = close / close.rolling(50).mean() - 1
    columns["channel_position_50"] = ((close - lowest) / (highest - lowest)).fillna(0.5)
    columns["rsi_14"] = (moves.clip(lower=0).rolling(14).sum() / moves.abs().rolling(14).sum()).fillna(0.5)
    columns["volatility_15"] = (returns**2).rolling(15).mean() ** 0.5
    columns["volatility_50"] = (returns**2).rolling(50).mean() ** 0.5
    columns["range_ratio"] = (spread.rolling(5).mean() / spread.rolling(50).mean()).fillna(1)
    columns["relative_volume"] = (volume.rolling(5).mean() / volume.rolling(50).mean()).fillna(1)
    signed = np.sign(moves) * volume
    columns["volume_balance_15"] = (signed.rolling(15).sum() / volume.rolling(15).sum()).fillna(0)
    columns["time_sin"] = np.sin(2 * np.pi * minutes / 1_440)
    columns["time_cos"] = np.cos(2 * np.pi * minutes / 1_440)
    return pd.DataFrame(columns)[list(FEATURE_NAMES)]


def measure_features() -> float:
    """How many times as fast the features of a million candles are as by pandas, equal to 1e-6."""
    bars = made_bars(MANY_BARS)
    ratios: list[float] = []
    for _ in range(3):
        began = time.perf_counter()
        theirs: FloatArray = compute_by_pandas(bars).to_numpy()
        between = time.perf_counter()
        ours = compute_features(bars)
        ended = time.perf_counter()
        ratios.append((between - began) / (ended - between))
    assert np.nanmax(np.abs(theirs - ours)[LOOKBACK_BARS:]) < 1e-6
    print(f"  pandas {between - began:.2f} s, ours {ended - between:.2f} s (last round)")
    return sorted(ratios)[1]


def measure_training(candles: int) -> float:
    """Seconds of a whole training with its evaluation, in a process of its own, as the service does it."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        root = Path(__file__).parents[1]
        subprocess.run([sys.executable, "-c", _TRAIN, str(candles), folder], check=True, cwd=root)
        return time.perf_counter() - began


if __name__ == "__main__":
    print(f"features of a million candles: {measure_features():.1f} times as fast as pandas")
    for size in (500, 50_000):
        print(f"training on {size:,} candles: {measure_training(size):.1f} s")
