"""Charts over time: what an account was worth, how far below its peak, how much of it was at stake, what it paid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from app.domain.money import UNITS, to_units
from app.report.drawing import (
    BAD,
    FAIR,
    OTHER,
    OWN,
    PALETTE,
    POINTS,
    STRETCHES,
    THINNED,
    TIME_AXIS,
    average,
    make_figure,
    make_value_axis,
    thin,
)
from app.report.page import Chart
from app.research.backtest.books import Books
from app.research.backtest.measuring import compute_curves
from app.research.backtest.result import BacktestResult, Curves
from ml.bars import FloatArray


def draw_account(result: BacktestResult) -> Chart:
    """Equity beside buy-and-hold, drawdown and exposure below each other, on one axis of time."""
    curves, quote = compute_curves(result), name_quote(result)
    worth = make_value_axis("worth", quote, curves.equity / UNITS, curves.benchmark / UNITS)
    figure = make_figure(
        [*_equity(result, curves), *_drawdown(curves), _exposure(result, curves)],
        680,
        hovermode="x unified",
        hoversubplots="axis",
        xaxis=TIME_AXIS | {"anchor": "y3"},
        yaxis=worth | {"domain": [0.5, 1.0]},
        yaxis2={"domain": [0.24, 0.46], "title": {"text": "below peak (%)"}, "rangemode": "tozero"},
        yaxis3={"domain": [0.0, 0.2], "title": {"text": "exposure (%)"}, "rangemode": "tozero"},
    )
    note = (
        "Worth at each cycle, its positions at the newest prices; the numbers of the page are of the ends of UTC days, "
        "and between them it may have been worth less. Exposure is the share of it that is held, below 0 when short."
    )
    if len(curves) > POINTS:
        note += (
            f" {THINNED} There are {len(curves):,} cycles; the exposure is the mean of each of {STRETCHES} stretches."
        )
    return Chart("Equity against buy-and-hold, drawdown and exposure", figure, note)


def draw_costs_paid(result: BacktestResult) -> Chart | None:
    """Fees and slippage added up over time; None without a fill."""
    books, quote = result.books, name_quote(result)
    fees, slippages = find_costs(books)
    if len(fees) == 0:
        return None
    times = books.times_ms[np.concatenate(([0], books.fills.cycle, [-1]))]
    curves = {"fees": (fees, OWN), "slippage": (slippages, FAIR)}
    figure = make_figure(
        [
            thin(times, np.cumsum(np.concatenate(([0.0], paid, [0.0]))))
            | {"type": "scatter", "mode": "lines", "name": name, "line": {"color": colour, "shape": "hv"}}
            | {"hovertemplate": "%{y:,.2f} " + quote}
            for name, (paid, colour) in curves.items()
        ],
        300,
        hovermode="x unified",
        xaxis=TIME_AXIS,
        yaxis={"title": {"text": f"paid so far ({quote})"}, "rangemode": "tozero"},
    )
    return Chart("Fees and slippage paid", figure, THINNED if len(fees) > POINTS else "")


def draw_growth(results: Mapping[str, BacktestResult]) -> Chart:
    """What became of each run's initial cash, by the names of the runs."""
    curves = {name: _grow(result) for name, result in results.items()}
    data = [
        thin(times, curve)
        | {
            "type": "scatter",
            "mode": "lines",
            "name": name,
            "line": {"color": PALETTE[place % len(PALETTE)], "width": 1.5, "dash": _dash(place)},
            "hovertemplate": "%{y:.1f} %",
        }
        for place, (name, (times, curve)) in enumerate(curves.items())
    ]
    figure = make_figure(
        data,
        460,
        hovermode="x unified",
        showlegend=True,
        xaxis=TIME_AXIS,
        yaxis=make_value_axis("worth", "% of the initial cash", *(curve for _, curve in curves.values())),
    )
    return Chart(
        "Growth of the initial cash",
        figure,
        THINNED if max(len(curve) for _, curve in curves.values()) > POINTS else "",
    )


def find_costs(books: Books) -> tuple[FloatArray, FloatArray]:
    """The fee of each fill, and how much worse than before slippage it came out; quote units, shape (n_fills,)."""
    fills = books.fills
    moved = np.abs(fills.price - fills.reference) / UNITS
    return fills.fee / UNITS, moved * (fills.quantity / UNITS)


def name_quote(result: BacktestResult) -> str:
    """What the account is kept in."""
    return result.run.data.series[0].instrument.quote_asset


def _equity(result: BacktestResult, curves: Curves) -> list[dict[str, Any]]:
    quote, initial = name_quote(result), float(result.run.request.initial_cash)
    line = {"type": "scatter", "mode": "lines", "hovertemplate": "%{y:,.2f} " + quote}
    ends = curves.times_ms[[0, -1]].tolist() if len(curves) else []
    return [
        line
        | thin(curves.times_ms, curves.benchmark / UNITS)
        | {"name": "buy-and-hold", "line": {"color": OTHER, "width": 1.5}},
        line | thin(curves.times_ms, curves.equity / UNITS) | {"name": "account", "line": {"color": OWN, "width": 2}},
        {
            "type": "scatter",
            "mode": "lines",
            "x": ends,
            "y": [initial] * len(ends),
            "name": "initial cash",
            "line": {"color": OTHER, "width": 1, "dash": "dot"},
            "hoverinfo": "skip",
        },
    ]


def _drawdown(curves: Curves) -> list[dict[str, Any]]:
    held = curves.benchmark / UNITS
    peaks = np.maximum.accumulate(held)
    line = {"type": "scatter", "mode": "lines", "yaxis": "y2", "hovertemplate": "%{y:.2f} %", "showlegend": False}
    fill = {"fill": "tozeroy", "fillcolor": "rgba(217,83,79,0.25)", "line": {"color": BAD, "width": 1}}
    benchmark = held / peaks - 1.0
    return [
        line | thin(curves.times_ms, -100.0 * curves.drawdown) | fill | {"name": "account below its peak"},
        line
        | thin(curves.times_ms, 100.0 * benchmark)
        | {"name": "buy-and-hold below its peak", "line": {"color": OTHER, "width": 1}},
    ]


def _exposure(result: BacktestResult, curves: Curves) -> dict[str, Any]:
    books = result.books
    booked = np.searchsorted(books.fills.cycle, np.arange(len(books)), side="right")
    opened = to_units(result.run.request.initial_cash)
    cash = np.concatenate(([opened], books.fills.cash_after))[booked]
    worth = np.maximum(books.equity, 1)
    shares = np.where(books.equity > 0, (books.equity - cash) / worth, 0.0)
    return average(curves.times_ms, 100.0 * shares) | {
        "type": "scatter",
        "mode": "lines",
        "yaxis": "y3",
        "name": "exposure",
        "hovertemplate": "%{y:.1f} %",
        "showlegend": False,
        "line": {"color": OWN, "width": 1, "shape": "hv"},
        "fill": "tozeroy",
        "fillcolor": "rgba(59,130,214,0.25)",
    }


def _grow(result: BacktestResult) -> tuple[Any, FloatArray]:
    return result.books.times_ms, 100.0 * result.books.equity / to_units(result.run.request.initial_cash)


def _dash(place: int) -> str:
    return ("solid", "dash", "dot")[place // len(PALETTE) % 3]
