"""The bootstrap: its intervals hold what they say, and its p-values mean what they are."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped]

from ml.bars import FloatArray
from ml.bootstrap import BlockBootstrap, Estimate, _student_quantile


def mean_of(values: FloatArray, block_rows: int, seed: int = 0) -> tuple[Estimate, float]:
    bootstrap = BlockBootstrap(len(values), block_rows, seed)
    estimate = bootstrap.estimate(
        np.stack((values, np.ones(len(values))), axis=1), lambda sums: sums[:, 0] / sums[:, 1]
    )
    return estimate, bootstrap.p_value(estimate)


def repeated(blocks: int, width: int, seed: int) -> FloatArray:
    """Normal values that stay the same for `width` rows each."""
    return np.repeat(np.random.default_rng(seed).standard_normal(blocks), width)


def test_interval_of_independent_rows_is_close_to_the_analytic_one() -> None:
    values = 3.0 + np.random.default_rng(1).standard_normal(4_000)
    found, _ = mean_of(values, 10)
    error = values.std() / np.sqrt(4_000)
    assert found.value == pytest.approx(values.mean())
    assert found.error == pytest.approx(error, rel=0.1)
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.25 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.25 * error)


def test_interval_of_a_ratio_is_close_to_that_of_the_delta_method() -> None:
    random = np.random.default_rng(2)
    columns = np.stack((random.exponential(2.0, 5_000), random.exponential(1.0, 5_000)), axis=1)
    found = BlockBootstrap(5_000, 5).estimate(columns, lambda sums: sums[:, 0] / sums[:, 1])
    # The ratio is 2; each of the independent parts adds the square of its relative error, 1 / n.
    assert found.value == pytest.approx(2.0, abs=0.15)
    assert found.error == pytest.approx(2.0 * np.sqrt(2 / 5_000), rel=0.12)


def test_interval_of_rows_in_blocks_holds_the_truth_as_often_as_it_says() -> None:
    estimates = [mean_of(repeated(100, 10, seed), 20, seed)[0] for seed in range(200)]
    held = np.mean([(found.low or 0.0) <= 0.0 <= (found.high or 0.0) for found in estimates])
    # Fifty blocks: the quantiles of a resample are a little narrow.
    assert 0.90 <= held <= 0.98


def test_interval_that_ignores_the_blocks_holds_the_truth_far_too_seldom() -> None:
    estimates = [mean_of(repeated(40, 10, seed), 1, seed)[0] for seed in range(30)]
    assert np.mean([(found.low or 0.0) <= 0.0 <= (found.high or 0.0) for found in estimates]) < 0.6


@pytest.mark.parametrize("blocks", [10, 40])
def test_p_value_without_an_effect_is_uniform(blocks: int) -> None:
    found = np.array([mean_of(repeated(2 * blocks, 5, seed), 10, seed)[1] for seed in range(300)])
    assert stats.kstest(found, "uniform").pvalue > 0.01
    # Three hundred draws: three standard errors are 3.8 points.
    assert (found < 0.05).mean() == pytest.approx(0.05, abs=0.038)


def test_p_value_of_an_effect_is_small_and_of_its_opposite_large() -> None:
    values = repeated(200, 5, 3)
    assert mean_of(values + 0.5, 10)[1] < 1e-6
    assert mean_of(values - 0.5, 10)[1] > 1 - 1e-6


def test_p_value_of_what_never_varies_is_certain() -> None:
    assert mean_of(np.ones(100), 10)[1] == 0.0
    assert mean_of(-np.ones(100), 10)[1] == 1.0
    assert mean_of(np.zeros(100), 10)[1] == 1.0


def test_single_block_claims_nothing() -> None:
    found, p_value = mean_of(np.arange(5.0), 10)
    assert found == Estimate(2.0, 2.0, 2.0, None)
    assert p_value == 1.0


def test_number_that_is_not_defined_has_no_interval() -> None:
    bootstrap = BlockBootstrap(40, 4)
    found = bootstrap.estimate(np.zeros((40, 2)), lambda sums: sums[:, 0] / sums[:, 1])
    assert found == Estimate(None, None, None, None)
    assert bootstrap.p_value(found) == 1.0


def test_same_seed_gives_the_same_interval() -> None:
    values = repeated(50, 3, 4)
    assert mean_of(values, 6, seed=5) == mean_of(values, 6, seed=5)
    assert mean_of(values, 6, seed=5) != mean_of(values, 6, seed=6)


@pytest.mark.parametrize(("rows", "block_rows", "blocks"), [(10, 5, 2), (11, 5, 3), (4, 5, 1), (300, 10, 30)])
def test_blocks_are_counted_with_a_last_one_that_is_shorter(rows: int, block_rows: int, blocks: int) -> None:
    assert BlockBootstrap(rows, block_rows).blocks == blocks


def test_interval_of_students_t_is_around_the_estimate() -> None:
    low, high = BlockBootstrap(60, 6).find_interval(Estimate(2.0, None, None, 0.5)) or (0.0, 0.0)
    assert (low + high) / 2 == pytest.approx(2.0)
    # Ten blocks.
    assert (high - low) / 2 == pytest.approx(0.5 * stats.t.ppf(0.975, 9), rel=1 / 3_000)


@pytest.mark.parametrize("estimate", [Estimate(None, None, None, None), Estimate(1.0, 0.0, 2.0, None)])
def test_estimate_without_an_error_has_no_interval(estimate: Estimate) -> None:
    assert BlockBootstrap(40, 4).find_interval(estimate) is None


@pytest.mark.parametrize("degrees", [4, 5, 10, 33, 400])
def test_quantile_is_that_of_scipy(degrees: int) -> None:
    assert _student_quantile(0.975, degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=1 / 3_000)
