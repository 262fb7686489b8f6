"""Optimisations of made-up markets, small enough to run in a moment."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from app.domain.candle import Interval
from app.domain.instrument import Instrument
from app.domain.record import from_microseconds
from app.research.backtest.request import BacktestRequest
from app.research.backtest.result import BacktestData, SeriesData
from app.research.optimization.computing import compute_optimization
from app.research.optimization.describing import Task
from app.research.optimization.request import OptimizationRequest
from app.research.optimization.result import OptimizationRun
from app.research.optimization.space import Axis
from ml.bars import Bars, compute_candle_hash
from tests.support.backtests import SINCE, make_request

DAYS = 120
INTERVAL = Interval.H4
WINDOW = 140
FREE: dict[str, object] = {
    "fee_bps": 0,
    "slippage_bps": 0,
    "max_drawdown": 0,
    "max_daily_loss": 0,
    "cooldown_losses": 0,
}
"""Settings without costs or limits, so that nothing but the signals decides."""

AXES = (Axis("fast_bars", 2, 20, 2, is_integer=True), Axis("slow_bars", 10, 120, 10, is_integer=True))
"""120 points, of which 8 conflict."""


def make_market(closes: np.ndarray, first: datetime, interval: Interval = INTERVAL, *, flat: bool = False) -> Bars:
    """Candles of these closes, each of which opens where the last one closed, or has but one price, and no slippage."""
    step = interval.milliseconds
    opens = closes if flat else np.append(closes[:1], closes[:-1])
    start = int(first.timestamp()) * 1_000
    high, low = np.maximum(opens, closes), np.minimum(opens, closes)
    return Bars(start + step * np.arange(len(closes)), opens, high, low, closes, np.full(len(closes), 1e6))


def count_bars(days: int, interval: Interval = INTERVAL) -> int:
    return int(timedelta(days=days) / interval.duration)


def draw_walk(seed: int, days: int = DAYS, step: float = 0.01) -> np.ndarray:
    """Closes of a random walk, with as many before the first day as strategies look back on."""
    random = np.random.default_rng(seed)
    return 100.0 * np.exp(np.cumsum(step * random.standard_normal(WINDOW + count_bars(days))))


def draw_waves(seed: int, days: int = DAYS, period: int = 72) -> np.ndarray:
    """Closes that rise and fall in waves of so many bars, with some noise: averages that follow them earn."""
    count = WINDOW + count_bars(days)
    noise = 0.002 * np.random.default_rng(seed).standard_normal(count)
    return 100.0 * np.exp(0.1 * np.sin(2 * np.pi * np.arange(count) / period) + np.cumsum(noise))


def make_base(own: dict[str, object] | None = None, days: int = DAYS, **fields: Any) -> BacktestRequest:
    """What each trial is: moving averages on four-hour candles without costs or limits."""
    span = {"since": SINCE, "until": SINCE + timedelta(days=days), "interval": INTERVAL, "window_bars": WINDOW}
    return make_request({**FREE, "order_cash_fraction": 1, **(own or {})}, **{**span, **fields})


def make_optimization(base: BacktestRequest | None = None, **fields: Any) -> OptimizationRequest:
    """A request for an optimisation of it."""
    return OptimizationRequest(backtest=base or make_base(), **{"axes": AXES, **fields})


def make_task(request: OptimizationRequest, closes: np.ndarray, *, flat: bool = False) -> tuple[Task, dict[str, Bars]]:
    """What a process is given to compute an optimisation on a market of these closes."""
    base = request.backtest
    bars = make_market(closes, base.since - WINDOW * base.interval.duration, base.interval, flat=flat)
    step = Decimal("0.00000001")
    series = SeriesData(
        symbol="BTCUSDT",
        first=from_microseconds(int(bars.open_time_ms[0]) * 1_000),
        last=from_microseconds(int(bars.open_time_ms[-1]) * 1_000),
        bars=len(bars),
        missing=0,
        refused_rows=0,
        candle_hash=compute_candle_hash(bars, "BTCUSDT", base.interval.value),
        instrument=Instrument("BTCUSDT", "BTC", "USDT", step, step, Decimal(0)),
    )
    data = BacktestData("made-up", base.interval, (series,))
    return Task("f" * 32, SINCE, "0.2.1", request, data), {"BTCUSDT": bars}


def optimize(request: OptimizationRequest, closes: np.ndarray, folder: Path, *, flat: bool = False) -> OptimizationRun:
    """Compute an optimisation on a market of these closes."""
    task, history = make_task(request, closes, flat=flat)
    return compute_optimization(task, history, folder, folder, lambda _share, _words: None)
