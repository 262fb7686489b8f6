"""What entries are sized and protected by, for each bar after which one may come."""

from __future__ import annotations

import numpy as np

from app.agents.risk import WINDOW_BARS
from app.domain.candle import Interval
from app.domain.order import Side
from app.domain.risk import SizingMethod
from app.domain.signal import Prediction
from app.research.backtest.plan import Plan
from app.risk.protection import to_price
from app.risk.sizing import SizingRule, annualise, share_by_kelly, share_for_volatility
from app.strategies.signals import SignalArrays
from ml.bars import Bars, IntegerArray, find_segments
from ml.indicators import compute_atr, compute_volatility

UNKNOWN = -1


def find_true_ranges(bars: Bars, interval: Interval, wanted: IntegerArray) -> IntegerArray:
    """The average true range that a live cycle measures after the `wanted` bars, in 1e-8 quote units; 0 for none.

    Returns:
        Shape (n_wanted,).
    """
    starts = _find_starts(bars, interval)
    ranges = [to_price(compute_atr(_window(bars, starts, bar)) or 0.0) for bar in wanted.tolist()]
    return np.array(ranges, dtype=np.int64)


def find_shares(plan: Plan, interval: Interval, bars: Bars, said: SignalArrays, wanted: IntegerArray) -> IntegerArray:
    """The share of equity that Kelly's rule or a volatility target gives after the `wanted` bars, in ppm.

    Args:
        plan: How entries are sized, and how late signals are traded.
        interval: That of the candles.
        bars: The candles, prices as a live cycle computes with.
        said: What is said of them.
        wanted: The bars after which an entry may come.

    Returns:
        Shape (n_bars,); `UNKNOWN` where it cannot be told.
    """
    rule, found = plan.sizing, np.full(len(bars), UNKNOWN, dtype=np.int64)
    if rule.method is SizingMethod.VOLATILITY_TARGET:
        starts = _find_starts(bars, interval)
        for bar in wanted.tolist():
            spread = compute_volatility(_window(bars, starts, bar)) or 0.0
            yearly = annualise(spread, interval.duration)
            if yearly > 0:
                found[bar] = share_for_volatility(rule.volatility_target, yearly)
    elif rule.method is SizingMethod.KELLY:
        for bar in wanted.tolist():
            prediction = said.predict(bar - plan.latency_bars)
            if prediction is not None:
                found[bar] = _find_kelly(rule, prediction)
    return found


def _find_kelly(rule: SizingRule, said: Prediction) -> int:
    if said.class_returns is None or said.round_trip_cost is None:
        return UNKNOWN
    side = Side(said.signal.value)
    return share_by_kelly(side, said.probabilities, said.class_returns, said.round_trip_cost, rule.kelly_cap)


def _find_starts(bars: Bars, interval: Interval) -> IntegerArray:
    """Where the run of candles without a gap began that each belongs to, shape (n_bars,)."""
    starts = np.zeros(len(bars), dtype=np.int64)
    for segment in find_segments(bars.open_time_ms, interval.milliseconds):
        starts[segment] = segment.start
    return starts


def _window(bars: Bars, starts: IntegerArray, bar: int) -> Bars:
    """The newest candles up to `bar` without a gap, at most `WINDOW_BARS`, as `RiskAgent` takes them."""
    return bars[max(bar - WINDOW_BARS + 1, int(starts[bar])) : bar + 1]
