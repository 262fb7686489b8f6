"""Everything about a backtest's markets that no account has a say in, computed once for all bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from app.domain.risk import SizingMethod, StopRule
from app.research.backtest.arrays import UnitBars, find_refusals, to_float_bars, to_unit_bars
from app.research.backtest.measures import find_shares, find_true_ranges
from app.research.backtest.plan import Plan, Series
from app.research.backtest.verdicts import Verdicts, find_verdicts
from app.risk.limits import OLDEST_MODEL_AGES
from ml.bars import IntegerArray

if TYPE_CHECKING:
    from app.research.backtest.books import BoolArray, CodeArray
    from app.research.backtest.kernel.layout import Market

_NEVER_MS = 2**62
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """The markets of a backtest as the compiled pass takes them, and the cycles in their order.

    `first_bars` is where each series begins in `market`, shape (n_series,); the rest is of shape (n_cycles,), as in
    `books.Books`, with `cycle_bars` counted in `market`.
    """

    series: tuple[Series, ...]
    market: Market
    first_bars: IntegerArray
    cycle_series: IntegerArray
    cycle_bars: IntegerArray
    times_ms: IntegerArray


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """One series of a market."""

    bars: UnitBars
    verdicts: CodeArray
    sides: CodeArray
    true_ranges: IntegerArray
    shares: IntegerArray
    too_old: BoolArray


def prepare(plan: Plan, series: Sequence[Series]) -> Prepared:
    """Prepare the markets of a backtest.

    Raises:
        InvalidInputError: `beyond_64_bits` or `candle_not_positive`, as `arrays.to_unit_bars`.
    """
    from app.research.backtest.kernel.layout import Market  # noqa: PLC0415 - loads numba, which only backtests need

    parts = [_prepare_part(plan, one) for one in series]
    fields = ("open_time_ms", "open", "high", "low", "close", "volume")
    columns = [_join([getattr(part.bars, name) for part in parts]) for name in fields]
    more = ("verdicts", "sides", "true_ranges", "shares", "too_old")
    market = Market(*columns, *(_join([getattr(part, name) for part in parts]) for name in more))
    lengths = [len(part.bars) for part in parts]
    firsts = np.cumsum([0, *lengths[:-1]]).astype(np.int64)
    return Prepared(tuple(series), market, firsts, *_order_cycles(market.open_time_ms, firsts, lengths))


def _prepare_part(plan: Plan, series: Series) -> _Part:
    bars = to_unit_bars(series.bars)
    refusals = find_refusals(bars, series.interval, plan.window_bars, plan.minimum_bars)
    verdicts = find_verdicts(series.signals, plan.gate, plan.latency_bars, refusals)
    wanted = np.flatnonzero(verdicts.codes == 0)
    is_protected = plan.protection.stop is not StopRule.NONE or plan.protection.target_atr_multiple > 0
    needs_range = is_protected or plan.sizing.method is SizingMethod.RISK_PER_TRADE
    needs_shares = plan.sizing.method in (SizingMethod.VOLATILITY_TARGET, SizingMethod.KELLY)
    floats = to_float_bars(bars) if needs_range or needs_shares else series.bars
    return _Part(
        bars,
        _to_bars(verdicts.codes, len(bars)),
        _to_bars(verdicts.sides, len(bars)),
        find_true_ranges(floats, series.interval, wanted if needs_range else wanted[:0]),
        find_shares(
            plan.sizing,
            floats,
            series.interval,
            series.signals,
            verdicts.said_at,
            wanted if needs_shares else wanted[:0],
        ),
        _find_too_old(plan, series, verdicts),
    )


def _find_too_old(plan: Plan, series: Series, verdicts: Verdicts) -> BoolArray:
    """Whether the model behind each bar's signal is too old to be traded on by the next open, shape (n_bars,)."""
    sources = series.signals.sources
    if all(source.taught_until_ms is None for source in sources):
        return np.zeros(len(series.bars), dtype=np.bool_)
    taught = [_NEVER_MS if one.taught_until_ms is None else one.taught_until_ms for one in sources]
    speakers = series.signals.speakers[np.maximum(verdicts.said_at, 0)]
    ages = series.bars.open_time_ms[1:] - np.array([*taught, _NEVER_MS])[speakers]
    limit = OLDEST_MODEL_AGES * plan.limits.model_maximum_age
    return _to_bars(ages > limit // _MILLISECOND, len(series.bars))


def _to_bars(values: np.ndarray, bars: int) -> np.ndarray:
    """Values of cycles with one more for the last bar, after which none runs."""
    return np.concatenate((values, np.zeros(bars - len(values), dtype=values.dtype)))


def _join(pieces: Sequence[np.ndarray]) -> np.ndarray:
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def _order_cycles(
    open_time_ms: IntegerArray, firsts: IntegerArray, lengths: Sequence[int]
) -> tuple[IntegerArray, IntegerArray, IntegerArray]:
    """The series, the bar and the time of each cycle, in the order of time, then of series."""
    counts = [max(length - 1, 0) for length in lengths]
    bars = np.concatenate([first + np.arange(count) for first, count in zip(firsts, counts, strict=True)])
    series = np.repeat(np.arange(len(counts)), counts)
    times = open_time_ms[bars + 1] if len(bars) else bars
    if len(lengths) > 1:
        order = np.lexsort((series, times))
        series, bars, times = series[order], bars[order], times[order]
    return series, bars, times
