"""Optimisations as the service runs them: every trial counted, the best a backtest, gone on with after a kill."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.domain.job import JobStatus
from app.domain.ports import Selection
from app.engine.clocks import SimulatedClock
from app.errors import ConflictError, NotFoundError, ServiceError
from app.exchanges.simulated import SimulatedMarketData
from app.research.backtest.keeper import BacktestKeeper, find_data_set
from app.research.history import HistoryKeeper
from app.research.jobs import JobRunner
from app.research.optimization.computing import TRIALS_FILE
from app.research.optimization.keeper import STUDIES, OptimizationKeeper
from app.research.optimization.request import Method, OptimizationRequest
from app.research.optimization.request import make_request as make
from app.research.optimization.result import OptimizationRun
from app.storage.backtests import SqlBacktests
from app.storage.candle_store import CandleStore
from app.storage.database import Database
from app.storage.jobs import SqlJobs
from app.storage.optimizations import SqlOptimizations, StoredOptimization
from tests.support.optimizations import AXES, make_base

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("compiled_kernel")]

NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Bench:
    """A keeper of optimisations on the simulated market."""

    def __init__(self, database: Database, models: Path) -> None:
        clock = SimulatedClock(NOW)
        market = SimulatedMarketData(clock, seed=7)
        self.trials = SqlBacktests(database, clock)
        history = HistoryKeeper(market, CandleStore(database), clock)
        self.backtests = BacktestKeeper(market, history, self.trials, clock, models)
        self.runner = JobRunner(SqlJobs(database, clock))
        self.kept = SqlOptimizations(database)
        self.keeper = OptimizationKeeper(self.backtests, self.trials, self.kept, self.runner, models, "loky")
        self.studies = models / STUDIES
        self.told: list[tuple[float, str]] = []

    def hear(self, share: float, words: str) -> None:
        self.told.append((share, words))

    async def count(self, run: OptimizationRun) -> int:
        return (await self.trials.count_trials(find_data_set(run.request.backtest, run.data))).trials

    async def wait_for_trials(self, task: asyncio.Task[object], least: int) -> Path:
        """The file of trials once it has so many bytes."""
        while not task.done():
            for file in self.studies.glob(f"*/{TRIALS_FILE}"):
                if file.stat().st_size >= least:
                    return file
            await asyncio.sleep(0.005)
        raise AssertionError("it was too quick")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(f"sqlite:///{tmp_path}/books.db") as opened:
        yield opened


@pytest.fixture
def bench(database: Database, tmp_path: Path) -> Bench:
    return Bench(database, tmp_path / "models")


def ask(method: Method = Method.GRID, **asked: object) -> OptimizationRequest:
    return make(make_base(days=40), AXES, {"folds": 2, "method": method, **asked})


def find_children() -> list[int]:
    """The processes of this one that compute optimisations."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            words = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == os.getpid() and b"app.research.optimization.worker" in words:
            found.append(int(folder.name))
    return found


@pytest.mark.usefixtures("computed_here")
async def test_every_trial_is_counted_and_the_best_is_a_backtest_like_any_other(bench: Bench) -> None:
    run = await bench.keeper.run(ask(), bench.hear)
    assert [share for share, _ in bench.told] == sorted(share for share, _ in bench.told)
    assert run.trials == await bench.count(run) == 113
    assert run.judgement is not None
    assert run.judgement.significance.trials == 113
    assert list(bench.studies.iterdir()) == []

    assert run.best_run_id is not None
    best = (await bench.backtests.load(run.best_run_id)).run
    assert best.request == run.request.space.make_request(run.best.values)
    assert best.performance.sharpe == run.best.sharpe
    assert best.fills == run.best.fills
    assert best.significance == run.judgement.significance
    assert [one.multiple for one in best.costs] == [0, 1, 2, 5]

    bench.told.clear()
    assert await bench.keeper.run(ask(), bench.hear) == run
    assert not any("Search" in words for _, words in bench.told)

    await bench.backtests.run(make_base(days=40, parameters={"fast_bars": 3}), bench.hear)
    again = await bench.keeper.load(run.id)
    assert again.judgement is not None
    assert again.judgement.significance.trials == 114


@pytest.mark.usefixtures("computed_here")
async def test_run_is_listed_and_deleting_it_leaves_what_it_tried(bench: Bench) -> None:
    run = await bench.keeper.run(ask(Method.TPE, trials=5), bench.hear)
    assert [one.name for one in (bench.studies / run.id).iterdir()] == ["optuna.journal"]
    for wanted, strategy, found in (
        (Selection("BTCUSDT", since=NOW), "moving-average-cross", [run.id]),
        (Selection("ETHUSDT"), None, []),
        (Selection(since=NOW + timedelta(days=1)), None, []),
        (Selection("BTCUSDT"), "forest", []),
    ):
        assert [one.id for one in (await bench.keeper.list(10, None, wanted, strategy)).items] == found

    await bench.kept.save(StoredOptimization("of-another-version", NOW, ("BTCUSDT",), "forest", "{}"))
    page = await bench.keeper.list(10)
    assert ([one.id for one in page.items], page.unreadable) == ([run.id], ("of-another-version",))

    tried = await bench.count(run)
    await bench.keeper.delete(run.id)
    assert not (bench.studies / run.id).exists()
    assert await bench.count(run) == tried == run.trials
    for run_id in (run.id, "nonsense", "\x00"):
        with pytest.raises(NotFoundError) as caught:
            await bench.keeper.load(run_id)
        assert caught.value.code == "optimization_not_found"
        with pytest.raises(NotFoundError):
            await bench.keeper.delete(run_id)


async def test_process_that_is_killed_leaves_its_trials_and_the_next_goes_on(bench: Bench) -> None:
    request = ask(Method.GENETIC, generations=20)
    task = asyncio.create_task(bench.keeper.run(request, bench.hear))
    file = await bench.wait_for_trials(task, 2_000)
    os.kill(find_children()[0], signal.SIGKILL)
    with pytest.raises(ServiceError, match="The optimisation was killed") as caught:
        await task
    assert caught.value.code == "optimization_failed"
    assert file.stat().st_size >= 2_000
    assert (await bench.keeper.list(10)).items == ()
    run = await bench.keeper.run(request, bench.hear)
    assert await bench.count(run) == run.trials


async def test_job_that_is_cancelled_takes_its_process_down_and_leaves_its_trials(bench: Bench) -> None:
    request = ask(Method.GENETIC, generations=20)
    job, _ = await bench.keeper.start(request, None)
    with pytest.raises(ConflictError) as caught:
        await bench.keeper.start(request, None)
    assert caught.value.code == "job_in_progress"
    waiting: asyncio.Task[object] = asyncio.create_task(asyncio.Event().wait())
    await bench.wait_for_trials(waiting, 2_000)
    waiting.cancel()
    assert (await bench.runner.cancel(job.id)).status is JobStatus.CANCELED
    assert find_children() == []
