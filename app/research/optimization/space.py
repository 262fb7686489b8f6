"""What is varied: a few numbers of a strategy or of how it is traded, each from a lowest to a highest by steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import product
from typing import Final

import numpy as np

from app.domain.risk import SizingMethod, StopRule
from app.errors import InvalidInputError
from app.research.backtest.request import BacktestRequest
from app.strategies.registry import get_rule
from app.strategies.rules import Parameter

Point = tuple[int, ...]
"""A place in a space: of each axis the number of a step, from 0."""

Values = Mapping[str, int | float]
"""What the axes of a point stand for, by name."""

TRADING: Final = {
    one.name: one
    for one in (
        Parameter(
            "min_confidence", "number", 0.0, 1.0, 0.0, 0.01, "The least probability that is traded; forest only."
        ),
        Parameter("stop_atr_multiple", "number", 0.1, 100.0, 2.0, 0.25, "How many ATR away the stop stands."),
        Parameter("take_profit_atr_multiple", "number", 0.0, 100.0, 0.0, 0.5, "How many ATR away profit is taken."),
    )
}
"""What may be varied beside the parameters of a strategy; named as the settings are."""

_TWO_DECIMALS: Final = ("stop_atr_multiple", "take_profit_atr_multiple")

MAXIMUM_AXES: Final = 8
_DECIMALS: Final = 10
_ROUNDING: Final = 1e-9
_ATTEMPTS: Final = 2_000
"""How many points in a row may be drawn that conflict, before a space counts as having none that does not."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One number that is varied.

    Attributes:
        name: Of a parameter of the strategy, or of `TRADING`.
        low: The lowest value.
        high: The highest value that a step may reach.
        step: How far apart values are.
        is_integer: Whether they are whole numbers.
    """

    name: str
    low: float
    high: float
    step: float
    is_integer: bool

    def __post_init__(self) -> None:
        finite = all(map(math.isfinite, (self.low, self.high, self.step)))
        whole = all(one == one // 1 for one in (self.low, self.high, self.step)) if finite else False
        if not finite or self.step <= 0 or self.high < self.low or (self.is_integer and not whole):
            words = "whole numbers" if self.is_integer else "numbers"
            raise InvalidInputError(
                f"{self.name[:40]} is varied from a low to a high by a step above 0, all {words}.",
                code="range_invalid",
                context={"parameter": self.name[:40]},
            )

    def __len__(self) -> int:
        return int((self.high - self.low) / self.step + _ROUNDING) + 1

    def get_value(self, place: int) -> int | float:
        """The value after so many steps."""
        value = round(self.low + place * self.step, _DECIMALS)
        return int(value) if self.is_integer else value


@dataclass(frozen=True, slots=True)
class Range:
    """Which values of something are tried; what is None is as the strategy has it."""

    low: float | None = None
    high: float | None = None
    step: float | None = None


def make_axis(strategy: str, name: str, asked: Range) -> Axis:
    """An axis by the name of what it varies; what is left out is as the strategy has it.

    Raises:
        InvalidInputError: `parameter_unknown`, `parameter_invalid`, `parameter_out_of_range` or `range_invalid`.
        NotFoundError: `unknown_strategy`.
    """
    known = {one.name: one for one in get_rule(strategy).parameters} | TRADING
    if name not in known:
        raise InvalidInputError(
            f"{name[:40]!r} cannot be varied for {strategy}; {', '.join(known)} can.",
            code="parameter_unknown",
            context={"parameter": name[:40], "known": list(known)},
        )
    one = known[name]
    if name in _TWO_DECIMALS and any(
        end is not None and round(end, 2) != end for end in (asked.low, asked.high, asked.step)
    ):
        raise InvalidInputError(f"{name} has two decimals.", code="range_invalid", context={"parameter": name})
    low = float(one.check(one.low if asked.low is None else asked.low))
    high = float(one.check(one.high if asked.high is None else asked.high))
    return Axis(name, low, high, float(one.step if asked.step is None else asked.step), one.kind == "integer")


def find_start(strategy: str, fixed: Values, axes: Sequence[Axis]) -> tuple[dict[str, int | float], int]:
    """Parameters to begin with, and how many closed candles the trial that needs the most of them looks back on.

    Args:
        strategy: Whose.
        fixed: Those that are given and do not vary.
        axes: What varies.

    Returns:
        The fixed parameters, with an end of each axis of the strategy, such that they go together; and the candles.

    Raises:
        InvalidInputError: `parameter_fixed`, one is both; `no_valid_point`, no ends go together.
    """
    rule = get_rule(strategy)
    own = [one for one in axes if one.name not in TRADING]
    twice = [one.name for one in own if one.name in fixed]
    if twice:
        raise InvalidInputError(
            f"{twice[0]} is either varied or given, not both.", code="parameter_fixed", context={"parameter": twice[0]}
        )
    defaults = {one.name: one.default for one in rule.parameters}
    starts = [{**fixed, **ends} for ends in _list_ends(own)]
    found = next((one for one in starts if rule.find_conflict({**defaults, **one}) is None), None)
    if found is None:
        raise _find_none()
    return found, max(rule.lookback({**defaults, **one}) for one in starts)


def _list_ends(axes: Sequence[Axis]) -> list[dict[str, int | float]]:
    """Every way to set each axis to one of its ends."""
    names = [one.name for one in axes]
    ends = [sorted({axis.get_value(0), axis.get_value(len(axis) - 1)}) for axis in axes]
    return [dict(zip(names, values, strict=True)) for values in product(*ends)]


@dataclass(frozen=True, slots=True)
class Space:
    """The points that may be tried of a strategy.

    Attributes:
        base: What every trial is besides; its parameters have a value where no axis gives one.
        axes: What is varied, one or more.
    """

    base: BacktestRequest
    axes: tuple[Axis, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.axes) == len({one.name for one in self.axes}) <= MAXIMUM_AXES:
            raise InvalidInputError(
                f"Vary 1 to {MAXIMUM_AXES} different parameters; {self.base.strategy} has "
                f"{', '.join(one.name for one in get_rule(self.base.strategy).parameters) or 'none of its own'}.",
                code="nothing_to_vary",
            )
        for axis in self.axes:
            reason = _find_idle(self.base, axis.name)
            if reason is not None:
                raise InvalidInputError(
                    f"{axis.name} changes nothing here: {reason}.",
                    code="nothing_to_vary",
                    context={"parameter": axis.name},
                )

    @property
    def size(self) -> int:
        """How many points there are, those that conflict included."""
        return math.prod(len(one) for one in self.axes)

    def get_values(self, point: Point) -> dict[str, int | float]:
        """What a point stands for."""
        return {axis.name: axis.get_value(place) for axis, place in zip(self.axes, point, strict=True)}

    def is_valid(self, point: Point) -> bool:
        """Whether its values go together."""
        return get_rule(self.base.strategy).find_conflict({**self.base.parameters, **self.get_values(point)}) is None

    def make_request(self, values: Values) -> BacktestRequest:
        """The trial of these values."""
        own = {name: value for name, value in values.items() if name not in TRADING}
        request = replace(self.base, parameters={**self.base.parameters, **own}) if own else self.base
        return _trade_by(request, values)

    def draw(self, random: np.random.Generator) -> Point:
        """A point whose values go together, each as likely as another; raises as `_find_none`."""
        sizes = [len(one) for one in self.axes]
        for _ in range(_ATTEMPTS):
            point = tuple(random.integers(sizes).tolist())
            if self.is_valid(point):
                return point
        raise _find_none()

    def list_points(self) -> list[Point]:
        """All points whose values go together, the last axis changing first; raises as `_find_none`."""
        points = [point for point in product(*(range(len(one)) for one in self.axes)) if self.is_valid(point)]
        if not points:
            raise _find_none()
        return points

    def make_widest_request(self) -> BacktestRequest:
        """What has candles enough before it for every trial; it need not be one itself."""
        rule = get_rule(self.base.strategy)
        corners = [self.make_request(values) for values in _list_ends(self.axes)]
        return max(corners, key=lambda one: rule.lookback(one.parameters))


def _trade_by(request: BacktestRequest, values: Values) -> BacktestRequest:
    protection = request.protection
    if "stop_atr_multiple" in values:
        protection = replace(protection, stop_atr_multiple=_to_hundredths(values["stop_atr_multiple"]))
    if "take_profit_atr_multiple" in values:
        protection = replace(protection, target_atr_multiple=_to_hundredths(values["take_profit_atr_multiple"]))
    gate = request.gate
    if "min_confidence" in values:
        gate = replace(gate, min_confidence=float(values["min_confidence"]))
    return replace(request, protection=protection, gate=gate)


def _to_hundredths(multiple: float) -> Decimal:
    return Decimal(str(round(multiple, 2)))


def _find_idle(base: BacktestRequest, name: str) -> str | None:
    """Why varying something would try the same thing again and again; None where it would not."""
    stops = base.protection.stop is not StopRule.NONE or base.sizing.method is SizingMethod.RISK_PER_TRADE
    if name == "stop_atr_multiple" and not stops:
        return "stop_rule is none"
    if name == "min_confidence" and not base.is_learned:
        return f"{base.strategy} is sure of every signal"
    if name not in TRADING and base.model_id is not None:
        return "the model was taught by its own"
    return None


def _find_none() -> InvalidInputError:
    return InvalidInputError("No point of these ranges has values that go together; widen one.", code="no_valid_point")
