"""Our backtests at the common work of `benchmarks.peers.work`, and of a forest: python -m benchmarks.bench_backtest."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from itertools import chain
from pathlib import Path

import numpy as np

from app.agents.decision_making import Gate
from app.broker.desk import Terms
from app.domain.candle import Interval
from app.domain.instrument import Instrument
from app.domain.money import UNITS
from app.observability.logging import configure_logging
from app.research.backtest.books import Books
from app.research.backtest.compiled import run_compiled
from app.research.backtest.plan import Plan, Series
from app.research.backtest.sweep import Sweep
from app.risk.limits import LimitRules
from app.risk.protection import ProtectionRule
from app.risk.sizing import SizingRule
from app.strategies.forest import compute_rows, say_by_forest
from app.strategies.registry import get_rule
from app.strategies.signals import SignalSource
from benchmarks import reference_kernel
from benchmarks.market import made_candles
from benchmarks.peers import work
from ml.bars import Bars, FloatArray
from ml.calibration import Calibration
from ml.forest import ForestRule, fit_forest, forest_arrays
from ml.labels import UNSETTLED, LabelRule, compute_labels
from ml.predictor import Predictor

MANY_BARS = 1_000_000
FOREST_BARS = 500_000
TAUGHT_BARS = 20_000

_AT_ONCE = 16

_CROSS = get_rule("moving-average-cross")
_OFF = Decimal(0)
_INSTRUMENT = Instrument("BTCUSDT", "BTC", "USDT", Decimal("1e-8"), Decimal("1e-8"), Decimal(0))
PLAN = Plan(
    initial_cash=Decimal(work.CASH),
    gate=Gate(min_confidence=0.0),
    terms=Terms(Decimal(2), Decimal(3), _OFF),
    sizing=SizingRule(cash_fraction=Decimal(1)),
    limits=LimitRules(
        max_symbol_exposure=_OFF,
        max_gross_exposure=_OFF,
        max_volume_share=_OFF,
        max_daily_loss=_OFF,
        max_drawdown=_OFF,
        cooldown_losses=0,
        max_trades_per_day=0,
        max_open_positions=0,
        price_band_percent=_OFF,
    ),
    protection=ProtectionRule(),
)
_MEMORY = """
import sys
from pathlib import Path
from benchmarks.bench_backtest import bars_of, run_cross
from benchmarks.peers.work import load_candles
def peak():
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
bars = bars_of(load_candles(Path(sys.argv[1])))
before = peak()
books = run_cross(bars)
print(peak() - before)
"""


def bars_of(candles: work.Candles) -> Bars:
    return Bars(*candles)


def say_cross(bars: Bars, fast_bars: int = work.FAST_BARS, slow_bars: int = work.SLOW_BARS) -> Series:
    values = {"fast_bars": fast_bars, "slow_bars": slow_bars}
    signals = _CROSS.compute_signals(bars, Interval.M1.milliseconds, values)
    return Series(_INSTRUMENT.symbol, Interval.M1, _INSTRUMENT, bars, signals)


def run_cross(bars: Bars, fast_bars: int = work.FAST_BARS, slow_bars: int = work.SLOW_BARS) -> Books:
    """The common work, compiled: signals, exact books and the equity after every bar."""
    return run_compiled(PLAN, [say_cross(bars, fast_bars, slow_bars)])


def outcome_of(books: Books) -> work.Outcome:
    return work.Outcome(float(books.equity[-1]) / UNITS, len(books.fills))


def sweep(bars: Bars) -> FloatArray:
    """What each pair of the sweep ends with, on two cores: candles and sums of closes are looked at once for all."""
    pairs = reference_kernel.sweep_pairs().tolist()
    assert _CROSS.find_signals is not None
    shared, find = Sweep([say_cross(bars)]), _CROSS.find_signals(bars, np.array([0, len(bars)]))

    def run(pair: Sequence[int]) -> float:
        signals = find(dict(zip(("fast_bars", "slow_bars"), pair, strict=True)))
        return float(shared.run(PLAN, [signals]).daily[-1]) / UNITS

    chunks = [pairs[first : first + _AT_ONCE] for first in range(0, len(pairs), _AT_ONCE)]
    with ThreadPoolExecutor(2) as threads:
        return np.array([*chain.from_iterable(threads.map(lambda chunk: list(map(run, chunk)), chunks))])


def measure_memory() -> float:
    """Megabytes by which the peak of a process that holds a million candles grows in a backtest of them.

    The compiled code is loaded within that, but not made: the first of two processes does that where it must.
    """
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "candles.npz"
        work.save_candles(file, made_candles(MANY_BARS))
        root = Path(__file__).parents[1]
        command = [sys.executable, "-c", _MEMORY, str(file)]
        grown = [subprocess.run(command, check=True, cwd=root, capture_output=True, text=True).stdout for _ in range(2)]
    return float(grown[1])


def measure_forest() -> float:
    """Seconds of a backtest of a forest over 500,000 candles: features, predictions and exact books."""
    bars = bars_of(made_candles(FOREST_BARS))
    predictor = teach(bars[:TAUGHT_BARS])
    # A hundredth of the cash at a time: the forest sees how steps lean on each other, and all in it would soon own more
    # than 64 bits count.
    plan = replace(PLAN, gate=Gate(min_confidence=0.35), sizing=SizingRule(cash_fraction=Decimal("0.01")))

    def run(some: Bars) -> Books:
        said = say_by_forest(predictor, SignalSource("forest"), compute_rows(some, Interval.M1.milliseconds))
        return run_compiled(plan, [Series(_INSTRUMENT.symbol, Interval.M1, _INSTRUMENT, some, said)])

    run(bars[:TAUGHT_BARS])  # compiles
    began = time.perf_counter()
    books = run(bars)
    seconds = time.perf_counter() - began
    print(f"  {len(books.fills):,} fills")
    assert len(books.fills) > 0
    return seconds


def teach(bars: Bars) -> Predictor:
    """The service's own forest, of what came within ten of these candles, with a calibration to compute."""
    labels = compute_labels(bars, LabelRule(horizon_bars=10, threshold_percent=0.2)).labels
    rows = compute_rows(bars, Interval.M1.milliseconds)
    known = np.isfinite(rows).all(axis=1) & (labels != UNSETTLED)
    forest = fit_forest(rows[known], labels[known], ForestRule(class_weight="balanced"))  # says each signal at times
    return Predictor(forest_arrays(forest), Calibration(beta=1.1))


if __name__ == "__main__":
    configure_logging("ERROR", json_lines=False)
    print(f"forest over {FOREST_BARS:,} candles: {measure_forest():.1f} s")
    print(f"memory beyond the arrays: {measure_memory():.0f} MB")
