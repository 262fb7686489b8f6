"""The books of a backtest as listings, oldest first, a page at a time."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import numpy as np

from app.domain.money import from_units
from app.domain.record import from_microseconds
from app.research.backtest.books import ORIGINS, OUTCOMES, Books
from app.research.backtest.measuring import compute_curves, find_closed_trades, thin_curves
from app.research.backtest.result import BacktestResult, Said
from app.storage.pages import decode_cursor, encode_cursor
from ml.bars import IntegerArray
from ml.labels import CLASSES

_SIDES: Final = {1: "BUY", -1: "SELL"}
_PLACE: Final = "[1-9][0-9]{0,8}"


def list_curve(result: BacktestResult, points: int) -> dict[str, Any]:
    """The curve in so many points or fewer, as `backtests.Curve` takes it."""
    curves = compute_curves(result)
    thin = thin_curves(curves, points)
    columns = (thin.times_ms, thin.equity, thin.benchmark, thin.drawdown, thin.held)
    items = [
        {
            "time": _moment(time),
            "equity": from_units(equity),
            "benchmark": from_units(benchmark),
            "drawdown": drawdown,
            "held": held,
        }
        for time, equity, benchmark, drawdown, held in zip(*(column.tolist() for column in columns), strict=True)
    ]
    return {"items": items, "cycles": len(curves)}


def list_trades(result: BacktestResult, limit: int, cursor: str | None) -> dict[str, Any]:
    """Closed trades, as `backtests.ClosedTradePage` takes them; raises InvalidInputError `invalid_cursor`."""
    trades, fills = find_closed_trades(result.books), result.books.fills
    places, next_cursor = _cut("trade", len(trades), limit, cursor)
    symbols = result.run.request.symbols
    items = [
        {
            "number": place + 1,
            "symbol": symbols[int(trades.series[place])],
            "side": bool(trades.is_long[place]),
            **{
                name: from_units(int(getattr(trades, name)[place]))
                for name in ("quantity", "entry_price", "exit_price", "fees", "net_profit")
            },
            "net_return": float(trades.net_returns[place]),
            "opened_at": _moment(int(trades.opened_ms[place])),
            "closed_at": _moment(int(trades.closed_ms[place])),
            "bars_held": int(trades.bars_held[place]),
            "closed_by": ORIGINS[int(fills.origin[trades.exit_fill[place]])],
        }
        for place in places
    ]
    return {"items": items, "next_cursor": next_cursor}


def list_decisions(result: BacktestResult, limit: int, cursor: str | None) -> dict[str, Any]:
    """Cycles, as `backtests.DecisionPage` takes them; raises InvalidInputError `invalid_cursor`."""
    books, request = result.books, result.run.request
    places, next_cursor = _cut("decision", len(books), limit, cursor)
    opened = find_candle_times(books, request.interval.milliseconds)
    items = [
        {
            "number": place + 1,
            "time": _moment(int(books.times_ms[place])),
            "symbol": request.symbols[int(books.series[place])],
            "candle_open_time": _moment(int(opened[place])),
            **_say(result.said, place),
            "outcome": OUTCOMES[int(books.outcomes[place])],
            "equity": from_units(int(books.equity[place])),
            "fills": _fills(books, place),
        }
        for place in places
    ]
    return {"items": items, "next_cursor": next_cursor}


def _say(said: Said, cycle: int) -> dict[str, Any]:
    signal = int(said.signals[cycle])
    if signal < 0:
        return {"signal": None, "confidence": None}
    return {"signal": CLASSES[signal], "confidence": round(float(said.confidences[cycle]), 6)}


def find_candle_times(books: Books, interval_ms: int) -> IntegerArray:
    """When the candle opened that each cycle came after, milliseconds since the epoch, shape (n_cycles,).

    That is when the symbol's cycle before ran; before the first one there is no gap, or nothing was decided.
    """
    opened = books.times_ms - interval_ms
    for series in np.unique(books.series):
        own = np.flatnonzero(books.series == series)
        opened[own[1:]] = books.times_ms[own[:-1]]
    return opened


def _fills(books: Books, cycle: int) -> list[dict[str, Any]]:
    fills = books.fills
    first, end = np.searchsorted(fills.cycle, (cycle, cycle + 1)).tolist()
    return [
        {
            "side": _SIDES[int(fills.side[place])],
            "origin": ORIGINS[int(fills.origin[place])],
            **{
                name: from_units(int(getattr(fills, name)[place]))
                for name in ("quantity", "price", "fee", "cash_after", "position_after")
            },
        }
        for place in range(first, end)
    ]


def _cut(kind: str, count: int, limit: int, cursor: str | None) -> tuple[range, str | None]:
    """The places of a page among `count`, and the cursor of the next."""
    start = 0 if cursor is None else int(decode_cursor(kind, cursor, _PLACE))
    end = min(start + limit, count)
    return range(start, end), encode_cursor(kind, end) if end < count else None


def _moment(milliseconds: int) -> datetime:
    return from_microseconds(milliseconds * 1_000)
