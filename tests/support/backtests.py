"""Requests, books and results of backtests, made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np

from app.choices import make_backtest_request
from app.domain.candle import Interval
from app.domain.instrument import Instrument
from app.domain.money import to_units
from app.research.backtest.books import OUTCOMES, Books, Fills
from app.research.backtest.measuring import compute_daily, count_outcomes, find_exits
from app.research.backtest.request import BacktestRequest
from app.research.backtest.result import BacktestData, BacktestResult, BacktestRun, CostCase, Said, SeriesData
from app.risk.metrics import AccountHistory, compute_performance
from app.risk.significance import judge_significance
from app.settings import load_settings
from ml.bars import IntegerArray
from ml.labels import HOLD

SINCE = datetime(2026, 1, 1, tzinfo=UTC)
UNTIL = datetime(2026, 1, 3, tzinfo=UTC)

Fill = tuple[int, int, str, str, str, str, str, str]
"""Cycle, side, quantity, price, fee, profit before fees, fees of the entry, and what is held then."""


def make_request(own: dict[str, object] | None = None, /, **fields: Any) -> BacktestRequest:
    """A request of moving averages on BTCUSDT, as the settings have it by default."""
    settings = load_settings(_env_file=None)
    defaults = {"since": SINCE, "until": UNTIL, "strategy": "moving-average-cross", "interval": Interval.H1}
    return make_backtest_request(settings, own or {}, **{**defaults, **fields})


def make_fills(rows: Sequence[Fill]) -> Fills:
    """Fills of rows of decimal texts; slippage is one hundredth of the price."""
    amounts = np.array([[to_units(Decimal(text)) for text in row[2:]] for row in rows], dtype=np.int64).reshape(-1, 6)
    cycle, side = (np.array([row[place] for row in rows], dtype=np.int64) for place in (0, 1))
    quantity, price, fee, profit, entry_fees, held = amounts.T
    notional = np.array([a * b // 10**8 for a, b in zip(quantity.tolist(), price.tolist(), strict=True)], np.int64)
    return Fills(
        cycle=cycle,
        side=side,
        origin=np.zeros(len(rows), dtype=np.int64),
        quantity=quantity,
        price=price,
        reference=price - side * (price // 100),
        notional=notional,
        fee=fee,
        profit=profit,
        entry_fees=entry_fees,
        cash_after=np.full(len(rows), 10**11),
        position_after=held,
    )


def make_books(
    equity: Sequence[str], rows: Sequence[Fill] = (), *, series: Sequence[int] | None = None, step_ms: int = 3_600_000
) -> Books:
    """Books with a cycle an hour from `SINCE` on; what is held follows from the fills."""
    count = len(equity)
    owners = np.array(series or [0] * count, dtype=np.int64)
    outcomes = np.full(count, OUTCOMES.index("hold_signal"), dtype=np.int8)
    outcomes[[row[0] for row in rows]] = OUTCOMES.index("filled")
    held = np.zeros(count, dtype=np.bool_)
    for row in rows:
        held[row[0] :] = Decimal(row[7]) != 0
    return Books(
        times_ms=int(SINCE.timestamp()) * 1_000 + np.arange(count, dtype=np.int64) * step_ms,
        series=owners,
        first_bars=np.zeros(max(owners, default=0) + 1, dtype=np.int64),
        outcomes=outcomes,
        equity=np.array([to_units(Decimal(text)) for text in equity], dtype=np.int64),
        held=held,
        fills=make_fills(rows),
        halted_cycle=-1,
    )


def make_result(books: Books, benchmark_equity: IntegerArray, request: BacktestRequest | None = None) -> BacktestResult:
    """A result of made-up numbers around true books."""
    request = request or make_request()
    none = np.empty(0)
    held = AccountHistory(
        10_000.0, books.times_ms, benchmark_equity / 1e8, np.ones(len(books), dtype=np.bool_), none, none, none, none
    )
    performance = compute_performance(held, held.times_ms, held.equity)
    instrument = Instrument("BTCUSDT", "BTC", "USDT", Decimal("0.01"), Decimal("0.00001"), Decimal(5))
    series = SeriesData("BTCUSDT", SINCE, UNTIL, 148, 0, 0, "c" * 64, instrument)
    run = BacktestRun(
        id="b" * 32,
        created_at=UNTIL,
        request=request,
        data=BacktestData("binance", request.interval, (series,)),
        code_version="0.2.1",
        model_ids=("moving-average-cross:fast_bars=10,slow_bars=50",),
        seconds=0.25,
        bars_per_second=1e6,
        final_equity=Decimal("10000.00000001"),
        fills=len(books.fills),
        closed_trades=int(find_exits(books).sum()),
        performance=performance,
        benchmark=performance,
        significance=judge_significance(compute_daily(10_000.0, books)[1]),
        costs=(CostCase(0, 0.1, None, 2),),
        monthly=(),
        outcomes=count_outcomes(books),
        calibration=(),
        caveats=(),
    )
    return BacktestResult(run, books, benchmark_equity, make_said(len(books)))


def make_said(count: int) -> Said:
    """That a rule has said HOLD each time."""
    return Said(np.full(count, HOLD, dtype=np.int8), np.ones(count, dtype=np.float32))
