"""Backtests against the peers and the reference kernel, in one run: python -m benchmarks.bench_backtest.

Every peer does the common work of `benchmarks.peers.work` on the same candles in an environment of its own; what the
account comes to must be the same everywhere.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from app.agents.decision_making import Gate
from app.broker.desk import Terms
from app.domain.candle import Interval
from app.domain.instrument import Instrument
from app.domain.money import UNITS
from app.observability.logging import configure_logging
from app.research.backtest.books import Books
from app.research.backtest.compiled import run_compiled
from app.research.backtest.engine_driver import run_engine
from app.research.backtest.plan import Plan, Series
from app.risk.limits import LimitRules
from app.risk.protection import ProtectionRule
from app.risk.sizing import SizingRule
from app.strategies.forest import compute_rows, say_by_forest
from app.strategies.registry import get_rule
from app.strategies.signals import SignalSource
from benchmarks import reference_kernel
from benchmarks.market import made_candles
from benchmarks.peers import environments, work
from benchmarks.peers.environments import NotMeasuredError, Peer, run_peer
from ml.bars import Bars, FloatArray
from ml.calibration import Calibration
from ml.forest import ForestRule, fit_forest, forest_arrays
from ml.labels import UNSETTLED, LabelRule, compute_labels
from ml.predictor import Predictor

MANY_BARS = 1_000_000
SWEEP_BARS = 100_000
ENGINE_BARS = 100_000
SLOW_PEER_BARS = 50_000
FOREST_BARS = 500_000
TAUGHT_BARS = 20_000

_CROSS = get_rule("moving-average-cross")
_MILLION = 1e6
_OFF = Decimal(0)
_INSTRUMENT = Instrument("BTCUSDT", "BTC", "USDT", Decimal("1e-8"), Decimal("1e-8"), Decimal(0))
_PLAN = Plan(
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


@dataclass(frozen=True)
class Row:
    """A line of the table; a ratio of None could not be measured."""

    what: str
    ours: str
    peer: str
    ratio: float | None
    bar: float


def bars_of(candles: work.Candles) -> Bars:
    return Bars(*candles)


def say_cross(bars: Bars, fast_bars: int = work.FAST_BARS, slow_bars: int = work.SLOW_BARS) -> Series:
    values = {"fast_bars": fast_bars, "slow_bars": slow_bars}
    signals = _CROSS.compute_signals(bars, Interval.M1.milliseconds, values)
    return Series(_INSTRUMENT.symbol, Interval.M1, _INSTRUMENT, bars, signals)


def run_cross(bars: Bars, fast_bars: int = work.FAST_BARS, slow_bars: int = work.SLOW_BARS) -> Books:
    """The common work, compiled: signals, exact books and the equity after every bar."""
    return run_compiled(_PLAN, [say_cross(bars, fast_bars, slow_bars)])


def outcome_of(books: Books) -> work.Outcome:
    return work.Outcome(float(books.equity[-1]) / UNITS, len(books.fills))


def sweep(bars: Bars) -> FloatArray:
    """What each pair of the sweep ends with, on two cores."""

    def run(pair: Sequence[int]) -> float:
        return outcome_of(run_cross(bars, *pair)).equity

    with ThreadPoolExecutor(2) as threads:
        return np.array(list(threads.map(run, reference_kernel.sweep_pairs().tolist())))


def check_equal(what: str, theirs: work.Outcome, ours: work.Outcome) -> None:
    """Who does other work is not compared."""
    assert theirs.fills == ours.fills, f"{what}: {theirs.fills} fills, ours {ours.fills}"
    assert abs(theirs.equity / ours.equity - 1) < 1e-6, f"{what}: equity {theirs.equity}, ours {ours.equity}"


def rate(bars: int, seconds: float) -> str:
    return f"{bars / seconds / _MILLION:.3g} million bars/s"


def compare(what: str, bar: float, bars: int, seconds: float, theirs: Callable[[], tuple[str, dict[str, Any]]]) -> Row:
    """How many times as fast we are, by the bars a second of either."""
    ours = rate(bars, seconds)
    try:
        name, found = theirs()
    except NotMeasuredError as error:
        return Row(what, ours, f"not measured: {error}", None, bar)
    peer = (
        f"{name} {found['version']}: {rate(found['bars'], found['seconds'])}, first call {found['first_seconds']:.1f} s"
    )
    return Row(what, ours, peer, bars / seconds / (found["bars"] / found["seconds"]), bar)


def measure_compiled(candles: work.Candles, file: Path) -> list[Row]:
    bars = bars_of(candles)
    kernel_rate, reference = reference_kernel.measure_kernel(candles.open, candles.close)
    _, seconds, books = work.best_seconds(lambda: run_cross(bars), 10)
    ours = outcome_of(books)
    check_equal("reference kernel", reference, ours)
    found: dict[str, Any] = {}

    def read(engine: str) -> tuple[str, dict[str, Any]]:
        if not found:
            found.update(run_peer(environments.VECTORBT, file, len(bars), 15))
        check_equal("vectorbt", work.Outcome(found[engine]["equity"], found[engine]["fills"]), ours)
        return f"vectorbt ({engine})", found[engine]

    what = "compiled backtest, exact books, one core, a million bars"
    return [
        compare(what, 5, len(bars), seconds, lambda: read("numba")),
        compare(f"{what}, for orientation", 0, len(bars), seconds, lambda: read("rust")),
        Row(
            what,
            rate(len(bars), seconds),
            f"reference kernel: {kernel_rate / _MILLION:.3g} million bars/s",
            len(bars) / seconds / kernel_rate,
            0.1,
        ),
    ]


def measure_sweep(candles: work.Candles, file: Path) -> list[Row]:
    bars = bars_of(candles)
    kernel_seconds, reference = reference_kernel.measure_sweep(candles.open, candles.close)
    first, second, ours = work.best_seconds(lambda: sweep(bars), 1)
    assert np.abs(ours / reference - 1).max() < 3e-3  # a pair may hold at the end, marked at another price
    what, seconds = "sweep of 1,000 pairs over 100,000 bars, two cores", min(first, second)
    told = f"{seconds:.2f} s"
    by_kernel = Row(
        f"{what}, for orientation", told, f"reference kernel: {kernel_seconds:.2f} s", kernel_seconds / seconds, 0
    )
    try:
        found = run_peer(environments.VECTORBT_SWEEP, file, len(bars), 1)
    except NotMeasuredError as error:
        return [Row(what, told, f"not measured: {error}", None, 40), by_kernel]
    rows = []
    for engine, bar in (("numba", 40), ("rust", 0)):
        theirs = found[engine]
        apart = np.abs(np.array(theirs["equities"]) / reference - 1)
        # Averages that are equal but for rounding cross a bar earlier here and later there.
        assert (apart < 1e-6).mean() > 0.9, np.sort(apart)[-100:]
        peer = f"vectorbt ({engine}) {theirs['version']}: {theirs['seconds']:.1f} s"
        name = what if bar else f"{what}, for orientation"
        rows.append(Row(name, told, peer, theirs["seconds"] / seconds, bar))
    return [*rows, by_kernel]


def measure_engine(candles: work.Candles, file: Path) -> list[Row]:
    bars = bars_of(candles.first(ENGINE_BARS))
    _, seconds, _ = work.best_seconds(lambda: run_engine(_PLAN, [say_cross(bars)]), 2)

    def against(peer: Peer, count: int) -> Callable[[], tuple[str, dict[str, Any]]]:
        def read() -> tuple[str, dict[str, Any]]:
            found = run_peer(peer, file, count, 2)[peer.name]
            check_equal(peer.name, work.Outcome(found["equity"], found["fills"]), outcome_of(run_cross(bars[:count])))
            return peer.name, found

        return read

    peers = (
        (environments.FREQTRADE, 3, SLOW_PEER_BARS),
        (environments.NAUTILUS, 3, SLOW_PEER_BARS),
        (environments.BACKTESTING, 1, ENGINE_BARS),
    )
    what = "engine backtest, one core"
    return [compare(what, bar, len(bars), seconds, against(peer, count)) for peer, bar, count in peers]


def compare_with_peers() -> list[Row]:
    """Every line of the table that has a peer."""
    candles = made_candles(MANY_BARS)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "candles.npz"
        work.save_candles(file, candles)
        return [
            *measure_compiled(candles, file),
            *measure_sweep(candles.first(SWEEP_BARS), file),
            *measure_engine(candles, file),
        ]


def measure_memory() -> float:
    """What the peak of a process grows by in a million-bar backtest, candles held before, code loaded; megabytes."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "candles.npz"
        work.save_candles(file, made_candles(MANY_BARS))
        root = Path(__file__).parents[1]
        command = [sys.executable, "-c", _MEMORY, str(file)]
        done = subprocess.run(command, check=True, cwd=root, stdout=subprocess.PIPE, text=True)
        return float(done.stdout)


def measure_forest() -> float:
    """Seconds of a backtest of a forest over 500,000 candles: features, predictions and exact books."""
    bars = bars_of(made_candles(FOREST_BARS))
    predictor = teach(bars[:TAUGHT_BARS])
    # A hundredth of the cash at a time: the forest sees how steps lean on each other, and all in it would soon own more
    # than 64 bits count.
    plan = replace(_PLAN, gate=Gate(min_confidence=0.35), sizing=SizingRule(cash_fraction=Decimal("0.01")))

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


def print_table(rows: Sequence[Row]) -> None:
    """The rows beneath each other: what, ours, peer, ratio, bar."""
    for row in rows:
        ratio = "-" if row.ratio is None else f"{row.ratio:.3g}x"
        print(f"  {row.what} | ours {row.ours} | {row.peer} | {ratio} | {f'at least {row.bar:g}x' if row.bar else ''}")


if __name__ == "__main__":
    configure_logging("ERROR", json_lines=False)
    print_table(compare_with_peers())
    print(f"forest over {FOREST_BARS:,} candles: {measure_forest():.1f} s")
    print(f"memory beyond the arrays: {measure_memory():.0f} MB")
