"""Values are thinned without losing their extremes, and axes have units."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.report.drawing import POINTS, STRETCHES, average, make_value_axis, say_time, thin, to_list


@given(st.integers(0, 30_000), st.integers(0, 2**32 - 1))
def test_thinned_curve_keeps_its_ends_and_extremes(count: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=count)
    times = np.arange(count, dtype=np.int64) * 1_000
    drawn = thin(times, values)

    assert len(drawn["x"]) == len(drawn["y"]) <= POINTS
    assert drawn["x"] == sorted(drawn["x"])
    if count:
        assert (min(drawn["y"]), max(drawn["y"])) == tuple(to_list([values.min(), values.max()]))
        assert (drawn["x"][0], drawn["x"][-1]) == (0, times[-1])
        assert drawn["y"] == to_list(values[np.array(drawn["x"]) // 1_000])


def test_averaged_curve_keeps_its_mean() -> None:
    values = np.arange(3_000, dtype=np.float64)
    drawn = average(np.arange(3_000), values)

    assert len(drawn["x"]) == STRETCHES
    assert (drawn["x"][:2], drawn["y"][:2]) == ([0, 10], [4.5, 14.5])
    assert float(np.mean(drawn["y"])) == values.mean()


def test_short_curve_is_drawn_as_it_is() -> None:
    assert average(np.arange(2), np.array([0.5, 1.0])) == {"x": [0, 1], "y": [0.5, 1.0]}


def test_number_that_is_none_is_not_drawn() -> None:
    assert to_list([1.0 / 3.0, math.nan, -math.inf]) == [0.333333333, None, None]


def test_axis_of_values_far_apart_is_logarithmic_with_ticks_between() -> None:
    axis = make_value_axis("worth", "USDT", np.array([900.0, 5_000.0]))

    assert axis["type"] == "log"
    assert axis["title"]["text"] == "worth (USDT, logarithmic)"
    assert axis["tickvals"][:7] == [100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0]


def test_axis_of_values_near_each_other_or_below_nothing_is_linear() -> None:
    for values in ([900.0, 1_000.0], [0.0, 1_000.0], [-5.0, 1_000.0]):
        assert make_value_axis("worth", "USDT", np.array(values)) == {"title": {"text": "worth (USDT)"}}


def test_time_is_said_to_the_minute_in_utc() -> None:
    assert say_time(1_735_689_659_999) == "2025-01-01 00:00 UTC"
