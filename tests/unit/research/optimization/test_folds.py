"""How days are cut, what they are worth, and what is chosen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidInputError
from app.research.optimization.folds import LEAST_DAYS, RUINED, choose, cut_folds, find_front, score
from app.research.optimization.request import FoldRule, Objective
from app.risk.metrics import compute_calmar, compute_sharpe

ALL = tuple(Objective)


def test_folds_follow_each_other_to_the_last_day() -> None:
    folds = cut_folds(100, FoldRule(folds=5, train_share=0.5))
    assert [one.test for one in folds] == [range(50 + 10 * k, 60 + 10 * k) for k in range(5)]
    assert [one.train for one in folds] == [range(50 + 10 * k) for k in range(5)]
    rolling = cut_folds(100, FoldRule(folds=5, train_share=0.5, rolling=True))
    assert [one.train for one in rolling] == [range(10 * k, 50 + 10 * k) for k in range(5)]


@given(
    days=st.integers(0, 3_000),
    folds=st.integers(1, 50),
    share=st.floats(0.1, 0.9),
    rolling=st.booleans(),
)
def test_no_choice_knows_a_day_that_it_is_judged_on(days: int, folds: int, share: float, rolling: bool) -> None:
    first = round(days * share)
    if min(first, (days - first) // folds) < LEAST_DAYS:
        with pytest.raises(InvalidInputError, match="give a longer span, or fewer folds"):
            cut_folds(days, FoldRule(folds, share, rolling))
        return
    found = cut_folds(days, FoldRule(folds, share, rolling))
    assert all(one.train.stop == one.test.start for one in found)
    assert all(min(len(one.train), len(one.test)) >= LEAST_DAYS for one in found)
    assert [day for one in found for day in one.test] == list(range(found[0].test.start, days))


def test_days_are_worth_what_the_metrics_say_of_them_alone() -> None:
    curve = 100.0 * np.cumprod(np.append(1.0, 1.0 + 0.01 * np.random.default_rng(0).standard_normal(60)))
    piece = curve[20:51]
    sharpe, total, calmar, drawdown = score(curve, range(20, 50), ALL)
    assert sharpe == compute_sharpe(piece[1:] / piece[:-1] - 1.0)
    assert total == pytest.approx(piece[-1] / piece[0] - 1.0)
    assert calmar == compute_calmar(piece)
    assert drawdown == -(1.0 - piece / np.maximum.accumulate(piece)).max()


def test_account_that_never_moved_is_worth_nothing_and_a_ruined_one_less_than_any() -> None:
    still = np.full(31, 100.0)
    assert score(still, range(30), ALL) == (0.0, 0.0, 0.0, 0.0)
    ruined = np.concatenate((np.full(11, 100.0), np.full(20, -5.0)))
    assert score(ruined, range(30), ALL) == (RUINED,) * 4
    assert score(ruined, range(5), ALL) == (0.0, 0.0, 0.0, 0.0)


def test_best_of_one_objective_is_the_first_of_the_highest() -> None:
    assert choose([(1.0,), (3.0,), (3.0,), (2.0,)]) == 1


def test_best_of_two_objectives_lies_between_the_ends_of_the_front() -> None:
    scores = [(0.0, 1.0), (1.0, 0.0), (0.8, 0.8), (0.7, 0.7), (0.0, 1.0)]
    assert find_front(scores) == [0, 1, 2]
    assert choose(scores) == 2
    assert choose([(1.0, -0.1)] * 3) == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=30))
def test_front_is_what_nothing_dominates(pairs: list[tuple[int, int]]) -> None:
    scores = [(float(one), float(other)) for one, other in pairs]
    front = find_front(scores)
    kept = {scores[place] for place in front}
    assert len(kept) == len(front)
    for one in set(scores):
        beaten = any(all(a >= b for a, b in zip(other, one, strict=True)) and other != one for other in scores)
        assert (one in kept) is not beaten
    assert choose(scores) in front
