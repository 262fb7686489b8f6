"""What the gate says of each bar's signal, for all bars at once: `DecisionMakingAgent`, in arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from app.agents.decision_making import Gate
from app.domain.signal import Edge
from app.research.backtest.books import OUTCOMES, BoolArray, CodeArray
from app.strategies.signals import SignalArrays
from ml.bars import FloatArray, IntegerArray
from ml.labels import BUY, HOLD

_INSUFFICIENT_HISTORY = OUTCOMES.index("insufficient_history")
_HOLD = OUTCOMES.index("hold_signal")
_NO_EDGE = OUTCOMES.index("no_edge")
_BELOW = OUTCOMES.index("below_min_confidence")
_NOT_POSITIVE = OUTCOMES.index("expected_return_not_positive")


@dataclass(frozen=True, slots=True, eq=False)
class Verdicts:
    """What comes of the signal that is traded after each bar, all of shape (n_cycles,).

    Attributes:
        codes: 0 where it passed the gate; else a place in `books.OUTCOMES`.
        sides: 1 for a BUY, -1 for a SELL, 0 for neither.
        said_at: The bar whose signal it is: `latency_bars` before; below 0 where there is none.
    """

    codes: CodeArray
    sides: CodeArray
    said_at: IntegerArray


def find_verdicts(signals: SignalArrays, gate: Gate, latency_bars: int, refusals: CodeArray) -> Verdicts:
    """Judge every cycle; one that is refused (`arrays.find_refusals`) stays so."""
    cycles = len(refusals)
    late = signals[: max(cycles - latency_bars, 0)]
    before = np.full(cycles - len(late), _INSUFFICIENT_HISTORY, dtype=np.int8)
    codes = np.concatenate((before, _judge(late, gate)))
    sides = np.concatenate((np.zeros(len(before), dtype=np.int8), _find_sides(late)))
    return Verdicts(np.where(refusals > 0, refusals, codes), sides, np.arange(cycles) - latency_bars)


def _judge(signals: SignalArrays, gate: Gate) -> CodeArray:
    """The rules of `DecisionMakingAgent._judge`, the last first."""
    codes = np.zeros(len(signals), dtype=np.int8)
    if gate.require_positive_return:
        codes[~_is_above(signals.expected_returns, 0.0)] = _NOT_POSITIVE
    if gate.min_confidence > 0:
        codes[signals.confidences < gate.min_confidence] = _BELOW
    if gate.require_edge:
        has_none = np.array([source.edge is Edge.NONE for source in signals.sources] + [False])
        codes[has_none[signals.speakers]] = _NO_EDGE
    codes[signals.signals == HOLD] = _HOLD
    codes[signals.speakers < 0] = _INSUFFICIENT_HISTORY
    return codes


def _find_sides(signals: SignalArrays) -> CodeArray:
    sides = np.where(signals.signals == BUY, 1, -1).astype(np.int8)
    sides[signals.signals == HOLD] = 0
    return sides


def _is_above(values: FloatArray, bound: float) -> BoolArray:
    above: BoolArray = values > bound
    return above
