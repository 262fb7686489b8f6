"""Backtests as the service runs them: in a process of their own, kept whole or not at all, each computed once."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.domain.job import JobStatus
from app.engine.clocks import SimulatedClock
from app.errors import ConflictError, InvalidInputError, NotFoundError, ServiceError
from app.exchanges.simulated import SimulatedMarketData
from app.research.backtest import worker
from app.research.backtest.books import find_first_difference
from app.research.backtest.keeper import BacktestKeeper, Candles, find_data_set
from app.research.backtest.request import BacktestRequest
from app.research.history import HistoryKeeper
from app.research.jobs import JobRunner
from app.storage.backtests import SqlBacktests, StoredRun
from app.storage.candle_store import CandleStore
from app.storage.database import Database
from app.storage.jobs import SqlJobs
from ml.bars import Bars, save_bars
from tests.support.backtests import SINCE, make_request

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("compiled_kernel")]

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 2, 1, tzinfo=UTC)
UNTIL = SINCE + timedelta(days=10)


class Bench:
    """A keeper of backtests on the simulated market."""

    def __init__(self, database: Database, models: Path) -> None:
        clock = SimulatedClock(NOW)
        market = SimulatedMarketData(clock, seed=7)
        self.store = SqlBacktests(database, clock)
        history = HistoryKeeper(market, CandleStore(database), clock)
        self.keeper = BacktestKeeper(market, history, self.store, clock, models)
        self.jobs = SqlJobs(database, clock)
        self.told: list[tuple[float, str]] = []

    def hear(self, share: float, words: str) -> None:
        self.told.append((share, words))

    async def wait_for_child(self, task: asyncio.Task[object]) -> int:
        """The process that computes, once there is one."""
        while not task.done():
            found = find_children()
            if found:
                return found[0]
            await asyncio.sleep(0.02)
        raise AssertionError("no process was started")


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with Database(f"sqlite:///{tmp_path}/books.db") as database:
        yield Bench(database, tmp_path / "models")


def find_children() -> list[int]:
    """The processes of this one that compute backtests."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            words = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == os.getpid() and b"app.research.backtest.worker" in words:
            found.append(int(folder.name))
    return found


def ask(**fields: object) -> BacktestRequest:
    return make_request(until=UNTIL, **fields)


@pytest.mark.usefixtures("computed_here")
async def test_same_request_is_answered_from_the_store_and_its_trial_outlives_it(bench: Bench) -> None:
    first = await bench.keeper.run(ask(), bench.hear)
    assert [share for share, _ in bench.told] == sorted(share for share, _ in bench.told)
    assert bench.told[-1] == (1.0, "Done.")
    assert "Trading." in str(bench.told)
    assert first.run.data.source == "simulated-7"
    assert [one.code for one in first.run.caveats][:2] == ["simulated_market", "few_days"]
    assert first.run.significance is not None
    assert first.run.significance.trials == 1

    bench.told.clear()
    again = await bench.keeper.run(ask(), bench.hear)
    assert "Trading." not in str(bench.told)
    assert again.run == first.run
    assert find_first_difference(again.books, first.books) is None
    assert [one.id for one in (await bench.keeper.list(10)).items] == [first.run.id]

    await bench.keeper.delete(first.run.id)
    assert (await bench.keeper.list(10)).items == ()
    other = await bench.keeper.run(ask(parameters={"fast_bars": 5}), bench.hear)
    assert other.run.id != first.run.id
    assert other.run.significance is not None
    assert other.run.significance.trials == 2


async def test_process_that_is_killed_leaves_nothing_and_the_run_is_simply_run_again(bench: Bench) -> None:
    task = asyncio.create_task(bench.keeper.run(ask(), bench.hear))
    os.kill(await bench.wait_for_child(task), signal.SIGKILL)
    with pytest.raises(ServiceError, match="was killed") as caught:
        await task
    assert caught.value.code == "backtest_failed"
    assert (await bench.keeper.list(10)).items == ()
    result = await bench.keeper.run(ask(), bench.hear)
    assert (await bench.store.count_trials(find_data_set(result.run.request, result.run.data))).trials == 1
    assert (await bench.keeper.load(result.run.id)).run == result.run


async def test_job_that_is_cancelled_takes_its_process_down(bench: Bench) -> None:
    runner = JobRunner(bench.jobs)

    async def work(_tell: object) -> dict[str, object]:
        return {"run_id": (await bench.keeper.run(ask(), bench.hear)).run.id}

    job, _ = await runner.start("backtest", work, None)
    with pytest.raises(ConflictError) as caught:
        await runner.start("backtest", work, None)
    assert caught.value.code == "job_in_progress"
    waiting = asyncio.create_task(asyncio.Event().wait())
    process = await bench.wait_for_child(waiting)
    waiting.cancel()
    assert (await runner.cancel(job.id)).status is JobStatus.CANCELED
    assert process not in find_children()
    assert (await bench.keeper.list(10)).items == ()


