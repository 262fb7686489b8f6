"""Candles are put together where there are many, and every trade stands at its price and time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from app.domain.candle import Interval
from app.domain.money import UNITS
from app.report.market import CANDLES, CLOSE_BARS, MARKED, choose_length, draw_markets, merge_bars
from app.report.page import Chart
from app.research.backtest.measuring import drop_warm_up, find_closed_trades
from ml.bars import Bars
from tests.support.backtest_results import make_market, make_result

HOUR = 3_600_000


def find_trace(chart: Chart, name: str) -> dict[str, Any]:
    found: dict[str, Any]
    (found,) = [trace for trace in chart.figure["data"] if trace["name"] == name]
    return found


def test_candles_put_together_have_the_first_open_the_extremes_and_the_last_close() -> None:
    rows = [(0, 10.0, 12.0, 9.0, 11.0, 1.0), (HOUR, 11.0, 15.0, 8.0, 9.0, 2.0), (5 * HOUR, 9.0, 9.5, 7.0, 8.0, 4.0)]
    merged = merge_bars(Bars.from_rows(rows), 4 * HOUR)

    columns = [getattr(merged, name).tolist() for name in ("open_time_ms", "open", "high", "low", "close", "volume")]
    assert columns == [[0, 4 * HOUR], [10.0, 9.0], [15.0, 9.5], [8.0, 7.0], [9.0, 8.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    ("count", "interval"), [(600, "1h"), (601, "1h"), (52_000, "15m"), (1_000_000, "1m"), (7, "1d")]
)
def test_length_of_candles_is_a_multiple_that_gives_few_enough(count: int, interval: str) -> None:
    bars, step = make_market(count, Interval(interval)), Interval(interval).milliseconds
    length = choose_length(bars, step)

    assert length % step == 0
    assert (length == step) == (count <= CANDLES)
    assert len(merge_bars(bars, length)) <= CANDLES + 1


def test_candles_over_centuries_are_still_few_enough() -> None:
    bars = make_market(40_000, Interval.D1)

    assert len(merge_bars(bars, choose_length(bars, Interval.D1.milliseconds))) <= CANDLES + 1


def test_few_candles_are_drawn_as_they_were_with_every_fill() -> None:
    result, history = make_result(500, 25)
    (chart,) = draw_markets(result, history)

    bars, fills = history["BTCUSDT"], result.books.fills
    candles = find_trace(chart, "candles")
    assert (candles["open"], candles["low"]) == (bars.open.tolist(), bars.low.tolist())
    assert candles["x"] == (bars.open_time_ms + HOUR // 2).tolist()
    for side, name in ((1, "BUY"), (-1, "SELL")):
        marks = find_trace(chart, name)
        chosen = fills.side == side
        assert marks["x"] == result.books.times_ms[fills.cycle[chosen]].tolist()
        assert marks["y"] == (fills.price[chosen] / UNITS).round(6).tolist()
    assert chart.note == ""


def test_mark_says_what_was_traded_and_what_came_of_it() -> None:
    result, history = make_result(500, 25)
    (chart,) = draw_markets(result, history)

    trades, fills = find_closed_trades(result.books), result.books.fills
    said = find_trace(chart, "SELL")["text"][0].split("<br>")
    assert said[0] == "SELL by signal, 2025-01-02 03:00 UTC"
    assert said[1] == f"0.1 BTC at {fills.price[1] / UNITS:,.8g} USDT"
    assert said[2] == f"worth {fills.notional[1] / UNITS:,.2f}, fee {fills.fee[1] / UNITS:.2f} USDT"
    assert said[3] == f"after all costs {trades.net_profit[0] / UNITS:+,.2f} USDT"


def test_line_leads_from_each_entry_to_its_exit_in_the_colour_of_what_came_of_it() -> None:
    result, history = make_result(500, 25)
    (chart,) = draw_markets(result, history)

    trades = find_closed_trades(result.books)
    gained = trades.net_profit > 0
    for name, chosen in (("trade with a gain", gained), ("trade with a loss", ~gained)):
        line = find_trace(chart, name)
        assert line["x"][0::3] == trades.opened_ms[chosen].tolist()
        assert line["x"][1::3] == trades.closed_ms[chosen].tolist()
        assert line["y"][1::3] == (trades.exit_price[chosen] / UNITS).tolist()
        assert set(line["y"][2::3]) <= {None}


def test_many_candles_are_put_together_and_the_last_trades_shown_up_close() -> None:
    result, history = make_result(20_000, 10)
    whole, close = draw_markets(result, history)

    assert len(find_trace(whole, "candles")["x"]) <= CANDLES
    assert "20,000 candles of 1h are put together to candles of 2 d." in whole.note
    assert f"Of 1,000 closed trades the {MARKED // 2} with the best and the {MARKED // 2} with the worst" in whole.note
    assert len(find_trace(whole, "BUY")["x"]) == len(find_trace(whole, "SELL")["x"]) == MARKED
    assert len(find_trace(close, "candles")["x"]) == CLOSE_BARS
    assert find_trace(close, "SELL")["x"][-1] == result.books.times_ms[result.books.fills.cycle[-1]]


def test_marked_trades_are_the_best_and_the_worst() -> None:
    result, history = make_result(20_000, 10)
    whole, _ = draw_markets(result, history)

    trades = find_closed_trades(result.books)
    order = np.argsort(trades.net_returns, kind="stable")
    chosen = np.sort(np.concatenate((order[: MARKED // 2], order[-MARKED // 2 :])))
    assert find_trace(whole, "SELL")["x"] == trades.closed_ms[chosen].tolist()


def test_symbol_without_candles_or_run_without_cycles_is_not_drawn() -> None:
    result, _ = make_result(500, 25)
    short, history = make_result(2, 0)
    books = drop_warm_up(short.books, int(short.books.times_ms[-1]) + 1)

    assert draw_markets(result, {}) == []
    assert draw_markets(replace(short, books=books), history) == []
