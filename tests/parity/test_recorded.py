"""Both drivers agree on what markets really did: hours with an exchange's halts, minutes of a crash, two symbols."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from app.broker.desk import Terms
from app.domain.candle import Interval
from app.domain.instrument import Instrument
from app.domain.risk import SizingMethod, StopRule
from app.research.backtest.books import Books, find_first_difference
from app.research.backtest.compiled import run_compiled
from app.research.backtest.engine_driver import run_engine
from app.research.backtest.plan import Plan, Series
from app.risk.limits import LimitRules
from app.risk.protection import ProtectionRule
from app.risk.sizing import SizingRule
from app.strategies.signals import say_by_rule
from ml.bars import Bars, find_segments
from ml.labels import BUY, HOLD, SELL
from tests.support.parity import ALL_IN

pytestmark = pytest.mark.usefixtures("compiled_kernel")

DATA = Path(__file__).parents[2].parent / "shared" / "data"

GUARDED = replace(
    ALL_IN,
    terms=Terms(Decimal(10), Decimal(3), Decimal("0.0001"), allow_short=True),
    sizing=SizingRule(SizingMethod.RISK_PER_TRADE, risk_fraction=Decimal("0.02")),
    limits=LimitRules(max_drawdown=Decimal("0.6"), price_band_percent=Decimal("0.5")),
    protection=ProtectionRule(StopRule.TRAILING_STOP, Decimal("2.5"), Decimal(3)),
)
STEADY = replace(
    GUARDED,
    sizing=SizingRule(SizingMethod.VOLATILITY_TARGET, volatility_target=Decimal("0.5")),
    limits=LimitRules(max_daily_loss=Decimal("0.01"), max_gross_exposure=Decimal("0.6"), max_trades_per_day=6),
    protection=ProtectionRule(StopRule.STOP_LOSS, Decimal("1.5"), Decimal(2)),
    latency_bars=1,
)
PLANS = {"all in": ALL_IN, "guarded": GUARDED, "steady": STEADY}

MARKETS = {
    "halts and the crash of March 2020": ("1h", {"BTCUSDT": ("0.01", "0.000001")}, slice(18_300, 20_300)),
    "the minute of 19.6 %": ("1m", {"SOLUSDT": ("0.01", "0.01")}, slice(49_900, 52_100)),
    "two symbols, with a halt": (
        "15m",
        {"BTCUSDT": ("0.01", "0.00001"), "ETHUSDT": ("0.01", "0.0001")},
        slice(7_000, 8_200),
    ),
}


def load(market: str) -> list[Series]:
    """The series of one of `MARKETS`, with a rule that follows an average; skips where there is no such data."""
    interval, instruments, rows = MARKETS[market]
    return [_load(symbol, Interval(interval), steps, rows) for symbol, steps in instruments.items()]


def _load(symbol: str, interval: Interval, steps: tuple[str, str], rows: slice) -> Series:
    path = DATA / f"{symbol}-{interval}.parquet"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    import pandas as pd  # noqa: PLC0415 - a second of importing that only tests with recorded candles pay

    frame = pd.read_parquet(path)[rows]
    # Copies: those of pandas are read-only, for which numba would compile the kernel once more.
    columns = [frame[name].to_numpy(np.float64, copy=True) for name in ("open", "high", "low", "close", "volume")]
    bars = Bars(frame["open_time"].to_numpy(np.int64, copy=True), *columns)
    tick, lot = (Decimal(step) for step in steps)
    instrument = Instrument(symbol, symbol.removesuffix("USDT"), "USDT", tick, lot, Decimal(5))
    segments = find_segments(bars.open_time_ms, interval.milliseconds)
    edges = np.array([0, *(segment.stop for segment in segments)])
    return Series(symbol, interval, instrument, bars, say_by_rule("average", _follow_average(bars, 12), edges, 12))


def _follow_average(bars: Bars, length: int) -> np.ndarray:
    """BUY where a close rises above the mean of the last ones, SELL where it falls below."""
    sums = np.cumsum(np.concatenate(([0.0], bars.close)))
    above = bars.close[length:] > (sums[length + 1 :] - sums[1:-length]) / length
    codes = np.full(len(bars), HOLD, dtype=np.int8)
    turns = np.flatnonzero(above[1:] != above[:-1]) + 1
    codes[length + turns] = np.where(above[turns], BUY, SELL)
    return codes


def run_both(plan: Plan, series: list[Series], *, every_cycle: bool) -> Books:
    """The books, the same from each driver."""
    compiled = run_compiled(plan, series)
    assert find_first_difference(compiled, run_engine(plan, series, every_cycle=every_cycle)) is None
    return compiled


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize("plan", PLANS)
def test_drivers_on_recorded_candles_agree(market: str, plan: str) -> None:
    books = run_both(PLANS[plan], load(market), every_cycle=False)
    assert len(books.fills) > 30


@pytest.mark.slow
@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize("plan", PLANS)
def test_drivers_on_recorded_candles_agree_in_every_cycle(market: str, plan: str) -> None:
    books = run_both(PLANS[plan], load(market), every_cycle=True)
    assert len(books.fills) > 30
