"""Results of backtests made by hand: a market that wanders, bought and sold again and again, without compiled code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np

from app.domain.candle import Interval
from app.domain.instrument import Instrument
from app.domain.money import UNITS, from_units, to_units
from app.domain.record import from_microseconds
from app.research.backtest import measuring
from app.research.backtest.books import OUTCOMES, Books, Fills
from app.research.backtest.request import make_plan
from app.research.backtest.result import BacktestData, BacktestResult, BacktestRun, Caveat, CostCase, SeriesData
from app.risk.metrics import compute_performance
from app.risk.significance import judge_significance
from ml.bars import Bars, IntegerArray
from tests.support.backtests import make_request, make_said

START_MS = 1_735_689_600_000
INITIAL = Decimal(10_000)
_PARTS = 10
_QUANTITY = UNITS // _PARTS
_FEE_PPM = 200
_SLIPPAGE = 50 * UNITS // 100


def make_market(n_bars: int, interval: Interval = Interval.H1, seed: int = 0) -> Bars:
    """Candles of a price that wanders around 30,000, shape (n_bars,)."""
    noise = np.random.default_rng(seed).normal(0.0, 0.002, n_bars)
    close = np.round(30_000.0 * np.exp(np.cumsum(noise - noise.mean())), 2)
    opening = np.concatenate(([30_000.0], close[:-1]))
    high, low = np.maximum(opening, close) + 5.0, np.minimum(opening, close) - 5.0
    times = START_MS + np.arange(n_bars, dtype=np.int64) * interval.milliseconds
    return Bars(times, opening, high, low, close, np.full(n_bars, 10.0))


def make_fills(quotes: IntegerArray, cycles: IntegerArray) -> Fills:
    """A tenth of a unit bought and sold in turns in these cycles, fees and slippage paid."""
    count, is_buy = len(cycles), np.arange(len(cycles)) % 2 == 0
    side = np.where(is_buy, 1, -1)
    reference = quotes[cycles]
    price = reference + side * _SLIPPAGE
    notional = price // _PARTS
    fee = notional * _FEE_PPM // 1_000_000
    before = np.concatenate(([0], notional[:-1])) if count else notional
    return Fills(
        cycle=cycles,
        side=side,
        origin=np.zeros(count, dtype=np.int64),
        quantity=np.full(count, _QUANTITY, dtype=np.int64),
        price=price,
        reference=reference,
        notional=notional,
        fee=fee,
        profit=np.where(is_buy, 0, notional - before),
        entry_fees=np.where(is_buy, 0, np.concatenate(([0], fee[:-1])) if count else fee),
        cash_after=to_units(INITIAL) - np.cumsum(side * notional + fee),
        position_after=np.where(is_buy, _QUANTITY, 0),
    )


def make_books(bars: Bars, trade_every: int) -> Books:
    """What trading every so many bars came to; 0 for never."""
    cycles = len(bars) - 1
    quotes = np.rint(bars.open[1:] * UNITS).astype(np.int64)
    traded = np.arange(1, cycles, trade_every, dtype=np.int64) if trade_every else np.empty(0, dtype=np.int64)
    fills = make_fills(quotes, traded)
    booked = np.searchsorted(traded, np.arange(cycles), side="right")
    cash = np.concatenate(([to_units(INITIAL)], fills.cash_after))[booked]
    held = np.concatenate(([0], fills.position_after))[booked]
    outcomes = np.full(cycles, OUTCOMES.index("hold_signal"), dtype=np.int8)
    outcomes[traded] = OUTCOMES.index("filled")
    return Books(
        times_ms=bars.open_time_ms[1:],
        series=np.zeros(cycles, dtype=np.int64),
        first_bars=np.zeros(1, dtype=np.int64),
        outcomes=outcomes,
        equity=cash + quotes // _PARTS * (held > 0),
        held=held > 0,
        fills=fills,
        halted_cycle=-1,
    )


def make_result(
    n_bars: int = 2_000, trade_every: int = 25, interval: Interval = Interval.H1, **request: Any
) -> tuple[BacktestResult, Mapping[str, Bars]]:
    """A result and the candles that it ran on."""
    bars = make_market(n_bars, interval)
    books, asked = make_books(bars, trade_every), replace(make_request(**_span(bars, interval)), **request)
    plan, benchmark = make_plan(asked, 1), bars.open[1:] / bars.open[1] * float(INITIAL)
    performance = compute_performance(measuring.to_history(plan, books), books.times_ms, benchmark)
    idle = replace(measuring.to_history(plan, make_books(bars, 0)), equity=benchmark, held=np.full(len(books), True))
    _, returns = measuring.compute_daily(float(INITIAL), books)
    run = BacktestRun(
        id="3f" * 32,
        created_at=datetime(2026, 11, 21, 10, 0, 5, tzinfo=UTC),
        request=asked,
        data=_describe(bars, interval),
        code_version="0.5.0+g1234567",
        model_ids=(),
        seconds=0.25,
        bars_per_second=1_000_000.0,
        final_equity=from_units(int(books.equity[-1])),
        fills=len(books.fills),
        closed_trades=int(measuring.find_exits(books).sum()),
        performance=performance,
        benchmark=compute_performance(idle, books.times_ms, benchmark),
        significance=judge_significance(returns, trials=37),
        costs=(
            CostCase(0, 0.25, 1.5, 80),
            CostCase(1, performance.total_return, performance.sharpe, 80),
            CostCase(2, -0.125, -0.5, 78),
            CostCase(5, None, None, 77),
        ),
        monthly=measuring.compute_monthly_returns(plan, books, benchmark),
        outcomes=measuring.count_outcomes(books),
        calibration=(),
        caveats=(Caveat("few_days", "83 days are few."),),
    )
    equity = np.rint(benchmark * UNITS).astype(np.int64)
    return BacktestResult(run, books, equity, make_said(len(books))), {"BTCUSDT": bars}


def _span(bars: Bars, interval: Interval) -> dict[str, Any]:
    first, last = (from_microseconds(int(bars.open_time_ms[place]) * 1_000) for place in (0, -1))
    return {"interval": interval, "since": first, "until": last + interval.duration}


def _describe(bars: Bars, interval: Interval) -> BacktestData:
    rules = Instrument("BTCUSDT", "BTC", "USDT", Decimal("0.01"), Decimal("0.00001"), Decimal(5))
    span = _span(bars, interval)
    last = span["until"] - interval.duration
    series = SeriesData("BTCUSDT", span["since"], last, len(bars), 0, 0, "ab12" * 16, rules)
    return BacktestData("binance", interval, (series,))
