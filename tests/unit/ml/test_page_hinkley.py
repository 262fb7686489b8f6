"""The alarm for risen losses: silent on a calibrated model's, heard soon when they get worse."""

from __future__ import annotations

import numpy as np
import pytest

from ml.page_hinkley import page_hinkley

MEAN, DEVIATION = 1.03, 0.25
"""Of the log-loss of a calibrated model of three classes."""
DELTA, LIMIT = 0.1, 15.0
BLOCKS = pytest.mark.parametrize("block", [1, 5], ids=["independent", "in-blocks-of-five"])


def losses(rows: int, block: int, seed: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    draws = MEAN + DEVIATION * np.random.default_rng(seed).standard_normal(rows // block)
    return np.repeat(draws, block)


@BLOCKS
def test_page_hinkley_steady_losses_ring_in_none_of_fifty_runs(block: int) -> None:
    alarms = [page_hinkley(losses(5_000, block, seed), DELTA, LIMIT) for seed in range(50)]
    assert sum(alarm is not None for alarm in alarms) == 0


@BLOCKS
def test_page_hinkley_rise_by_one_deviation_is_heard_within_three_hundred_losses(block: int) -> None:
    delays = []
    for seed in range(50):
        series = losses(2_000, block, seed)
        series[1_000:] += DEVIATION
        alarm = page_hinkley(series, DELTA, LIMIT)
        assert alarm is not None
        delays.append(alarm - 1_000)
    assert min(delays) >= 0
    assert np.median(delays) < 130
    assert max(delays) < 300


@BLOCKS
def test_page_hinkley_fall_is_no_alarm(block: int) -> None:
    series = losses(4_000, block, seed=3)
    series[2_000:] -= DEVIATION
    assert page_hinkley(series, DELTA, LIMIT) is None


def test_page_hinkley_index_is_the_first_at_which_the_sum_stands_above_the_limit() -> None:
    # The means up to each row are 0, 0, 1 and 1.5; what exceeds them by more than 0.5 is -0.5, -0.5, 1.5 and 1.
    series = [0.0, 0.0, 3.0, 3.0]
    assert page_hinkley(series, delta=0.5, limit=1.4) == 2
    assert page_hinkley(series, delta=0.5, limit=1.5) == 3
    assert page_hinkley(series, delta=0.5, limit=2.5) is None


def test_page_hinkley_without_losses_is_no_alarm() -> None:
    assert page_hinkley([], delta=0.1, limit=1.0) is None
