"""What a cycle would refuse of its candles, compiled: the rules of `app.domain.data_quality.check_snapshot`."""

from __future__ import annotations

from typing import NamedTuple

from app.research.backtest.books import OUTCOMES, CodeArray
from app.research.backtest.kernel.layout import CLOSE, HIGH, LOW, OPEN, Candle, Market
from app.research.backtest.native import compiled, inlined
from app.research.backtest.units import nearest_units
from ml.bars import FloatArray, IntegerArray

_INSUFFICIENT_HISTORY = OUTCOMES.index("insufficient_history")
_STALE = OUTCOMES.index("stale_data")
_JUMP = OUTCOMES.index("candle_jump")
_FAR_FROM_CLOSE = OUTCOMES.index("price_far_from_close")

# What is wrong with a bar, in bits: it jumps within or from the close before it; it would if it were the first of its
# window; its open is far from the close before it.
_JUMPS, _JUMPS_AS_FIRST, _IS_FAR = 1, 2, 4


class Prices(NamedTuple):
    """The prices of bars, as in `layout.Market`."""

    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    exact: IntegerArray


class Bounds(NamedTuple):
    """What candles are held to: shares as whole numbers (numerator, denominator), times in milliseconds."""

    shrink: tuple[int, int]
    grow: tuple[int, int]
    distance: tuple[int, int]
    duration_ms: int
    oldest_ms: int
    window_bars: int
    minimum_bars: int


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
def find_faults(prices: Prices, bounds: Bounds, faults: CodeArray) -> tuple[int, int]:
    """Write what is wrong with each of some bars; returns the lowest and the highest of all prices.

    The loop has no branches, so that the compiler does many bars at once.
    """
    opens, highs, lows, closes, exact = prices
    lowest = highest = price_at(opens, exact, OPEN, 0)
    for bar in range(len(faults)):
        before = price_at(closes, exact, CLOSE, bar - 1) if bar > 0 else price_at(opens, exact, OPEN, 0)
        opening, high = price_at(opens, exact, OPEN, bar), price_at(highs, exact, HIGH, bar)
        low, close = price_at(lows, exact, LOW, bar), price_at(closes, exact, CLOSE, bar)
        lowest = min(lowest, opening, high, low, close)
        highest = max(highest, opening, high, low, close)
        faults[bar] = _find_fault(opening, high, low, close, before, bounds)
    return lowest, highest


@compiled
def mark_refusals(open_time_ms: IntegerArray, faults: CodeArray, bounds: Bounds, codes: CodeArray) -> None:
    """Write for each cycle why it is refused, a place in `books.OUTCOMES`, or 0."""
    contiguous, last_jump, duration_ms = 0, -1, bounds.duration_ms
    for cycle in range(len(open_time_ms) - 1):
        is_next = cycle > 0 and open_time_ms[cycle] - open_time_ms[cycle - 1] == duration_ms
        contiguous = contiguous + 1 if is_next else 1
        if faults[cycle] & _JUMPS:
            last_jump = cycle
        first = max(cycle - bounds.window_bars + 1, 0)
        code = _INSUFFICIENT_HISTORY if contiguous < bounds.minimum_bars else 0
        if open_time_ms[cycle + 1] - (open_time_ms[cycle] + duration_ms - 1) > bounds.oldest_ms:
            code = _STALE
        if faults[cycle + 1] & _IS_FAR:
            code = _FAR_FROM_CLOSE
        if faults[first] & _JUMPS_AS_FIRST or last_jump > first:
            code = _JUMP
        codes[cycle] = code
