"""What is recommended, and what is refused with which reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from app.research.optimization.judging import judge
from app.research.optimization.request import Method
from app.research.optimization.result import OptimizationRun, SweepOverfitting
from tests.support.optimizations import draw_walk, draw_waves, make_base, make_optimization, optimize

pytestmark = pytest.mark.usefixtures("compiled_kernel")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> OptimizationRun:
    """One that knows something."""
    return optimize(make_optimization(method=Method.GRID), draw_waves(1), tmp_path_factory.mktemp("waves"))


def test_best_that_knows_something_is_recommended(run: OptimizationRun) -> None:
    found = judge(run, run.trials, None)
    assert found.recommended == run.best.values
    assert found.reason.startswith("The best may be traded by. Significant: a Sharpe ratio of ")
    assert found.significance.trials == 113
    assert run.overfitting is not None
    assert run.overfitting.probability == 0.0
    assert run.plateau.is_plateau is True
    assert run.out_of_sample.ratio == pytest.approx(1.0, abs=0.2)


def test_more_trials_by_others_take_the_recommendation_away(run: OptimizationRun) -> None:
    assert judge(run, 113, 0.01).recommended is not None
    refused = judge(run, 1_000_000, 1.0)
    assert refused.recommended is None
    assert "the best of 1000000 trials without skill" in refused.reason


def test_overfitting_above_a_half_is_refused_whatever_else_is_said(run: OptimizationRun) -> None:
    for probability, refused in ((0.5, False), (0.51, True)):
        found = judge(replace(run, overfitting=SweepOverfitting(probability, 0.2, -1.0, 100)), run.trials, None)
        assert (found.recommended is None) is refused
        assert ("The probability of overfitting is 51%" in found.reason) is refused
        assert found.significance.significant is True


def test_what_lost_after_it_was_chosen_is_refused(run: OptimizationRun) -> None:
    lost = replace(run, out_of_sample=replace(run.out_of_sample, sharpe=-0.1, total_return=-0.02))
    found = judge(lost, run.trials, None)
    assert found.recommended is None
    assert found.reason == "Nothing is recommended. What was chosen came to -2.0% on the days after it was chosen."


def test_too_few_days_are_refused(run: OptimizationRun) -> None:
    found = judge(replace(run, overfitting=None), run.trials, None)
    assert found.recommended is None
    assert "Too few days or trials" in found.reason


def test_days_too_few_for_overfitting_have_none(tmp_path: Path) -> None:
    request = make_optimization(make_base(days=31), method=Method.RANDOM, trials=5)
    run = optimize(replace(request, folds=replace(request.folds, folds=2)), draw_walk(1, days=31), tmp_path)
    assert run.overfitting is None
    assert judge(run, 5, None).recommended is None


def test_walk_is_refused(tmp_path: Path) -> None:
    run = optimize(make_optimization(method=Method.GRID), draw_walk(1), tmp_path)
    assert judge(run, run.trials, None).recommended is None
