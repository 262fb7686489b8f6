"""Probabilistic and deflated Sharpe ratios: the papers' examples, laws, and what the rule says of whom."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import empyrical
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats  # type: ignore[import-untyped]

from app.risk.intervals import estimate_intervals
from app.risk.metrics import compute_sharpe
from app.risk.significance import (
    LEAST_DAYS,
    SharpeEstimate,
    compute_expected_maximum_sharpe,
    compute_independent_periods,
    compute_minimum_track_record_length,
    compute_probabilistic_sharpe,
    estimate_sharpe,
    judge_significance,
)
from ml.bars import FloatArray

BEST_OF_A_HUNDRED = SharpeEstimate(sharpe=2.5 / math.sqrt(250), skewness=-3.0, kurtosis=10.0, periods=1_250)
YEARLY_VARIANCE = 0.5 / 250

moments = st.builds(
    SharpeEstimate,
    sharpe=st.floats(-2, 2),
    skewness=st.floats(-2, 2),
    kurtosis=st.floats(5.5, 30),
    periods=st.floats(2, 5_000),
)


def draw(days: int, mean: float = 0.0, seed: int = 0) -> FloatArray:
    """Normal daily returns whose sample mean is exactly `mean` and whose sample deviation is exactly 2 %."""
    noise = np.random.default_rng(seed).standard_normal(days)
    scaled: FloatArray = mean + 0.02 * (noise - noise.mean()) / noise.std(ddof=1)
    return scaled


def test_estimate_is_that_of_scipy_and_empyrical() -> None:
    returns = 0.01 * np.random.default_rng(1).standard_t(4, 300) + 0.001
    found = estimate_sharpe(returns)
    assert found is not None
    assert found.sharpe * math.sqrt(365) == pytest.approx(empyrical.sharpe_ratio(returns, annualization=365))
    assert found.skewness == pytest.approx(stats.skew(returns))
    assert found.kurtosis == pytest.approx(stats.kurtosis(returns, fisher=False))
    assert found.periods == 300


@pytest.mark.parametrize("returns", [np.empty(0), np.array([0.1]), np.zeros(90), np.full(90, 0.1)])
def test_returns_that_do_not_vary_have_no_estimate(returns: FloatArray) -> None:
    assert estimate_sharpe(returns) is None


@pytest.mark.parametrize(("skewness", "kurtosis", "expected"), [(0.0, 3.0, 0.982), (-2.448, 10.164, 0.913)])
def test_probabilistic_sharpe_is_that_of_the_papers_fund(skewness: float, kurtosis: float, expected: float) -> None:
    # Bailey and Lopez de Prado, 2012: 24 months at 0.458 a month.
    fund = SharpeEstimate(0.458, skewness, kurtosis, periods=24)
    assert compute_probabilistic_sharpe(fund) == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize(
    ("periods_per_year", "skewness", "kurtosis", "years"),
    [(252, 0.0, 3.0, 2.73), (52, 0.0, 3.0, 2.83), (12, 0.0, 3.0, 3.24), (12, -0.72, 5.78, 4.99)],
)
def test_minimum_track_record_length_is_that_of_the_paper(
    periods_per_year: int, skewness: float, kurtosis: float, years: float
) -> None:
    # The same paper: how long until 2 a year is above 1 a year with 95 %, of daily, weekly and monthly returns.
    estimate = SharpeEstimate(2.0 / math.sqrt(periods_per_year), skewness, kurtosis, periods=24)
    found = compute_minimum_track_record_length(estimate, benchmark=1.0 / math.sqrt(periods_per_year))
    assert found is not None
    assert found / periods_per_year == pytest.approx(years, abs=5e-3)


def deflate(estimate: SharpeEstimate, trials: int, variance: float) -> float | None:
    return compute_probabilistic_sharpe(estimate, compute_expected_maximum_sharpe(trials, variance))


def test_expected_maximum_and_deflated_sharpe_are_those_of_the_paper() -> None:
    # Bailey and Lopez de Prado, 2014, in years of 250 days.
    assert compute_expected_maximum_sharpe(100, YEARLY_VARIANCE) == pytest.approx(0.1132, abs=5e-5)
    assert deflate(BEST_OF_A_HUNDRED, 100, YEARLY_VARIANCE) == pytest.approx(0.9004, abs=5e-5)
    assert deflate(BEST_OF_A_HUNDRED, 46, YEARLY_VARIANCE) == pytest.approx(0.9505, abs=5e-5)
    normal = replace(BEST_OF_A_HUNDRED, skewness=0.0, kurtosis=3.0)
    assert deflate(normal, 88, YEARLY_VARIANCE) == pytest.approx(0.9505, abs=5e-5)


@pytest.mark.parametrize("trials", [5, 30, 200])
def test_expected_maximum_is_what_the_best_of_noise_reaches(trials: int) -> None:
    best = np.random.default_rng(2).standard_normal((20_000, trials)).max(axis=1)
    # The formula is asymptotic: 3 % off at five, exact to the draws at two hundred.
    assert compute_expected_maximum_sharpe(trials, 1.0) == pytest.approx(best.mean(), rel=0.03)


def test_one_trial_is_judged_against_nothing() -> None:
    assert compute_expected_maximum_sharpe(1, 0.5) == 0.0
    assert deflate(BEST_OF_A_HUNDRED, 1, 0.5) == compute_probabilistic_sharpe(BEST_OF_A_HUNDRED)


@pytest.mark.parametrize(("trials", "variance"), [(0, 1.0), (-1, 1.0), (2, -0.1)])
def test_trials_that_cannot_be_are_refused(trials: int, variance: float) -> None:
    with pytest.raises(ValueError, match="1 or more"):
        compute_expected_maximum_sharpe(trials, variance)


def test_numbers_are_none_where_they_are_not_defined() -> None:
    # Two values only: 1 - skewness * S + (kurtosis - 1) / 4 * S ** 2 is (1 - 1) ** 2.
    certain = SharpeEstimate(sharpe=1.0, skewness=2.0, kurtosis=5.0, periods=50)
    assert compute_probabilistic_sharpe(certain) is None
    assert compute_minimum_track_record_length(replace(certain, sharpe=0.0)) is None
    assert compute_minimum_track_record_length(replace(certain, sharpe=-0.5)) is None
    assert compute_minimum_track_record_length(replace(certain, sharpe=0.1), benchmark=0.1) is None
    assert compute_minimum_track_record_length(replace(certain, sharpe=1e-200)) is None


@given(moments, st.floats(-1, 1), st.floats(0, 1))
def test_probability_falls_with_the_benchmark(estimate: SharpeEstimate, benchmark: float, more: float) -> None:
    near = compute_probabilistic_sharpe(estimate, benchmark)
    far = compute_probabilistic_sharpe(estimate, benchmark + more)
    assert near is not None
    assert far is not None
    assert 0.0 <= far <= near <= 1.0


@given(moments, st.integers(1, 10_000), st.floats(0, 1))
def test_deflated_sharpe_falls_with_trials(estimate: SharpeEstimate, trials: int, variance: float) -> None:
    few = deflate(estimate, trials, variance)
    many = deflate(estimate, trials + 1, variance)
    assert few is not None
    assert many is not None
    assert many <= few


@given(moments.filter(lambda estimate: estimate.sharpe > 1e-3), st.floats(0.55, 0.999))
def test_after_the_minimum_length_the_confidence_is_reached(estimate: SharpeEstimate, confidence: float) -> None:
    length = compute_minimum_track_record_length(estimate, confidence=confidence)
    assert length is not None
    assert compute_probabilistic_sharpe(replace(estimate, periods=length)) == pytest.approx(confidence)


def test_days_that_foretell_the_next_are_worth_fewer() -> None:
    noise = np.random.default_rng(3).standard_normal(100_000)
    following = np.empty_like(noise)
    before = 0.0
    for day, draw_of_day in enumerate(noise.tolist()):
        before = 0.3 * before + draw_of_day
        following[day] = before
    # The variance of the mean of such a series is (1 + 0.3) / (1 - 0.3) times that of independent days.
    assert compute_independent_periods(following) / 100_000 == pytest.approx(0.7 / 1.3, rel=0.04)
    assert compute_independent_periods(noise) / 100_000 == pytest.approx(1.0, abs=0.04)


@given(st.lists(st.floats(-0.5, 0.5), max_size=40))
def test_days_are_worth_at_most_as_many_as_there_are(days: list[float]) -> None:
    found = compute_independent_periods(np.array(days))
    assert 0.0 <= found <= len(days)
    assert found > 1.0 or len(days) < 2


def test_judgement_gathers_what_the_functions_give() -> None:
    returns = draw(500, mean=0.002)
    found = judge_significance(returns, trials=20, trial_variance=0.004, seed=4)
    estimate = estimate_sharpe(returns)
    assert estimate is not None
    careful = SharpeEstimate(
        0.1, min(estimate.skewness, 0.0), max(estimate.kurtosis, 3.0), compute_independent_periods(returns)
    )
    expected = compute_expected_maximum_sharpe(20, 0.004)
    length = compute_minimum_track_record_length(careful)
    assert length is not None
    assert (found.days, found.moved_days, found.trials) == (500, 500, 20)
    assert found.independent_days == careful.periods
    assert found.sharpe == compute_sharpe(returns) == pytest.approx(0.1 * math.sqrt(365))
    assert found.probabilistic_sharpe == pytest.approx(compute_probabilistic_sharpe(careful))
    assert found.deflated_sharpe == pytest.approx(compute_probabilistic_sharpe(careful, expected))
    assert found.expected_maximum_sharpe == pytest.approx(expected * math.sqrt(365))
    assert found.minimum_track_record_length == pytest.approx(length * 500 / careful.periods)
    assert found.intervals == estimate_intervals(returns, seed=4)
    assert found.significant is False


def test_trials_vary_at_least_by_luck() -> None:
    returns = draw(400, mean=0.002)
    luck = 1.0 / (compute_independent_periods(returns) - 1.0)
    unknown, alike, wide = (judge_significance(returns, 50, variance) for variance in (None, 1e-9, 4 * luck))
    assert unknown == alike
    assert unknown.expected_maximum_sharpe == pytest.approx(compute_expected_maximum_sharpe(50, luck) * math.sqrt(365))
    assert wide.expected_maximum_sharpe == pytest.approx(2 * (unknown.expected_maximum_sharpe or 0.0))


def test_one_lucky_day_is_not_significant() -> None:
    returns = np.zeros(365)
    returns[200] = 0.05
    plain = estimate_sharpe(returns)
    assert plain is not None
    # The papers' formula takes the skewness of that one day for safety.
    assert (compute_probabilistic_sharpe(plain) or 0.0) > 0.97
    returns[:60] = 1e-9
    found = judge_significance(returns)
    assert found.moved_days >= LEAST_DAYS
    assert found.significant is False
    assert found.probabilistic_sharpe == pytest.approx(stats.norm.cdf(1.0 / math.sqrt(1.25)), abs=0.01)


def test_verdict_says_what_it_comes_to() -> None:
    found = {
        "good": judge_significance(draw(730, mean=0.0025)),
        "lucky": judge_significance(draw(730, mean=0.0015), trials=100),
        "poor": judge_significance(draw(730, mean=-0.001)),
        "short": judge_significance(draw(59, mean=0.02)),
        "still": judge_significance(np.full(90, 0.001)),
    }
    good = (
        "Significant: a Sharpe ratio of 2.39 over 730 days; the probability that it is more than luck is 99.9 %, "
        "and above 95 % is asked."
    )
    lucky = (
        "Not significant: a Sharpe ratio of 1.43 over 730 days, where the best of 100 trials without skill comes "
        "to 1.79 by luck; the probability that it is more than luck is 30.8 %, and above 95 % is asked."
    )
    assert {name: (said.significant, said.verdict) for name, said in found.items()} == {
        "good": (True, good),
        "lucky": (False, lucky),
        "poor": (False, "Not significant: nothing was earned, a Sharpe ratio of -0.96 over 730 days."),
        "short": (None, "Too short to say: the account moved on 59 days, and 60 are the least."),
        "still": (None, "Nothing to judge: the returns do not vary."),
    }
    assert found["short"].deflated_sharpe is not None


@pytest.mark.parametrize("days", [0, 1, 2, 9])
def test_hardly_any_days_are_judged_without_a_number_that_is_not_one(days: int) -> None:
    found = judge_significance(np.linspace(-0.01, 0.02, days))
    assert found.days == days
    assert found.significant is None
    assert found.intervals == estimate_intervals(np.empty(0))
    assert (found.sharpe is None) == (days < 2)


def test_sixtieth_day_that_moved_is_judged() -> None:
    returns = np.insert(draw(60, mean=0.02), 30, np.zeros(300))
    assert judge_significance(returns).significant is True
    assert judge_significance(np.delete(returns, 0)).significant is None


def test_judging_loads_neither_scipy_nor_pandas() -> None:
    code = (
        "import sys, numpy as np, app.risk.overfitting\n"
        "from app.risk.significance import judge_significance; judge_significance(np.arange(-9.0, 90.0) / 1_000, 7)\n"
        "assert not {'scipy', 'pandas', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
