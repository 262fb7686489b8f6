"""From candles to the rows that can teach, and to what judging them needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ml.bars import Bars, FloatArray, IntegerArray, find_segments
from ml.features import compute_features
from ml.forest import Rows
from ml.labels import (
    CLASSES,
    HOLD,
    UNSETTLED,
    LabelArray,
    LabelRule,
    Labels,
    compute_labels,
    compute_uniqueness,
)
from ml.paper import Costs, compute_next_returns, compute_side_costs

LEAST_ROWS: Final = 200
"""How many settled rows a training needs."""


class TrainingError(Exception):
    """The candles cannot teach a model; `code` says why in snake_case."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """The rows that can teach, in the order of time, and what judging them needs; arrays of shape (n_rows,).

    Attributes:
        rows: Features, labels, weights and times.
        series: A number for each run of candles without a gap.
        last_labels: The newest label of the same series that was settled when the row was decided; HOLD before one.
        forward_returns: What the labels are about, fractions.
        next_returns: What holding earns until the next bar, fractions.
        side_costs: What one side of a trade costs, fractions.
        overlap_rows: Over how many rows labels overlap: the horizon, times the number of symbols.
    """

    rows: Rows
    series: IntegerArray
    last_labels: LabelArray
    forward_returns: FloatArray
    next_returns: FloatArray
    side_costs: FloatArray
    overlap_rows: int


def prepare_rows(history: Mapping[str, Bars], interval_ms: int, rule: LabelRule, costs: Costs) -> Prepared:
    """The rows that can teach, oldest first.

    Everything is computed for each run of candles of one symbol without a gap, so nothing reaches across one.

    Raises:
        TrainingError: `too_few_rows`, `one_class` or `features_invalid`.
    """
    parts: list[tuple[Any, ...]] = []
    for symbol_bars in history.values():
        for segment in find_segments(symbol_bars.open_time_ms, interval_ms):
            parts.append((*prepare_segment(symbol_bars[segment], interval_ms, rule, costs), len(parts)))
    lengths = [len(part[1]) for part in parts]
    if sum(lengths) < LEAST_ROWS:
        candles = sum(len(bars) for bars in history.values())
        raise TrainingError(
            "too_few_rows", f"{candles} candles give {sum(lengths)} rows to learn from; {LEAST_ROWS} are needed."
        )
    columns = [np.concatenate([part[place] for part in parts]) for place in range(len(parts[0]) - 1)]
    series = np.repeat(np.arange(len(parts)), lengths)
    features, labels, weights, decided_at, settled_at, *judging = columns
    order = np.argsort(decided_at, kind="stable")
    rows = Rows(features, labels, weights, decided_at, settled_at).take(order)
    if not np.isfinite(rows.features).all():
        raise TrainingError("features_invalid", "A feature of the candles is not finite.")
    _refuse_one_class(rows.labels)
    last_labels, forward_returns, next_returns, side_costs = (column[order] for column in judging)
    overlap_rows = rule.horizon_bars * len(history)
    return Prepared(rows, series[order], last_labels, forward_returns, next_returns, side_costs, overlap_rows)


def prepare_segment(bars: Bars, interval_ms: int, rule: LabelRule, costs: Costs) -> tuple[Any, ...]:
    """The columns of the rows that contiguous candles give: those of `Rows`, then those of `Prepared`, in order."""
    matrix, found = compute_features(bars), compute_labels(bars, rule)
    usable = (found.labels != UNSETTLED) & ~np.isnan(matrix).all(axis=1)
    closed_at = bars.open_time_ms + interval_ms
    return (
        matrix[usable],
        found.labels[usable],
        compute_uniqueness(found.labels, found.settled_at)[usable],
        closed_at[usable],
        closed_at[found.settled_at][usable],
        _last_settled(found)[usable],
        found.forward_return[usable],
        compute_next_returns(bars)[usable],
        compute_side_costs(bars, costs)[usable],
    )


def _last_settled(found: Labels) -> LabelArray:
    """The label of the newest row whose label was known at each row's close; HOLD before one."""
    rows = np.flatnonzero(found.labels != UNSETTLED)
    newest = np.full(len(found.labels), -1)
    np.maximum.at(newest, found.settled_at[rows], rows)
    newest = np.maximum.accumulate(newest)
    last: LabelArray = np.where(newest < 0, HOLD, found.labels[newest]).astype(np.int8)
    return last


def _refuse_one_class(labels: LabelArray) -> None:
    if len(np.unique(labels)) == 1:
        raise TrainingError(
            "one_class",
            f"Every candle is {CLASSES[labels[0]]}: the price never moved as far as the label rule asks. Set a smaller "
            "MODEL_THRESHOLD_PERCENT or a larger MODEL_HORIZON_BARS.",
        )
