"""Which days a choice is made by and which it is judged on, what a trial's days are worth, and what is chosen.

A choice is made by days that lie before all those it is judged on, as it would have been at the time, so nothing has to
be purged between them: an account is marked at the end of each day, and what it holds over the border was bought on
what was known by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from app.errors import InvalidInputError
from app.research.optimization.request import FoldRule, Objective
from app.risk.curves import compute_daily_returns
from app.risk.metrics import compute_calmar, compute_sharpe, compute_total_return, find_maximum_drawdown
from ml.bars import FloatArray

LEAST_DAYS: Final = 5
"""Days that a choice is made by or judged on at the least."""

RUINED: Final = -1e9
"""What days are worth after which, or before which, the account has nothing left."""


@dataclass(frozen=True, slots=True)
class Fold:
    """The days that a choice is made by, and the ones after it that it is judged on; counted from the first."""

    train: range
    test: range


def cut_folds(days: int, rule: FoldRule) -> tuple[Fold, ...]:
    """Cut so many days into folds.

    Raises:
        InvalidInputError: `span_too_short`, there would be too few in one.
    """
    first = round(days * rule.train_share)
    edges = [first + (days - first) * number // rule.folds for number in range(rule.folds + 1)]
    if min(first, (days - first) // rule.folds) < LEAST_DAYS:
        raise InvalidInputError(
            f"{days} days cannot be cut into {rule.folds} folds of {LEAST_DAYS} days or more, after as many for the "
            "first choice: give a longer span, or fewer folds.",
            code="span_too_short",
            context={"days": days, "folds": rule.folds},
        )
    return tuple(
        Fold(range(start - first if rule.rolling else 0, start), range(start, stop)) for start, stop in pairwise(edges)
    )


def score(curve: FloatArray, days: range, objectives: Sequence[Objective]) -> tuple[float, ...]:
    """What some days of a curve are worth: the more, the better, a drawdown below 0; what is not defined counts as 0.

    Args:
        curve: As `app.risk.curves` has it, shape (n_days + 1,).
        days: Which, counted from the first.
        objectives: By what.
    """
    piece = curve[days.start : days.stop + 1]
    if (piece[:-1] <= 0).any():
        return (RUINED,) * len(objectives)
    return tuple(_measure(piece, one) for one in objectives)


def _measure(piece: FloatArray, objective: Objective) -> float:
    if objective is Objective.SHARPE:
        return compute_sharpe(compute_daily_returns(piece)) or 0.0
    if objective is Objective.TOTAL_RETURN:
        return compute_total_return(piece) or 0.0
    if objective is Objective.CALMAR:
        return compute_calmar(piece) or 0.0
    drawdown = find_maximum_drawdown(piece)
    return -drawdown.fraction if drawdown else 0.0


def find_front(scores: Sequence[tuple[float, ...]]) -> list[int]:
    """Whichever no other is better than in one thing and no worse than in any, in their order; of equals the first.

    V. Pareto's; of one objective the best.
    """
    rows = np.array(scores)
    front = []
    for place, row in enumerate(rows):
        no_worse = (rows >= row).all(axis=1)
        better = no_worse & (rows > row).any(axis=1)
        if not better.any() and not no_worse[:place].any():
            front.append(place)
    return front


def choose(scores: Sequence[tuple[float, ...]]) -> int:
    """The best of several; of two objectives the one of the front that is nearest to the best of both.

    Each objective counts from 0 for its worst on the front to 1 for its best.
    """
    if len(scores[0]) == 1:
        return int(np.argmax([one[0] for one in scores]))
    front = find_front(scores)
    rows = np.array([scores[place] for place in front])
    low, high = rows.min(axis=0), rows.max(axis=0)
    away = (high - rows) / np.where(high > low, high - low, 1.0)
    return front[int(np.square(away).sum(axis=1).argmin())]
