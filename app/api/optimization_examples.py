"""Optimisations as the documentation shows them."""

from __future__ import annotations

from typing import Any

NEW_OPTIMIZATION: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "interval": "1h",
    "since": "2025-11-01T00:00:00Z",
    "until": "2026-11-01T00:00:00Z",
    "strategy": "moving-average-cross",
    "space": {"fast_bars": {"low": 5, "high": 50, "step": 5}, "slow_bars": {"low": 20, "high": 200, "step": 10}},
    "method": "grid",
}
