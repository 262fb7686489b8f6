"""What came of each candle: did the price then rise, fall or stay, by one of three rules?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ml.bars import Bars, FloatArray, IntegerArray

CLASSES: Final = ("SELL", "HOLD", "BUY")
"""What the label numbers 0, 1 and 2 mean, and the order of a model's probabilities."""

SELL, HOLD, BUY, UNSETTLED = 0, 1, 2, -1

LEAST_PROBABILITY: Final = 1e-6
"""What a label counts as having been given at least, so that no single log-loss outweighs all others."""

LABEL_KINDS: Final = ("fixed", "volatility", "triple_barrier")
"""The rules that `LabelRule.kind` names."""

VOLATILITY_BARS: Final = 50
"""How many one-bar returns the volatility of a threshold is measured over."""

LabelArray = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class LabelRule:
    """How a candle is judged by what came after it.

    The forward return of bar t starts at the open of bar t + 1, the first price that an order decided at the close
    of t can have. At or above the threshold it is BUY, at or below minus the threshold SELL, else HOLD.

    - `fixed`: the return to the close of bar t + horizon; the threshold is `threshold_percent`.
    - `volatility`: the same return; the threshold is `volatility_multiple` times the volatility of the last
      `VOLATILITY_BARS` one-bar returns times the square root of the horizon.
    - `triple_barrier`: the first of three: the price reaches the upper barrier (BUY), the lower one (SELL), or the
      horizon ends (HOLD). Barriers are as wide as the threshold of `volatility`. A bar that reaches both is HOLD,
      since nobody can tell which came first. Source: M. Lopez de Prado, Advances in Financial Machine Learning,
      2018, chapter 3.

    Attributes:
        horizon_bars: How far ahead a label looks, at least 1.
        threshold_percent: How far the price must move, in percent, above 0; for `fixed` only.
        kind: One of `LABEL_KINDS`.
        volatility_multiple: Above 0; for the other two kinds only.
    """

    horizon_bars: int
    threshold_percent: float
    kind: str = "fixed"
    volatility_multiple: float = 1.0

    def __post_init__(self) -> None:
        if self.horizon_bars < 1 or not self.threshold_percent > 0 or not self.volatility_multiple > 0:
            raise ValueError("horizon_bars must be at least 1, threshold_percent and volatility_multiple above 0")
        if self.kind not in LABEL_KINDS:
            raise ValueError(f"kind must be one of {', '.join(LABEL_KINDS)}")

    @property
    def bars_before(self) -> int:
        """How many bars before its own a label needs: those its threshold is measured on."""
        return 0 if self.kind == "fixed" else VOLATILITY_BARS


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """What came of each bar, arrays of shape (n_bars,).

    Attributes:
        labels: The numbers of `CLASSES`, or `UNSETTLED`.
        settled_at: The bar at whose close the label is known; the bar itself where it is not settled.
        forward_return: The return the label is about, a fraction; NaN where it is not settled.
    """

    labels: LabelArray
    settled_at: IntegerArray
    forward_return: FloatArray


def compute_labels(bars: Bars, rule: LabelRule) -> Labels:
    """Label contiguous candles. The last `horizon_bars` are `UNSETTLED`, as are those without a threshold yet.

    >>> price = np.array([100.0, 100.0, 101.0, 100.0])
    >>> bars = Bars(np.arange(4, dtype=np.int64) * 60_000, price, price, price, price, price)
    >>> found = compute_labels(bars, LabelRule(horizon_bars=2, threshold_percent=0.5))
    >>> found.labels.tolist(), found.settled_at.tolist()
    ([2, 0, -1, -1], [2, 3, 2, 3])
    """
    bars_count, horizon = len(bars), rule.horizon_bars
    labels = np.full(bars_count, UNSETTLED, dtype=np.int8)
    settled_at = np.arange(bars_count, dtype=np.int64)
    forward_return = np.full(bars_count, np.nan)
    settled = bars_count - horizon
    if settled <= 0:
        return Labels(labels, settled_at, forward_return)
    threshold = _thresholds(bars, rule)[:settled]
    entry = bars.open[1 : settled + 1]
    exit_bar = settled_at[:settled] + horizon
    if rule.kind == "triple_barrier":
        said, exit_bar, exit_price = _first_touch(bars, entry, threshold, horizon)
        returns = exit_price / entry - 1.0
    else:
        returns = bars.close[horizon:] / entry - 1.0
        said = np.full(settled, HOLD, dtype=np.int8)
        said[returns >= threshold] = BUY
        said[returns <= -threshold] = SELL
    known = ~np.isnan(threshold)
    labels[:settled][known] = said[known]
    settled_at[:settled][known] = exit_bar[known]
    forward_return[:settled][known] = returns[known]
    return Labels(labels, settled_at, forward_return)


