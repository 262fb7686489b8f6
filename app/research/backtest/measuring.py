"""From the books of a backtest to what is said of it; pure functions. The numbers are those of `app.risk.metrics`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import pairwise
from typing import Final

import numpy as np

from app.domain.money import UNITS, multiply_divide, to_units
from app.research.backtest.books import OUTCOMES, Books, BoolArray
from app.research.backtest.plan import Plan, Series
from app.research.backtest.result import BacktestResult, CalibrationBin, ClosedTrades, Curves, MonthlyReturn, Said
from app.risk.curves import compute_daily_curve, compute_daily_returns, find_utc_days
from app.risk.metrics import AccountHistory
from ml.bars import FloatArray, IntegerArray
from ml.labels import LabelArray

_BINS: Final = 10
_NOTHING: Final = -1
_POINTS_PER_BUCKET: Final = 4
"""The first and the last of a bucket, its least and its greatest equity."""


def drop_warm_up(books: Books, start_ms: int) -> Books:
    """The books from the first cycle at or after `start_ms` on; nothing may have been filled before it."""
    first = int(np.searchsorted(books.times_ms, start_ms))
    cycle = books.fills.cycle - first
    if len(cycle) and cycle[0] < 0:
        raise ValueError("something was filled before the first cycle that counts")
    return Books(
        times_ms=books.times_ms[first:],
        series=books.series[first:],
        first_bars=books.first_bars + np.bincount(books.series[:first], minlength=len(books.first_bars)),
        outcomes=books.outcomes[first:],
        equity=books.equity[first:],
        held=books.held[first:],
        fills=replace(books.fills, cycle=cycle),
        halted_cycle=books.halted_cycle - first if books.halted_cycle >= 0 else -1,
    )


def to_history(plan: Plan, books: Books) -> AccountHistory:
    """The books as what `app.risk.metrics` measures."""
    fills, exits = books.fills, find_exits(books)
    net = (fills.profit - fills.entry_fees - fills.fee)[exits]
    moved = np.abs(fills.price - fills.reference) / UNITS
    return AccountHistory(
        initial_cash=float(plan.initial_cash),
        times_ms=books.times_ms,
        equity=books.equity / UNITS,
        held=books.held,
        notionals=fills.notional / UNITS,
        fees=fills.fee / UNITS,
        slippages=moved * (fills.quantity / UNITS),
        profits=net / UNITS,
    )


def compute_daily(initial_cash: float, books: Books) -> tuple[FloatArray, FloatArray]:
    """The curve of a run from day to day, shape (n_days + 1,), and its returns, as `app.risk.curves` has them.

    Of these returns Sharpe ratios and their significance are made.
    """
    days = find_utc_days(books.times_ms)
    curve = compute_daily_curve(books.times_ms, books.equity / UNITS, initial_cash, days)
    return curve, compute_daily_returns(curve)


def find_exits(books: Books) -> BoolArray:
    """Which fills made a position smaller, shape (n_fills,).

    A sale that leaves something or nothing has sold what was there; one that leaves less than nothing has opened a
    short, as dust is less than any order may be. What is bought while less than nothing is held covers a short.
    """
    fills = books.fills
    before = np.zeros(len(fills), dtype=np.int64)
    for places in _by_series(books):
        before[places[1:]] = fills.position_after[places[:-1]]
    return np.where(fills.side < 0, fills.position_after >= 0, before < 0)


def find_closed_trades(books: Books) -> ClosedTrades:
    """Every exit held against its average entry, in the order of exits."""
    fills, exits = books.fills, find_exits(books)
    numbers = np.arange(len(fills))
    entry_fill = np.full(len(fills), -1, dtype=np.int64)
    for places in _by_series(books):
        entry_fill[places] = np.maximum.accumulate(np.where(exits[places], -1, numbers[places]))
    exit_fill = np.flatnonzero(exits)
    entry_fill = entry_fill[exits]
    is_long = fills.side[exits] < 0
    quantity, notional, profit = fills.quantity[exits], fills.notional[exits], fills.profit[exits]
    entry_notional = np.where(is_long, notional - profit, notional + profit)
    fees = fills.entry_fees[exits] + fills.fee[exits]
    entered, left, bars = fills.cycle[entry_fill], fills.cycle[exits], books.bars
    with np.errstate(divide="ignore", invalid="ignore"):
        net_returns = np.where(entry_notional > 0, (profit - fees) / entry_notional, 0.0)
    return ClosedTrades(
        series=books.series[left],
        is_long=is_long,
        entry_fill=entry_fill,
        exit_fill=exit_fill,
        opened_ms=books.times_ms[entered],
        closed_ms=books.times_ms[left],
        quantity=quantity,
        entry_price=_average(entry_notional, quantity),
        exit_price=fills.price[exits],
        fees=fees,
        net_profit=profit - fees,
        net_returns=net_returns,
        bars_held=bars[left] - bars[entered],
    )


def recall(series: Sequence[Series], books: Books, latency_bars: int) -> Said:
    """What was said that each cycle traded on: after its bar, or so many bars before it.

    Args:
        series: The markets, with what was said of them.
        books: The run, with or without its warm-up.
        latency_bars: How many bars late a signal was traded.
    """
    signals = np.full(len(books), _NOTHING, dtype=np.int8)
    confidences = np.zeros(len(books), dtype=np.float32)
    said_at = books.bars - latency_bars
    for place, one in enumerate(series):
        spoken = (books.series == place) & (said_at >= 0)
        spoken[spoken] = one.signals.speakers[said_at[spoken]] >= 0
        signals[spoken] = one.signals.signals[said_at[spoken]]
        confidences[spoken] = one.signals.confidences[said_at[spoken]]
    return Said(signals, confidences)


def compute_curves(result: BacktestResult) -> Curves:
    """Everything that can be drawn over time, a point for each cycle."""
    books = result.books
    initial = to_units(result.run.request.initial_cash)
    peaks = np.maximum.accumulate(np.maximum(books.equity, initial))
    return Curves(books.times_ms, books.equity, result.benchmark_equity, 1.0 - books.equity / peaks, books.held)


def thin_curves(curves: Curves, points: int) -> Curves:
    """The curves for a display of `points` points or fewer (at least 8): of each stretch its ends and its extremes.

    What is kept is untouched; between two points there may have been more, but equity was nowhere higher or lower than
    what is kept of its stretch.
    """
    if len(curves) <= points:
        return curves
    places = find_extremes(curves.equity, points)
    return Curves(*(getattr(curves, one.name)[places] for one in fields(Curves)))


def find_extremes(values: FloatArray | IntegerArray, points: int) -> IntegerArray:
    """The places of `points` values or fewer (at least 8), in order: of each stretch its ends and its extremes."""
    if len(values) <= points:
        return np.arange(len(values))
    edges = np.linspace(0, len(values), max(points // _POINTS_PER_BUCKET, 2) + 1).astype(np.int64)
    kept = {
        start + int(place)
        for start, end in pairwise(edges.tolist())
        for place in (0, end - start - 1, values[start:end].argmin(), values[start:end].argmax())
    }
    return np.array(sorted(kept))


def compute_monthly_returns(plan: Plan, books: Books, benchmark_equity: FloatArray) -> tuple[MonthlyReturn, ...]:
    """What each UTC month brought, the first and the last as far as they were traded, oldest first.

    Args:
        plan: How it was traded.
        books: What it came to.
        benchmark_equity: What buy-and-hold was worth at each cycle, quote units, shape (n_cycles,).
    """
    days = find_utc_days(books.times_ms)
    months = np.arange(days.start, days.stop).astype("datetime64[D]").astype("datetime64[M]")
    ends = np.flatnonzero(np.append(months[1:] != months[:-1], True)) if len(days) else np.empty(0, dtype=np.int64)
    own, held = (
        compute_daily_curve(books.times_ms, equity, float(plan.initial_cash), days)[np.append(0, ends + 1)]
        for equity in (books.equity / UNITS, benchmark_equity)
    )
    named = [str(months[end]).split("-") for end in ends]
    return tuple(
        MonthlyReturn(int(year), int(month), _change(own, place), _change(held, place))
        for place, (year, month) in enumerate(named)
    )


def count_outcomes(books: Books) -> dict[str, int]:
    """How many cycles came to what, by their reason code, the most frequent first."""
    counts = np.bincount(books.outcomes, minlength=len(OUTCOMES))
    return {OUTCOMES[code]: int(counts[code]) for code in np.argsort(-counts, kind="stable") if counts[code]}


def compute_calibration(series: Sequence[Series], labels: Sequence[LabelArray]) -> tuple[CalibrationBin, ...]:
    """How often the forest was right, by how sure it said it was, in ten bins of equal width.

    Args:
        series: The markets, with what was said of them.
        labels: What came of each bar, a class of `ml.labels` or below 0 where that is not known, each (n_bars,).
    """
    stated, right = [], []
    for one, known in zip(series, labels, strict=True):
        spoken = (one.signals.speakers >= 0) & (known >= 0)
        stated.append(one.signals.confidences[spoken])
        right.append(one.signals.signals[spoken] == known[spoken])
    confidences, hits = np.concatenate(stated), np.concatenate(right).astype(np.float64)
    places = np.minimum((confidences * _BINS).astype(np.int64), _BINS - 1)
    counts = np.bincount(places, minlength=_BINS)
    sums, hit_sums = (np.bincount(places, weights, _BINS) for weights in (confidences, hits))
    return tuple(
        CalibrationBin(
            place / _BINS,
            (place + 1) / _BINS,
            int(counts[place]),
            float(sums[place] / counts[place]) if counts[place] else None,
            float(hit_sums[place] / counts[place]) if counts[place] else None,
        )
        for place in range(_BINS)
    )


def count_missing(open_time_ms: IntegerArray, interval_ms: int) -> int:
    """How many candles are missing between the first and the last."""
    if len(open_time_ms) == 0:
        return 0
    return int((open_time_ms[-1] - open_time_ms[0]) // interval_ms) + 1 - len(open_time_ms)


def _by_series(books: Books) -> list[IntegerArray]:
    """The places of each symbol's fills, in their order."""
    owners = books.series[books.fills.cycle]
    return [np.flatnonzero(owners == one) for one in np.unique(owners)]


def _average(notional: IntegerArray, quantity: IntegerArray) -> IntegerArray:
    """The price of each, rounded down; the product needs more than 64 bits."""
    pairs = zip(notional.tolist(), quantity.tolist(), strict=True)
    return np.array([multiply_divide(worth, UNITS, held) for worth, held in pairs], dtype=np.int64)


def _change(curve: FloatArray, place: int) -> float | None:
    return float(curve[place + 1] / curve[place] - 1.0) if curve[place] > 0 else None
