"""Turns what a forest states into probabilities that come true: the numbers of a calibration, and how they apply.

Serving needs no scikit-learn: these are the formulas of its `CalibratedClassifierCV`, equal to 1e-12 (tested).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ml.bars import FloatArray
from ml.labels import BUY, HOLD, SELL

METHODS: Final = ("temperature", "sigmoid", "isotonic")
"""How a calibration may be made."""

ISOTONIC_ROWS: Final = 5_000
"""How many independent rows an isotonic calibration needs; with fewer it follows the noise (measured)."""

_CLASSES = 3
EPSILON: Final = 1e-12
"""Added to a probability before its logarithm is taken, as scikit-learn does."""

_MAXIMUM_KNOTS = 100_000
_LARGEST = 1e100
_LARGEST_EXPONENT = 700.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """The numbers of a calibration of three classes.

    Attributes:
        method: One of `METHODS`.
        beta: The inverse temperature, above 0; `temperature` only. 1 leaves probabilities as they are.
        slopes: a of 1 / (1 + exp(a p + b)) for each class; `sigmoid` only.
        intercepts: b of the same.
        knots: For each class the forest's probabilities and what they mean, both rising; `isotonic` only.
        direction: How much of what the forest says about BUY against SELL is believed, 0 (nothing: always
            `buy_share`) to 1 (all of it). Telling busy hours from quiet ones is far easier than telling where the price
            goes, and one temperature for both leaves the second overconfident (measured: 0.48 stated, 0.39 true).
        buy_share: The share of BUY among the rows that were BUY or SELL, above 0 and below 1.
    """

    method: str = "temperature"
    beta: float = 1.0
    slopes: tuple[float, ...] = ()
    intercepts: tuple[float, ...] = ()
    knots: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = ()
    direction: float = 1.0
    buy_share: float = 0.5

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"the calibration's method must be one of {', '.join(METHODS)}")
        numbers = np.array([self.beta, *self.slopes, *self.intercepts])
        if not ((np.abs(numbers) < _LARGEST).all() and 0.0 < self.beta < 1e5):
            raise ValueError("the numbers of a calibration must be finite, and its beta above 0")
        if not (0.0 <= self.direction <= 1.0 and 0.0 < self.buy_share < 1.0):
            raise ValueError("direction must lie between 0 and 1, buy_share above 0 and below 1")
        if self.method == "sigmoid" and not len(self.slopes) == len(self.intercepts) == _CLASSES:
            raise ValueError("a sigmoid calibration has a slope and an intercept for each class")
        if self.method == "isotonic":
            self._check_knots()

    def _check_knots(self) -> None:
        if len(self.knots) != _CLASSES:
            raise ValueError("an isotonic calibration has knots for each class")
        for stated, meant in self.knots:
            pair = np.array([stated, meant])
            sound = pair.ndim == 2 and 1 <= pair.shape[1] <= _MAXIMUM_KNOTS and np.isfinite(pair).all()
            if not (sound and (np.diff(pair) >= 0).all() and (pair >= 0).all() and (pair <= 1).all()):
                raise ValueError("the knots of an isotonic calibration must rise, from 0 to 1 at most")

    def apply(self, probabilities: FloatArray) -> FloatArray:
        """The calibrated probabilities of rows, shape (n_rows, 3) to the same.

        >>> Calibration(beta=0.5).apply(np.array([[0.64, 0.36, 0.0]])).round(3).tolist()
        [[0.571, 0.429, 0.0]]
        """
        said = self._apply_method(probabilities)
        if self.direction == 1.0:
            return said
        moves = said[:, SELL] + said[:, BUY]
        odds = self._prior_odds * _map(
            lambda value: math.pow(value, self.direction), _odds(said[:, BUY], said[:, SELL])
        )
        up = moves * (odds / (1.0 + odds))
        return np.stack((moves - up, said[:, HOLD], up), axis=1)

    @property
    def _prior_odds(self) -> float:
        return math.pow(self.buy_share / (1.0 - self.buy_share), 1.0 - self.direction)

    def _apply_method(self, probabilities: FloatArray) -> FloatArray:
        if self.method == "temperature" and self.beta == 1.0:
            return probabilities
        if self.method == "temperature":
            # softmax(beta * log(p)), written as powers; the largest becomes 1, so that none vanishes.
            raised = probabilities + EPSILON
            raised = _map(lambda value: math.pow(value, self.beta), raised / raised.max(axis=-1, keepdims=True))
            softened: FloatArray = raised / raised.sum(axis=-1, keepdims=True)
            return softened
        if self.method == "sigmoid":
            exponents = np.array(self.slopes) * probabilities + np.array(self.intercepts)
            said = 1.0 / (1.0 + _map(math.exp, np.minimum(exponents, _LARGEST_EXPONENT)))
        else:
            columns = [
                np.interp(probabilities[..., number], stated, meant)
                for number, (stated, meant) in enumerate(self.knots)
            ]
            said = np.stack(columns, axis=-1)
        total = said.sum(axis=-1, keepdims=True)
        shares: FloatArray = np.divide(said, total, out=np.full_like(said, 1 / _CLASSES), where=total != 0)
        return shares

    def apply_one(self, total: list[float], trees: int) -> FloatArray:
        """The calibrated probabilities of one row, from the sums over all trees; the bits of `apply`."""
        if self.method != "temperature" or self.beta == 1.0:
            only: FloatArray = self.apply(np.array([total]) / trees)[0]
            return only
        first, second, third = total
        first, second, third = first / trees + EPSILON, second / trees + EPSILON, third / trees + EPSILON
        largest = max(first, second, third)
        beta = self.beta
        first = math.pow(first / largest, beta)
        second = math.pow(second / largest, beta)
        third = math.pow(third / largest, beta)
        whole = first + second + third
        sell, hold, buy = first / whole, second / whole, third / whole
        if self.direction != 1.0:
            moves = sell + buy
            odds = self._prior_odds * math.pow((buy + EPSILON) / (sell + EPSILON), self.direction)
            buy = moves * (odds / (1.0 + odds))
            sell = moves - buy
        return np.array((sell, hold, buy))

    def as_card(self) -> dict[str, Any]:
        """The numbers as JSON can hold them."""
        card: dict[str, Any] = {"method": self.method, "direction": self.direction, "buy_share": self.buy_share}
        match self.method:
            case "temperature":
                return card | {"beta": self.beta}
            case "sigmoid":
                return card | {"slopes": list(self.slopes), "intercepts": list(self.intercepts)}
            case _:
                return card | {"knots": [[list(side) for side in pair] for pair in self.knots]}

    @classmethod
    def from_card(cls, numbers: dict[str, Any]) -> Calibration:
        """Read what `as_card` wrote; raises `ValueError` or `TypeError` for anything else."""
        if set(numbers) - set(cls.__dataclass_fields__) or not isinstance(numbers.get("method"), str):
            raise ValueError("a calibration holds a method and its numbers")
        plain = {name: _number(numbers[name]) for name in ("beta", "direction", "buy_share") if name in numbers}
        return cls(
            method=numbers["method"],
            **plain,
            slopes=tuple(map(_number, numbers.get("slopes", ()))),
            intercepts=tuple(map(_number, numbers.get("intercepts", ()))),
            knots=tuple(
                (tuple(map(_number, stated)), tuple(map(_number, meant))) for stated, meant in numbers.get("knots", ())
            ),
        )


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LARGEST:
        raise ValueError(f"{str(value)[:40]} is no number of a calibration")
    return float(value)


def _odds(buy: FloatArray, sell: FloatArray) -> FloatArray:
    return (buy + EPSILON) / (sell + EPSILON)


def _map(function: Callable[[float], float], values: FloatArray) -> FloatArray:
    """The C library's function of each value: numpy's own has other last bits, and others on each processor."""
    return np.fromiter(map(function, values.ravel().tolist()), dtype=np.float64, count=values.size).reshape(
        values.shape
    )
