"""A request for an optimisation says everything, survives JSON, and is refused where it cannot be run."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.domain.record import from_plain
from app.errors import InvalidInputError
from app.research.backtest.request import Driver
from app.research.optimization.request import (
    EvolutionRule,
    FoldRule,
    Method,
    Objective,
    OptimizationRequest,
    make_request,
)
from app.research.optimization.space import Axis
from tests.support.optimizations import AXES, make_base, make_optimization

TWO = (Objective.SHARPE, Objective.MAXIMUM_DRAWDOWN)


@pytest.mark.parametrize("method", Method)
def test_request_through_json_is_the_same(method: Method) -> None:
    request = make_request(make_base(), AXES, {"method": method, "population": 10, "rolling": True, "seed": 5})
    assert request.objectives == (TWO if method is Method.NSGA2 else (Objective.SHARPE,))
    assert (request.evolution.population, request.folds.rolling, request.seed) == (10, True, 5)
    assert from_plain(OptimizationRequest, json.loads(json.dumps(request.to_document()))) == request


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"trials": 1}, "trials"),
        ({"trials": 10_001}, "trials"),
        ({"trials": 2_001, "method": Method.TPE}, "trials"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**32}, "seed"),
        ({"objectives": ()}, "objectives"),
        ({"objectives": TWO}, "objectives"),
        ({"objectives": (Objective.MAXIMUM_DRAWDOWN,)}, "objectives"),
        ({"objectives": (Objective.SHARPE,), "method": Method.NSGA2}, "objectives"),
        ({"objectives": (Objective.SHARPE,) * 2, "method": Method.NSGA2}, "objectives"),
        ({"folds": FoldRule(folds=0)}, "folds"),
        ({"folds": FoldRule(folds=51)}, "folds"),
        ({"folds": FoldRule(train_share=0.95)}, "train_share"),
        ({"folds": FoldRule(train_share=float("nan"))}, "train_share"),
        ({"evolution": EvolutionRule(population=1)}, "population"),
        ({"evolution": EvolutionRule(population=100, generations=21)}, "generations"),
        ({"evolution": EvolutionRule(generations=0)}, "generations"),
        ({"evolution": EvolutionRule(elite=40)}, "elite"),
        ({"evolution": EvolutionRule(tournament=0)}, "tournament"),
        ({"evolution": EvolutionRule(crossover=1.1)}, "crossover"),
        ({"evolution": EvolutionRule(mutation=float("nan"))}, "mutation"),
        ({"base": make_base(driver=Driver.ENGINE)}, "driver"),
    ],
)
def test_request_that_makes_no_sense_names_the_field(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        make_optimization(**fields)
    assert (caught.value.code, caught.value.context["field"]) == ("invalid_request", named)


def test_grid_that_is_too_large_is_refused_and_may_be_drawn_from() -> None:
    axes = tuple(Axis(name, 2, 500, 1, is_integer=True) for name in ("fast_bars", "slow_bars"))
    with pytest.raises(InvalidInputError) as caught:
        make_optimization(axes=axes, method=Method.GRID)
    assert (caught.value.code, caught.value.context) == ("grid_too_large", {"points": 499 * 499})
    assert make_optimization(axes=axes, method=Method.RANDOM).budget == 200


def test_budget_is_of_one_search_and_those_that_learn_have_one_for_each_choice() -> None:
    found = {
        method: (one.budget, one.searches)
        for method in Method
        for one in [make_request(make_base(), AXES, {"method": method, "trials": 70, "folds": 3})]
    }
    assert found == {
        Method.GRID: (120, 1),
        Method.RANDOM: (70, 1),
        Method.GENETIC: (320, 4),
        Method.TPE: (70, 4),
        Method.NSGA2: (320, 4),
    }
