"""The second seat of a cycle: asks the strategy and gates its answer by confidence."""

from __future__ import annotations

from app.agents.market_monitoring import Observation
from app.domain.cycle import Decision
from app.domain.ports import Strategy
from app.domain.signal import Prediction, Signal

CONFIDENT = "confident"
"""The reason code of the only decision that may be traded."""


class DecisionMakingAgent:
    """Turns a prediction into a decision: HOLD, or a BUY or SELL that passes the gate or does not.

    Args:
        strategy: What predicts.
        min_confidence: The least probability, 0 to 1, that a BUY or SELL needs.
    """

    def __init__(self, strategy: Strategy, *, min_confidence: float) -> None:
        self._strategy = strategy
        self._min_confidence = min_confidence

    def require_model(self) -> str:
        """The model in use; raises `NotReadyError` while there is none, before anything is fetched."""
        return self._strategy.model_id

    def decide(self, observation: Observation) -> Decision:
        """What to do about `observation`; raises what `Strategy.predict` raises."""
        prediction = self._strategy.predict(observation.snapshot.candles)
        reason_code, reason = self._judge(prediction)
        return Decision(
            action=prediction.signal,
            confidence=prediction.confidence,
            probabilities=prediction.probabilities,
            reason_code=reason_code,
            reason=reason,
            model_id=prediction.model_id,
        )

    def _judge(self, prediction: Prediction) -> tuple[str, str]:
        shares = ", ".join(f"{signal} {share:.1%}" for signal, share in prediction.probabilities.items())
        if prediction.signal is Signal.HOLD:
            return "hold_signal", f"The model expects no move worth trading ({shares})."
        if prediction.confidence < self._min_confidence:
            return "below_min_confidence", (
                f"The model leans to {prediction.signal} ({shares}), but {prediction.confidence:.1%} is below the "
                f"{self._min_confidence:.1%} that a trade needs."
            )
        return CONFIDENT, f"The model says {prediction.signal} ({shares}); a trade needs {self._min_confidence:.1%}."
