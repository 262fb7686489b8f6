"""What the gate says of each bar's signal, for all bars at once: `DecisionMakingAgent`, in arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from app.agents.decision_making import Gate
from app.domain.signal import Edge
from app.research.backtest.books import OUTCOMES, BoolArray, CodeArray
from app.strategies.signals import SignalArrays, SignalCodes
from ml.bars import FloatArray
from ml.labels import HOLD

_INSUFFICIENT_HISTORY = OUTCOMES.index("insufficient_history")
_HOLD = OUTCOMES.index("hold_signal")
_NO_EDGE = OUTCOMES.index("no_edge")
_BELOW = OUTCOMES.index("below_min_confidence")
_NOT_POSITIVE = OUTCOMES.index("expected_return_not_positive")


@dataclass(frozen=True, slots=True, eq=False)
class Verdicts:
    """What comes of the signal that is traded after each bar, both of shape (n_bars,).

    Attributes:
        codes: 0 where it passed the gate; else a place in `books.OUTCOMES`. After the last bar there is no cycle.
        sides: 1 for a BUY, -1 for a SELL, 0 for neither.
    """

    codes: CodeArray
    sides: CodeArray


def find_verdicts(signals: SignalArrays | SignalCodes, gate: Gate, latency_bars: int, refusals: CodeArray) -> Verdicts:
    """Judge every cycle; one that is refused (`CheckedBars.find_refusals`) stays so."""
    latency = min(latency_bars, len(refusals))
    late = signals[: len(refusals) - latency]
    codes, sides = np.empty((2, len(refusals)), dtype=np.int8)
    # Every refusal is above what comes of a signal, so that the larger one counts.
    codes[:latency], sides[:latency] = np.maximum(_INSUFFICIENT_HISTORY, refusals[:latency]), 0
    if isinstance(late, np.ndarray):
        _judge_rule(late, gate, refusals[latency:], codes[latency:], sides[latency:])
    elif late.probabilities is None:
        _judge_rule(late.signals, gate, refusals[latency:], codes[latency:], sides[latency:])
        silent = latency + np.flatnonzero(late.speakers < 0)
        codes[silent] = np.maximum(_INSUFFICIENT_HISTORY, refusals[silent])
    else:
        codes[latency:] = np.maximum(_judge(late, gate), refusals[latency:])
        sides[latency:] = late.signals - np.int8(HOLD)
    return Verdicts(codes, sides)


def _judge_rule(signals: SignalCodes, gate: Gate, refusals: CodeArray, codes: CodeArray, sides: CodeArray) -> None:
    """The same of a rule, which is sure of what it says, has no edge and expects no return."""
    from app.research.backtest.kernel.verdicts import judge_rule  # noqa: PLC0415 - loads numba, which only backtests need

    otherwise = _NO_EDGE if gate.require_edge else _NOT_POSITIVE if gate.require_positive_return else 0
    judge_rule(signals, otherwise, refusals, codes, sides)


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
    np.copyto(codes, np.int8(_HOLD), where=signals.signals == HOLD)
    np.copyto(codes, np.int8(_INSUFFICIENT_HISTORY), where=signals.speakers < 0)
    return codes


def _is_above(values: FloatArray, bound: float) -> BoolArray:
    above: BoolArray = values > bound
    return above
