"""Each search finds what was planted, draws by its seed alone, and never asks for values that conflict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import optuna
import pytest

from app.research.optimization.genetic import GeneticSearch
from app.research.optimization.request import EvolutionRule, Method, OptimizationRequest, make_request
from app.research.optimization.samplers import OptunaSearch, open_storage
from app.research.optimization.search import ListSearch, Score, Search, draw_points, run_search
from app.research.optimization.space import Axis, Point
from tests.support.optimizations import make_base

AXES = (Axis("fast_bars", 5, 100, 5, is_integer=True), Axis("slow_bars", 20, 300, 10, is_integer=True))
"""580 points, of which 81 conflict."""

PLANTED = (7, 12)
"""40 and 140."""


def make(method: Method, seed: int, folder: Path) -> tuple[OptimizationRequest, Search]:
    asked = {"method": method, "trials": 150, "population": 20, "generations": 12, "seed": seed}
    request = make_request(make_base(window_bars=400), AXES, asked)
    random = np.random.default_rng(seed)
    if method is Method.GRID:
        return request, ListSearch(request.space.list_points())
    if method is Method.RANDOM:
        return request, ListSearch(draw_points(request.space, request.budget, random))
    if method is Method.GENETIC:
        return request, GeneticSearch(request.space, request.evolution, random)
    return request, OptunaSearch(request, "study", random, open_storage(folder / f"{method}-{seed}"))


def score(point: Point) -> Score:
    """The nearer to what was planted, the better."""
    return (-float(np.hypot(point[0] - PLANTED[0], point[1] - PLANTED[1])),)


def run(method: Method, seed: int, folder: Path) -> tuple[OptimizationRequest, list[Point]]:
    request, search = make(method, seed, folder)
    two = method is Method.NSGA2
    # The second objective asks for the same place, so that the front is one point.
    return request, run_search(search, lambda _points: None, lambda point: score(point) * 2 if two else score(point))


@pytest.mark.parametrize("method", Method)
def test_search_finds_what_was_planted(method: Method, tmp_path: Path) -> None:
    request, points = run(method, 1, tmp_path)
    assert len(points) == len(set(points)) <= request.budget
    assert all(request.space.is_valid(point) for point in points)
    best = max(points, key=score)
    assert score(best)[0] >= (-2.5 if method is Method.RANDOM else -1.0)
    if method in (Method.GRID, Method.GENETIC):
        assert best == PLANTED


@pytest.mark.parametrize("method", [Method.RANDOM, Method.GENETIC, Method.TPE, Method.NSGA2])
def test_same_seed_asks_for_the_same_and_another_for_something_else(method: Method, tmp_path: Path) -> None:
    first = run(method, 3, tmp_path)[1]
    assert run(method, 3, tmp_path)[1] == first
    assert run(method, 4, tmp_path)[1] != first


def test_grid_is_every_point_and_random_never_draws_one_twice(tmp_path: Path) -> None:
    request, points = run(Method.GRID, 1, tmp_path)
    assert points == request.space.list_points()
    assert len(points) == 580 - 81
    assert sorted(draw_points(request.space, 10_000, np.random.default_rng(0))) == points


def test_points_of_a_large_space_are_drawn_without_listing_it() -> None:
    axes = tuple(Axis(name, 2, 500, 1, is_integer=True) for name in ("fast_bars", "slow_bars"))
    space = make_request(make_base(), axes, {}).space
    points = draw_points(space, 500, np.random.default_rng(0))
    assert len(set(points)) == 500
    assert all(space.is_valid(point) for point in points)


def test_elite_goes_on_and_children_come_of_the_better() -> None:
    request = make_request(make_base(), AXES, {"method": Method.GENETIC})
    rule = EvolutionRule(population=10, generations=3, elite=3, tournament=10, crossover=1.0, mutation=0.0)
    search = GeneticSearch(request.space, rule, np.random.default_rng(0))
    first = search.ask()
    ranked = sorted(first, key=score, reverse=True)
    search.tell(first, [score(point) for point in first])
    second = search.ask()
    assert second[:3] == ranked[:3]
    assert len(second) == 10
    genes = [{point[place] for point in first} for place in range(2)]
    assert all(point[place] in genes[place] for point in second for place in range(2))
    search.tell(second, [score(point) for point in second])
    assert len(search.ask()) == 10
    search.tell(second, [score(point) for point in second])
    assert search.ask() == []


def test_storage_of_optuna_is_a_file_that_its_own_tools_read(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _request, points = run(Method.TPE, 1, tmp_path)
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "tpe-1"))
    study = optuna.load_study(study_name="study", storage=optuna.storages.JournalStorage(backend))
    told = [one for one in study.trials if one.state is optuna.trial.TrialState.COMPLETE]
    assert len(told) == 150
    assert {(one.params["fast_bars"], one.params["slow_bars"]) for one in told} == {
        (5 + 5 * point[0], 20 + 10 * point[1]) for point in points
    }
    assert study.best_value == max(score(point)[0] for point in points)
    assert capfd.readouterr() == ("", "")
