"""Charts whose cells are coloured: what each month brought, and how a measure varies with two parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from app.report.drawing import make_figure
from app.report.page import Chart
from app.research.backtest.result import MonthlyReturn
from ml.bars import FloatArray

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_YEAR: Final = "year"

_DIVERGING: Final = ((0.0, "rgba(217,83,79,0.75)"), (0.5, "rgba(138,148,163,0.06)"), (1.0, "rgba(42,157,106,0.75)"))
"""From loss to gain; nothing has next to no colour, so that it is as light or as dark as the page."""

_LEAST_WIDTH: Final = 640
_ROW: Final = 34
_LEAST_ROW: Final = 22
_MOST_WORDS: Final = 600
"""From how many cells on their values are no longer written into them."""


def draw_months(monthly: Sequence[MonthlyReturn]) -> Chart | None:
    """The return of each month and year, the newest year first; None without a month."""
    if not monthly:
        return None
    years = sorted({one.year for one in monthly}, reverse=True)
    rows = [_fill_year([one for one in monthly if one.year == year]) for year in years]
    values = [[None if cell is None else 100.0 * cell[0] for cell in row] for row in rows]
    texts = [["" if value is None else _write(value) for value in row] for row in values]
    hovers = [
        ["" if cell is None else _say(year, name, cell) for name, cell in zip((*_MONTHS, _YEAR), row, strict=True)]
        for year, row in zip(years, rows, strict=True)
    ]
    months = [abs(value) for row in values for value in row[:-1] if value is not None]
    # A single great month would leave all others without colour.
    largest = float(np.quantile(months, 0.9)) if months else 0.0
    figure = _draw_cells((*_MONTHS, _YEAR), [str(year) for year in years], values, largest)
    figure["data"][0] |= {"text": texts, "texttemplate": "%{text}", "customdata": hovers, "showscale": False}
    figure["data"][0]["hovertemplate"] = "%{customdata}<extra></extra>"
    figure["layout"]["xaxis"] |= {"tickangle": 0, "title": {"text": "month (UTC)"}}
    figure["layout"]["yaxis"] |= {"autorange": "reversed", "title": {"text": "year"}}
    note = "The first and the last month as far as they were traded."
    return Chart("Return of each month, in %", figure, note, _LEAST_WIDTH)


def draw_plateau(
    names: tuple[str, str],
    axes: tuple[Sequence[object], Sequence[object]],
    values: Sequence[Sequence[float | None]] | FloatArray,
    measure: str,
) -> Chart:
    """How a measure varies with two parameters: a plateau is worth more than a peak, which luck makes as well.

    Args:
        names: What lies across and what upwards, with its unit.
        axes: Their values, rising.
        values: The measure, a row for each value upwards, shape (len(axes[1]), len(axes[0])); None or NaN where it is
            not known.
        measure: Its name, with its unit.
    """
    rows = [[None if one is None or not math.isfinite(one) else float(one) for one in row] for row in values]
    known = [abs(one) for row in rows for one in row if one is not None]
    across, upwards = ([str(one) for one in axis] for axis in axes)
    figure = _draw_cells(across, upwards, rows, max(known, default=0.0))
    figure["data"][0] |= {
        "hovertemplate": f"{names[0]} %{{x}}<br>{names[1]} %{{y}}<br>{measure} %{{z:.4g}}<extra></extra>",
        "colorbar": {"title": {"text": measure, "side": "right"}, "thickness": 14},
    }
    if len(across) * len(upwards) <= _MOST_WORDS:
        figure["data"][0]["texttemplate"] = "%{z:.3g}"
    figure["layout"]["xaxis"] |= {"title": {"text": names[0]}}
    figure["layout"]["yaxis"] |= {"title": {"text": names[1]}}
    note = "A good cell among good ones is worth more than the best alone. An empty cell was not run, or has no number."
    return Chart(f"{measure} by {names[0]} and {names[1]}", figure, note, _LEAST_WIDTH)


def _draw_cells(
    across: Sequence[str], upwards: Sequence[str], values: list[list[float | None]], largest: float
) -> dict[str, Any]:
    cells = {
        "type": "heatmap",
        "x": list(across),
        "y": list(upwards),
        "z": values,
        "zmin": -(largest or 1.0),
        "zmax": largest or 1.0,
        "colorscale": [list(stop) for stop in _DIVERGING],
        "xgap": 2,
        "ygap": 2,
        "hoverongaps": False,
    }
    height = 110 + min(max(_ROW * len(upwards), 60), max(_LEAST_ROW * len(upwards), 420))
    plain_axis = {"type": "category", "showgrid": False, "zeroline": False}
    return make_figure([cells], height, xaxis=dict(plain_axis), yaxis=dict(plain_axis))


def _fill_year(months: Sequence[MonthlyReturn]) -> list[tuple[float, float | None] | None]:
    """What account and benchmark brought in each month of a year, and in all of it."""
    cells: list[tuple[float, float | None] | None] = [None] * 13
    for one in months:
        if one.account is not None:
            cells[one.month - 1] = (one.account, one.benchmark)
    own, held = [one.account for one in months], [one.benchmark for one in months]
    whole = _compound(own)
    cells[12] = None if whole is None else (whole, _compound(held))
    return cells


def _compound(returns: Sequence[float | None]) -> float | None:
    known = [one for one in returns if one is not None]
    return math.prod(1.0 + one for one in known) - 1.0 if len(known) == len(returns) else None


def _write(percent: float) -> str:
    return f"{percent:z.1f}" if abs(percent) < 99.95 else f"{percent:.0f}"


def _say(year: int, name: str, cell: tuple[float, float | None]) -> str:
    held = "nothing" if cell[1] is None else f"{cell[1]:+z.2%}"
    when = str(year) if name == _YEAR else f"{name} {year}"
    return f"{when}<br>account {cell[0]:+z.2%}<br>buy-and-hold {held}"
