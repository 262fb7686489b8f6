"""Backtests against the peers and the reference kernel, in one run: python -m benchmarks.side_by_side.

Every peer does the common work of `benchmarks.peers.work` on the same candles, in an environment of its own and by
itself; what its account comes to must be what ours does.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from app.observability.logging import configure_logging
from app.research.backtest.engine_driver import run_engine
from benchmarks import bench_backtest, reference_kernel
from benchmarks.bench_backtest import MANY_BARS, PLAN, bars_of, outcome_of, run_cross, say_cross
from benchmarks.market import made_candles
from benchmarks.peers import environments, work
from benchmarks.peers.environments import NotMeasuredError, Peer, run_peer

SWEEP_BARS = 100_000
ENGINE_BARS = 100_000
SLOW_PEER_BARS = 50_000

_COMPILED = "compiled backtest, exact books, one core, a million bars"
_SWEEP = "sweep of 1,000 pairs over 100,000 bars, two cores"
_ENGINE = "engine backtest, one core"


Report = Mapping[str, Any]
"""What a peer's script prints of one way to do the work (`work.report`)."""

Check = Callable[[str, int, Report], None]


class Job(NamedTuple):
    """How many bars a peer does, and how often; the best counts."""

    bars: int
    repeats: int


@dataclass(frozen=True)
class Row:
    """A line of the table: what was done, our rate and the other's in bars a second, and the bar for their ratio.

    `theirs` is None where it could not be measured; `bar` where the line is there for orientation.
    """

    what: str
    other: str
    ours: float
    theirs: float | None
    bar: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times as fast we are."""
        return None if self.theirs is None else self.ours / self.theirs


@dataclass(frozen=True)
class Work:
    """Something we did, beside which others are put.

    Attributes:
        what: What it is called.
        rate: Bars a second.
        check: Raises where what is reported of somebody's first so many bars is not what ours come to.
    """

    what: str
    rate: float
    check: Check

    def beside_kernel(self, rate: float, bar: float | None = None) -> Row:
        """The row of the reference kernel."""
        return Row(self.what, "reference kernel", self.rate, rate, bar)

    def beside(self, peer: Peer, file: Path, job: Job, least: Mapping[str, float | None]) -> list[Row]:
        """A row for each way in which the peer does it, by the name in its report, with the bar for it."""
        try:
            found = run_peer(peer, file, *job)
        except NotMeasuredError as error:
            return [Row(self.what, way, self.rate, None, bar, f"not measured: {error}") for way, bar in least.items()]
        rows = []
        for way, bar in least.items():
            report = found[way]
            self.check(way, job.bars, report)
            note = f"version {peer.version}, {report['bars']:,} bars, first call {report['first_seconds']:.1f} s"
            rows.append(Row(self.what, way, self.rate, report["bars"] / report["seconds"], bar, note))
        return rows


def measure_compiled(candles: work.Candles, file: Path) -> list[Row]:
    bars = bars_of(candles)
    kernel_rate, reference = reference_kernel.measure_kernel(candles.open, candles.close)
    _, seconds, books = work.best_seconds(lambda: run_cross(bars), 20)
    check_equal("reference kernel", reference, outcome_of(books))
    done = Work(_COMPILED, len(bars) / seconds, check_common_work(candles))
    peers = done.beside(environments.VECTORBT, file, Job(len(bars), 15), {"vectorbt": 5, "vectorbt[rust]": None})
    return [*peers, done.beside_kernel(kernel_rate, 0.1)]


def measure_sweep(candles: work.Candles, file: Path) -> list[Row]:
    bars = bars_of(candles)
    pairs = len(reference_kernel.sweep_pairs())
    kernel_seconds, reference = reference_kernel.measure_sweep(candles.open, candles.close)
    first, second, ours = work.best_seconds(lambda: bench_backtest.sweep(bars), 1)
    assert np.abs(ours / reference - 1).max() < 3e-3  # a pair may hold at the end, marked at another price

    def check(who: str, _bars: int, report: Report) -> None:
        # Averages that are equal but for rounding cross a bar earlier here and later there.
        assert (np.abs(np.array(report["equities"]) / reference - 1) < 1e-6).mean() > 0.9, who

    work_done = pairs * len(bars)
    done = Work(_SWEEP, work_done / min(first, second), check)
    peers = done.beside(environments.VECTORBT_SWEEP, file, Job(len(bars), 1), {"vectorbt": 40, "vectorbt[rust]": None})
    return [*peers, done.beside_kernel(work_done / kernel_seconds)]


def measure_engine(candles: work.Candles, file: Path) -> list[Row]:
    bars = bars_of(candles.first(ENGINE_BARS))
    _, seconds, _ = work.best_seconds(lambda: run_engine(PLAN, [say_cross(bars)]), 3)
    done = Work(_ENGINE, len(bars) / seconds, check_common_work(candles))
    kernel_rate, _ = reference_kernel.measure_kernel(candles.open, candles.close)
    return [
        *done.beside(environments.FREQTRADE, file, Job(SLOW_PEER_BARS, 2), {"freqtrade": 3}),
        *done.beside(environments.NAUTILUS, file, Job(SLOW_PEER_BARS, 2), {"NautilusTrader": 3}),
        *done.beside(environments.BACKTESTING, file, Job(ENGINE_BARS, 3), {"backtesting.py": 1}),
        done.beside_kernel(kernel_rate),
    ]


def check_common_work(candles: work.Candles) -> Check:
    """What checks that an account came to what ours does; who does other work is not compared."""

    def check(who: str, bars: int, report: Report) -> None:
        ours = outcome_of(run_cross(bars_of(candles.first(bars))))
        check_equal(who, work.Outcome(report["equity"], report["fills"]), ours)

    return check


def check_equal(who: str, theirs: work.Outcome, ours: work.Outcome) -> None:
    assert theirs.fills == ours.fills, f"{who}: {theirs.fills} fills, ours {ours.fills}"
    assert abs(theirs.equity / ours.equity - 1) < 1e-7, f"{who}: equity {theirs.equity}, ours {ours.equity}"


def compare() -> list[Row]:
    """Every row; a peer that is not installed is, which takes a minute for all of them."""
    candles = made_candles(MANY_BARS)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "candles.npz"
        work.save_candles(file, candles)
        return [
            *measure_compiled(candles, file),
            *measure_sweep(candles.first(SWEEP_BARS), file),
            *measure_engine(candles, file),
        ]


def print_table(rows: Sequence[Row]) -> None:
    """What | ours | peer | ratio | bar, rates in million bars a second."""
    print("  what | ours | peer | ratio | bar (million bars a second)")
    for row in rows:
        theirs = "" if row.theirs is None else f" {row.theirs / 1e6:.3g}"
        ratio = "-" if row.ratio is None else f"{row.ratio:.3g}x"
        bar = "orientation" if row.bar is None else f"at least {row.bar:g}x"
        note = f" ({row.note})" if row.note else ""
        print(f"  {row.what} | {row.ours / 1e6:.3g} | {row.other}{theirs}{note} | {ratio} | {bar}")


if __name__ == "__main__":
    configure_logging("ERROR", json_lines=False)
    print_table(compare())
