"""Bars and models for tests: random walks, small forests, and bundles of them."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ml.bars import Bars, FloatArray
from ml.bundle import save_bundle
from ml.calibration import Calibration
from ml.drift import make_reference
from ml.features import FEATURE_NAMES, LOOKBACK_BARS, compute_features
from ml.labels import LabelRule
from ml.predictor import ForestArrays

MINUTE_MS = 60_000
TRAINED_AT = datetime(2026, 11, 21, 1, 2, 3, tzinfo=UTC)
N_FEATURES = len(FEATURE_NAMES)


def walk_bars(bars: int, seed: int = 0, first_open_time_ms: int = 0) -> Bars:
    """A random walk without any pattern, one candle a minute."""
    random = np.random.default_rng(seed)
    price = 100.0 * np.exp(np.cumsum(0.001 * random.standard_normal(bars + 1)))
    opened, close = price[:-1], price[1:]
    wick = 1.0 + 0.0005 * random.random(bars)
    return Bars(
        first_open_time_ms + MINUTE_MS * np.arange(bars, dtype=np.int64),
        opened,
        np.maximum(opened, close) * wick,
        np.minimum(opened, close) / wick,
        close,
        np.floor(10 * random.random(bars)),
    )


def stump(left: tuple[float, float, float], right: tuple[float, float, float], threshold: float = 0.0) -> ForestArrays:
    """One tree with one question: is the first feature at most `threshold`? Shares in the order of `CLASSES`."""
    return ForestArrays(
        roots=np.array([0]),
        feature=np.array([0, 0, 0]),
        threshold=np.array([threshold, 0.0, 0.0]),
        children=np.array([[1, 2], [1, 1], [2, 2]]),
        missing_right=np.array([1, 0, 0]),
        probabilities=np.array([[0.0, 1.0, 0.0], left, right]),
        depth=1,
    )


def estimate(value: float) -> dict[str, float]:
    """A number of a card with an interval around it."""
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


def walk_features() -> FloatArray:
    """The features of a short random walk."""
    return compute_features(walk_bars(300))[LOOKBACK_BARS - 1 :]


def make_card(**changes: Any) -> dict[str, Any]:
    """What a training tells of a model, before `save_bundle` adds its part."""
    card = {
        "source": "simulated",
        "symbols": ["BTCUSDT"],
        "interval": "1m",
        "label_rule": asdict(LabelRule(5, 0.1)),
        "window": {"rows": 1, "taught_until_ms": 0},
        "forest": {"class_weight": "none", "calibration": "temperature"},
        "hyperparameters": {"trees": 1},
        "calibration": Calibration().as_card(),
        "class_returns": {"SELL": -0.002, "HOLD": 0.0, "BUY": 0.002},
        "side_cost": 0.0005,
        "libraries": {"numpy": np.__version__},
        "metrics": {"edge": "none", "skill": estimate(0.5), "direction_skill": estimate(0.1)},
        "comparison": None,
        "drift": make_reference(walk_features(), np.tile((0.2, 0.6, 0.2), (len(walk_features()), 1))),
        "warnings": [],
    }
    return card | changes


def write_bundle(
    folder: Path, arrays: ForestArrays | None = None, trained_at: datetime = TRAINED_AT, **card: Any
) -> Path:
    """A bundle of `arrays` (a stump when None) in `folder`; returns its path."""
    return save_bundle(folder, arrays or stump((0.7, 0.2, 0.1), (0.1, 0.2, 0.7)), make_card(**card), trained_at)


def registered_card(model_id: str, **changes: Any) -> dict[str, Any]:
    """A whole card, as the registry keeps it, of a model that needs no folder."""
    added = {"model_id": model_id, "trained_at": TRAINED_AT.isoformat(), "sha256": f"{len(model_id):064d}"}
    return make_card(**added) | changes
