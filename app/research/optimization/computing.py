"""Computes an optimisation: the searches, the choices they lead to, and what these came to."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from app.domain.record import microseconds
from app.research.child import OnProgress
from app.research.optimization.archive import Archive
from app.research.optimization.describing import Found, Task, describe
from app.research.optimization.folds import choose, cut_folds, score
from app.research.optimization.genetic import GeneticSearch
from app.research.optimization.request import Method, OptimizationRequest
from app.research.optimization.result import OptimizationRun
from app.research.optimization.search import ListSearch, Score, Search, draw_points, run_search
from app.research.optimization.space import Point
from app.research.optimization.trials import Markets, TrialRunner
from ml.bars import Bars

if TYPE_CHECKING:
    from optuna.storages import JournalStorage

TRIALS_FILE: Final = "trials.bin"
OPTUNA_FILE: Final = "optuna.journal"

_SEARCHED: Final = 0.95
"""How far the work is once every search is at its end."""


def compute_optimization(
    task: Task, history: Mapping[str, Bars], models: Path, folder: Path, on_progress: OnProgress
) -> OptimizationRun:
    """Look for parameters, and find out what looking for them is worth.

    A search that learns on its way is run anew for every choice, and told of no day after those that the choice is made
    by: one that had seen them would bring points that are good there.

    Args:
        task: What is to be computed.
        history: The candles of each symbol, those before the first moment of trading included.
        models: The folder of bundles.
        folder: Where the trials are kept on the way; those that are there are not run again.
        on_progress: Hears how far the work is.

    Raises:
        InvalidInputError: It cannot be run; the code says why.
        ConflictError: `optimization_in_progress`, another process works on it.
        BackendError: The cluster cannot be used.
    """
    began = time.perf_counter()
    request = task.request
    markets = Markets(task.data, history, models, microseconds(request.backtest.since) // 1_000)
    days = markets.days
    folds = cut_folds(len(days), request.folds)
    with Archive(folder / TRIALS_FILE, len(request.axes), len(days)) as archive:
        runner = TrialRunner(markets, task.backend)
        work = _Work(request, runner, archive, folder, on_progress)
        chosen = [work.choose(fold.train) for fold in folds]
        best = work.choose(range(len(days)))
        on_progress(_SEARCHED, "Judging.")
        benchmark = runner.hold(request.space.make_request(request.space.get_values(best)))
        found = Found(request, archive, days, tuple(zip(folds, chosen, strict=True)), best, benchmark)
        return describe(task, found, time.perf_counter() - began)


class _Work:
    """The searches of one optimisation."""

    def __init__(
        self,
        request: OptimizationRequest,
        runner: TrialRunner,
        archive: Archive,
        folder: Path,
        on_progress: OnProgress,
    ) -> None:
        self._request = request
        self._space = request.space
        self._runner = runner
        self._archive = archive
        self._optuna_file = folder / OPTUNA_FILE
        self._optuna: JournalStorage | None = None
        self._on_progress = on_progress
        self._searches = 0
        self._asked = 0
        self._points: list[Point] = []

    def choose(self, days: range) -> Point:
        """The best of what a search finds that knows these days alone."""
        objectives = self._request.objectives

        def worth(point: Point) -> Score:
            return score(self._archive[point].curve, days, objectives)

        if self._request.method.is_guided or not self._points:
            self._asked = self._searches * self._request.budget
            self._points = run_search(self._make_search(), self._evaluate, worth)
            self._searches += 1
        return self._points[choose([worth(point) for point in self._points])]

    def _make_search(self) -> Search:
        request, number = self._request, self._searches
        random = np.random.default_rng([request.seed, number])
        if request.method is Method.GRID:
            return ListSearch(self._space.list_points())
        if request.method is Method.RANDOM:
            return ListSearch(draw_points(self._space, request.budget, random))
        if request.method is Method.GENETIC:
            return GeneticSearch(self._space, request.evolution, random)
        from app.research.optimization.samplers import (  # noqa: PLC0415 - a second, which other searches need not take
            OptunaSearch,
            open_storage,
        )

        self._optuna = self._optuna or open_storage(self._optuna_file)
        return OptunaSearch(request, f"search {number + 1}", random, self._optuna)

    def _evaluate(self, points: list[Point]) -> None:
        new = list(dict.fromkeys(point for point in points if point not in self._archive))
        for place, trial in self._runner.run(
            [self._space.make_request(self._space.get_values(point)) for point in new]
        ):
            self._archive.add(new[place], trial)
            self._tell(self._asked + len(points) * (place + 1) // len(new))
        self._asked += len(points)
        self._tell(self._asked)

    def _tell(self, asked: int) -> None:
        request = self._request
        share = asked / (request.budget * request.searches)
        words = f"Search {self._searches + 1} of {request.searches}: {len(self._archive):,} different trials run."
        self._on_progress(min(share, 1.0) * _SEARCHED, words)
