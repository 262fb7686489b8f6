"""How far from its entry price a position is protected, in multiples of the average true range (ATR)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal

from app.domain.money import PPM, UNITS, multiply_divide
from app.domain.risk import StopRule


@dataclass(frozen=True, slots=True)
class ProtectionRule:
    """The protective orders of an entry.

    Attributes:
        stop: Which order takes a losing entry out.
        stop_atr_multiple: How many ATR it is away, above 0.
        target_atr_multiple: How many ATR above (for a short below) the entry the profit is taken; 0 for never.
    """

    stop: StopRule = StopRule.NONE
    stop_atr_multiple: Decimal = Decimal(2)
    target_atr_multiple: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Distances:
    """Where the protective orders stand, in 1e-8 quote units from the entry price; 0 for an order that is not there.

    A trailing stop has `trail_fraction` of the best price, in whole parts per million, in place of `stop`; 0 for none.
    """

    stop: int = 0
    target: int = 0
    trail_fraction: Decimal = Decimal(0)


def to_price(value: float) -> int:
    """A price in whole 1e-8 quote units, rounded down.

    >>> to_price(0.5)
    50000000
    """
    return math.floor(value * UNITS)


def to_hundredths(multiple: Decimal) -> int:
    """A multiple of the ATR, which has two decimals, in whole hundredths.

    >>> to_hundredths(Decimal("1.5"))
    150
    """
    return int(multiple * 100)


def multiple_of(atr: int, hundredths: int) -> int:
    """So many hundredths of `atr`, rounded down, in its units.

    >>> multiple_of(101, 150)
    151
    """
    return multiply_divide(atr, hundredths, 100)


def trail_ppm(distance: int, price: int) -> int:
    """How far a trailing stop stays from the best price, in whole parts per million; 1 at least, to be a protection.

    >>> trail_ppm(distance=6, price=200)
    30000
    """
    return max(multiply_divide(distance, PPM, price), 1)


def are_placeable(nearest: int, farthest: int, price: int) -> bool:
    """Whether protective orders so far away are away from the entry price, and above zero.

    >>> are_placeable(1, 99, price=100), are_placeable(0, 4, price=100), are_placeable(1, 100, price=100)
    (True, False, False)
    """
    return nearest > 0 and farthest < price


def measure_distances(rule: ProtectionRule, atr: int, price: int) -> Distances:
    """Where the orders that `rule` asks for stand.

    Args:
        rule: Which orders.
        atr: The average true range in 1e-8 quote units.
        price: The entry price in 1e-8 quote units.

    >>> measure_distances(ProtectionRule(StopRule.TRAILING_STOP), atr=3, price=200)
    Distances(stop=0, target=0, trail_fraction=Decimal('0.030000'))
    """
    stop = multiple_of(atr, to_hundredths(rule.stop_atr_multiple))
    target = multiple_of(atr, to_hundredths(rule.target_atr_multiple))
    if rule.stop is StopRule.TRAILING_STOP:
        return Distances(0, target, Decimal(trail_ppm(stop, price)).scaleb(-6))
    return Distances(stop if rule.stop is StopRule.STOP_LOSS else 0, target)
