"""Snapshots become daily closes: exact values, gaps, days asked for from outside."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.risk.curves import DAY_MS, compute_daily_curve, compute_daily_returns, find_utc_days

NONE_MS = np.empty(0, dtype=np.int64)
NONE = np.empty(0)
# 2024-02-29T00:00:00Z, a leap day.
LEAP_DAY = 19_782


def test_curve_takes_the_last_snapshot_of_each_day_and_carries_it_over_gaps() -> None:
    start = LEAP_DAY * DAY_MS
    times_ms = np.array([start, start + DAY_MS - 1, start + DAY_MS, start + 4 * DAY_MS + 5])
    days = find_utc_days(times_ms)
    assert days == range(LEAP_DAY, LEAP_DAY + 5)
    curve = compute_daily_curve(times_ms, np.array([1.0, 2.0, 3.0, 4.0]), 10.0, days)
    assert curve.tolist() == [10.0, 2.0, 3.0, 3.0, 3.0, 4.0]


def test_curve_of_snapshots_of_one_moment_takes_the_newest() -> None:
    assert compute_daily_curve(np.array([7, 7]), np.array([1.0, 2.0]), 10.0, range(1)).tolist() == [10.0, 2.0]


def test_curve_of_other_days_stands_at_the_initial_cash_before_and_at_the_last_snapshot_after() -> None:
    curve = compute_daily_curve(np.array([2 * DAY_MS]), np.array([11.0]), 10.0, range(5))
    assert curve.tolist() == [10.0, 10.0, 10.0, 11.0, 11.0, 11.0]


def test_curve_without_snapshots_is_the_initial_cash() -> None:
    assert find_utc_days(NONE_MS) == range(0)
    assert compute_daily_curve(NONE_MS, NONE, 10.0, range(0)).tolist() == [10.0]
    assert compute_daily_curve(NONE_MS, NONE, 10.0, range(3, 5)).tolist() == [10.0, 10.0, 10.0]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10 * DAY_MS), st.floats(1.0, 1e6)), min_size=1, max_size=20))
def test_curve_is_what_a_walk_over_the_days_finds(snapshots: list[tuple[int, float]]) -> None:
    snapshots.sort(key=lambda snapshot: snapshot[0])
    times_ms, equity = np.array([time for time, _ in snapshots]), np.array([worth for _, worth in snapshots])
    days = find_utc_days(times_ms)
    closes = {time // DAY_MS: worth for time, worth in snapshots}
    wanted = [500.0]
    for day in days:
        wanted.append(closes.get(day, wanted[-1]))
    assert compute_daily_curve(times_ms, equity, 500.0, days).tolist() == wanted


def test_returns_are_measured_from_the_initial_cash_on() -> None:
    assert compute_daily_returns(np.array([100.0, 110.0, 55.0])).tolist() == pytest.approx([0.1, -0.5])


def test_returns_of_a_single_value_are_none() -> None:
    assert compute_daily_returns(np.array([100.0])).tolist() == []


@pytest.mark.parametrize(
    ("curve", "returns"), [([100.0, 0.0], [-1.0]), ([100.0, 0.0, 1.0], []), ([9.0, -1.0, 2.0], [])]
)
def test_returns_after_ruin_are_none(curve: list[float], returns: list[float]) -> None:
    assert compute_daily_returns(np.array(curve)).tolist() == returns