async def test_jobs_of_two_kinds_run_beside_each_other_and_end_alone(bench: Bench) -> None:
    runner, ended = JobRunner(bench.jobs), asyncio.Event()

    async def work(_tell: object) -> dict[str, object]:
        await ended.wait()
        return {}

    training, _ = await runner.start("training", work, None)
    backtest, _ = await runner.start("backtest", work, None)
    assert (await runner.cancel(training.id)).status is JobStatus.CANCELED
    with pytest.raises(ConflictError, match="CANCELED"):
        await runner.cancel(training.id)
    ended.set()
    while not (found := await bench.jobs.get(backtest.id)).status.is_final:
        await asyncio.sleep(0.01)
    assert found.status is JobStatus.SUCCEEDED


async def test_error_of_the_process_is_the_error_of_the_caller(bench: Bench) -> None:
    with pytest.raises(NotFoundError) as caught:
        await bench.keeper.run(ask(strategy="forest", model_id="forest-none"), bench.hear)
    assert caught.value.code == "model_not_found"


@pytest.mark.usefixtures("computed_here")
async def test_run_that_cannot_be_read_is_named_beside_those_that_can(bench: Bench) -> None:
    read = (await bench.keeper.run(ask(), bench.hear)).run
    await bench.store.save(StoredRun("of-another-version", UNTIL, ("BTCUSDT",), "moving-average-cross", "{}", b""))

    page = await bench.keeper.list(1)
    assert (page.items, page.unreadable) == ((), ("of-another-version",))
    page = await bench.keeper.list(1, page.next_cursor)
    assert ([one.id for one in page.items], page.unreadable) == ([read.id], ())
    await bench.keeper.delete("of-another-version")
    assert (await bench.keeper.list(9)).unreadable == ()


def test_worker_on_a_full_disk_says_so_and_leaves_no_candles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / worker.TASK_FILE).write_text("{}")
    save_bars(tmp_path / worker.BARS_FILE, {})
    monkeypatch.setattr(worker, "from_plain", lambda *_: None)
    monkeypatch.setattr(worker, "compute_backtest", fail)

    assert worker.main(tmp_path, tmp_path) == 3

    said = json.loads(capsys.readouterr().out)["error"]
    assert (said["kind"], said["code"]) == ("ServiceError", "backtest_failed")
    assert said["message"] == f"The backtest cannot run: No space left on device ({tmp_path})."
    assert not (tmp_path / worker.BARS_FILE).exists()


@pytest.mark.usefixtures("computed_here")
async def test_candles_of_a_file_are_cut_to_the_request_and_are_no_market(bench: Bench) -> None:
    count = 24 * 40
    first = int((SINCE - timedelta(days=20)).timestamp()) * 1_000
    bars = Bars.from_rows(
        [(first + place * 3_600_000, 100.0, 101.0, 99.0, 100.0 + place % 7 / 10, 1e6) for place in range(count)]
    )
    request = ask(source="/home/somebody/BTCUSDT.csv")
    result = await bench.keeper.run(request, bench.hear, Candles({"BTCUSDT": bars}, {"BTCUSDT": 3}))
    (series,) = result.run.data.series
    assert (result.run.data.source, series.refused_rows) == ("file", 3)
    assert (series.first, series.last) == (SINCE - timedelta(hours=100), UNTIL - timedelta(hours=1))
    assert "instrument_unknown" in [one.code for one in result.run.caveats]
    with pytest.raises(InvalidInputError) as caught:
        await bench.keeper.run(replace(request, symbols=("ETHUSDT",)), bench.hear, Candles({"BTCUSDT": bars}, {}))
    assert caught.value.code == "no_candles"


@pytest.mark.parametrize(("fields", "code"), [({"source": "candles.csv"}, "candles_missing")])
async def test_file_that_nobody_read_is_refused(bench: Bench, fields: dict[str, object], code: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        await bench.keeper.run(ask(**fields), bench.hear)
    assert caught.value.code == code


async def test_span_without_candles_is_refused(bench: Bench) -> None:
    with pytest.raises(InvalidInputError) as caught:
        await bench.keeper.run(make_request(since=NOW + timedelta(days=1), until=NOW + timedelta(days=9)), bench.hear)
    assert caught.value.code == "no_candles"
    with pytest.raises(NotFoundError) as unknown:
        await bench.keeper.run(ask(symbols=("NOSUCHCOIN",)), bench.hear)
    assert unknown.value.code == "unknown_symbol"


def test_process_ends_with_whoever_started_it() -> None:
    code = "import time; from ml.child import end_with_parent, say; end_with_parent(); say({}); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "{}\n"
        process.stdin.close()
        assert process.wait(timeout=10) == 4
