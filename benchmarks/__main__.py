"""What `make bench` runs: every figure beside its bar; exit status 1 where one is missed."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from app.observability.logging import configure_logging
from benchmarks import (
    bench_backtest,
    bench_books,
    bench_candles,
    bench_predict,
    bench_service,
    bench_trades,
    bench_training,
    side_by_side,
)


def report(what: str, figure: float, unit: str, bar: float, *, at_least: bool) -> bool:
    met = figure >= bar if at_least else figure <= bar
    word = "at least" if at_least else "at most"
    print(
        f"{'ok    ' if met else 'MISSED'} {what}: {figure:,.{1 if figure >= 1 else 3}f} {unit} ({word} {bar:g})",
        flush=True,
    )
    return met


def bench_running_service() -> list[bool]:
    with tempfile.TemporaryDirectory() as scratch, bench_service.exchange() as exchange:
        folder = Path(scratch)
        with bench_service.service(folder, exchange):
            pass  # trains the model that the measured starts load
        with bench_service.service(folder, exchange) as running:
            started = running.start_seconds
            cycle, upstream = bench_service.measure_overhead(running, exchange)
            rate = bench_service.measure_throughput(running)
            memory = running.memory_megabytes
    print(f"  cycle p50 {cycle:.1f} ms, slower upstream call p50 {upstream:.1f} ms")
    return [
        report("a cycle over HTTP beyond its slower upstream call, p50", cycle - upstream, "ms", 10, at_least=False),
        report("cycles a second, 16 callers, 50 symbols", rate, "/s", 100, at_least=True),
        report("start with a model on disk to ready", started, "s", 3, at_least=False),
        report("resident memory after 1,000 cycles", memory, "MB", 200, at_least=False),
    ]


def bench_many_trades() -> list[bool]:
    with tempfile.TemporaryDirectory() as scratch, bench_service.exchange() as exchange:
        folder = Path(scratch)
        asyncio.run(bench_trades.fill_file(folder / "trading.db"))
        rebuilt = bench_books.measure_rebuild(folder / "trading.db")
        with bench_service.service(folder, exchange) as running:
            page = bench_service.measure_trades_page(running.address)
            run = f"{bench_trades.KEY.source}.forest.main.1"
            pages = bench_books.measure_pages(running.address, run)
    return [
        report("GET /trading/trades?limit=100 on 100,000 rows, p99", page, "ms", 25, at_least=False),
        report("the account computed from 100,000 fills", rebuilt, "s", 1, at_least=False),
        *(
            report(f"GET /portfolio/{name} with 100,000 fills, p99", figure, "ms", 50, at_least=False)
            for name, figure in pages.items()
        ),
    ]


def bench_records() -> list[bool]:
    found = bench_books.measure_recording()
    print(f"  cycle p50 {found.recorded * 1e3:.2f} ms, without a record {found.unrecorded * 1e3:.2f} ms")
    print(f"  {bench_books.CYCLES:,} cycles, {found.trades} trades")
    return [
        report("a recorded cycle against one without a record, p50", found.ratio, "x", 1.5, at_least=False),
        report("replay of stored cycles", found.replays_a_second, "/s", 500, at_least=True),
        report("database growth of a cycle", found.bytes_a_cycle / 1024, "KB", 4, at_least=False),
    ]


def bench_models() -> list[bool]:
    return [
        report("one-row prediction against scikit-learn", bench_predict.measure(), "x", 200, at_least=True),
        report("the same, calibrated", bench_predict.measure_calibrated(), "x", 500, at_least=True),
        report("a million rows against scikit-learn, all cores", bench_predict.measure_many(), "x", 1, at_least=True),
        report("a million candles' features against pandas", bench_training.measure_features(), "x", 5, at_least=True),
        report("training on 500 candles", bench_training.measure_training(500), "s", 5, at_least=False),
        report("training on 50,000 candles", bench_training.measure_training(50_000), "s", 60, at_least=False),
    ]


def bench_candle_store() -> list[bool]:
    return [
        report(
            "a million candles from the store into arrays", bench_candles.measure_loading(), "s", 1.5, at_least=False
        )
    ]


def bench_backtests() -> list[bool]:
    """Where a peer could not be measured, the table says why, and its line is neither met nor missed."""
    rows = side_by_side.compare()
    side_by_side.print_table(rows)
    compared = [
        report(f"{row.what}, against {row.other}", row.ratio, "x", row.bar, at_least=True)
        for row in rows
        if row.bar is not None and row.ratio is not None
    ]
    return [
        *compared,
        report("a forest's backtest over 500,000 candles", bench_backtest.measure_forest(), "s", 60, at_least=False),
        report("memory of a million-bar backtest", bench_backtest.measure_memory(), "MB", 300, at_least=False),
    ]


def main() -> int:
    configure_logging("ERROR", json_lines=False)
    met = [
        *bench_models(),
        *bench_candle_store(),
        *bench_backtests(),
        *bench_running_service(),
        *bench_records(),
        *bench_many_trades(),
    ]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
