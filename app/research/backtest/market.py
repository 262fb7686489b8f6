"""Everything about a backtest's markets that no account has a say in, computed once for all bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.domain.risk import SizingMethod, StopRule
from app.research.backtest.arrays import count_prices, find_refusals, to_float_bars, to_unit_array
from app.research.backtest.books import BoolArray, CodeArray
from app.research.backtest.kernel.layout import CONFIDENT, Market
from app.research.backtest.measures import find_shares, find_true_ranges
from app.research.backtest.plan import Plan, Series
from app.research.backtest.verdicts import find_verdicts
from app.risk.limits import OLDEST_MODEL_AGES
from ml.bars import IntegerArray

_NEVER_MS = 2**62
_NONE = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """The markets of a backtest as the compiled pass takes them, and the cycles in their order.

    `first_bars` is where each series begins in `market`, shape (n_series,). `cycle_series`, `cycle_bars` (counted in
    `market`) and `times_ms` are of shape (n_cycles,), as in `books.Books`. `busy` are the cycles whose signal passed
    the gate, `sides` 1 where it is a BUY and -1 where it is a SELL, both of shape (n_busy,).
    """

    series: tuple[Series, ...]
    market: Market
    first_bars: IntegerArray
    cycle_series: IntegerArray
    cycle_bars: IntegerArray
    times_ms: IntegerArray
    busy: IntegerArray
    sides: CodeArray

    def own_bars(self) -> IntegerArray:
        """`cycle_bars`, counted in each series, shape (n_cycles,)."""
        if len(self.series) == 1:
            return self.cycle_bars
        bars: IntegerArray = self.cycle_bars - self.first_bars[self.cycle_series]
        return bars


def prepare(plan: Plan, series: Sequence[Series]) -> Prepared:
    """Prepare the markets of a backtest.

    Raises:
        InvalidInputError: `beyond_64_bits` or `candle_not_positive`, as `arrays.find_refusals`.
    """
    pairs = [_prepare_part(plan, one) for one in series]
    parts, lengths = [part for part, _ in pairs], [len(one.bars) for one in series]
    market, sides = (parts[0], pairs[0][1]) if len(parts) == 1 else (_join(parts), np.concatenate([s for _, s in pairs]))
    firsts = np.cumsum([0, *lengths[:-1]]).astype(np.int64)
    cycle_series, cycle_bars, times_ms = order_cycles(market.open_time_ms, firsts, lengths)
    verdicts = market.verdicts[: len(cycle_bars)] if len(parts) == 1 else market.verdicts[cycle_bars]
    busy = np.flatnonzero(verdicts == CONFIDENT)
    return Prepared(tuple(series), market, firsts, cycle_series, cycle_bars, times_ms, busy, sides[cycle_bars[busy]])


def _prepare_part(plan: Plan, series: Series) -> tuple[Market, CodeArray]:
    bars = series.bars
    refusals, exact = find_refusals(bars, series.interval, plan.window_bars, plan.minimum_bars)
    verdicts = find_verdicts(series.signals, plan.gate, plan.latency_bars, refusals)
    needs_volume = plan.limits.max_volume_share > 0 or plan.terms.volume_share > 0
    market = Market(
        *(bars.open_time_ms, bars.open, bars.high, bars.low, bars.close, exact),
        volume=to_unit_array(bars.volume) if needs_volume else _NONE,
        verdicts=verdicts.codes,
        **_measure(plan, series, verdicts.codes),
        too_old=_find_too_old(plan, series),
    )
    return market, verdicts.sides


def _measure(plan: Plan, series: Series, verdicts: CodeArray) -> dict[str, IntegerArray]:
    """What entries are protected and sized by, where the plan asks for it."""
    is_protected = plan.protection.stop is not StopRule.NONE or plan.protection.target_atr_multiple > 0
    needs_range = is_protected or plan.sizing.method is SizingMethod.RISK_PER_TRADE
    needs_shares = plan.sizing.method in (SizingMethod.VOLATILITY_TARGET, SizingMethod.KELLY)
    if not needs_range and not needs_shares:
        return {"true_ranges": _NONE, "shares": _NONE}
    floats, wanted = to_float_bars(series.bars), np.flatnonzero(verdicts[:-1] == CONFIDENT)
    return {
        "true_ranges": find_true_ranges(floats, series.interval, wanted) if needs_range else _NONE,
        "shares": find_shares(plan, series, floats, wanted) if needs_shares else _NONE,
    }


def _find_too_old(plan: Plan, series: Series) -> BoolArray:
    """Whether the model behind each bar's signal is too old to be traded on by the next open, shape (n_bars,) or (0,)."""
    sources = series.signals.sources
    if all(source.taught_until_ms is None for source in sources):
        return np.zeros(0, dtype=np.bool_)
    taught = [_NEVER_MS if one.taught_until_ms is None else one.taught_until_ms for one in sources]
    bars = np.arange(len(series.bars))
    speakers = series.signals.speakers[np.maximum(bars - plan.latency_bars, 0)]
    ages = series.bars.open_time_ms[np.minimum(bars + 1, len(bars) - 1)] - np.array([*taught, _NEVER_MS])[speakers]
    limit = OLDEST_MODEL_AGES * plan.limits.model_maximum_age
    too_old: BoolArray = ages * 1_000 > limit.total_seconds() * 1_000_000
    return too_old


def _join(parts: Sequence[Market]) -> Market:
    """The bars of all series, one after another; what is left out of some only is filled in."""
    if any(part.exact.shape[1] for part in parts):
        parts = [part._replace(exact=part.exact if part.exact.shape[1] else count_prices(part)) for part in parts]
    return Market(*(_join_column([getattr(part, name) for part in parts], parts) for name in Market._fields))


def _join_column(pieces: Sequence[np.ndarray], parts: Sequence[Market]) -> np.ndarray:
    if any(piece.shape[-1] for piece in pieces):
        pairs = zip(pieces, parts, strict=True)
        pieces = [one if one.shape[-1] else np.zeros(len(part.open_time_ms), one.dtype) for one, part in pairs]
    return np.concatenate(pieces, axis=-1)


def order_cycles(
    open_time_ms: IntegerArray, firsts: IntegerArray, lengths: Sequence[int]
) -> tuple[IntegerArray, IntegerArray, IntegerArray]:
    """The series, the bar and the time of each cycle, in the order of time, then of series."""
    counts = [max(length - 1, 0) for length in lengths]
    if len(counts) == 1:
        return np.zeros(counts[0], dtype=np.int64), np.arange(counts[0]), open_time_ms[1:]
    bars = np.concatenate([first + np.arange(count) for first, count in zip(firsts, counts, strict=True)])
    series = np.repeat(np.arange(len(counts)), counts)
    times = open_time_ms[bars + 1]
    order = np.lexsort((series, times))
    return series[order], bars[order], times[order]
