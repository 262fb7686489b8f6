"""Optimisations as a service has them: computed in another process, gone on with after a crash, and kept."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from app import __version__
from app.domain.job import Job
from app.domain.ports import EVERYTHING, IdempotencyKey, Page, Selection
from app.domain.record import canonical, digest, from_plain, to_plain
from app.errors import ServiceError, StorageError
from app.research.backtest.keeper import BacktestKeeper, Candles, explain, find_data_set, name_trial, part_of
from app.research.backtest.result import BacktestData
from app.research.child import OnProgress, run_child
from app.research.jobs import JobRunner
from app.research.optimization.archive import Archive
from app.research.optimization.computing import TRIALS_FILE
from app.research.optimization.describing import Task, find_returns
from app.research.optimization.judging import judge
from app.research.optimization.request import OptimizationRequest
from app.research.optimization.result import OptimizationRun
from app.research.optimization.worker import BARS_FILE, RUN_FILE, TASK_FILE
from app.risk.metrics import DAYS_PER_YEAR, compute_sharpe
from app.storage.backtests import SqlBacktests, Trial
from app.storage.optimizations import SqlOptimizations, StoredOptimization, not_found
from ml.bars import Bars, save_bars

STUDIES: Final = "studies"
"""The folder, beside the bundles, that has a folder for each optimisation that is not at its end, or was by Optuna."""

_FOUND: Final = 0.9
"""How far the work is once everything is found out, and the best is to be run and kept as a backtest."""


class OptimizationKeeper:
    """Runs optimisations and keeps them.

    Args:
        backtests: Fetches candles, and keeps the backtest of the best.
        trials: Counts what was tried.
        optimizations: Where optimisations are kept.
        jobs: Runs them beside everything else.
        models: The folder of bundles, in which that of studies is.
        backend: Where trials run, as `ml.backend.run_calls` takes it.
    """

    def __init__(
        self,
        backtests: BacktestKeeper,
        trials: SqlBacktests,
        optimizations: SqlOptimizations,
        jobs: JobRunner,
        models: Path,
        backend: str,
    ) -> None:
        self._backtests = backtests
        self._trials = trials
        self._optimizations = optimizations
        self._jobs = jobs
        self._models = models.absolute()
        self._backend = backend

    async def start(self, request: OptimizationRequest, key: IdempotencyKey | None) -> tuple[Job, bool]:
        """Queue an optimisation, whose result names its run; True when the job is that of an earlier call with `key`.

        Raises:
            ConflictError: `job_in_progress`, another one is under way.
        """

        async def work(on_progress: OnProgress) -> Mapping[str, object]:
            run = await self.run(request, on_progress)
            judgement = run.judgement
            return {
                "run_id": run.id,
                "best": dict(run.best.values),
                "recommended": dict(judgement.recommended) if judgement and judgement.recommended else None,
                "reason": judgement.reason if judgement else None,
            }

        return await self._jobs.start("optimization", work, key)

    async def run(
        self, request: OptimizationRequest, on_progress: OnProgress, candles: Candles | None = None
    ) -> OptimizationRun:
        """Compute an optimisation, or find that it was computed before: the same request on the same candles.

        One that was killed on its way goes on from the trials that it had run. Every trial is counted before anything
        that came of them is shown. A caller who is cancelled takes the computing down.

        Args:
            request: What is asked for.
            on_progress: Hears how far the work is.
            candles: Those of the request's file, from as far back as there are; from the store they are fetched.

        Raises:
            InvalidInputError: It cannot be run; the code says why (`no_candles`, `span_too_short` ...).
            NotFoundError: `unknown_symbol`, `model_not_found`.
            ConflictError: `optimization_in_progress`, another process works on the same.
            ConfigurationError: `backend_unusable`, the cluster does not answer.
            UpstreamError: Candles that are missing could not be fetched.
            ServiceError: `optimization_failed`, the process broke.
        """
        widest = request.space.make_widest_request()
        prepared, candles = await self._backtests.prepare(widest, on_progress, candles)
        run_id = name_optimization(request, prepared.data)
        if await self._optimizations.find_document(run_id) is None:
            task = Task(run_id, prepared.created_at, __version__, request, prepared.data, self._backend)
            run = await self._compute(task, candles.history, on_progress)
            await self._keep(run, candles, on_progress)
            await asyncio.to_thread(self._tidy, run_id)
        on_progress(1.0, "Done.")
        return await self.load(run_id)

    async def load(self, run_id: str) -> OptimizationRun:
        """One run, judged by all that was tried until now; raises NotFoundError `optimization_not_found`."""
        document = await self._optimizations.find_document(run_id)
        if document is None:
            raise not_found()
        return await self._judge(await asyncio.to_thread(read_run, document))

    async def list(
        self, limit: int, cursor: str | None = None, wanted: Selection = EVERYTHING, strategy: str | None = None
    ) -> Page[OptimizationRun]:
        """The newest runs, newest first, each as it was judged when it was computed; raises as `SqlBacktests.list`."""
        page = await self._optimizations.list(limit, cursor, wanted, strategy)
        return Page(tuple(await asyncio.to_thread(lambda: [read_run(one) for one in page.items])), page.next_cursor)

    async def delete(self, run_id: str) -> None:
        """Throw a run away; what it tried stays counted. Raises NotFoundError `optimization_not_found`."""
        await self._optimizations.delete(run_id)
        await asyncio.to_thread(shutil.rmtree, self._find_study(run_id), ignore_errors=True)

    def _find_study(self, run_id: str) -> Path:
        return self._models / STUDIES / run_id

    async def _compute(self, task: Task, history: Mapping[str, Bars], on_progress: OnProgress) -> OptimizationRun:
        study, hears = self._find_study(task.id), part_of(on_progress, 0.3, _FOUND)
        try:
            await asyncio.to_thread(study.mkdir, parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix="papertape-optimization-") as scratch:
                folder = Path(scratch)
                await asyncio.to_thread(_write_task, folder, task, history)
                arguments = (folder, self._models, study)
                last, status = await run_child("app.research.optimization.worker", arguments, hears)
                if "done" not in last:
                    raise explain(last, status, "optimisation", "optimization_failed")
                return read_run(await asyncio.to_thread((folder / RUN_FILE).read_text))
        except OSError as error:
            raise ServiceError(
                f"The optimisation cannot run: {error.strerror}; make room in {tempfile.gettempdir()} and {study}.",
                code="optimization_failed",
            ) from error

    async def _keep(self, run: OptimizationRun, candles: Candles, on_progress: OnProgress) -> None:
        """Count every trial for good, keep the backtest of the best, judge the run, and keep it."""
        await self._trials.record_trials(await asyncio.to_thread(self._list_trials, run))
        request = run.request
        best = request.space.make_request(run.best.values)
        backtest = (await self._backtests.run(best, part_of(on_progress, _FOUND, 1.0), candles)).run
        run = await self._judge(replace(run, best_run_id=backtest.id))
        asked = request.backtest
        document = canonical(to_plain(run))
        await self._optimizations.save(
            StoredOptimization(run.id, run.created_at, asked.symbols, asked.strategy, document)
        )

    def _list_trials(self, run: OptimizationRun) -> Sequence[Trial]:
        space, data_set = run.request.space, find_data_set(run.request.backtest, run.data)
        trials = []
        with Archive(self._find_study(run.id) / TRIALS_FILE, len(space.axes), len(run.best_curve) - 1) as archive:
            for point in archive:
                sharpe = compute_sharpe(find_returns(archive[point].curve))
                daily = None if sharpe is None else sharpe / math.sqrt(DAYS_PER_YEAR)
                trials.append(Trial(data_set, name_trial(space.make_request(space.get_values(point))), daily))
        return trials

    def _tidy(self, run_id: str) -> None:
        """Leave what is Optuna's alone in the study of a run that is kept; nothing where that is nothing."""
        study = self._find_study(run_id)
        (study / TRIALS_FILE).unlink(missing_ok=True)
        if not any(study.iterdir()):
            study.rmdir()

    async def _judge(self, run: OptimizationRun) -> OptimizationRun:
        counted = await self._trials.count_trials(find_data_set(run.request.backtest, run.data))
        if run.judgement is not None and run.judgement.significance.trials == counted.trials:
            return run
        found = await asyncio.to_thread(judge, run, counted.trials, counted.variance)
        return replace(run, judgement=found)


def name_optimization(request: OptimizationRequest, data: BacktestData) -> str:
    """The id of a run, which tells it from every other that may come out differently: 32 hexadecimal digits."""
    document = {"request": request.to_document(), "data": to_plain(data), "code": __version__}
    return digest(canonical(document))[:32]


def read_run(document: str) -> OptimizationRun:
    """A run from its JSON; raises StorageError `optimization_unreadable` where this version cannot read it."""
    try:
        run: OptimizationRun = from_plain(OptimizationRun, json.loads(document))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise StorageError(
            "The optimisation cannot be read: another version wrote it, or it is damaged; delete it and run it again.",
            code="optimization_unreadable",
        ) from error
    return run


def _write_task(folder: Path, task: Task, history: Mapping[str, Bars]) -> None:
    (folder / TASK_FILE).write_text(canonical(to_plain(task)))
    save_bars(folder / BARS_FILE, history)
