"""The second seat of a cycle: asks the strategy and gates its answer by confidence."""

from __future__ import annotations

from dataclasses import dataclass

from app.agents.market_monitoring import Observation
from app.domain.cycle import Decision
from app.domain.ports import Strategy
from app.domain.signal import Edge, Prediction, Signal

CONFIDENT = "confident"
"""The reason code of the only decision that may be traded."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What a BUY or SELL must have to be traded.

    Attributes:
        min_confidence: The least probability, 0 to 1.
        require_edge: Whether the model must have been shown to know something out of sample.
        require_positive_return: Whether what it is expected to bring after costs must be above zero.
    """

    min_confidence: float
    require_edge: bool = False
    require_positive_return: bool = False


class DecisionMakingAgent:
    """Turns a prediction into a decision: HOLD, or a BUY or SELL that passes the gate or does not.

    Args:
        strategy: What predicts.
        gate: What a BUY or SELL must have.
    """

    def __init__(self, strategy: Strategy, gate: Gate) -> None:
        self._strategy = strategy
        self._gate = gate

    def require_model(self) -> str:
        """The model in use; raises `NotReadyError` while there is none, before anything is fetched."""
        return self._strategy.model_id

    def decide(self, observation: Observation) -> tuple[Decision, Prediction]:
        """What to do about `observation`, and the prediction behind it; raises what `Strategy.predict` raises."""
        prediction = self._strategy.predict(observation.snapshot.candles)
        action, reason_code, reason = self._judge(prediction)
        decision = Decision(
            action=action,
            confidence=prediction.confidence,
            probabilities=prediction.probabilities,
            reason_code=reason_code,
            reason=reason,
            model_id=prediction.model_id,
            expected_return=prediction.expected_return,
            edge=prediction.edge,
            drift=prediction.drift,
        )
        return decision, prediction

    def _judge(self, prediction: Prediction) -> tuple[Signal, str, str]:
        gate, signal = self._gate, prediction.signal
        shares = ", ".join([f"{signal} {share:.1%}" for signal, share in prediction.probabilities.items()])
        if signal is Signal.HOLD:
            return signal, "hold_signal", f"The model expects no move worth trading ({shares})."
        if prediction.doubt is not None:
            return Signal.HOLD, prediction.doubt.code, f"{prediction.doubt.reason} It would say {signal} ({shares})."
        if gate.require_edge and prediction.edge is Edge.NONE:
            words = f"The model would say {signal} ({shares}), but has shown no edge out of sample (REQUIRE_EDGE)."
            return Signal.HOLD, "no_edge", words
        if prediction.confidence < gate.min_confidence:
            words = (
                f"The model leans to {signal} ({shares}), but {prediction.confidence:.1%} is below the "
                f"{gate.min_confidence:.1%} that a trade needs."
            )
            return signal, "below_min_confidence", words
        if gate.require_positive_return and prediction.expected_return <= 0:
            words = (
                f"The model says {signal} ({shares}), but that is expected to bring {prediction.expected_return:+.3%} "
                "after costs (REQUIRE_POSITIVE_RETURN)."
            )
            return signal, "expected_return_not_positive", words
        edge = "" if prediction.edge is not Edge.NONE else " It has shown no edge out of sample."
        return signal, CONFIDENT, f"The model says {signal} ({shares}); a trade needs {gate.min_confidence:.1%}.{edge}"
