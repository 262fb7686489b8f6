"""What a backtest is asked to be: plain values that say everything, so that the same request gives the same run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

from app.agents.decision_making import Gate
from app.broker.desk import Terms
from app.domain.candle import Interval
from app.domain.record import canonical, digest, from_plain, to_plain
from app.errors import InvalidInputError
from app.risk.limits import LimitRules
from app.risk.protection import ProtectionRule
from app.risk.sizing import SizingRule

STORE: Final = "store"
"""The source of candles that are kept, and fetched from the service's market where they are not."""

MAXIMUM_SYMBOLS: Final = 10
MAXIMUM_BARS: Final = 5_000_000
"""The most candles of all symbols together: 240 MB of them, and four times that while they are worked on."""


class Driver(StrEnum):
    """What runs a backtest; both give the same books."""

    COMPILED = "compiled"
    ENGINE = "engine"


@dataclass(frozen=True, slots=True)
class WalkForward:
    """How the forest is trained on the way, so that no model sees a candle before it has spoken of it.

    Attributes:
        train_bars: On how many candles before a piece its model is trained, of each symbol.
        step_bars: How many candles a piece has, which one model speaks of.
        label_rule: The fields of `ml.labels.LabelRule`.
        forest: The fields of `ml.forest.ForestRule` that are not left as they are.
    """

    train_bars: int
    step_bars: int
    label_rule: Mapping[str, Any]
    forest: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestRequest:
    """Everything that a backtest depends on, beside the candles and the code.

    Attributes:
        symbols: The markets, which share one account; 1 to 10, in the order in which their cycles come.
        interval: The candles' interval.
        since: The first moment of trading.
        until: The end: the last candle opens before it.
        source: `STORE`, or the path of a file of candles.
        strategy: A name of `app.strategies.registry`.
        parameters: Those of the strategy.
        initial_cash: What the account is opened with, quote units.
        gate: What a BUY or SELL must have; a rule, which is sure of every signal, is asked nothing.
        terms: What a fill costs, and what may be filled; whether a short may be opened.
        sizing: How entries are sized.
        limits: What they must keep to.
        protection: How they are protected.
        window_bars: How many closed candles a cycle looks at, 61 to 999.
        latency_bars: How many bars late a signal is traded, beside the next open.
        seed: Fixes everything that is drawn.
        driver: What runs it.
        model_id: The frozen bundle that speaks, on candles after its training only.
        walk_forward: How models are trained on the way; the forest has either this or `model_id`, others neither.
    """

    symbols: tuple[str, ...]
    interval: Interval
    since: datetime
    until: datetime
    source: str = STORE
    strategy: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    initial_cash: Decimal
    gate: Gate
    terms: Terms
    sizing: SizingRule
    limits: LimitRules
    protection: ProtectionRule
    window_bars: int = 100
    latency_bars: int = 0
    seed: int = 0
    driver: Driver = Driver.COMPILED
    model_id: str | None = None
    walk_forward: WalkForward | None = None

    def to_document(self) -> dict[str, Any]:
        """The request as plain JSON."""
        document: dict[str, Any] = to_plain(self)
        return document

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> BacktestRequest:
        """The request of `to_document`; raises InvalidInputError `invalid_request` where it is none."""
        try:
            request: BacktestRequest = from_plain(cls, document)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise InvalidInputError("This is no request for a backtest.", code="invalid_request") from error
        return request

    @property
    def digest(self) -> str:
        """What tells the request from every other, 64 hexadecimal digits."""
        return digest(canonical(self.to_document()))
