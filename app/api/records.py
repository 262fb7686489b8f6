"""What the routes of records answer: replays, and the reasons behind trades."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from app.api.schemas import Answer, Candle, Decision, Fraction, Money, Order, OrderCheck, Trade
from app.domain.signal import Edge, Signal


class Versions(Answer):
    """The versions of the code that ran a cycle, and that replayed it."""

    recorded: str
    replayed: str


class Replay(Answer):
    """What came of computing a cycle again from its record."""

    cycle_id: str
    equal: bool = Field(description="Whether every byte of what came out is what is stored.")
    difference: str | None = Field(
        description="The first field that differs, with what is stored and what came out; null where all is equal."
    )
    versions: Versions


class Contribution(Answer):
    """How far one feature moved the probability."""

    name: str
    value: float
    contribution: Annotated[float, Field(ge=-1, le=1)]


class Explanation(Answer):
    """What the probability is made of: `bias`, all `contributions` and `calibration` sum to it."""

    model_id: str
    signal: Signal
    probability: Fraction
    bias: float = Field(description="What the model says before it looks at any feature.")
    calibration: float = Field(description="What making stated probabilities come true added.")
    contributions: list[Contribution] = Field(description="In the order of the model's card.")
    reasons: list[str] = Field(description="The strongest in words, at most three, strongest first.")


class ClassShare(Answer):
    """One thing that the model could say."""

    signal: Signal
    probability: Fraction
    mean_return: float = Field(description="The mean return that followed it in training, a fraction.")


class Gate(Answer):
    """How the gate judged the decision.

    `expected_return` is the sum of each class's probability times its mean return (of the other sign for a SELL), less
    `round_trip_cost`.
    """

    signal: Signal
    confidence: Fraction
    min_confidence: Fraction
    edge: Edge | None
    require_edge: bool
    classes: list[ClassShare]
    round_trip_cost: float
    expected_return: float
    require_positive_return: bool


class Price(Answer):
    """From the reference, with the slippage and on the tick against the account, to the price of the fill."""

    reference: Money = Field(description="The quote; of a resting order, its price or the candle's open.")
    slippage_bps: Money
    tick: Money
    fee_bps: Money


class Reason(Answer):
    """Why a trade was made; what is not known is null, and `notes` say why."""

    summary: str
    notes: list[str]
    trade: Trade
    order: Order | None
    candle: Candle | None = Field(description="The candle that a resting order was judged on.")
    decision: Decision | None
    explanation: Explanation | None
    gate: Gate | None
    checks: list[OrderCheck]
    price: Price | None
