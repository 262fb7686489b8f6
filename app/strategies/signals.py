"""What a strategy says after each bar of a series, as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from app.domain.signal import Edge, Prediction, Signal
from ml.bars import FloatArray, IntegerArray
from ml.labels import CLASSES, HOLD

SignalCodes = npt.NDArray[np.int8]
"""The numbers of `ml.labels.CLASSES`: SELL 0, HOLD 1, BUY 2."""

_SIGNALS = tuple(Signal(name) for name in CLASSES)
_SURE = np.eye(len(CLASSES)).tolist()


@dataclass(frozen=True, slots=True)
class SignalSource:
    """The model or rule that speaks.

    Attributes:
        model_id: What its decisions carry.
        edge: What it has been shown to know out of sample.
        class_returns: The mean forward return of each signal in training, fractions; None for a rule.
        round_trip_cost: What both sides of a trade cost in training, a fraction; None for a rule.
        taught_until_ms: The newest moment that training has seen, milliseconds since the epoch; None for a rule.
    """

    model_id: str
    edge: Edge = Edge.NONE
    class_returns: Mapping[Signal, float] | None = None
    round_trip_cost: float | None = None
    taught_until_ms: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class SignalArrays:
    """What is said after each bar of one series.

    Attributes:
        signals: The signal, as the number of its class, shape (n_bars,).
        confidences: Its probability, 0 to 1; 1 where a rule speaks, shape (n_bars,).
        expected_returns: What following it is expected to bring after costs, a fraction, shape (n_bars,).
        speakers: Which of `sources` speaks; -1 where none does, as there are too few bars or a feature is not finite,
            shape (n_bars,).
        sources: Who speaks.
        probabilities: Those of all classes, shape (n_bars, 3); None where a rule speaks.
    """

    signals: SignalCodes
    confidences: FloatArray
    expected_returns: FloatArray
    speakers: npt.NDArray[np.signedinteger]
    sources: tuple[SignalSource, ...]
    probabilities: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.signals)

    def __getitem__(self, rows: slice) -> SignalArrays:
        """The same of a slice of the bars."""
        return SignalArrays(
            self.signals[rows],
            self.confidences[rows],
            self.expected_returns[rows],
            self.speakers[rows],
            self.sources,
            None if self.probabilities is None else self.probabilities[rows],
        )

    def predict(self, bar: int) -> Prediction | None:
        """What is said after a bar, as a live strategy says it; None where nothing is said."""
        speaker = int(self.speakers[bar])
        if speaker < 0:
            return None
        source, code = self.sources[speaker], int(self.signals[bar])
        known = self.probabilities
        shares = _SURE[code] if known is None else known[bar].tolist()
        return Prediction(
            signal=_SIGNALS[code],
            probabilities=dict(zip(_SIGNALS, shares, strict=True)),
            model_id=source.model_id,
            expected_return=float(self.expected_returns[bar]),
            edge=source.edge,
            class_returns=source.class_returns,
            round_trip_cost=source.round_trip_cost,
        )


def say_by_rule(model_id: str, signals: SignalCodes, edges: IntegerArray, lookback_bars: int) -> SignalArrays:
    """The arrays of a rule that is sure of each signal, and says nothing until it has seen enough bars without a gap.

    Args:
        model_id: What its decisions carry.
        signals: What it says, shape (n_bars,); HOLD is written where it says nothing.
        edges: Where the runs of bars without a gap begin, rising from 0, then the number of bars.
        lookback_bars: How many bars a prediction needs, at least 1.
    """
    count = len(signals)
    speakers = np.zeros(count, dtype=np.int8)
    for first, stop in pairwise(edges.tolist()):
        silent = slice(first, min(first + lookback_bars - 1, stop))
        speakers[silent] = -1
        signals[silent] = HOLD
    # Of what is the same of every bar one number is kept: writing it a million times costs what a hundred trades do.
    sure, nothing = np.broadcast_to(1.0, count), np.broadcast_to(0.0, count)
    return SignalArrays(signals, sure, nothing, speakers, (SignalSource(model_id),))
