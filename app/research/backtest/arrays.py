"""A market's candles in whole numbers, and what a cycle would refuse of them."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from app.domain.candle import Interval
from app.domain.data_quality import MAXIMUM_AGE_INTERVALS, MAXIMUM_QUOTE_DISTANCE_FRACTION, jump_factors
from app.domain.money import LARGEST, UNITS, from_units, to_units
from app.errors import InvalidInputError
from app.research.backtest.books import OUTCOMES, BoolArray, CodeArray
from ml.bars import Bars, FloatArray, IntegerArray

LARGEST_PRICE = 4 * 10**16
"""The highest price that compiled rules take, in 1e-8 quote units: 400 million whole ones."""

_EXACT = 2.0**51
"""Up to so many units a decimal number of eight decimals is what its nearest float rounds to."""

_INSUFFICIENT_HISTORY = OUTCOMES.index("insufficient_history")
_STALE = OUTCOMES.index("stale_data")
_JUMP = OUTCOMES.index("candle_jump")
_FAR_FROM_CLOSE = OUTCOMES.index("price_far_from_close")


@dataclass(frozen=True, slots=True, eq=False)
class UnitBars:
    """Closed candles in whole numbers of 1e-8 units, oldest first, each field of shape (n_bars,).

    A volume that is more than the books can hold is written as the most that they can.
    """

    open_time_ms: IntegerArray
    open: IntegerArray
    high: IntegerArray
    low: IntegerArray
    close: IntegerArray
    volume: IntegerArray

    def __len__(self) -> int:
        return len(self.open_time_ms)


def to_unit_bars(bars: Bars) -> UnitBars:
    """Candles in whole numbers; a price between two is rounded to the nearest.

    Raises:
        InvalidInputError: `beyond_64_bits`, a price is above `LARGEST_PRICE`; `candle_not_positive`, one is nothing
            once it is rounded.
    """
    prices = [to_unit_array(values) for values in (bars.open, bars.high, bars.low, bars.close)]
    if len(bars) and max(int(values.max()) for values in prices) > LARGEST_PRICE:
        words = f"Prices above {LARGEST_PRICE // UNITS:,} are beyond what a backtest can count in whole numbers."
        raise InvalidInputError(words, code="beyond_64_bits")
    if len(bars) and min(int(values.min()) for values in prices) < 1:
        raise InvalidInputError("A price is below 0.00000001; nothing can be traded there.", code="candle_not_positive")
    opening, high, low, close = prices
    return UnitBars(bars.open_time_ms, opening, high, low, close, to_unit_array(bars.volume))


def to_unit_array(values: FloatArray) -> IntegerArray:
    """Whole numbers of 1e-8 units, at most `LARGEST`, of the same shape.

    >>> to_unit_array(np.array([0.1, 1e18])).tolist()
    [10000000, 9223372036854775807]
    """
    scaled = values * float(UNITS)
    units = np.rint(np.minimum(scaled, _EXACT)).astype(np.int64)
    for place in np.flatnonzero(scaled > _EXACT).tolist():
        units[place] = min(to_units(Decimal(repr(float(values[place])))), LARGEST)
    return units


def find_refusals(bars: UnitBars, interval: Interval, window_bars: int, minimum_bars: int) -> CodeArray:
    """Which cycles `check_snapshot` refuses: a place in `OUTCOMES`, or 0, shape (n_bars - 1,).

    The cycle after bar i sees the newest `window_bars` candles up to it and, as its quote, the open of the next.
    """
    cycles = max(len(bars) - 1, 0)
    step = interval.milliseconds
    found = np.zeros(cycles, dtype=np.int8)
    found[_count_contiguous(bars.open_time_ms, step)[:cycles] < minimum_bars] = _INSUFFICIENT_HISTORY
    age = bars.open_time_ms[1:] - (bars.open_time_ms[:-1] + step - 1)
    found[age > MAXIMUM_AGE_INTERVALS * step] = _STALE
    far, of = MAXIMUM_QUOTE_DISTANCE_FRACTION.as_integer_ratio()
    found[of * np.abs(bars.open[1:] - bars.close[:-1]) > far * bars.close[:-1]] = _FAR_FROM_CLOSE
    found[_find_jumps(bars, jump_factors(interval), window_bars)[:cycles]] = _JUMP
    return found


def _count_contiguous(open_time_ms: IntegerArray, step: int) -> IntegerArray:
    """How many candles reach back from each without a gap, itself included, shape (n_bars,)."""
    places = np.arange(len(open_time_ms))
    starts = np.concatenate(([True], np.diff(open_time_ms) != step))[: len(places)]
    counts: IntegerArray = places - np.maximum.accumulate(np.where(starts, places, 0)) + 1
    return counts


def _find_jumps(bars: UnitBars, factors: tuple[Decimal, Decimal], window_bars: int) -> BoolArray:
    """Whether a candle of the window that ends with each bar moves further than a market does, shape (n_bars,)."""
    within = _is_far(bars.low, bars.open, factors) | _is_far(bars.high, bars.open, factors)
    inside = within | _is_far(bars.close, np.concatenate((bars.open[:1], bars.close[:-1])), factors)
    if not inside.any() and not _is_far(bars.close, bars.open, factors).any():
        return inside
    first = within | _is_far(bars.close, bars.open, factors)
    before = np.concatenate(([0], np.cumsum(inside)))
    ends = np.arange(len(bars))
    starts = np.maximum(ends - window_bars + 1, 0)
    jumps: BoolArray = first[starts] | (before[ends + 1] > before[starts + 1])
    return jumps


def _is_far(price: IntegerArray, base: IntegerArray, factors: tuple[Decimal, Decimal]) -> BoolArray:
    (least, of_least), (most, of_most) = (factor.as_integer_ratio() for factor in factors)
    far: BoolArray = (price * of_least < base * least) | (price * of_most > base * most)
    return far


def to_float_bars(bars: UnitBars) -> Bars:
    """The same candles as the floats that a live cycle computes with: the nearest to each decimal number."""
    prices = (bars.open, bars.high, bars.low, bars.close, bars.volume)
    return Bars(bars.open_time_ms, *(_to_floats(values) for values in prices))


def _to_floats(units: IntegerArray) -> FloatArray:
    floats: FloatArray = units / float(UNITS)
    for place in np.flatnonzero(units > _EXACT).tolist():
        floats[place] = float(from_units(int(units[place])))
    return floats
