"""What a rule would have earned after costs: long or out of the market, as the paper broker trades, bar by bar.

A first judgement for a model's card. It knows no lots, no least notional and no share of the cash: each bar earns the
return of what is held, and each change of position pays the fee and the slippage of `app.broker`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ml.bars import Bars, FloatArray, IntegerArray
from ml.labels import BUY, HOLD, SELL, LabelArray

RANGE_PERCENT = 15
"""How much of a candle's range a fill slips by where that is more than the least slippage; `app.broker` asks here."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Fee and least slippage of one side, in basis points."""

    fee_bps: float
    slippage_bps: float


def compute_next_returns(bars: Bars) -> FloatArray:
    """The return of holding from the open after each contiguous bar to the open after that, shape (n_bars,).

    The last two, whose end is not there, run to the close of the bar after (the last one: 0).

    >>> price = np.array([100.0, 100.0, 110.0, 121.0])
    >>> bars = Bars(np.arange(4, dtype=np.int64) * 60_000, price, price, price, price, price)
    >>> compute_next_returns(bars).round(3).tolist()
    [0.1, 0.1, 0.0, 0.0]
    """
    returns = np.zeros(len(bars))
    returns[:-2] = bars.open[2:] / bars.open[1:-1] - 1.0
    returns[-2:-1] = bars.close[-1:] / bars.open[-1:] - 1.0
    return returns


def compute_side_costs(bars: Bars, costs: Costs) -> FloatArray:
    """What one side of a trade after each bar costs, as a fraction of its notional, shape (n_bars,)."""
    slippage = np.maximum(costs.slippage_bps / 10_000.0, RANGE_PERCENT / 100.0 * (bars.high - bars.low) / bars.close)
    return costs.fee_bps / 10_000.0 + slippage


def hold_positions(signals: LabelArray, series: IntegerArray) -> FloatArray:
    """The position after each row: 1 from a BUY on, 0 from a SELL on; each series starts with 0.

    Args:
        signals: BUY, SELL or HOLD, shape (n_rows,).
        series: A number that changes where one run of candles ends and the next begins, shape (n_rows,).

    >>> hold_positions(np.array([1, 2, 1, 0, 2, 1], dtype=np.int8), np.array([0, 0, 0, 0, 0, 1])).tolist()
    [0.0, 1.0, 1.0, 0.0, 1.0, 0.0]
    """
    rows = np.arange(len(signals))
    starts = _starts(series)
    said = (signals == BUY) | (signals == SELL) | starts
    newest = np.maximum.accumulate(np.where(said, rows, 0))
    positions: FloatArray = (signals[newest] == BUY).astype(np.float64)
    return positions


def compute_net_returns(
    positions: FloatArray, series: IntegerArray, next_returns: FloatArray, side_costs: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """What each row earned after costs, as a fraction, and how much was traded in it; both of shape (n_rows,)."""
    before = np.concatenate(([0.0], positions[:-1]))
    before[_starts(series)] = 0.0
    traded = np.abs(positions - before)
    return positions * next_returns - traded * side_costs, traded


def expect_returns(probabilities: FloatArray, class_returns: FloatArray, side_cost: float) -> FloatArray:
    """What following the likeliest class of each row is expected to bring after costs, a fraction, shape (n_rows,).

    The expected move is the mean return of each class by its probability. A BUY brings it, a SELL the loss that it
    spares, and both pay the two sides of a round trip, the SELL for coming back: else the faintest lean would be worth
    selling on. HOLD brings nothing.

    Args:
        probabilities: Shape (n_rows, 3).
        class_returns: The mean forward return of each class in training, in the order of `ml.labels.CLASSES`.
        side_cost: What one side of a trade costs, a fraction of its notional.

    >>> said = np.array([[0.2, 0.2, 0.6], [0.6, 0.2, 0.2]])
    >>> expect_returns(said, np.array([-0.01, 0.0, 0.01]), side_cost=0.001).round(4).tolist()
    [0.002, 0.002]
    """
    moves = probabilities[:, SELL] * class_returns[SELL] + probabilities[:, HOLD] * class_returns[HOLD]
    moves = moves + probabilities[:, BUY] * class_returns[BUY]
    said = probabilities.argmax(axis=1)
    gains = np.where(said == BUY, moves, -moves) - 2.0 * side_cost
    return np.where(said == HOLD, 0.0, gains)


def _starts(series: IntegerArray) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    return np.concatenate(([True], series[1:] != series[:-1]))[: len(series)]
