"""What is varied: values by steps, points whose values go together, and the trial that each is."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import pytest

from app.domain.record import from_plain
from app.errors import InvalidInputError, NotFoundError
from app.research.backtest.request import BacktestRequest
from app.research.optimization.space import Axis, Range, Space, find_start, make_axis
from app.strategies.moving_average_cross import MOVING_AVERAGE_CROSS
from tests.support.backtests import make_request
from tests.support.optimizations import AXES, make_base

CROSS = "moving-average-cross"


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        (Axis("fast_bars", 5, 20, 5, is_integer=True), [5, 10, 15, 20]),
        (Axis("fast_bars", 5, 19, 5, is_integer=True), [5, 10, 15]),
        (Axis("fast_bars", 7, 7, 1, is_integer=True), [7]),
        (Axis("threshold_percent", 0.1, 0.35, 0.05, is_integer=False), [0.1, 0.15, 0.2, 0.25, 0.3, 0.35]),
    ],
)
def test_axis_goes_from_low_by_steps_and_not_beyond_high(axis: Axis, values: list[float]) -> None:
    found = [axis.get_value(place) for place in range(len(axis))]
    assert found == values
    assert {type(one) for one in found} == {int if axis.is_integer else float}


@pytest.mark.parametrize(
    "asked",
    [
        Range(20, 5),
        Range(5, 20, 0),
        Range(5, 20, -1),
        Range(5, 20, 0.5),
        Range(5, 20, math.nan),
        Range(5, 20, math.inf),
    ],
)
def test_range_that_leads_nowhere_is_refused(asked: Range) -> None:
    with pytest.raises(InvalidInputError) as caught:
        make_axis(CROSS, "fast_bars", asked)
    assert caught.value.code == "range_invalid"


@pytest.mark.parametrize(
    ("name", "asked", "code"),
    [
        ("fast_bars", Range(0, 20), "parameter_out_of_range"),
        ("fast_bars", Range(5, 1e9), "parameter_out_of_range"),
        ("fast_bars", Range(5.5, 20), "parameter_invalid"),
        ("fast_bars", Range(math.nan, 20), "parameter_invalid"),
        ("stop_atr_multiple", Range(1, 2, 0.001), "range_invalid"),
        ("__class__", Range(), "parameter_unknown"),
        ("x" * 10_000, Range(), "parameter_unknown"),
    ],
)
def test_axis_of_what_there_is_not_is_refused(name: str, asked: Range, code: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        make_axis(CROSS, name, asked)
    assert caught.value.code == code
    assert len(caught.value.message) < 300


def test_axis_that_says_nothing_is_as_the_strategy_has_it() -> None:
    fast, _slow = MOVING_AVERAGE_CROSS.parameters
    assert make_axis(CROSS, "fast_bars", Range()) == Axis("fast_bars", fast.low, fast.high, fast.step, is_integer=True)
    with pytest.raises(NotFoundError):
        make_axis("martingale", "fast_bars", Range())


def test_points_whose_values_conflict_are_left_out() -> None:
    space = Space(make_base(), AXES)
    points = space.list_points()
    values = [space.get_values(point) for point in points]
    assert space.size == 120
    assert all(one["fast_bars"] < one["slow_bars"] for one in values)
    assert len(points) == 120 - 6 - 1  # 10 and more against 10, and 20 against 20
    random = np.random.default_rng(0)
    assert {space.draw(random) for _ in range(2_000)} == set(points)


def test_trial_of_a_point_has_its_values_and_everything_else_of_the_base() -> None:
    base = make_request({"stop_rule": "stop_loss"}, parameters={"fast_bars": 3, "slow_bars": 30})
    axes = (
        Axis("slow_bars", 10, 50, 10, is_integer=True),
        Axis("stop_atr_multiple", 1, 3, 0.25, is_integer=False),
        Axis("take_profit_atr_multiple", 0, 3, 0.5, is_integer=False),
    )
    space = Space(base, axes)
    trial = space.make_request(space.get_values((3, 2, 1)))
    assert trial.parameters == {"fast_bars": 3, "slow_bars": 40}
    assert trial.protection.stop_atr_multiple == Decimal("1.5")
    assert trial.protection.target_atr_multiple == Decimal("0.5")
    assert from_plain(BacktestRequest, trial.to_document()) == trial
    assert (trial.terms, trial.limits, trial.sizing, trial.window_bars) == (
        *(base.terms, base.limits, base.sizing, base.window_bars),
    )


@pytest.mark.parametrize(
    ("name", "own", "fields"),
    [
        ("min_confidence", {}, {}),
        ("stop_atr_multiple", {}, {}),
        ("depth", {}, {"strategy": "forest", "model_id": "forest-x"}),
    ],
)
def test_what_would_change_nothing_is_not_varied(name: str, own: dict[str, object], fields: dict[str, object]) -> None:
    base = make_request(own, **fields)
    with pytest.raises(InvalidInputError, match=f"{name} changes nothing here") as caught:
        Space(base, (make_axis(base.strategy, name, Range()),))
    assert caught.value.code == "nothing_to_vary"


def test_confidence_of_a_forest_is_varied() -> None:
    base = make_request({"min_confidence": 0.4}, strategy="forest", model_id="forest-x")
    space = Space(base, (Axis("min_confidence", 0.3, 0.5, 0.1, is_integer=False),))
    assert space.make_request(space.get_values((2,))).gate.min_confidence == 0.5


def test_nothing_and_the_same_twice_is_not_varied() -> None:
    for axes in ((), AXES[:1] * 2):
        with pytest.raises(InvalidInputError) as caught:
            Space(make_base(), axes)
        assert caught.value.code == "nothing_to_vary"


def test_start_goes_together_and_looks_back_on_enough() -> None:
    parameters, lookback = find_start(CROSS, {}, AXES)
    assert MOVING_AVERAGE_CROSS.check_values(parameters) == {"fast_bars": 2, "slow_bars": 10}
    assert lookback == 121
    with pytest.raises(InvalidInputError) as caught:
        find_start(CROSS, {"fast_bars": 200}, AXES[1:])
    assert caught.value.code == "no_valid_point"
    with pytest.raises(InvalidInputError) as caught:
        find_start(CROSS, {"fast_bars": 5}, AXES)
    assert caught.value.code == "parameter_fixed"
    assert Space(make_base(), AXES).make_widest_request().parameters["slow_bars"] == 120


def test_space_without_a_valid_point_says_so() -> None:
    space = Space(
        make_base(parameters={"fast_bars": 90, "slow_bars": 100}), (Axis("slow_bars", 10, 60, 10, is_integer=True),)
    )
    for look in (space.list_points, lambda: space.draw(np.random.default_rng(0))):
        with pytest.raises(InvalidInputError) as caught:
            look()
        assert caught.value.code == "no_valid_point"
