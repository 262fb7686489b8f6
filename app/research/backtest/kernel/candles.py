"""What a cycle would refuse of its candles, compiled: the rules of `app.domain.data_quality.check_snapshot`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from app.domain.money import UNITS
from app.research.backtest.books import OUTCOMES, CodeArray
from app.research.backtest.kernel.layout import CLOSE, HIGH, LOW, OPEN, Candle, Market
from app.research.backtest.native import compiled, inlined
from app.research.backtest.units import EXACT, nearest_units
from ml.bars import FloatArray, IntegerArray

_INSUFFICIENT_HISTORY = OUTCOMES.index("insufficient_history")
_STALE = OUTCOMES.index("stale_data")
_JUMP = OUTCOMES.index("candle_jump")
_FAR_FROM_CLOSE = OUTCOMES.index("price_far_from_close")

# What is wrong with a bar, in bits: it jumps within or from the close before it; it would if it were the first of its
# window; its open is far from the close before it.
_JUMPS, _JUMPS_AS_FIRST, _IS_FAR = 1, 2, 4

_BLOCK = 1_024
_LEAST_CALM, _MOST_CALM = 10**6, EXACT
"""Between so many units rounding to one matters less than `calm` leaves room for."""


class Prices(NamedTuple):
    """The prices of bars, as in `layout.Market`."""

    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    exact: IntegerArray


class Bounds(NamedTuple):
    """What candles are held to: shares as whole numbers (numerator, denominator), times in milliseconds.

    Nothing is wrong with a bar whose lowest price, or the close before it, is at least the share `calm` of its highest.
    """

    shrink: tuple[int, int]
    grow: tuple[int, int]
    distance: tuple[int, int]
    duration_ms: int
    oldest_ms: int
    window_bars: int
    minimum_bars: int
    calm: float


@inlined
def price_at(prices: FloatArray, exact: IntegerArray, row: int, bar: int) -> int:
    """A price in 1e-8 quote units."""
    return int(exact[row, bar]) if exact.shape[1] else int(nearest_units(prices[bar]))


@inlined
def load_candle(candle: Candle, market: Market, bar: int) -> None:
    """Look at a bar."""
    candle.opened_ms = market.open_time_ms[bar]
    candle.open = price_at(market.open, market.exact, OPEN, bar)
    candle.high = price_at(market.high, market.exact, HIGH, bar)
    candle.low = price_at(market.low, market.exact, LOW, bar)
    candle.close = price_at(market.close, market.exact, CLOSE, bar)
    candle.volume = market.volume[bar] if len(market.volume) else 0


@inlined
def _is_beyond(price: int, base: int, bounds: Bounds) -> bool:
    (least, of_least), (most, of_most) = bounds.shrink, bounds.grow
    return (price * of_least < base * least) | (price * of_most > base * most)


@inlined
def _find_fault(opening: int, high: int, low: int, close: int, before: int, bounds: Bounds) -> int:
    far, of_far = bounds.distance
    within = _is_beyond(low, opening, bounds) | _is_beyond(high, opening, bounds)
    jumps = within | _is_beyond(close, before, bounds)
    jumps_as_first = within | _is_beyond(close, opening, bounds)
    is_far = of_far * abs(opening - before) > far * before
    return _JUMPS * jumps + _JUMPS_AS_FIRST * jumps_as_first + _IS_FAR * is_far


@compiled
def find_faults(prices: Prices, bounds: Bounds, faulty: IntegerArray, faults: CodeArray) -> tuple[int, int, int]:
    """Find the bars with which something is wrong.

    Args:
        prices: Of all bars.
        bounds: What they are held to.
        faulty: Written to: which bars those are, rising, as many of the first as there are; shape (n_bars,).
        faults: Written to: what is wrong with each, in the same places, shape (n_bars,).

    Returns:
        How many those are, and the lowest and the highest price of all that are not calm; nothing but calm ones are
        between `LEAST_CALM` and `MOST_CALM`.
    """
    opens, highs, lows, closes, exact = prices
    count, lowest, highest = 0, _LEAST_CALM, _MOST_CALM
    for start in range(0, len(opens), _BLOCK):
        stop = min(start + _BLOCK, len(opens))
        if not exact.shape[1] and start > 0 and _are_calm(prices, start, stop, bounds.calm):
            continue
        for bar in range(start, stop):
            before = price_at(closes, exact, CLOSE, bar - 1) if bar > 0 else price_at(opens, exact, OPEN, 0)
            opening, high = price_at(opens, exact, OPEN, bar), price_at(highs, exact, HIGH, bar)
            low, close = price_at(lows, exact, LOW, bar), price_at(closes, exact, CLOSE, bar)
            lowest = min(lowest, opening, high, low, close)
            highest = max(highest, opening, high, low, close)
            faulty[count], faults[count] = bar, _find_fault(opening, high, low, close, before, bounds)
            count += faults[count] != 0
    return count, lowest, highest


@inlined
def _are_calm(prices: Prices, start: int, stop: int, calm: float) -> bool:
    """Whether nothing can be wrong with any of these bars, as none of their prices is far from another.

    The loop has no branches and counts in floats, so that the compiler does many bars at once.
    """
    opens, highs = prices.open[start:stop], prices.high[start:stop]
    lows, closes, befores = prices.low[start:stop], prices.close[start:stop], prices.close[start - 1 : stop - 1]
    strange = 0
    for bar in range(len(opens)):
        most = max(opens[bar], highs[bar], lows[bar], closes[bar], befores[bar])
        least = min(opens[bar], highs[bar], lows[bar], closes[bar], befores[bar])
        is_known = opens[bar] + highs[bar] + lows[bar] + closes[bar] < np.inf
        is_calm = is_known & (least >= most * calm) & (least >= _LEAST_CALM / UNITS) & (most <= _MOST_CALM / UNITS)
        strange += not is_calm
    return strange == 0


@compiled
def mark_refusals(
    open_time_ms: IntegerArray,
    starts: IntegerArray,
    faulty: IntegerArray,
    faults: CodeArray,
    bounds: Bounds,
    codes: CodeArray,
) -> None:
    """Write for each cycle why it is refused, a place in `books.OUTCOMES`, where it is; the last reason found counts.

    Args:
        open_time_ms: When the bars opened, shape (n_bars,).
        starts: The bars that do not follow at once on one before them, shape (n_runs,).
        faulty: The bars with which something is wrong, shape (n_faulty,).
        faults: What that is, as `find_faults` writes it, shape (n_faulty,).
        bounds: What candles are held to.
        codes: Written to, shape (n_bars,).
    """
    count = len(open_time_ms) - 1
    for start in starts:
        _mark(codes, start, start + bounds.minimum_bars - 1, count, _INSUFFICIENT_HISTORY)
    for start in starts:
        if start > 0 and open_time_ms[start] - (open_time_ms[start - 1] + bounds.duration_ms - 1) > bounds.oldest_ms:
            codes[start - 1] = _STALE
    for place in range(len(faulty)):
        if faulty[place] > 0 and faults[place] & _IS_FAR:
            codes[faulty[place] - 1] = _FAR_FROM_CLOSE
    for place in range(len(faulty)):
        _mark_jumps(faulty[place], faults[place], bounds.window_bars, count, codes)


@inlined
def _mark_jumps(bar: int, fault: int, window_bars: int, count: int, codes: CodeArray) -> None:
    """Mark the cycles whose window holds a bar; that of cycle i begins with bar i + 1 - window_bars, or the first."""
    begun = bar + window_bars - 1
    if fault & _JUMPS:
        _mark(codes, bar, begun, count, _JUMP)
    if fault & _JUMPS_AS_FIRST:
        _mark(codes, begun if bar > 0 else 0, begun + 1, count, _JUMP)


@inlined
def _mark(codes: CodeArray, start: int, stop: int, count: int, code: int) -> None:
    for cycle in range(start, min(stop, count)):
        codes[cycle] = code
