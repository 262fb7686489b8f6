"""A trial is the compiled backtest of its request: across gaps, late, of several symbols, with stops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from app.domain.instrument import Instrument
from app.domain.record import microseconds
from app.research.backtest.compiled import run_compiled
from app.research.backtest.measuring import compute_daily, drop_warm_up
from app.research.backtest.plan import Series
from app.research.backtest.request import BacktestRequest, make_plan
from app.research.backtest.result import BacktestData
from app.research.backtest.speaking import listen
from app.research.optimization.trials import Markets, TrialRunner
from app.strategies.registry import get_rule
from ml.bars import Bars
from tests.support.backtests import SINCE
from tests.support.optimizations import WINDOW, draw_walk, make_base, make_market, make_optimization, make_task

pytestmark = pytest.mark.usefixtures("compiled_kernel")

POINTS = ({"fast_bars": 2, "slow_bars": 9}, {"fast_bars": 5, "slow_bars": 40}, {"fast_bars": 30, "slow_bars": 110})


def make_markets(symbols: Sequence[str], folder: Path, gaps: int) -> Markets:
    """Walks with some candles missing, and different ones in each."""
    task, _ = make_task(make_optimization(), draw_walk(0))
    series, history = [], {}
    for place, symbol in enumerate(symbols):
        bars = make_market(draw_walk(place + 1), SINCE - WINDOW * task.data.interval.duration)
        kept = np.ones(len(bars), dtype=np.bool_)
        for start in np.random.default_rng(place).integers(200, len(bars) - 50, size=gaps).tolist():
            kept[start : start + 3] = False
        history[symbol] = Bars(*(getattr(bars, name)[kept] for name in Bars.__dataclass_fields__))
        tick, lot = Decimal("0.01"), Decimal("0.001")
        rules = Instrument(symbol, symbol, "USDT", tick, lot, Decimal(5))
        series.append(replace(task.data.series[0], symbol=symbol, instrument=rules, bars=int(kept.sum())))
    return Markets(
        BacktestData("made-up", task.data.interval, tuple(series)), history, folder, microseconds(SINCE) // 1_000
    )


def run_alone(markets: Markets, request: BacktestRequest) -> tuple[list[float], int]:
    speech = listen(request, markets.history, markets.models, lambda _share, _words: None)
    plan = make_plan(request, get_rule(request.strategy).lookback(request.parameters))
    series = [
        Series(one.symbol, request.interval, one.instrument, markets.history[one.symbol], speech.signals[one.symbol])
        for one in markets.data.series
    ]
    books = drop_warm_up(run_compiled(plan, series), markets.start_ms)
    return compute_daily(float(request.initial_cash), books)[0].tolist(), len(books.fills)


@pytest.mark.parametrize("symbols", [("BTCUSDT",), ("BTCUSDT", "ETHUSDT")])
@pytest.mark.parametrize("latency", [0, 3])
@pytest.mark.parametrize(
    "own",
    [
        {"fee_bps": 2, "slippage_bps": 3},
        {"stop_rule": "trailing_stop", "stop_atr_multiple": 1, "take_profit_atr_multiple": 2, "allow_short": True},
        {"sizing": "volatility_target", "max_drawdown": "0.1", "max_trades_per_day": 1},
    ],
    ids=("costs", "stops", "sized"),
)
def test_trial_is_the_compiled_backtest_of_its_request(
    own: dict[str, object], latency: int, symbols: tuple[str, ...], tmp_path: Path
) -> None:
    markets = make_markets(symbols, tmp_path, gaps=4)
    requests = [make_base(own, latency_bars=latency, symbols=symbols, parameters=point) for point in POINTS]
    found = dict(TrialRunner(markets).run(requests))
    assert sorted(found) == [0, 1, 2]
    for place, request in enumerate(requests):
        curve, fills = run_alone(markets, request)
        assert found[place].curve.tolist() == curve
        assert found[place].fills == fills
        assert fills > 0 or place == 2
        assert len(curve) == len(markets.days) + 1


def test_trading_begins_with_the_first_moment_and_not_before(tmp_path: Path) -> None:
    markets = make_markets(("BTCUSDT",), tmp_path, gaps=0)
    late = replace(markets, start_ms=markets.start_ms + int(timedelta(days=30).total_seconds()) * 1_000)
    request = make_base(since=SINCE + timedelta(days=30), parameters=POINTS[0])
    ((_, trial),) = TrialRunner(late).run([request])
    assert (trial.curve.tolist(), trial.fills) == run_alone(late, request)
    assert len(trial.curve) == len(markets.days) + 1 - 30
