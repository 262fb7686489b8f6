"""What a backtest is asked to be: plain values that say everything, so that the same request gives the same run."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

from app.agents.decision_making import Gate
from app.broker.desk import Terms
from app.domain.candle import Interval
from app.domain.record import canonical, digest, to_plain
from app.errors import InvalidInputError
from app.research.backtest.plan import Plan
from app.risk.limits import LimitRules
from app.risk.protection import ProtectionRule
from app.risk.sizing import SizingRule
from app.strategies.forest import FOREST

STORE: Final = "store"
"""The source of candles that are kept, and fetched from the service's market where they are not."""

MAXIMUM_SYMBOLS: Final = 10
MAXIMUM_BARS: Final = 5_000_000
"""The most candles of all symbols together: 240 MB of them, and four times that while they are worked on."""

LEAST_BARS: Final = 2
"""A signal after the first can be traded at the open of the second."""

EARLIEST: Final = datetime(2010, 1, 1, tzinfo=UTC)
"""No exchange we know has older candles."""

MAXIMUM_CASH: Final = 10**9
MAXIMUM_LATENCY: Final = 1_000
LEAST_WINDOW: Final = 61
MAXIMUM_WINDOW: Final = 999

_SYMBOL: Final = re.compile(r"[A-Z0-9]{5,20}")
_MODEL_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_LONGEST_TEXT: Final = 1_000
_LONGEST_NAME: Final = 64
_MOST_PARAMETERS: Final = 20
_MOST_PIECES: Final = 1_000


class Driver(StrEnum):
    """What runs a backtest; both give the same books."""

    COMPILED = "compiled"
    ENGINE = "engine"


@dataclass(frozen=True, slots=True)
class WalkForwardRule:
    """How the forest is taught on the way, so that no model sees a candle before it has spoken of it.

    What its parameters say is not here: how far it looks, what counts as a move and how its trees grow.

    Attributes:
        train_bars: How many candles before a piece teach it, of each symbol.
        step_bars: How many candles a piece has, which one model speaks of.
        embargo_bars: How many candles lie at least between the last label that teaches and the piece.
        label_kind: What counts as BUY and SELL, as `ml.labels.LabelRule` has it.
        volatility_multiple: The same.
        class_weight: How much a class counts, as `ml.forest.ForestRule` has it.
        calibration: How probabilities are made to come true; the same.
    """

    train_bars: int
    step_bars: int
    embargo_bars: int = 0
    label_kind: str = "fixed"
    volatility_multiple: float = 1.0
    class_weight: str = "none"
    calibration: str = "temperature"


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
    walk_forward: WalkForwardRule | None = None

    def __post_init__(self) -> None:
        for name, (is_right, words) in self._rules().items():
            if not is_right:
                raise InvalidInputError(f"{name} must be {words}.", code="invalid_request", context={"field": name})

    @property
    def is_learned(self) -> bool:
        """Whether models speak, which state how sure they are; a rule is sure of every signal."""
        return self.model_id is not None or self.walk_forward is not None

    @property
    def bars(self) -> int:
        """How many candles of one symbol there are between the first moment and the end, gaps included."""
        return (self.until - self.since) // self.interval.duration

    def to_document(self) -> dict[str, Any]:
        """The request as plain JSON."""
        document: dict[str, Any] = to_plain(self)
        return document

    @property
    def digest(self) -> str:
        """What tells the request from every other, 64 hexadecimal digits."""
        return digest(canonical(self.to_document()))

    def _rules(self) -> dict[str, tuple[bool, str]]:
        """What every field must be, in words; those of the trading rules are checked where they are chosen."""
        symbols, walk = self.symbols, self.walk_forward
        aware = self.since.tzinfo is not None and self.until.tzinfo is not None
        names = all(isinstance(one, str) and _SYMBOL.fullmatch(one) for one in symbols)
        steps = self.bars if aware else 0
        return {
            "symbols": (
                names and 1 <= len(symbols) == len(set(symbols)) <= MAXIMUM_SYMBOLS,
                f"1 to {MAXIMUM_SYMBOLS} different symbols such as BTCUSDT",
            ),
            "since": (aware and self.since >= EARLIEST, "a time with its zone, from 2010 on"),
            "until": (aware and steps >= LEAST_BARS, f"at least {LEAST_BARS} candles after since"),
            "span": (steps * len(symbols) <= MAXIMUM_BARS, f"of at most {MAXIMUM_BARS:,} candles of all symbols"),
            "source": (0 < len(self.source) <= _LONGEST_TEXT, f"{STORE}, or the path of a file of candles"),
            "strategy": (0 < len(self.strategy) <= _LONGEST_NAME, "the name of a strategy"),
            "parameters": (_is_small(self.parameters), "a few names with numbers, true, false or short texts"),
            "initial_cash": (0 < self.initial_cash <= MAXIMUM_CASH, f"above 0 and at most {MAXIMUM_CASH:,}"),
            "window_bars": (LEAST_WINDOW <= self.window_bars <= MAXIMUM_WINDOW, "from 61 to 999"),
            "latency_bars": (0 <= self.latency_bars <= MAXIMUM_LATENCY, f"from 0 to {MAXIMUM_LATENCY}"),
            "seed": (0 <= self.seed < 2**32, "from 0 to 4294967295"),
            "model_id": (
                self.model_id is None or (_MODEL_ID.fullmatch(self.model_id) is not None and walk is None),
                "the id of a model, and left out where models are trained on the way",
            ),
            "walk_forward": (
                walk is None
                or (0 <= walk.embargo_bars < walk.train_bars <= MAXIMUM_BARS and 1 <= walk.step_bars <= MAXIMUM_BARS),
                "taught by more candles than lie between, for at least one",
            ),
            "step_bars": (
                walk is None or walk.step_bars <= 0 or steps / walk.step_bars <= _MOST_PIECES,
                f"so many that at most {_MOST_PIECES:,} models are taught",
            ),
            "models": (
                self.is_learned == (self.strategy == FOREST.name),
                f"named by model_id or trained on the way for {FOREST.name}, and for nothing else",
            ),
            "parameters of a model": (self.model_id is None or not self.parameters, "none: it was taught by its own"),
        }


def make_plan(request: BacktestRequest, minimum_bars: int) -> Plan:
    """How a request is traded.

    Args:
        request: What is asked for.
        minimum_bars: How many closed candles without a gap its strategy needs.
    """
    return Plan(
        initial_cash=request.initial_cash,
        gate=request.gate if request.is_learned else Gate(0.0),
        terms=request.terms,
        sizing=request.sizing,
        limits=request.limits,
        protection=request.protection,
        window_bars=request.window_bars,
        minimum_bars=minimum_bars,
        latency_bars=request.latency_bars,
    )


def _is_small(parameters: Mapping[str, Any]) -> bool:
    """Whether these can be the parameters of a strategy; which of them it knows, it says itself."""
    return len(parameters) <= _MOST_PARAMETERS and all(
        isinstance(name, str)
        and len(name) <= _LONGEST_NAME
        and isinstance(value, bool | int | float | str)
        and len(str(value)) <= _LONGEST_NAME
        and not (isinstance(value, float) and not math.isfinite(value))
        for name, value in parameters.items()
    )
