"""What all charts share: colours that can be told apart on white and on black, axes, and how values are thinned."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np

from app.report.page import Figure
from app.research.backtest.measuring import find_extremes
from ml.bars import FloatArray, IntegerArray

OWN: Final = "#3b82d6"
OTHER: Final = "#8a94a3"
GOOD: Final = "#2a9d6a"
BAD: Final = "#d9534f"
FAIR: Final = "#d08b1d"
PALETTE: Final = (OWN, FAIR, GOOD, "#a66bd3", BAD, "#1fa3b5", "#c06c98", "#7f9a2e", "#9a7b5f", "#5f7fae")
"""Colours in the middle of light and dark."""

POINTS: Final = 2_000
"""As many points as a curve has at most: more than a screen has columns."""

THINNED: Final = "Thinned to what a screen shows: of each stretch its ends, its lowest and its highest value are drawn."

FLOWING: Final[dict[str, Any]] = {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"}
"""A legend above the chart, as wide as it needs."""

STRETCHES: Final = 300
"""Of how many stretches the means are drawn of what jumps up and down."""

TIME_AXIS: Final[dict[str, Any]] = {"type": "date", "title": {"text": "time (UTC)"}, "hoverformat": "%Y-%m-%d %H:%M"}

_DIGITS: Final = 9
_WIDE: Final = 5.0


def make_figure(data: list[dict[str, Any]], height: int, **layout: Any) -> Figure:  # noqa: ANN401 - as Plotly takes it
    """A figure with the margins of the page."""
    margin = {"l": 8, "r": 12, "t": 36, "b": 8}
    return {"data": data, "layout": {"height": height, "margin": margin, "legend": FLOWING} | layout}


def to_list(values: Iterable[float]) -> list[float | None]:
    """Values with nine digits, None where one is not finite.

    >>> to_list([1.0 / 3.0, math.nan])
    [0.333333333, None]
    """
    return [float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None for value in values]


def thin(times_ms: IntegerArray, values: FloatArray) -> dict[str, list[Any]]:
    """The `x` and `y` of a curve of at most `POINTS` points, its extremes among them."""
    places = find_extremes(values, POINTS)
    return {"x": times_ms[places].tolist(), "y": to_list(values[places])}


def average(times_ms: IntegerArray, values: FloatArray) -> dict[str, list[Any]]:
    """The `x` and `y` of a curve; of one of more than `POINTS` points the mean of each of `STRETCHES` stretches."""
    if len(values) <= POINTS:
        return {"x": times_ms.tolist(), "y": to_list(values)}
    edges = np.linspace(0, len(values), STRETCHES + 1).astype(np.int64)
    means = np.add.reduceat(values, edges[:-1]) / np.diff(edges)
    return {"x": times_ms[edges[:-1]].tolist(), "y": to_list(means)}


def make_value_axis(title: str, unit: str, *curves: FloatArray) -> dict[str, Any]:
    """The axis of `curves`; logarithmic where they are so far apart that equal rises are to be drawn equally high."""
    low, high = min(float(curve.min()) for curve in curves), max(float(curve.max()) for curve in curves)
    if not 0 < low * _WIDE < high:
        return {"title": {"text": f"{title} ({unit})"}}
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return {
        "title": {"text": f"{title} ({unit}, logarithmic)"},
        "type": "log",
        "tickmode": "array",
        "tickvals": [float(f"{factor}e{power}") for power in powers for factor in (1, 2, 5)],
        "tickformat": "~s",
    }


def say_time(time_ms: int) -> str:
    """A moment to the minute.

    >>> say_time(0)
    '1970-01-01 00:00 UTC'
    """
    return f"{datetime.fromtimestamp(time_ms / 1_000, UTC):%Y-%m-%d %H:%M} UTC"
