"""How far from its entry price a position is protected, in multiples of the average true range (ATR)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal

from app.domain.money import PPM, UNITS
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


def atr_distance(atr: int, multiple: Decimal) -> int:
    """`multiple` (two decimals) times `atr`, rounded down, in the units of `atr`.

    >>> atr_distance(101, Decimal("1.5"))
    151
    """
    return atr * int(multiple * 100) // 100


def measure_distances(rule: ProtectionRule, atr: int, price: int) -> Distances:
    """Where the orders that `rule` asks for stand.

    Args:
        rule: Which orders.
        atr: The average true range in 1e-8 quote units.
        price: The entry price in 1e-8 quote units.

    >>> measure_distances(ProtectionRule(StopRule.TRAILING_STOP), atr=3, price=200)
    Distances(stop=0, target=0, trail_fraction=Decimal('0.030000'))
    """
    stop, target = atr_distance(atr, rule.stop_atr_multiple), atr_distance(atr, rule.target_atr_multiple)
    if rule.stop is StopRule.TRAILING_STOP:
        # Orders count in whole parts per million; a trail of none would be no protection.
        return Distances(0, target, Decimal(max(stop * PPM // price, 1)).scaleb(-6))
    return Distances(stop if rule.stop is StopRule.STOP_LOSS else 0, target)
