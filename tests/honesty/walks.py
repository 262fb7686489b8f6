"""Markets whose truth is known: walks without any pattern, of several kinds, and walks with a planted one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np

from ml.bars import Bars, FloatArray
from ml.training import train

MINUTE_MS: Final = 60_000
BAR_VOLATILITY: Final = 0.001
"""The standard deviation of a one-minute return of every walk here."""

KINDS: Final = ("gaussian", "heavy_tailed", "garch", "seasonal")


def draw_returns(kind: str, bars: int, seed: int) -> FloatArray:
    """Independent of anything that came before in their sign, one-minute returns of one of `KINDS`."""
    random = np.random.default_rng([KINDS.index(kind), seed])
    if kind == "heavy_tailed":
        # Student's t with 3 degrees of freedom, whose variance is 3.
        tails: FloatArray = BAR_VOLATILITY * random.standard_t(3, bars) / np.sqrt(3.0)
        return tails
    noise = random.standard_normal(bars)
    if kind == "garch":
        return _garch(noise)
    if kind == "seasonal":
        # Three times as busy at its height as at its calmest, once a day.
        hours = 1.0 + 0.5 * np.sin(2 * np.pi * np.arange(bars) / 1_440)
        seasons: FloatArray = BAR_VOLATILITY * noise * hours / np.sqrt(1.125)
        return seasons
    return BAR_VOLATILITY * noise


def make_walk(kind: str, bars: int, seed: int = 0) -> Bars:
    """Candles of a walk whose next return nothing foretells."""
    return make_bars(draw_returns(kind, bars, seed), seed)


def make_planted(strength_bps: float, bars: int, seed: int = 0, memory: int = 5) -> Bars:
    """A gaussian walk that goes on: each return has a drift with the sign of the last `memory` returns' sum."""
    noise = draw_returns("gaussian", bars, seed).tolist()
    closes = [0.0] * (bars + 1)
    for bar, draw in enumerate(noise):
        before = closes[bar] - closes[max(0, bar - memory)]
        closes[bar + 1] = closes[bar] + draw + float(np.sign(before)) * strength_bps / 10_000.0
    return make_bars(np.diff(closes), seed)


def make_bars(returns: FloatArray, seed: int) -> Bars:
    """Candles around log returns, each opening at the close before; ends and volumes are noise."""
    random = np.random.default_rng(seed)
    price = 100.0 * np.exp(np.concatenate(([0.0], np.cumsum(returns))))
    opened, close = price[:-1], price[1:]
    wick = 1.0 + 0.3 * BAR_VOLATILITY * random.random(len(close))
    return Bars(
        MINUTE_MS * np.arange(len(close), dtype=np.int64),
        opened,
        np.maximum(opened, close) * wick,
        np.minimum(opened, close) / wick,
        close,
        random.exponential(10.0, len(close)),
    )


def train_card(folder: Path, bars: Bars, **changes: Any) -> dict[str, Any]:
    """Train on `bars` as the service does, with the request's `changes`, and return the card."""
    request = {
        "folder": str(folder),
        "source": "simulated",
        "interval": "1m",
        "interval_ms": MINUTE_MS,
        "label_rule": {"horizon_bars": 5, "threshold_percent": 0.1, "kind": "volatility", "volatility_multiple": 0.5},
        "forest": {"trees": 30},
        "min_confidence": 0.45,
        "fee_bps": 2.0,
        "slippage_bps": 3.0,
        "require_positive_return": False,
        "trained_at": "2030-01-01T00:00:00+00:00",
        "candidates": 1,
        "champion": None,
        "backend": "loky",
    }
    path = train({"BTCUSDT": bars}, request | changes, lambda _share, _words: None)
    card: dict[str, Any] = json.loads((path / "card.json").read_text())
    return card


def _garch(noise: FloatArray) -> FloatArray:
    """GARCH(1, 1) returns: busy times follow busy times (T. Bollerslev, 1986)."""
    returns, variance = np.empty(len(noise)), 1.0
    for bar, draw in enumerate(noise.tolist()):
        returns[bar] = draw * variance**0.5
        variance = 0.02 + 0.08 * returns[bar] ** 2 + 0.9 * variance
    return BAR_VOLATILITY * returns
