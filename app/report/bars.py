"""Charts without time: how returns are spread, what is left at other costs, and whether confidence comes true."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np

from app.report.drawing import BAD, FAIR, GOOD, OTHER, OWN, make_figure, to_list
from app.report.page import Chart
from app.research.backtest.result import CalibrationBin, CostCase
from ml.bars import FloatArray

_FEWEST_BARS: Final = 8
_MOST_BARS: Final = 50
_OUTSIDE: Final = 0.5
"""How many percent of the values lie beyond the outermost bar, on either side."""


def draw_daily_returns(own: FloatArray, held: FloatArray) -> Chart | None:
    """How the daily returns of the account and of buy-and-hold are spread; None where the account never moved.

    Args:
        own: Those of the account, fractions, shape (n_days,).
        held: Those of buy-and-hold, shape (n_days,).
    """
    moved, held = own[own != 0.0], held[held != 0.0]
    if len(moved) == 0:
        return None
    edges = _choose_edges(np.concatenate((moved, held)))
    ours, theirs = _count(moved, edges), _count(held, edges)
    figure = make_figure(
        [
            _bars(edges, ours, "account", "days") | {"marker": {"color": OWN}},
            {
                "type": "scatter",
                "mode": "lines",
                "name": "buy-and-hold",
                "x": to_list(100.0 * np.repeat(edges, 2)[1:-1]),
                "y": np.repeat(theirs, 2).tolist(),
                "line": {"color": OTHER, "width": 1.5},
                "hoverinfo": "skip",
            },
        ],
        340,
        bargap=0.05,
        showlegend=True,
        xaxis={"title": {"text": "return of a UTC day (%)"}, "zeroline": True},
        yaxis=_count_axis("days", max(ours.max(), theirs.max())),
    )
    note = (
        f"The account moved on {len(moved):,} of {len(own):,} days; days on which one did not move are left out of it."
    )
    return Chart("Daily returns", figure, f"{note} The outermost bars hold all that is beyond them.")


def draw_trade_returns(net_returns: FloatArray) -> Chart | None:
    """How the returns of closed trades after costs are spread; None without one."""
    if len(net_returns) == 0:
        return None
    edges = _choose_edges(net_returns)
    colours = [GOOD if (low + high) / 2 > 0 else BAD for low, high in pairwise(edges)]
    counts = _count(net_returns, edges)
    figure = make_figure(
        [_bars(edges, counts, "closed trades", "trades") | {"marker": {"color": colours}}],
        300,
        bargap=0.05,
        xaxis={"title": {"text": "return of a closed trade after its costs (%)"}, "zeroline": True},
        yaxis=_count_axis("closed trades", counts.max()),
    )
    won = int((net_returns > 0).sum())
    note = f"{won:,} of {len(net_returns):,} gained. The outermost bars hold all that is beyond them."
    return Chart("Returns of closed trades", figure, note)


def draw_cost_cases(costs: Sequence[CostCase], benchmark: float | None) -> Chart | None:
    """What the run returns at other costs, beside buy-and-hold at its own; None where nothing is known."""
    known = [(case, case.total_return) for case in costs if case.total_return is not None]
    if not known:
        return None
    values = [100.0 * value for _, value in known]
    names = [_name(case) for case, _ in known]
    bars = {
        "type": "bar",
        "name": "account",
        "x": names,
        "y": to_list(values),
        "text": [f"{value:+z,.1f} %" for value in values],
        "textposition": "outside",
        "cliponaxis": False,
        "marker": {"color": [GOOD if value > 0 else BAD for value in values]},
        "customdata": [[f"{case.fills:,}", "-" if case.sharpe is None else f"{case.sharpe:.2f}"] for case, _ in known],
        "hovertemplate": "%{text}<br>Sharpe ratio %{customdata[1]}<br>%{customdata[0]} fills<extra></extra>",
    }
    data = [bars]
    if benchmark is not None:
        line = {"color": OTHER, "dash": "dash", "width": 1.5}
        data.append(
            {"type": "scatter", "mode": "lines", "name": "buy-and-hold at these costs", "line": line}
            | {"x": names, "y": [100.0 * benchmark] * len(names), "hovertemplate": "%{y:+,.1f} %<extra></extra>"}
        )
    figure = make_figure(
        data,
        320,
        bargap=0.4,
        xaxis={"title": {"text": "fee and slippage (multiple of those asked for)"}, "type": "category"},
        yaxis={"title": {"text": "total return (%)"}},
    )
    return Chart("What is left at other costs", figure)


def draw_calibration(bins: Sequence[CalibrationBin]) -> Chart | None:
    """What was stated against what came true; None where nothing was stated."""
    known = [(one, one.stated, one.came_true) for one in bins if one.stated is not None and one.came_true is not None]
    if not known:
        return None
    counts = np.array([one.count for one, _, _ in known])
    points = {
        "type": "scatter",
        "mode": "lines+markers",
        "name": "predictions",
        "x": to_list(100.0 * stated for _, stated, _ in known),
        "y": to_list(100.0 * came for _, _, came in known),
        "customdata": [f"{one.count:,}" for one, _, _ in known],
        "hovertemplate": "stated %{x:.1f} %<br>came true %{y:.1f} %<br>%{customdata} predictions<extra></extra>",
        "marker": {"color": OWN, "size": (8 + 16 * np.sqrt(counts / counts.max())).tolist()},
        "line": {"color": OWN, "width": 1},
    }
    ideal = {
        "type": "scatter",
        "mode": "lines",
        "name": "as stated",
        "x": [0, 100],
        "y": [0, 100],
        "line": {"color": FAIR, "dash": "dash", "width": 1.5},
        "hoverinfo": "skip",
    }
    span = {"range": [0, 100], "constrain": "domain"}
    figure = make_figure(
        [ideal, points],
        440,
        xaxis=span | {"title": {"text": "stated confidence (%)"}},
        yaxis=span | {"title": {"text": "came true (%)"}, "scaleanchor": "x"},
    )
    note = "Of what is said with 60 % confidence, 60 % should come true: the dashed line. The larger a point, the more "
    return Chart("Does its confidence come true?", figure, f"{note}predictions it stands for.")


def _choose_edges(values: FloatArray) -> FloatArray:
    """The edges of equally wide bars, 0 among them, between which all but `_OUTSIDE` percent on either side lie."""
    low, high = np.percentile(values, [_OUTSIDE, 100.0 - _OUTSIDE])
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    width = (high - low) / min(max(int(2 * len(values) ** 0.5), _FEWEST_BARS), _MOST_BARS) or 1e-4
    first = np.floor(low / width)
    edges: FloatArray = np.arange(first, max(np.ceil(high / width), first + 1) + 1) * width
    return edges


def _count(values: FloatArray, edges: FloatArray) -> Any:  # noqa: ANN401 - whole numbers
    """How many values each bar holds, those beyond the edges in the outermost ones."""
    return np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]


def _bars(edges: FloatArray, counts: Any, name: str, unit: str) -> dict[str, Any]:  # noqa: ANN401
    ends = [f"{100.0 * low:+z.2f} % to {100.0 * high:+z.2f} %" for low, high in pairwise(edges)]
    return {
        "type": "bar",
        "name": name,
        "x": to_list(50.0 * (edges[:-1] + edges[1:])),
        "y": counts.tolist(),
        "customdata": ends,
        "hovertemplate": f"%{{customdata}}<br>%{{y:,}} {unit}<extra></extra>",
    }


def _count_axis(title: str, most: int) -> dict[str, Any]:
    """An axis of whole numbers up to `most`; Plotly would name halves of a few."""
    return {"title": {"text": title}} | ({"dtick": 1} if most <= 5 else {})


def _name(case: CostCase) -> str:
    return "no costs" if case.multiple == 0 else f"{case.multiple}x"
