"""The searches that Optuna guides: TPE, and NSGA-II for two objectives. Imported only where such a search runs.

TPE: J. Bergstra, R. Bardenet, Y. Bengio and B. Kegl, Algorithms for Hyper-Parameter Optimization, 2011. NSGA-II: K.
Deb, A. Pratap, S. Agarwal and T. Meyarivan, A Fast and Elitist Multiobjective Genetic Algorithm, 2002.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.trial import Trial, TrialState

from app.research.optimization.request import Method, OptimizationRequest
from app.research.optimization.search import Score
from app.research.optimization.space import Axis, Point, Space

TPE_BATCH: Final = 10
"""How many points TPE is asked for at once: the same on every machine, so that the same seed gives the same answer."""

_CONFLICTS: Final = 50
"""How many points in a row may conflict before one that does not is drawn in their place."""

optuna.logging.set_verbosity(optuna.logging.ERROR)


class _File(BaseJournalBackend):
    """Optuna's journal in a file that its own tools read; ours keeps what a crash must not take, so nothing is synced.

    Optuna's own backend syncs and locks the file five times a trial, which takes longer than to run most of them.
    """

    def __init__(self, path: Path) -> None:
        self._logs: list[dict[str, Any]] = []
        self._path = path
        path.write_text("")

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        return self._logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._logs += logs
        with self._path.open("a") as file:
            file.writelines(json.dumps(one, separators=(",", ":")) + "\n" for one in logs)


def open_storage(path: Path) -> JournalStorage:
    """A new storage of Optuna's in a file of its own; one that is there is written over."""
    return JournalStorage(_File(path))


class OptunaSearch:
    """Asks Optuna.

    Args:
        request: What is looked for, and how.
        name: Of the study, which is new in the storage.
        random: Seeds what Optuna draws.
        storage: Where Optuna keeps what it needs.
    """

    def __init__(
        self, request: OptimizationRequest, name: str, random: np.random.Generator, storage: JournalStorage
    ) -> None:
        self._space: Space = request.space
        self._random = random
        self._left = request.budget
        self._batch = min(TPE_BATCH if request.method is Method.TPE else request.evolution.population, self._left)
        self._study = optuna.create_study(
            storage=storage,
            study_name=name,
            sampler=_make_sampler(request, int(random.integers(2**32))),
            directions=["maximize"] * len(request.objectives),
        )
        self._distributions = {one.name: _distribute(one) for one in request.axes}
        self._asked: list[Trial] = []

    def ask(self) -> list[Point]:
        """The next points, one of which may have been asked for before."""
        count = min(self._batch, self._left)
        self._left -= count
        pairs = [self._ask_one() for _ in range(count)]
        self._asked = [trial for trial, _ in pairs]
        return [point for _, point in pairs]

    def tell(self, points: Sequence[Point], scores: Sequence[Score]) -> None:  # noqa: ARG002 - of a protocol
        """Let Optuna learn from it."""
        for trial, values in zip(self._asked, scores, strict=True):
            self._study.tell(trial, list(values))

    def _ask_one(self) -> tuple[Trial, Point]:
        for _ in range(_CONFLICTS):
            trial = self._study.ask(self._distributions)
            point = self._read(trial)
            if self._space.is_valid(point):
                return trial, point
            self._study.tell(trial, state=TrialState.FAIL)
        point = self._space.draw(self._random)
        self._study.enqueue_trial(self._space.get_values(point))
        return self._study.ask(self._distributions), point

    def _read(self, trial: Trial) -> Point:
        return tuple(round((trial.params[one.name] - one.low) / one.step) for one in self._space.axes)


def _make_sampler(request: OptimizationRequest, seed: int) -> BaseSampler:
    if request.method is Method.TPE:
        return TPESampler(seed=seed, constant_liar=True)
    return NSGAIISampler(seed=seed, population_size=request.evolution.population)


def _distribute(axis: Axis) -> BaseDistribution:
    low, high = axis.get_value(0), axis.get_value(len(axis) - 1)
    if axis.is_integer:
        return IntDistribution(int(low), int(high), step=int(axis.step))
    return FloatDistribution(low, high, step=axis.step)
