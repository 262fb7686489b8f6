"""What a strategy is besides its code: a name, a space of parameters, and signals for all bars at once.

A strategy is one file that makes a `Rule`, and a line in `app.strategies.registry`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from app.domain.candle import Candle
from app.domain.signal import Prediction
from app.errors import InvalidInputError, NotReadyError
from app.strategies.bars import bars_from_candles
from app.strategies.signals import SignalArrays, SignalCodes, say_by_rule
from ml.bars import Bars, IntegerArray

Values = Mapping[str, int | float]
"""A value for each parameter of a strategy, by its name."""

FindSignals = Callable[[Bars, IntegerArray], Callable[[Values], SignalCodes]]
"""Looks at candles once; what it returns says the signal after each bar for any values, to several threads at once.

The integers are where the runs of candles without a gap begin, then the number of bars; nothing may reach across a gap,
or depend on later bars, or on more than the rule's lookback."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One number that a strategy can be set by.

    Attributes:
        name: In snake_case, with its unit.
        kind: What it may be.
        low: The least value that is allowed.
        high: The largest one.
        default: What it is where nobody says otherwise.
        step: How far apart values are worth trying.
        description: What it does, in a sentence.
    """

    name: str
    kind: Literal["integer", "number"]
    low: float
    high: float
    default: float
    step: float
    description: str

    def check(self, value: object) -> int | float:
        """The value as this parameter takes it.

        Raises:
            InvalidInputError: `parameter_invalid`, it is no number of this kind; `parameter_out_of_range`.
        """
        is_integer = self.kind == "integer"
        if isinstance(value, bool) or not isinstance(value, int | float) or (is_integer and value != value // 1):
            raise InvalidInputError(
                f"{self.name} takes a{'n integer' if is_integer else ' number'}, not {str(value)[:40]!r}.",
                code="parameter_invalid",
                context={"parameter": self.name},
            )
        if not self.low <= value <= self.high:
            raise InvalidInputError(
                f"{self.name} is {str(value)[:40]}; give a value from {self.low:g} to {self.high:g}.",
                code="parameter_out_of_range",
                context={"parameter": self.name, "low": self.low, "high": self.high},
            )
        return int(value) if is_integer else float(value)


def _find_no_conflict(_values: Values) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Rule:
    """A strategy and the space of its parameters.

    Attributes:
        name: What it is asked for by.
        summary: What it does, in a sentence.
        parameters: What it can be set by.
        lookback: How many closed candles one prediction needs, by the values.
        find_signals: What it says; None where it must be taught first (`app.strategies.forest.predict_bars`).
        find_conflict: Why values do not go together, in a sentence; None where they do.
    """

    name: str
    summary: str
    parameters: tuple[Parameter, ...]
    lookback: Callable[[Values], int]
    find_signals: FindSignals | None = None
    find_conflict: Callable[[Values], str | None] = _find_no_conflict

    @property
    def is_learned(self) -> bool:
        """Whether it must be taught before it says anything."""
        return self.find_signals is None

    def check_values(self, given: Mapping[str, object]) -> dict[str, int | float]:
        """A value for each parameter: the given one, or its default.

        Raises:
            InvalidInputError: `parameter_unknown`, `parameter_invalid`, `parameter_out_of_range` or
                `parameters_conflict`.
        """
        known = [parameter.name for parameter in self.parameters]
        for name in given:
            if name not in known:
                raise InvalidInputError(
                    f"{self.name} has no parameter {name[:40]!r}; it has {', '.join(known) or 'none'}.",
                    code="parameter_unknown",
                    context={"parameter": name[:40], "known": known},
                )
        values = {one.name: one.check(given.get(one.name, one.default)) for one in self.parameters}
        conflict = self.find_conflict(values)
        if conflict is not None:
            raise InvalidInputError(conflict, code="parameters_conflict", context={"values": values})
        return values

    def name_model(self, values: Values) -> str:
        """What decisions by these values carry."""
        told = ",".join(f"{one.name}={values[one.name]:g}" for one in self.parameters)
        return f"{self.name}:{told}" if told else self.name

    def compute_signals(self, bars: Bars, interval_ms: int, values: Values) -> SignalArrays:
        """What is said after each bar: what `RuleStrategy.predict` says of the bars up to it.

        Raises:
            InvalidInputError: `strategy_untaught`, this strategy needs a model.
        """
        segments = bars.find_segments(interval_ms)
        return self.say(bars, np.array([0, *(segment.stop for segment in segments)]), values)

    def say(self, bars: Bars, edges: IntegerArray, values: Values) -> SignalArrays:
        """As `compute_signals`, of bars whose runs without a gap are known, as `FindSignals` takes them."""
        if self.find_signals is None:
            raise InvalidInputError(f"{self.name} must be taught before it says anything.", code="strategy_untaught")
        signals = self.find_signals(bars, edges)(values)
        return say_by_rule(self.name_model(values), signals, edges, self.lookback(values))


class RuleStrategy:
    """Satisfies `ports.Strategy` with a rule and values.

    Args:
        rule: What predicts.
        values: What it is set by; what is left out is as the rule has it.
    """

    def __init__(self, rule: Rule, values: Mapping[str, object]) -> None:
        self._rule = rule
        self._values = rule.check_values(values)
        self.model_id = rule.name_model(self._values)
        self.lookback_bars = rule.lookback(self._values)

    def predict(self, candles: Sequence[Candle]) -> Prediction:
        """What to do after the last of `candles` (oldest first, contiguous); raises `NotReadyError`."""
        newest = candles[-self.lookback_bars :]
        said = None
        if newest:
            bars = bars_from_candles(newest)
            said = self._rule.say(bars, np.array([0, len(bars)]), self._values).predict(len(bars) - 1)
        if said is None:
            raise NotReadyError(
                f"A prediction needs {self.lookback_bars} closed candles; there are {len(candles)}.",
                code="insufficient_history",
                context={"have": len(candles), "need": self.lookback_bars},
            )
        return said
