"""What all backtests on the same candles share, worked out when one of them first asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from app.domain.money import to_units
from app.research.backtest.books import CodeArray
from app.research.backtest.checked_bars import CheckedBars, check_bars
from app.research.backtest.kernel.layout import FACTS
from app.research.backtest.measures import UNKNOWN, find_true_ranges
from app.research.backtest.plan import Series
from app.research.backtest.units import count_prices, to_float_bars, to_unit_array
from app.risk.curves import DAY_MS, find_utc_days
from ml.bars import Bars, IntegerArray


class Ground:
    """The candles of some series, and their cycles in the order of time, then of series.

    Threads may share one: what two of them work out at once is the same.

    Args:
        series: The markets; what is said of them is not looked at.

    Raises:
        InvalidInputError: `beyond_64_bits` or `candle_not_positive`, as `checked_bars.check_bars`.
    """

    def __init__(self, series: Sequence[Series]) -> None:
        self.series = tuple(series)
        self.parts = [Part(check_bars(one.bars, one.interval)) for one in series]
        self.first_bars = np.cumsum([0, *(len(part.bars) for part in self.parts[:-1])]).astype(np.int64)
        self.open_time_ms = join([part.bars.open_time_ms for part in self.parts])

    @property
    def is_single(self) -> bool:
        """Whether there is one series, whose cycles are its bars but for the last."""
        return len(self.series) == 1

    @cached_property
    def cycle_bars(self) -> IntegerArray:
        """After which bar each cycle runs, counted among those of all series, shape (n_cycles,)."""
        counts = [max(len(part.bars) - 1, 0) for part in self.parts]
        bars = join([first + np.arange(count) for first, count in zip(self.first_bars, counts, strict=True)])
        return bars if self.is_single else bars[np.argsort(self.open_time_ms[bars + 1], kind="stable")]

    @cached_property
    def cycle_series(self) -> IntegerArray:
        """Which series each cycle is about, shape (n_cycles,)."""
        if self.is_single:
            return np.broadcast_to(np.int64(0), len(self.times_ms))
        return np.searchsorted(self.first_bars, self.cycle_bars, side="right") - 1

    @cached_property
    def times_ms(self) -> IntegerArray:
        """When each cycle runs: the open time of the bar after its own, shape (n_cycles,)."""
        return self.open_time_ms[1:] if self.is_single else self.open_time_ms[self.cycle_bars + 1]

    @cached_property
    def prices(self) -> tuple[np.ndarray, ...]:
        """Open, high, low, close and `exact` of `kernel.layout.Market`."""
        columns = [join([getattr(part.bars, name) for part in self.parts]) for name in ("open", "high", "low", "close")]
        exact = [part.checked.exact for part in self.parts]
        if any(one.shape[1] for one in exact):
            pairs = zip(exact, self.parts, strict=True)
            exact = [one if one.shape[1] else count_prices(part.bars) for one, part in pairs]
        return (*columns, join(exact))

    @cached_property
    def volume(self) -> IntegerArray:
        """In 1e-8 base units, shape (n_bars,)."""
        return to_unit_array(join([part.bars.volume for part in self.parts]))

    @cached_property
    def day_ends(self) -> IntegerArray:
        """The cycle after the last of each UTC day, shape (n_days,)."""
        days = find_utc_days(self.times_ms)
        ends = (np.arange(days.start, days.stop, dtype=np.int64) + 1) * DAY_MS
        return np.searchsorted(self.times_ms, ends).astype(np.int64)

    @cached_property
    def facts(self) -> np.ndarray:
        """What each series is, records of `kernel.layout.FACTS`."""
        facts = np.zeros(len(self.series), FACTS)
        for row, series, first_bar in zip(facts, self.series, self.first_bars.tolist(), strict=True):
            instrument = series.instrument
            row["tick"], row["lot"] = to_units(instrument.tick_size), to_units(instrument.lot_step)
            row["minimum_notional"] = to_units(instrument.minimum_notional)
            row["first_bar"], row["duration_ms"] = first_bar, series.interval.milliseconds
        return facts


class Part:
    """One series of it."""

    def __init__(self, checked: CheckedBars) -> None:
        self.checked = checked
        self.bars = checked.bars
        self._refusals: dict[tuple[int, int], CodeArray] = {}
        self._true_ranges: IntegerArray | None = None

    @cached_property
    def floats(self) -> Bars:
        """The candles as a live cycle computes with them."""
        return to_float_bars(self.bars)

    def find_refusals(self, window_bars: int, minimum_bars: int) -> CodeArray:
        """As `CheckedBars.find_refusals`; not to be written to."""
        key = window_bars, minimum_bars
        if key not in self._refusals:
            self._refusals[key] = self.checked.find_refusals(*key)
        return self._refusals[key]

    def find_true_ranges(self, wanted: IntegerArray) -> IntegerArray:
        """As `measures.find_true_ranges`; `UNKNOWN` after bars that no one has asked for."""
        if self._true_ranges is None:
            self._true_ranges = np.full(len(self.bars), UNKNOWN, dtype=np.int64)
        found = self._true_ranges
        new = wanted[found[wanted] == UNKNOWN]
        found[new] = find_true_ranges(self.floats, self.checked.interval, new)
        return found


def join(pieces: Sequence[np.ndarray]) -> np.ndarray:
    """The arrays one after another, along their last axis; one alone as it is."""
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=-1)
