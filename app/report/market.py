"""Trades on candles: the whole span, with candles put together where there are many, and a stretch of it up close."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from app.domain.candle import Interval
from app.domain.money import UNITS
from app.report.drawing import BAD, FAIR, GOOD, OTHER, OWN, TIME_AXIS, make_figure, make_value_axis, say_time, to_list
from app.report.page import Chart
from app.research.backtest.books import ORIGINS, Books
from app.research.backtest.measuring import find_closed_trades
from app.research.backtest.result import BacktestResult, ClosedTrades, SeriesData
from ml.bars import Bars, IntegerArray

CANDLES: Final = 600
"""As many candles as one chart has at most."""

CLOSE_BARS: Final = 250
"""How many bars are shown up close, each a candle of its own."""

MARKED: Final = 100
"""As many trades as one chart marks at most."""

_MINUTE_MS: Final = 60_000
_LENGTHS: Final = (1, 3, 5, 15, 30, 60, 120, 240, 360, 480, 720, 1_440, 2_880, 4_320, 10_080, 20_160, 40_320)
"""The lengths that candles are put together to, in minutes; after the last, its multiples."""


@dataclass(frozen=True, slots=True, eq=False)
class _Stretch:
    """What one chart shows: candles of `length_ms`, and which closed trades and fills are marked."""

    bars: Bars
    length_ms: int
    trades: IntegerArray
    fills: IntegerArray


def draw_markets(result: BacktestResult, history: Mapping[str, Bars]) -> list[Chart]:
    """Candles and trades of each symbol whose candles are at hand.

    Args:
        result: The backtest.
        history: The candles it ran on, by symbol.
    """
    books, trades = result.books, find_closed_trades(result.books)
    if len(books) == 0:
        return []
    start_ms, interval = int(books.times_ms[0]), result.run.request.interval
    charts = []
    for place, data in enumerate(result.run.data.series):
        bars = history.get(data.symbol)
        if bars is not None and len(bars):
            # The first cycle ran after the candle before its time.
            first = max(int(np.searchsorted(bars.open_time_ms, start_ms)) - 1, 0)
            charts += _draw_market(_Market(books, trades, place, data, interval), bars[first:])
    return charts


@dataclass(frozen=True, slots=True, eq=False)
class _Market:
    """What was traded of one series."""

    books: Books
    closed: ClosedTrades
    place: int
    data: SeriesData
    interval: Interval

    @property
    def fills(self) -> IntegerArray:
        """The places of its fills."""
        return np.flatnonzero(self.books.series[self.books.fills.cycle] == self.place)

    @property
    def trades(self) -> IntegerArray:
        """The places of its closed trades."""
        return np.flatnonzero(self.closed.series == self.place)

    @property
    def fill_times(self) -> IntegerArray:
        """When each fill of the books was booked."""
        return self.books.times_ms[self.books.fills.cycle]


def _draw_market(market: _Market, bars: Bars) -> list[Chart]:
    symbol = market.data.symbol
    whole, note = _see_whole(market, bars)
    charts = [Chart(f"{symbol}: trades on candles", _draw(market, whole), note)]
    if len(bars) > CANDLES:
        close = _see_close(market, bars)
        words = f"The {len(close.bars)} candles up to the last trade, each as it was."
        charts.append(Chart(f"{symbol}: the last trades up close", _draw(market, close), words))
    return charts


def _see_whole(market: _Market, bars: Bars) -> tuple[_Stretch, str]:
    """The whole span, and what must be known of how it is drawn."""
    length = choose_length(bars, market.interval.milliseconds)
    trades, fills, said = market.trades, market.fills, []
    if length != market.interval.milliseconds:
        said.append(f"{len(bars):,} candles of {market.interval} are put together to candles of {_say_length(length)}.")
    if len(trades) > MARKED:
        kept = np.argsort(market.closed.net_returns[trades], kind="stable")
        said.append(
            f"Of {len(trades):,} closed trades the {MARKED // 2} with the best and the {MARKED // 2} with the worst "
            "return are marked."
        )
        trades = trades[np.concatenate((kept[: MARKED // 2], kept[-(MARKED // 2) :]))]
        fills = np.unique(np.concatenate((market.closed.entry_fill[trades], market.closed.exit_fill[trades])))
    return _Stretch(merge_bars(bars, length), length, trades, fills), " ".join(said)


def _see_close(market: _Market, bars: Bars) -> _Stretch:
    """The bars up to shortly after the last fill."""
    times, fills, trades = market.fill_times, market.fills, market.trades
    last = int(np.searchsorted(bars.open_time_ms, times[fills[-1]])) if len(fills) else len(bars)
    end = min(last + CLOSE_BARS // 10, len(bars))
    shown = bars[max(end - CLOSE_BARS, 0) : end]
    since, until = int(shown.open_time_ms[0]), int(shown.open_time_ms[-1])
    fills = fills[(times[fills] >= since) & (times[fills] <= until)]
    trades = trades[(market.closed.opened_ms[trades] >= since) & (market.closed.closed_ms[trades] <= until)]
    return _Stretch(shown, market.interval.milliseconds, trades, fills)


def choose_length(bars: Bars, interval_ms: int) -> int:
    """How long a candle of a chart is, milliseconds, so that there are at most `CANDLES`."""
    least = (int(bars.open_time_ms[-1]) - int(bars.open_time_ms[0]) + interval_ms) / CANDLES
    for minutes in _LENGTHS:
        length = minutes * _MINUTE_MS
        if length >= least and length % interval_ms == 0:
            return length
    return -int(-least // (_LENGTHS[-1] * _MINUTE_MS)) * _LENGTHS[-1] * _MINUTE_MS


def merge_bars(bars: Bars, length_ms: int) -> Bars:
    """The candles put together to candles of `length_ms`, which begin at its multiples since the epoch."""
    opened = bars.open_time_ms // length_ms * length_ms
    firsts = np.flatnonzero(np.append(True, opened[1:] != opened[:-1]))
    lasts = np.append(firsts[1:], len(bars)) - 1
    return Bars(
        opened[firsts],
        bars.open[firsts],
        np.maximum.reduceat(bars.high, firsts),
        np.minimum.reduceat(bars.low, firsts),
        bars.close[lasts],
        np.add.reduceat(bars.volume, firsts),
    )


def _draw(market: _Market, stretch: _Stretch) -> dict[str, Any]:
    quote = market.data.instrument.quote_asset
    lines = [_lines(market, stretch.trades, is_gain=is_gain) for is_gain in (True, False)]
    fills, side = stretch.fills, market.books.fills.side
    marks = [_marks(market, fills[side[fills] > 0], "BUY"), _marks(market, fills[side[fills] < 0], "SELL")]
    return make_figure(
        [_candles(stretch, quote), *lines, *marks],
        460,
        hovermode="closest",
        xaxis=TIME_AXIS | {"rangeslider": {"visible": False}},
        yaxis=make_value_axis("price", quote, stretch.bars.low, stretch.bars.high),
    )


def _candles(stretch: _Stretch, quote: str) -> dict[str, Any]:
    bars, half = stretch.bars, stretch.length_ms // 2
    columns = {name: to_list(getattr(bars, name)) for name in ("open", "high", "low", "close")}
    words = [
        f"{say_time(time)}, {_say_length(stretch.length_ms)}<br>open {opened:,} high {high:,}<br>"
        f"low {low:,} close {close:,} {quote}"
        for time, opened, high, low, close in zip(bars.open_time_ms.tolist(), *columns.values(), strict=True)
    ]
    return columns | {
        "type": "candlestick",
        "name": "candles",
        "x": (bars.open_time_ms + half).tolist(),
        "text": words,
        "hoverinfo": "text",
        "showlegend": False,
        "increasing": {"line": {"color": OTHER, "width": 1}, "fillcolor": "rgba(138,148,163,0.15)"},
        "decreasing": {"line": {"color": OTHER, "width": 1}, "fillcolor": OTHER},
    }


def _lines(market: _Market, trades: IntegerArray, *, is_gain: bool) -> dict[str, Any]:
    """A line from the entry to the exit of each trade that gained or lost."""
    closed = market.closed
    chosen = trades[(closed.net_profit[trades] > 0) == is_gain]
    xs: list[int | None] = []
    ys: list[float | None] = []
    for trade in chosen.tolist():
        xs += [int(closed.opened_ms[trade]), int(closed.closed_ms[trade]), None]
        ys += [int(closed.entry_price[trade]) / UNITS, int(closed.exit_price[trade]) / UNITS, None]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "trade with a gain" if is_gain else "trade with a loss",
        "x": xs,
        "y": ys,
        "hoverinfo": "skip",
        "line": {"color": GOOD if is_gain else BAD, "width": 2},
    }


def _marks(market: _Market, fills: IntegerArray, side: str) -> dict[str, Any]:
    booked, is_buy = market.books.fills, side == "BUY"
    return {
        "type": "scatter",
        "mode": "markers",
        "name": side,
        "x": market.fill_times[fills].tolist(),
        "y": to_list(booked.price[fills] / UNITS),
        "text": [_say_fill(market, fill, side) for fill in fills.tolist()],
        "hoverinfo": "text",
        "marker": {
            "color": OWN if is_buy else FAIR,
            "size": 9,
            "symbol": "triangle-up" if is_buy else "triangle-down",
            "line": {"color": "rgba(128,128,128,0.6)", "width": 1},
        },
    }


def _say_fill(market: _Market, fill: int, side: str) -> str:
    booked, instrument = market.books.fills, market.data.instrument
    quantity, price, notional, fee, profit, entry_fees = (
        int(getattr(booked, name)[fill]) / UNITS
        for name in ("quantity", "price", "notional", "fee", "profit", "entry_fees")
    )
    origin = ORIGINS[int(booked.origin[fill])]
    words = f"{side} by {origin}, {say_time(int(market.fill_times[fill]))}<br>"
    words += f"{quantity:.8g} {instrument.base_asset} at {price:,.8g} {instrument.quote_asset}<br>"
    words += f"worth {notional:,.2f}, fee {fee:,.2f} {instrument.quote_asset}"
    if np.isin(fill, market.closed.exit_fill):
        words += f"<br>after all costs {profit - fee - entry_fees:+,.2f} {instrument.quote_asset}"
    return words


def _say_length(length_ms: int) -> str:
    for name, minutes in (("d", 1_440), ("h", 60), ("m", 1)):
        if length_ms % (minutes * _MINUTE_MS) == 0:
            return f"{length_ms // (minutes * _MINUTE_MS)} {name}"
    return f"{length_ms:,} ms"
