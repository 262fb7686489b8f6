"""What is said of books made by hand is what can be added up by hand."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.candle import Interval
from app.domain.instrument import Instrument
from app.research.backtest import measuring
from app.research.backtest.plan import Series
from app.research.backtest.request import make_plan
from app.research.backtest.result import Curves
from app.strategies.signals import SignalArrays, SignalSource
from ml.bars import Bars
from tests.support.backtests import Fill, make_books, make_request, make_result

LONG: list[Fill] = [
    (1, 1, "2", "100", "0.2", "0", "0", "2"),
    (4, -1, "2", "110", "0.22", "20", "0.2", "0"),
]
PLAN = make_plan(make_request(), 51)


def test_history_of_a_long_trade_is_what_it_paid_and_earned() -> None:
    books = make_books(["10000", "9999.8", "10010", "10020", "10019.58", "10019.58"], LONG)
    found = measuring.to_history(PLAN, books)
    assert found.notionals.tolist() == [200.0, 220.0]
    assert found.fees.tolist() == [0.2, 0.22]
    assert found.slippages.round(8).tolist() == [2.0, 2.2]
    assert found.profits.round(8).tolist() == [19.58]
    assert found.held.tolist() == [False, True, True, True, False, False]


def test_closed_trades_of_two_symbols_are_held_against_their_own_entries() -> None:
    rows: list[Fill] = [
        (0, 1, "2", "100", "0.2", "0", "0", "2"),
        (1, -1, "3", "50", "0.15", "0", "0", "-3"),
        (4, -1, "0.5", "110", "0.05", "5", "0.05", "1.5"),
        (5, 1, "3", "40", "0.12", "30", "0.15", "0"),
        (6, -1, "1.5", "90", "0.13", "-15", "0.15", "0"),
    ]
    found = measuring.find_closed_trades(make_books(["10000"] * 8, rows, series=[0, 1] * 4))
    assert found.series.tolist() == [0, 1, 0]
    assert found.is_long.tolist() == [True, False, True]
    assert found.entry_fill.tolist() == [0, 1, 0]
    assert found.exit_fill.tolist() == [2, 3, 4]
    assert found.bars_held.tolist() == [2, 2, 3]
    assert (found.entry_price // 10**8).tolist() == [100, 50, 100]
    assert (found.net_profit / 1e8).tolist() == [4.9, 29.73, -15.28]
    assert found.net_returns.round(6).tolist() == [0.098, 0.1982, -0.101867]


def test_entry_beside_dust_is_no_exit() -> None:
    rows: list[Fill] = [
        (0, 1, "2", "100", "0.2", "0", "0", "2"),
        (1, -1, "1.9999", "100", "0.2", "0", "0.2", "0.0001"),
        (2, -1, "1", "100", "0.1", "0", "0", "-0.9999"),
        (3, 1, "1", "90", "0.1", "10", "0.1", "0.0001"),
    ]
    assert measuring.find_exits(make_books(["10000"] * 4, rows)).tolist() == [False, True, False, True]


def test_warm_up_is_dropped_and_cycles_are_counted_from_the_first_that_counts() -> None:
    books = replace(make_books(["10000"] * 6, [(4, 1, "1", "100", "0", "0", "0", "1")]), halted_cycle=5)
    kept = measuring.drop_warm_up(books, int(books.times_ms[3]))
    assert len(kept) == 3
    assert (kept.fills.cycle.tolist(), kept.halted_cycle, kept.bars.tolist()) == ([1], 2, [3, 4, 5])
    with pytest.raises(ValueError, match="before the first cycle"):
        measuring.drop_warm_up(books, int(books.times_ms[5]))


def test_drawdown_counts_from_the_initial_cash() -> None:
    books = make_books(["9000", "9500", "11000", "9900"])
    curves = measuring.compute_curves(make_result(books, books.equity))
    assert curves.drawdown.round(6).tolist() == [0.1, 0.05, 0.0, 0.1]


def test_monthly_returns_multiply_to_the_total() -> None:
    books = make_books(["10000", "10500", "10290", "11319"], step_ms=20 * 86_400_000)
    found = measuring.compute_monthly_returns(PLAN, books, np.full(4, 10_000.0))
    assert [(one.year, one.month) for one in found] == [(2026, 1), (2026, 2), (2026, 3)]
    assert [round(one.account or 0, 6) for one in found] == [0.05, -0.02, 0.1]
    assert [one.benchmark for one in found] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("latency", "signals", "confidences"),
    [(0, [1, -1, 2, 0], [0.5, 0.0, 0.625, 0.75]), (1, [-1, 1, -1, 2], [0.0, 0.5, 0.0, 0.625])],
)
def test_what_was_said_is_told_of_the_cycle_that_traded_on_it(
    latency: int, signals: list[int], confidences: list[float]
) -> None:
    said = SignalArrays(
        signals=np.array([1, 2, 2, 0, 2], dtype=np.int8),
        confidences=np.array([0.5, 0.5, 0.625, 0.75, 0.5]),
        expected_returns=np.zeros(5),
        speakers=np.array([0, -1, 0, 0, 0]),
        sources=(SignalSource("rule"),),
    )
    bars = Bars(np.arange(5) * 3_600_000, *(np.ones(5) for _ in range(5)))
    instrument = Instrument("BTCUSDT", "BTC", "USDT", Decimal("0.01"), Decimal("0.00001"), Decimal(5))
    series = [Series("BTCUSDT", Interval.H1, instrument, bars, said)]
    found = measuring.recall(series, make_books(["10000"] * 4), latency)
    assert found.signals.tolist() == signals
    assert found.confidences.tolist() == confidences


def test_outcomes_are_counted_by_their_codes() -> None:
    assert measuring.count_outcomes(make_books(["1"] * 6, LONG)) == {"hold_signal": 4, "filled": 2}


@settings(max_examples=50)
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=500), st.integers(8, 100))
def test_thinned_curve_is_short_and_keeps_ends_and_extremes(equity: list[int], points: int) -> None:
    values = np.array(equity, dtype=np.int64)
    whole = Curves(np.arange(len(values)), values, values, values / 7, values > 3)
    thin = measuring.thin_curves(whole, points)
    assert len(thin) <= max(points, 8)
    assert (np.diff(thin.times_ms) > 0).all()
    assert (thin.equity == values[thin.times_ms]).all()
    assert {values[0], values[-1], values.min(), values.max()} <= set(thin.equity.tolist())


def test_calibration_holds_what_was_said_against_what_came() -> None:
    price = np.full(5, 100.0)
    bars = Bars(np.arange(5) * 60_000, price, price, price, price, price)
    said = SignalArrays(
        signals=np.array([2, 2, 0, 1, 2], dtype=np.int8),
        confidences=np.array([0.62, 0.64, 0.66, 1.0, 0.61]),
        expected_returns=np.zeros(5),
        speakers=np.array([0, 0, 0, 0, -1]),
        sources=(SignalSource("m"),),
    )
    coin = Instrument("BTCUSDT", "BTC", "USDT", Decimal("0.01"), Decimal("0.01"), Decimal(5))
    series = Series("BTCUSDT", Interval.M1, coin, bars, said)
    found = measuring.compute_calibration([series], [np.array([2, 1, 0, -1, 2], dtype=np.int8)])
    assert [one.count for one in found] == [0, 0, 0, 0, 0, 0, 3, 0, 0, 0]
    assert found[6].stated == pytest.approx(0.64)
    assert found[6].came_true == pytest.approx(2 / 3)
    assert (found[0].low, found[9].high, found[0].stated) == (0.0, 1.0, None)


def test_missing_candles_are_counted() -> None:
    assert measuring.count_missing(np.array([0, 60_000, 240_000]), 60_000) == 2
    assert measuring.count_missing(np.array([], dtype=np.int64), 60_000) == 0
