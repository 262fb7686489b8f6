"""What came of each candle: did the price then rise, fall or stay within the threshold?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ml.bars import Bars

CLASSES: Final = ("SELL", "HOLD", "BUY")
"""What the label numbers 0, 1 and 2 mean, and the order of a model's probabilities."""

SELL, HOLD, BUY, UNSETTLED = 0, 1, 2, -1

LabelArray = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class LabelRule:
    """How far ahead a label looks (in bars, at least 1) and how far the price must move (in percent)."""

    horizon_bars: int
    threshold_percent: float

    def __post_init__(self) -> None:
        if self.horizon_bars < 1 or not self.threshold_percent > 0:
            raise ValueError("horizon_bars must be at least 1 and threshold_percent above 0")


def compute_labels(bars: Bars, rule: LabelRule) -> LabelArray:
    """Label contiguous candles, shape (n_bars,), with the numbers of `CLASSES`.

    The forward return of bar t runs from the open of bar t + 1, the first price an order decided at the close
    of t can have, to the close of bar t + horizon, the bar the label is *settled at*. At or above the threshold
    it is BUY, at or below minus the threshold SELL, else HOLD. The last `horizon_bars` labels are `UNSETTLED`.

    >>> price = np.array([100.0, 100.0, 101.0, 100.0])
    >>> bars = Bars(np.arange(4, dtype=np.int64) * 60_000, price, price, price, price, price)
    >>> compute_labels(bars, LabelRule(horizon_bars=2, threshold_percent=0.5)).tolist()
    [2, 0, -1, -1]
    """
    labels = np.full(len(bars), UNSETTLED, dtype=np.int8)
    settled = len(bars) - rule.horizon_bars
    if settled <= 0:
        return labels
    forward_return = bars.close[rule.horizon_bars :] / bars.open[1 : settled + 1] - 1.0
    threshold = rule.threshold_percent / 100.0
    labels[:settled] = HOLD
    labels[:settled][forward_return >= threshold] = BUY
    labels[:settled][forward_return <= -threshold] = SELL
    return labels
