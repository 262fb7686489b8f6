"""Candles in whole numbers of 1e-8 units."""

from __future__ import annotations

from decimal import Decimal
from typing import TypeVar

import numpy as np

from app.domain.money import LARGEST, UNITS, from_units, to_units
from ml.bars import Bars, FloatArray, IntegerArray

EXACT = 2**51
"""Up to so many units a decimal number of eight decimals is what its nearest float rounds to."""

_Values = TypeVar("_Values", float, FloatArray)


def nearest_units(values: _Values) -> _Values:
    """The nearest whole numbers of 1e-8 units, as floats; one value, or an array of them.

    >>> float(nearest_units(0.1))
    10000000.0
    """
    units: _Values = np.rint(values * float(UNITS))
    return units


def to_unit_array(values: FloatArray) -> IntegerArray:
    """Whole numbers of 1e-8 units, at most `LARGEST`, of the same shape.

    >>> to_unit_array(np.array([0.1, 1e18])).tolist()
    [10000000, 9223372036854775807]
    """
    large = np.flatnonzero(values > EXACT / UNITS).tolist()
    if not large:
        return nearest_units(values).astype(np.int64)
    units = nearest_units(np.minimum(values, EXACT / UNITS)).astype(np.int64)
    for place in large:
        value = float(values[place])
        units[place] = LARGEST if value * UNITS > LARGEST else min(to_units(Decimal(repr(value))), LARGEST)
    return units


def count_prices(bars: Bars) -> IntegerArray:
    """The open, high, low and close in whole units, shape (4, n_bars)."""
    return np.array([to_unit_array(values) for values in (bars.open, bars.high, bars.low, bars.close)])


def to_float_bars(bars: Bars) -> Bars:
    """The same candles as the floats that a live cycle computes with: the nearest to decimal numbers of 1e-8 units."""
    prices = (bars.open, bars.high, bars.low, bars.close, bars.volume)
    return Bars(bars.open_time_ms, *(_to_floats(to_unit_array(values)) for values in prices))


def _to_floats(units: IntegerArray) -> FloatArray:
    floats: FloatArray = units / float(UNITS)
    for place in np.flatnonzero(units > EXACT).tolist():
        floats[place] = float(from_units(int(units[place])))
    return floats
