"""How much better than a shadow book: the interval holds the truth, and says so only where it can."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped]

from app.risk.comparison import LEAST_DAYS, Comparison, choose_block_days, compare_returns
from ml.bootstrap import BlockBootstrap


def test_less_than_ten_days_say_nothing() -> None:
    assert LEAST_DAYS == 10
    assert compare_returns(np.ones(9), np.zeros(9)) is None
    assert compare_returns(np.empty(0), np.zeros(12)) is None
    assert compare_returns(np.ones(10), np.zeros(10)) is not None


def test_returns_of_different_days_are_refused() -> None:
    with pytest.raises(ValueError, match="broadcast"):
        compare_returns(np.zeros(11), np.zeros(12))


@pytest.mark.parametrize(("gain", "better"), [(0.01, True), (-0.01, False), (0.0001, None)])
def test_account_is_better_or_worse_where_the_interval_excludes_nothing(gain: float, better: bool | None) -> None:
    noise = np.random.default_rng(1).standard_normal(200) * 0.01
    shadow = np.random.default_rng(2).standard_normal(200) * 0.05
    found = compare_returns(shadow + noise - noise.mean() + gain, shadow)
    assert found is not None
    assert found.difference == pytest.approx(gain)
    assert found.low < gain < found.high
    assert found.better is better


def test_interval_of_independent_days_is_as_wide_as_the_analytic_one() -> None:
    found = [compare_returns(np.random.default_rng(seed).standard_normal(200), np.zeros(200)) for seed in range(60)]
    widths = [comparison.high - comparison.low for comparison in found if comparison is not None]
    # 34 blocks of 6 days. A width varies by an eighth, the mean of sixty by a sixtieth.
    assert np.mean(widths) == pytest.approx(2 * stats.t.ppf(0.975, 33) / np.sqrt(200), rel=0.06)


def test_interval_reaches_students_t_times_the_error_of_the_resamples() -> None:
    returns = np.random.default_rng(5).standard_normal(10)
    found = compare_returns(returns, np.zeros(10), seed=7)
    resampled = BlockBootstrap(10, 2, seed=7).estimate(
        np.stack((returns, np.ones(10)), axis=1), lambda sums: sums[:, 0] / sums[:, 1]
    )
    assert found is not None
    assert found.difference == resampled.value
    # Five blocks of 2 days.
    assert found.high - found.difference == pytest.approx(stats.t.ppf(0.975, 4) * (resampled.error or 0.0), rel=1e-3)


@pytest.mark.parametrize(("days", "block_days"), [(2, 2), (10, 2), (60, 4), (1_000, 10)])
def test_blocks_have_the_third_root_of_the_days(days: int, block_days: int) -> None:
    assert choose_block_days(days) == block_days


def test_same_returns_are_no_better() -> None:
    returns = np.random.default_rng(3).standard_normal(50)
    assert compare_returns(returns, returns) == Comparison(0.0, 0.0, 0.0, None)


def test_same_seed_gives_the_same_interval() -> None:
    returns = np.random.default_rng(4).standard_normal(50)
    assert compare_returns(returns, np.zeros(50), seed=1) == compare_returns(returns, np.zeros(50), seed=1)
    assert compare_returns(returns, np.zeros(50), seed=1) != compare_returns(returns, np.zeros(50), seed=2)


@pytest.mark.parametrize("days", [10, 60])
def test_interval_holds_the_truth_about_as_often_as_it_says(days: int) -> None:
    found = [compare_returns(np.random.default_rng(seed).standard_normal(days), np.zeros(days)) for seed in range(300)]
    said = [comparison for comparison in found if comparison is not None]
    assert len(said) == 300
    # Three hundred draws: three standard errors are 3.8 points.
    assert np.mean([comparison.better is None for comparison in said]) == pytest.approx(0.94, abs=0.045)


def test_measuring_an_account_loads_neither_scipy_nor_pandas() -> None:
    code = (
        "import sys, numpy as np, app.risk.metrics, app.risk.shadow_books\n"
        "from app.risk.comparison import compare_returns; compare_returns(np.arange(12.0), np.zeros(12))\n"
        "assert not {'scipy', 'pandas', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
