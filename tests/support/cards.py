"""Whole model cards for tests: one made by hand with numbers that are easy to find again, and one of a training."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ml.training import train
from tests.support.models import MINUTE_MS, walk_bars

NO_NUMBER = {"value": None, "low": None, "high": None}


def found(value: float, width: float) -> dict[str, float | None]:
    """A number with an interval as wide to both sides."""
    return {"value": value, "low": value - width, "high": value + width}


def make_competitor(place: int, *, log_loss: bool) -> dict[str, Any]:
    return {
        "log_loss": found(1.0 + place / 100, 0.05) if log_loss else NO_NUMBER,
        "brier": found(0.6 + place / 100, 0.02),
        "accuracy": found(0.5, 0.03),
        "balanced_accuracy": found(0.4, 0.01),
        "mcc": found(0.1 - place / 100, 0.04),
        "net_return_bps": found(0.25 - place / 10, 0.125),
        "turnover": found(0.02 + place / 1000, 0.001),
        "net_return": 0.12 - place / 100,
        "exposure": 0.5,
    }


def make_metrics(**changes: Any) -> dict[str, Any]:
    names = ("model", "class_prior", "always_hold", "last_label", "buy_and_hold", "random")
    metrics = {
        "rows": 4321,
        "class_counts": {"SELL": 1000, "HOLD": 2321, "BUY": 1000},
        "competitors": {name: make_competitor(place, log_loss=place < 2) for place, name in enumerate(names)},
        "skill": found(0.031, 0.01),
        "direction_skill": found(0.022, 0.01),
        "net_return_bps": found(0.25, 0.125),
        "calibration": {
            "error": found(0.034, 0.012),
            "bins": [
                {"stated": 0.36, "came_true": found(0.35, 0.04), "rows": 2160},
                {"stated": 0.52, "came_true": found(0.47, 0.05), "rows": 2161},
            ],
        },
        "gate": [
            {"confidence": 0.4, "coverage": found(0.61, 0.02), "stated": 0.47, "hit_rate": found(0.44, 0.03)},
            {"confidence": 0.375, "coverage": found(0.0, 0.0), "stated": None, "hit_rate": NO_NUMBER},
        ],
        "confusion": [[301, 502, 197], [300, 1700, 321], [205, 488, 307]],
        "verdict": {
            "p_log_loss": 0.0004,
            "p_direction": 0.0123,
            "p_net_return": 0.321,
            "candidates": 2,
            "significance": 0.025,
            "blocks": 87,
        },
        "edge": "statistical",
        "folds": 5,
        "embargo_ms": 60_000,
    }
    return metrics | changes


def make_whole_card(**changes: Any) -> dict[str, Any]:
    """A card as `ml.training.train` writes it."""
    card = {
        "card_version": 2,
        "model_id": "forest-binance-1m-20261121T010203Z-0123abcd",
        "trained_at": "2026-11-21T01:02:03+00:00",
        "source": "binance",
        "symbols": ["BTCUSDT", "ETHUSDT"],
        "interval": "1m",
        "label_rule": {"horizon_bars": 15, "threshold_percent": 0.3, "kind": "fixed", "volatility_multiple": 1.0},
        "window": {
            "first_open_time": "2026-11-01T00:00:00+00:00",
            "last_open_time": "2026-11-20T23:59:00+00:00",
            "taught_until_ms": 0,
            "candles": 9876,
            "rows": 9543,
            "gaps": 1,
            "largest_gaps": [{"symbol": "ETHUSDT", "after": "2026-11-07T12:00:00+00:00", "missing": 42}],
            "class_counts": {"SELL": 2000, "HOLD": 5543, "BUY": 2000},
        },
        "hyperparameters": {"trees": 100, "leaf_fraction": 0.02},
        "libraries": {"numpy": "2.4.6"},
        "calibration": {"method": "temperature", "direction": 0.5, "buy_share": 0.5, "beta": 1.25},
        "class_returns": {"SELL": -0.0042, "HOLD": 0.0, "BUY": 0.0043},
        "side_cost": 0.00051,
        "metrics": make_metrics(),
        "importances": [
            {"feature": "return_50", "log_loss_rise": 0.01234, "spread": 0.00056},
            {"feature": "time_sin", "log_loss_rise": -0.00021, "spread": 0.00011},
        ],
        "drift": {"reference": "for machines"},
        "comparison": {"champion": "forest-old", "rows": 777, "champion_log_loss": 1.0456, "log_loss": 1.0321},
        "warnings": ["The feature range_ratio never changes."],
        "classes": ["SELL", "HOLD", "BUY"],
    }
    return card | changes


def make_empty_card() -> dict[str, Any]:
    """A card on which nothing could be measured."""
    metrics = make_metrics(
        rows=0,
        class_counts={"SELL": 0, "HOLD": 0, "BUY": 0},
        competitors={},
        skill=NO_NUMBER,
        direction_skill=NO_NUMBER,
        net_return_bps=NO_NUMBER,
        calibration={"error": NO_NUMBER, "bins": []},
        gate=[],
        confusion=[],
        edge="none",
    )
    metrics["verdict"] |= {"p_log_loss": 1.0, "p_direction": 1.0, "p_net_return": 1.0, "blocks": 0}
    return make_whole_card(metrics=metrics, importances=[], comparison=None, warnings=[], symbols=[])


def train_card(folder: Path) -> dict[str, Any]:
    """The card of a real training on a short random walk."""
    request = {
        "folder": str(folder),
        "source": "simulated",
        "interval": "1m",
        "interval_ms": MINUTE_MS,
        "label_rule": {"horizon_bars": 5, "threshold_percent": 0.15},
        "forest": {"trees": 10},
        "min_confidence": 0.42,
        "fee_bps": 2.0,
        "slippage_bps": 3.0,
        "require_positive_return": False,
        "trained_at": datetime(2026, 11, 21, tzinfo=UTC).isoformat(),
        "candidates": 1,
        "champion": None,
        "backend": "loky",
    }
    path = train({"BTCUSDT": walk_bars(600)}, request, lambda _share, _words: None)
    card: dict[str, Any] = json.loads((path / "card.json").read_text())
    return card
