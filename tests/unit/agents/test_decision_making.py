"""What turns a prediction into a decision, and which reasons keep it from being traded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from app.agents.decision_making import DecisionMakingAgent, Gate
from app.agents.market_monitoring import MarketMonitoringAgent
from app.domain.candle import Candle, Interval
from app.domain.cycle import Decision
from app.domain.signal import Doubt, Edge, Prediction, Signal
from tests.support.fakes import PREDICTION as SURE
from tests.support.fakes import FakeClock, FakeMarketData

pytestmark = pytest.mark.anyio

BUY = replace(SURE, probabilities={Signal.BUY: 0.5, Signal.SELL: 0.2, Signal.HOLD: 0.3})
SELL = replace(BUY, signal=Signal.SELL, probabilities={Signal.BUY: 0.2, Signal.SELL: 0.5, Signal.HOLD: 0.3})
HOLD = replace(BUY, signal=Signal.HOLD, probabilities={Signal.BUY: 0.2, Signal.SELL: 0.2, Signal.HOLD: 0.6})
DOUBT = Doubt("model_drifted", "The market has moved away.")


class Saying:
    """A strategy that always says the same."""

    model_id, lookback_bars = "forest-test", 3

    def __init__(self, prediction: Prediction) -> None:
        self._prediction = prediction

    def predict(self, candles: Sequence[Candle]) -> Prediction:  # noqa: ARG002 - the port's
        return self._prediction


async def decide(prediction: Prediction, gate: Gate) -> Decision:
    market = FakeMarketData(FakeClock())
    observation = await MarketMonitoringAgent(market, bars=3, minimum_bars=3).observe("BTCUSDT", Interval.M1)
    decision, behind = DecisionMakingAgent(Saying(prediction), gate).decide(observation)
    assert behind is prediction
    return decision


@pytest.mark.parametrize(
    ("prediction", "gate", "action", "code"),
    [
        (BUY, Gate(0.5), Signal.BUY, "confident"),
        (SELL, Gate(0.5), Signal.SELL, "confident"),
        (HOLD, Gate(0.0), Signal.HOLD, "hold_signal"),
        (BUY, Gate(0.51), Signal.BUY, "below_min_confidence"),
        (BUY, Gate(0.5, require_edge=True), Signal.HOLD, "no_edge"),
        (SELL, Gate(0.5, require_edge=True), Signal.HOLD, "no_edge"),
        (replace(BUY, edge=Edge.STATISTICAL), Gate(0.5, require_edge=True), Signal.BUY, "confident"),
        (replace(BUY, edge=Edge.TRADABLE), Gate(0.5, require_edge=True), Signal.BUY, "confident"),
        (replace(BUY, expected_return=0.0), Gate(0.5), Signal.BUY, "confident"),
        (
            replace(BUY, expected_return=0.0),
            Gate(0.5, require_positive_return=True),
            Signal.BUY,
            "expected_return_not_positive",
        ),
        (replace(BUY, expected_return=1e-9), Gate(0.5, require_positive_return=True), Signal.BUY, "confident"),
        (replace(BUY, doubt=DOUBT), Gate(0.0), Signal.HOLD, "model_drifted"),
        (replace(HOLD, doubt=DOUBT), Gate(0.0), Signal.HOLD, "hold_signal"),
    ],
)
async def test_decide_action_and_reason_follow_the_gate(
    prediction: Prediction, gate: Gate, action: Signal, code: str
) -> None:
    decision = await decide(prediction, gate)
    assert (decision.action, decision.reason_code) == (action, code)
    assert decision.confidence == prediction.confidence, "that of the model's own signal"
    assert decision.probabilities == prediction.probabilities
    told = (decision.expected_return, decision.edge, decision.drift)
    assert told == (prediction.expected_return, prediction.edge, prediction.drift)


async def test_decide_reason_says_what_speaks_against_it_and_which_setting_it_is() -> None:
    refused = await decide(BUY, Gate(0.5, require_edge=True))
    assert refused.reason == (
        "The model would say BUY (BUY 50.0%, SELL 20.0%, HOLD 30.0%), but has shown no edge out of sample "
        "(REQUIRE_EDGE)."
    )
    doubted = await decide(replace(BUY, doubt=DOUBT), Gate(0.5))
    assert doubted.reason == ("The market has moved away. It would say BUY (BUY 50.0%, SELL 20.0%, HOLD 30.0%).")
    traded = await decide(BUY, Gate(0.5))
    assert traded.reason.endswith("It has shown no edge out of sample."), "marked all the same"
