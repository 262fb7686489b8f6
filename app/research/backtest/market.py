"""Everything about a backtest's markets that no account has a say in, computed once for all bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from app.domain.risk import SizingMethod, StopRule
from app.research.backtest.books import BoolArray, CodeArray
from app.research.backtest.ground import Ground, Part, join
from app.research.backtest.kernel.layout import CONFIDENT, Market
from app.research.backtest.measures import find_shares
from app.research.backtest.plan import Plan, Series
from app.research.backtest.verdicts import Verdicts, find_verdicts
from app.risk.limits import OLDEST_MODEL_AGES
from app.strategies.signals import SignalArrays, SignalCodes, say_by_rule
from ml.bars import IntegerArray

_NEVER_MS = 2**62
_NONE = np.zeros(0, dtype=np.int64)
_NEVER_OLD = np.zeros(0, dtype=np.bool_)

Said = SignalArrays | SignalCodes
"""What is said of a series; of a rule that is sure of each signal the signals will do."""


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """The markets of a backtest as the compiled pass takes them, and the cycles in their order.

    Attributes:
        ground: Where it runs, and the order of its cycles.
        market: The bars of all series, and what is thought of each.
        busy: The cycles whose signal passed the gate, shape (n_busy,).
        sides: 1 where it is a BUY, -1 where it is a SELL, shape (n_busy,).
    """

    ground: Ground
    market: Market
    busy: IntegerArray
    sides: CodeArray


def prepare(plan: Plan, series: Sequence[Series]) -> Prepared:
    """Prepare the markets of a backtest.

    Raises:
        InvalidInputError: `beyond_64_bits` or `candle_not_positive`, as `checked_bars.check_bars`.
    """
    return prepare_on(Ground(series), plan, [one.signals for one in series])


def prepare_on(ground: Ground, plan: Plan, said: Sequence[Said]) -> Prepared:
    """Prepare the markets of one of several backtests on the same candles.

    Args:
        ground: The candles.
        plan: How they are traded.
        said: What is said of each series.
    """
    found = [
        find_verdicts(signals, plan.gate, plan.latency_bars, part.find_refusals(plan.window_bars, plan.minimum_bars))
        for part, signals in zip(ground.parts, said, strict=True)
    ]
    verdicts, sides = join([one.codes for one in found]), join([one.sides for one in found])
    order = slice(len(ground.times_ms)) if ground.is_single else ground.cycle_bars
    busy = np.flatnonzero(verdicts[order] == CONFIDENT)
    needs_volume = plan.limits.max_volume_share > 0 or plan.terms.volume_share > 0
    true_ranges, shares = _measure(ground, plan, said, found)
    opening, high, low, close, exact = ground.prices
    market = Market(
        ground.open_time_ms,
        open=opening,
        high=high,
        low=low,
        close=close,
        exact=exact,
        volume=ground.volume if needs_volume else _NONE,
        verdicts=verdicts,
        true_ranges=true_ranges,
        shares=shares,
        too_old=_find_too_old(ground, plan, said),
    )
    return Prepared(ground, market, busy, sides[order][busy])


def _measure(
    ground: Ground, plan: Plan, said: Sequence[Said], found: Sequence[Verdicts]
) -> tuple[IntegerArray, IntegerArray]:
    """The true ranges and the shares that entries are protected and sized by, where the plan asks for them."""
    is_protected = plan.protection.stop is not StopRule.NONE or plan.protection.target_atr_multiple > 0
    needs_ranges = is_protected or plan.sizing.method is SizingMethod.RISK_PER_TRADE
    needs_shares = plan.sizing.method in (SizingMethod.VOLATILITY_TARGET, SizingMethod.KELLY)
    if not needs_ranges and not needs_shares:
        return _NONE, _NONE
    true_ranges, shares = [_NONE], [_NONE]
    rows = list(zip(ground.parts, said, (np.flatnonzero(one.codes[:-1] == CONFIDENT) for one in found), strict=True))
    if needs_ranges:
        true_ranges = [part.find_true_ranges(wanted) for part, _, wanted in rows]
    if needs_shares:
        shares = [_find_shares(plan, part, signals, wanted) for part, signals, wanted in rows]
    return join(true_ranges), join(shares)


def _find_shares(plan: Plan, part: Part, said: Said, wanted: IntegerArray) -> IntegerArray:
    if isinstance(said, np.ndarray):
        said = say_by_rule("", said, np.array([0, len(said)]), 1)
    return find_shares(plan, part.checked.interval, part.floats, said, wanted)


def _find_too_old(ground: Ground, plan: Plan, said: Sequence[Said]) -> BoolArray:
    """Whether the model behind each signal is too old to be traded on by the next open, shape (n_bars,) or (0,)."""
    if all(_are_ageless(signals) for signals in said):
        return _NEVER_OLD
    pieces = []
    for part, signals in zip(ground.parts, said, strict=True):
        times, bars = part.bars.open_time_ms, np.arange(len(part.bars))
        taught = np.full(len(bars), _NEVER_MS)
        if not isinstance(signals, np.ndarray):
            known = [_NEVER_MS if one.taught_until_ms is None else one.taught_until_ms for one in signals.sources]
            taught = np.array([*known, _NEVER_MS])[signals.speakers[np.maximum(bars - plan.latency_bars, 0)]]
        ages_ms = times[np.minimum(bars + 1, len(bars) - 1)] - taught
        pieces.append(ages_ms > OLDEST_MODEL_AGES * plan.limits.model_maximum_age // timedelta(milliseconds=1))
    return join(pieces)


def _are_ageless(signals: Said) -> bool:
    return isinstance(signals, np.ndarray) or all(source.taught_until_ms is None for source in signals.sources)