def compute_uniqueness(labels: LabelArray, settled_at: IntegerArray) -> FloatArray:
    """How much of each settled label is its own, above 0 to 1, shape (n_bars,); 0 where it is not settled.

    A label decided at t and settled at s covers the bars t + 1 to s; over those, the mean of one over the number of
    labels that cover the same bar. Source: M. Lopez de Prado, Advances in Financial Machine Learning, 2018, ch. 4.

    >>> compute_uniqueness(np.array([2, 2, 0, -1], dtype=np.int8), np.array([1, 2, 3, 3])).tolist()
    [1.0, 1.0, 1.0, 0.0]
    """
    weights = np.zeros(len(labels))
    rows = np.flatnonzero(labels != UNSETTLED)
    if rows.size == 0:
        return weights
    starts, ends = rows + 1, settled_at[rows] + 1
    steps = np.bincount(starts, minlength=len(labels) + 1) - np.bincount(ends, minlength=len(labels) + 1)
    covered = np.cumsum(steps)[: len(labels)]
    shares = np.concatenate(([0.0], np.cumsum(1.0 / np.maximum(covered, 1))))
    weights[rows] = (shares[ends] - shares[starts]) / (ends - starts)
    return weights


def _thresholds(bars: Bars, rule: LabelRule) -> FloatArray:
    """How far the price must move after each bar, as a fraction; NaN where it is not known yet, or is nothing."""
    if rule.kind == "fixed":
        return np.full(len(bars), rule.threshold_percent / 100.0)
    thresholds = np.full(len(bars), np.nan)
    if len(bars) > VOLATILITY_BARS:
        squares = (bars.close[1:] / bars.close[:-1] - 1.0) ** 2
        windows = np.lib.stride_tricks.sliding_window_view(squares, VOLATILITY_BARS)
        volatility = np.sqrt(windows.mean(axis=1))
        thresholds[VOLATILITY_BARS:] = rule.volatility_multiple * volatility * np.sqrt(rule.horizon_bars)
    thresholds[thresholds == 0.0] = np.nan
    return thresholds


def _first_touch(
    bars: Bars, entry: FloatArray, threshold: FloatArray, horizon: int
) -> tuple[LabelArray, IntegerArray, FloatArray]:
    """What each row met first, at which bar, and at which price."""
    rows = np.arange(len(entry), dtype=np.int64)
    upper, lower = entry * (1.0 + threshold), entry * (1.0 - threshold)
    said = np.full(len(rows), HOLD, dtype=np.int8)
    exit_bar, exit_price = rows + horizon, bars.close[rows + horizon].copy()
    waiting = rows
    for step in range(1, horizon + 1):
        at = waiting + step
        above, below = bars.high[at] >= upper[waiting], bars.low[at] <= lower[waiting]
        for touched, label, price in ((above & ~below, BUY, upper), (below & ~above, SELL, lower)):
            hit = waiting[touched]
            said[hit], exit_price[hit] = label, price[hit]
        done = above | below
        both = waiting[above & below]
        exit_price[both] = bars.close[both + step]
        exit_bar[waiting[done]] = at[done]
        waiting = waiting[~done]
        if waiting.size == 0:
            break
    return said, exit_bar, exit_price
