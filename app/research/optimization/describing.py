"""What is said of the trials of an optimisation, of the choices made of them and of what these came to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Final

import numpy as np
from threadpoolctl import threadpool_limits

from app.domain.record import from_microseconds
from app.research.backtest.result import BacktestData
from app.research.optimization.archive import Archive
from app.research.optimization.folds import RUINED, Fold, find_front, score
from app.research.optimization.plateau import map_plateau
from app.research.optimization.request import Objective, OptimizationRequest
from app.research.optimization.result import Candidate, Choice, OptimizationRun, OutOfSample, SweepOverfitting
from app.research.optimization.search import Score
from app.research.optimization.space import Point
from app.risk.curves import DAY_MS
from app.risk.metrics import compute_calmar, compute_sharpe, compute_total_return, find_maximum_drawdown
from app.risk.overfitting import compute_overfitting
from ml.backend import LOCAL
from ml.bars import FloatArray

_MOST_OVERFIT: Final = 1_000
"""Of how many trials the probability of overfitting is computed at most; a thousand take half a second."""

_TOP: Final = 20


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be computed.

    Attributes:
        id: Its name.
        created_at: When it was asked for.
        code_version: The version of the code.
        request: What is asked for.
        data: What the candles are.
        backend: Where trials run, as `ml.backend.run_calls` takes it.
    """

    id: str
    created_at: datetime
    code_version: str
    request: OptimizationRequest
    data: BacktestData
    backend: str = LOCAL


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What the searches have found.

    Attributes:
        request: What was asked for.
        archive: Every trial.
        days: The UTC days that the curves are of.
        choices: What was chosen for each fold.
        best: What was chosen by all days.
        benchmark: The curve of buy-and-hold, shape (n_days + 1,).
    """

    request: OptimizationRequest
    archive: Archive
    days: range
    choices: tuple[tuple[Fold, Point], ...]
    best: Point
    benchmark: FloatArray


def describe(task: Task, found: Found, seconds: float) -> OptimizationRun:
    """Everything that is said of what was found."""
    request, archive, best = found.request, found.archive, found.best
    points = sorted(archive)
    whole = range(len(found.days))
    scores = [score(archive[point].curve, whole, request.objectives) for point in points]
    order = sorted(range(len(points)), key=lambda place: (-scores[place][0], points[place]))[:_TOP]
    front = find_front(scores) if len(request.objectives) > 1 else []
    candidates = {place: _make_candidate(found, points[place], scores[place]) for place in {*order, *front}}
    place = points.index(best)
    return OptimizationRun(
        id=task.id,
        created_at=task.created_at,
        request=request,
        data=task.data,
        code_version=task.code_version,
        trials=len(points),
        seconds=seconds,
        choices=tuple(_make_choice(found, *one) for one in found.choices),
        out_of_sample=_stitch(found),
        best=_make_candidate(found, best, scores[place]),
        best_curve=tuple(archive[best].curve.tolist()),
        front=tuple(candidates[one] for one in front),
        top=tuple(candidates[one] for one in order),
        plateau=map_plateau(request.axes, points, np.array([one[0] for one in scores]), place),
        overfitting=_compute_overfitting(archive, points, best),
    )


def _make_candidate(found: Found, point: Point, scores: Score) -> Candidate:
    trial, request = found.archive[point], found.request
    drawdown = find_maximum_drawdown(trial.curve)
    return Candidate(
        values=request.space.get_values(point),
        objectives=_turn(request.objectives, scores),
        total_return=compute_total_return(trial.curve) or 0.0,
        sharpe=compute_sharpe(find_returns(trial.curve)),
        maximum_drawdown=drawdown.fraction if drawdown else 0.0,
        fills=trial.fills,
    )


def _turn(objectives: Sequence[Objective], scores: Score) -> tuple[float | None, ...]:
    """Scores as they are shown: a drawdown is above 0, and what is ruined has none."""
    pairs = zip(objectives, scores, strict=True)
    shown = (abs(one) if objective is Objective.MAXIMUM_DRAWDOWN else one for objective, one in pairs)
    return tuple(None if one <= RUINED else found for one, found in zip(scores, shown, strict=True))


def _make_choice(found: Found, fold: Fold, point: Point) -> Choice:
    request, first = found.request, found.request.objectives[:1]
    curve = found.archive[point].curve
    inside, outside = (_turn(first, score(curve, part, first))[0] for part in (fold.train, fold.test))
    return Choice(
        train_since=_date(found.days[fold.train.start]),
        test_since=_date(found.days[fold.test.start]),
        test_until=_date(found.days[fold.test.stop - 1] + 1),
        values=request.space.get_values(point),
        in_sample=inside,
        out_of_sample=outside,
    )


def _stitch(found: Found) -> OutOfSample:
    cash, start = float(found.request.backtest.initial_cash), found.choices[0][0].test.start
    curve = cash * np.cumprod(np.append(1.0, 1.0 + _join_returns(found)))
    held = found.benchmark[start:] * (cash / found.benchmark[start])
    sharpe = compute_sharpe(find_returns(curve))
    inside = [
        compute_sharpe(find_returns(found.archive[point].curve)[fold.train.start : fold.train.stop]) or 0.0
        for fold, point in found.choices
    ]
    mean = float(np.mean(inside))
    drawdown = find_maximum_drawdown(curve)
    return OutOfSample(
        since=_date(found.days[start]),
        curve=tuple(curve.tolist()),
        benchmark=tuple(held.tolist()),
        changes=_count_changes(found),
        total_return=compute_total_return(curve) or 0.0,
        sharpe=sharpe,
        calmar=compute_calmar(curve),
        maximum_drawdown=drawdown.fraction if drawdown else 0.0,
        benchmark_return=compute_total_return(held) or 0.0,
        in_sample_sharpe=mean,
        ratio=None if mean <= 0 or sharpe is None else sharpe / mean,
    )


def _join_returns(found: Found) -> FloatArray:
    """The daily returns of every choice on the days after it, a round trip taken off where it is a new one."""
    terms = found.request.backtest.terms
    round_trip = 2.0 * float(terms.fee_bps + terms.slippage_bps) / 10_000.0
    pieces, before = [], None
    for fold, point in found.choices:
        returns = find_returns(found.archive[point].curve)[fold.test.start : fold.test.stop].copy()
        returns[0] -= 0.0 if point == before else round_trip
        pieces.append(returns)
        before = point
    return np.concatenate(pieces)


def _count_changes(found: Found) -> int:
    points = [point for _, point in found.choices]
    return 1 + sum(one != other for one, other in pairwise(points))


def _compute_overfitting(archive: Archive, points: Sequence[Point], best: Point) -> SweepOverfitting | None:
    spread = np.unique(np.linspace(0, len(points) - 1, min(len(points), _MOST_OVERFIT)).astype(np.int64))
    taken = dict.fromkeys([best, *(points[place] for place in spread.tolist())])
    # The products are of a few rows by many: their threads would wait for each other longer than they compute.
    with threadpool_limits(1, "blas"):
        found = compute_overfitting(np.column_stack([find_returns(archive[point].curve) for point in taken]))
    if found is None:
        return None
    return SweepOverfitting(found.probability, found.loss_probability, found.slope, len(taken))


def find_returns(curve: FloatArray) -> FloatArray:
    """The return of each day, shape (n_days,); 0 once nothing is left."""
    before = curve[:-1]
    returns: FloatArray = np.divide(curve[1:], before, out=np.ones_like(before), where=before > 0) - 1.0
    return returns


def _date(day: int) -> datetime:
    return from_microseconds(day * DAY_MS * 1_000)
