"""A market's candles, and what a cycle would refuse of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from app.domain.candle import Interval
from app.domain.data_quality import MAXIMUM_AGE_INTERVALS, MAXIMUM_QUOTE_DISTANCE_FRACTION, jump_factors
from app.domain.money import UNITS
from app.errors import InvalidInputError
from app.research.backtest.books import CodeArray
from app.research.backtest.units import EXACT, count_prices
from ml.bars import Bars, IntegerArray

if TYPE_CHECKING:
    from app.research.backtest.kernel.candles import Bounds

LARGEST_PRICE = 4 * 10**16
"""The highest price that compiled rules take, in 1e-8 quote units: 400 million whole ones."""

_ROOM_TO_ROUND = 1.0001


@dataclass(frozen=True, slots=True, eq=False)
class CheckedBars:
    """Candles of which is known what a cycle would find wrong with them.

    Attributes:
        bars: The candles.
        interval: Theirs.
        exact: As `kernel.layout.Market` has it.
        starts: The bars that do not follow at once on the one before them, shape (n_runs,).
        faulty: The bars with which something is wrong, shape (n_faulty,).
        faults: What that is, as `kernel.candles.find_faults` writes it, shape (n_faulty,).
    """

    bars: Bars
    interval: Interval
    exact: IntegerArray
    starts: IntegerArray
    faulty: IntegerArray
    faults: CodeArray

    def find_refusals(self, window_bars: int, minimum_bars: int) -> CodeArray:
        """Which cycles `check_snapshot` refuses.

        The cycle after bar i sees the newest `window_bars` candles up to it and, as its quote, the open of the next.

        Returns:
            A place in `books.OUTCOMES` or 0 for each cycle, and 0 for the last bar, after which none runs, shape
            (n_bars,).
        """
        from app.research.backtest.kernel.candles import mark_refusals  # noqa: PLC0415 - loads numba, which only backtests need

        codes = np.zeros(len(self.bars), dtype=np.int8)
        if len(codes):
            bounds = _make_bounds(self.interval, window_bars, minimum_bars)
            mark_refusals(self.bars.open_time_ms, self.starts, self.faulty, self.faults, bounds, codes)
        return codes


def check_bars(bars: Bars, interval: Interval) -> CheckedBars:
    """Look for what is wrong with candles; their prices count in 1e-8 units, one between two as the nearest.

    Raises:
        InvalidInputError: `beyond_64_bits`, a price is above `LARGEST_PRICE`; `candle_not_positive`, one is nothing
            once it is rounded.
    """
    from app.research.backtest.kernel.candles import Prices, find_faults  # noqa: PLC0415 - loads numba, which only backtests need

    faulty, faults = np.empty(len(bars), dtype=np.int64), np.empty(len(bars), dtype=np.int8)
    starts = np.array([run.start for run in bars.find_segments(interval.milliseconds)], dtype=np.int64)
    columns = (bars.open, bars.high, bars.low, bars.close)
    exact = np.empty((4, 0), dtype=np.int64)
    bounds = _make_bounds(interval, 1, 1)
    count, lowest, highest = find_faults(Prices(*columns, exact), bounds, faulty, faults)
    if lowest < 1 or highest > EXACT:
        exact = count_prices(bars)
        count, lowest, highest = find_faults(Prices(*columns, exact), bounds, faulty, faults)
    if highest > LARGEST_PRICE:
        words = f"Prices above {LARGEST_PRICE // UNITS:,} are beyond what a backtest can count in whole numbers."
        raise InvalidInputError(words, code="beyond_64_bits")
    if lowest < 1:
        raise InvalidInputError("A price is below 0.00000001; nothing can be traded there.", code="candle_not_positive")
    return CheckedBars(bars, interval, exact, starts, faulty[:count].copy(), faults[:count].copy())


def _make_bounds(interval: Interval, window_bars: int, minimum_bars: int) -> Bounds:
    from app.research.backtest.kernel.candles import Bounds  # noqa: PLC0415 - loads numba, which only backtests need

    shrink, grow = jump_factors(interval)
    return Bounds(
        shrink=shrink.as_integer_ratio(),
        grow=grow.as_integer_ratio(),
        distance=MAXIMUM_QUOTE_DISTANCE_FRACTION.as_integer_ratio(),
        duration_ms=interval.milliseconds,
        oldest_ms=MAXIMUM_AGE_INTERVALS * interval.milliseconds,
        window_bars=window_bars,
        minimum_bars=minimum_bars,
        calm=float(max(shrink, 1 / grow, 1 / (1 + MAXIMUM_QUOTE_DISTANCE_FRACTION))) * _ROOM_TO_ROUND,
    )
