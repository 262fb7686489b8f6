"""A whole backtest in this process: what is traded when, and what it is held against."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.domain.instrument import Instrument
from app.domain.record import from_microseconds
from app.errors import InvalidInputError, NotFoundError, ServiceError
from app.research.backtest.books import find_first_difference
from app.research.backtest.computing import COST_MULTIPLES, Task, compute_backtest
from app.research.backtest.measuring import find_closed_trades
from app.research.backtest.request import BacktestRequest, Driver
from app.research.backtest.result import BacktestData, BacktestResult, SeriesData
from app.research.backtest.speaking import count_warm_up_bars
from ml.bars import Bars
from tests.support.backtests import SINCE, UNTIL, make_request

pytestmark = pytest.mark.usefixtures("compiled_kernel")

HOUR_MS = 3_600_000
COIN = Instrument("BTCUSDT", "BTC", "USDT", Decimal("0.01"), Decimal("0.00001"), Decimal(5))
TEN_DAYS = {"until": SINCE + timedelta(days=10)}


def make_bars(request: BacktestRequest, seed: int = 1) -> Bars:
    """A walk of closes on the tick over the candles that a request needs; each opens where the one before closed."""
    count = request.bars + count_warm_up_bars(request)
    first = int(request.until.timestamp()) * 1_000 - count * HOUR_MS
    moves = np.random.default_rng(seed).normal(0, 0.01, count)
    close = np.round(100 * np.exp(np.cumsum(moves)), 2)
    opened = np.concatenate(([100.0], close[:-1]))
    high, low = np.maximum(opened, close), np.minimum(opened, close)
    return Bars(first + np.arange(count) * HOUR_MS, opened, high, low, close, np.full(count, 1e6))


def compute(request: BacktestRequest, history: dict[str, Bars] | None = None, models: Path = Path()) -> BacktestResult:
    history = history or {symbol: make_bars(request, seed) for seed, symbol in enumerate(request.symbols)}
    series = [
        SeriesData(
            symbol,
            from_microseconds(int(bars.open_time_ms[0]) * 1_000),
            from_microseconds(int(bars.open_time_ms[-1]) * 1_000),
            len(bars),
            0,
            0,
            "c" * 64,
            replace(COIN, symbol=symbol),
        )
        for symbol, bars in history.items()
    ]
    data = BacktestData("binance", request.interval, tuple(series))
    return compute_backtest(Task("run-1", UNTIL, "0", request, data), history, models, lambda _share, _words: None)


def test_trading_begins_at_the_first_moment_and_ends_before_the_last_candle_closes() -> None:
    request = make_request(**TEN_DAYS)
    books = compute(request).books
    assert books.times_ms[0] == int(request.since.timestamp()) * 1_000
    assert books.times_ms[-1] == int(request.until.timestamp()) * 1_000 - HOUR_MS
    assert len(books) == request.bars
    assert len(books.fills) > 4


@pytest.mark.parametrize("latency", [0, 3])
def test_both_drivers_come_to_the_same_result(latency: int) -> None:
    request = make_request(**TEN_DAYS, latency_bars=latency, symbols=("BTCUSDT", "ETHUSDT"))
    compiled = compute(request)
    engine = compute(replace(request, driver=Driver.ENGINE))
    assert find_first_difference(compiled.books, engine.books) is None
    assert compiled.run.performance == engine.run.performance
    assert compiled.run.costs == engine.run.costs


def test_numbers_of_a_run_are_those_of_its_books() -> None:
    result = compute(make_request(**TEN_DAYS))
    run, books, trades = result.run, result.books, find_closed_trades(result.books)
    assert run.final_equity == Decimal(int(books.equity[-1])).scaleb(-8)
    assert run.performance.total_return == pytest.approx(float(run.final_equity) / 10_000 - 1, abs=1e-12)
    assert (run.fills, run.closed_trades) == (len(books.fills), len(trades))
    assert int(trades.net_profit.sum()) == books.equity[-1] - 10_000 * 10**8 or books.held[-1]
    assert sum(run.outcomes.values()) == len(books)
    assert run.performance.days == 10
    assert run.model_ids == ("moving-average-cross:fast_bars=10,slow_bars=50",)
    assert [one.code for one in run.caveats if one.code != "open_position"] == ["few_days"]


def test_costs_are_varied_from_nothing_to_five_times() -> None:
    run = compute(make_request(**TEN_DAYS)).run
    assert tuple(one.multiple for one in run.costs) == COST_MULTIPLES
    assert run.costs[1].total_return == run.performance.total_return
    assert run.costs[1].sharpe == run.performance.sharpe
    returns = [one.total_return for one in run.costs]
    assert returns == sorted(returns, reverse=True)  # type: ignore[type-var]


def test_buy_and_hold_pays_its_entry_and_then_moves_with_the_market() -> None:
    request = make_request(**TEN_DAYS, symbols=("BTCUSDT", "ETHUSDT"))
    result = compute(request)
    equity = result.benchmark_equity / 1e8
    history = {symbol: make_bars(request, seed) for seed, symbol in enumerate(request.symbols)}
    warm = count_warm_up_bars(request)
    growth = [bars.open[-1] / bars.open[warm] for bars in history.values()]
    assert 0.0005 < 1 - equity[-1] / (10_000 * np.mean(growth)) < 0.002
    assert result.run.benchmark.win_rate is None
    assert result.run.benchmark.exposure == pytest.approx(1.0)


def test_buy_and_hold_all_in_without_limits_is_its_own_benchmark() -> None:
    own = {"order_cash_fraction": 1, "max_volume_share": 0, "max_symbol_exposure": 0, "max_gross_exposure": 0}
    result = compute(make_request({**own, "max_drawdown": 0, "max_daily_loss": 0}, **TEN_DAYS, strategy="buy-and-hold"))
    assert (result.books.equity == result.benchmark_equity).all()
    assert result.run.performance == replace(result.run.benchmark)
    assert result.run.performance.beta == pytest.approx(1.0)


def test_forest_that_walks_forward_says_how_sure_it_was() -> None:
    own: dict[str, object] = {"training_klines": 500, "model_horizon_bars": 4}
    result = compute(make_request(own, **TEN_DAYS, strategy="forest", step_bars=120))
    assert len(result.run.model_ids) == 2
    assert all(name.startswith("forest-wf-1h-202") for name in result.run.model_ids)
    assert sum(one.count for one in result.run.calibration) == 240 - 3
    assert "insufficient_history" not in result.run.outcomes


@pytest.mark.parametrize(
    ("fields", "code", "kind"),
    [
        ({"strategy": "forest", "model_id": "forest-none"}, "model_not_found", NotFoundError),
        ({"strategy": "forest", "step_bars": 100}, "one_class", InvalidInputError),
    ],
)
def test_what_cannot_be_run_is_refused(
    tmp_path: Path, fields: dict[str, Any], code: str, kind: type[ServiceError]
) -> None:
    request = make_request({"training_klines": 500, "model_threshold_percent": 20}, **TEN_DAYS, **fields)
    with pytest.raises(kind) as caught:
        compute(request, models=tmp_path)
    assert caught.value.code == code
