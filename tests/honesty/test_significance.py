"""Of studies on noise at most one in twenty is called significant, however many trials the best was chosen from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped]

from app.risk.significance import (
    CONFIDENCE,
    compute_expected_maximum_sharpe,
    compute_probabilistic_sharpe,
    estimate_sharpe,
    judge_significance,
)
from ml.bars import FloatArray
from tests.honesty.walks import draw_returns

LEVEL: Final = 1.0 - CONFIDENCE
DAYS: Final = (60, 120, 365, 730)
MARKETS: Final = ("gaussian", "heavy_tailed", "garch")
HOLDING: Final = {"always": 1.0, "half": 0.5, "seldom": 0.1}
"""What share of the days a trial holds a position."""


@dataclass(frozen=True)
class Claims:
    """What is said of the best trial of a study: by the ratios of the papers, and by us."""

    naive: bool
    deflated: bool
    ours: bool


def draw_trials(market: str, holding: str, days: int, trials: int, seed: int) -> FloatArray:
    """Daily returns of trials that know nothing and hold one walk, long or short, for five days on average.

    They pay no costs, which would only make them worse. Shape (trials, days).
    """
    random = np.random.default_rng([seed, trials])
    walk = 30.0 * draw_returns(market, days, seed)
    changes = random.random((trials, days)) < 0.2
    changes[:, 0] = True
    since = np.maximum.accumulate(np.where(changes, np.arange(days), 0), axis=1)
    sides = random.choice((-1.0, 1.0), (trials, days)) * (random.random((trials, days)) < HOLDING[holding])
    returns: FloatArray = np.take_along_axis(sides, since, axis=1) * walk
    return returns


def compute_ratios(trials: FloatArray) -> FloatArray:
    """The daily Sharpe ratio of each trial; 0 of one that never held."""
    deviations = trials.std(axis=1, ddof=1)
    ratios: FloatArray = trials.mean(axis=1) / np.where(deviations > 0.0, deviations, 1.0)
    return ratios


def judge_best(trials: FloatArray) -> Claims:
    ratios = compute_ratios(trials)
    variance = float(ratios.var(ddof=1)) if len(ratios) > 1 else 0.0
    best = trials[int(ratios.argmax())]
    estimate = estimate_sharpe(best)
    if estimate is None:
        return Claims(naive=False, deflated=False, ours=judge_significance(best).significant is True)
    by_luck = compute_expected_maximum_sharpe(len(trials), variance)
    return Claims(
        naive=(compute_probabilistic_sharpe(estimate) or 0.0) > CONFIDENCE,
        deflated=(compute_probabilistic_sharpe(estimate, by_luck) or 0.0) > CONFIDENCE,
        ours=judge_significance(best, len(trials), variance).significant is True,
    )


def run_studies(studies: int, most_trials: int) -> list[Claims]:
    """Studies of every market, span and share of days held, each with its own number of trials."""
    random = np.random.default_rng(11)
    return [
        judge_best(
            draw_trials(
                MARKETS[study % 3],
                list(HOLDING)[study // 3 % 3],
                int(random.choice(DAYS)),
                int(random.integers(1, most_trials + 1)),
                study,
            )
        )
        for study in range(studies)
    ]


def count(claims: list[Claims]) -> tuple[int, int, int]:
    return sum(one.naive for one in claims), sum(one.deflated for one in claims), sum(one.ours for one in claims)


def most_false_alarms(studies: int) -> int:
    """How many claims a chance of 5 % each stays within in 95 of 100 suites."""
    return int(stats.binom.ppf(0.95, studies, LEVEL))


def test_best_of_many_on_noise_is_not_called_significant() -> None:
    naive, _, ours = count(run_studies(90, 200))
    assert naive > 60
    assert ours <= 0.05 * 90


@pytest.mark.slow
def test_of_a_thousand_studies_on_noise_at_most_a_twentieth_is_called_significant() -> None:
    naive, _, ours = count(run_studies(1_000, 200))
    # Without the count of trials most are called so. No tolerance is taken here.
    assert naive > 800
    assert ours <= 50


@pytest.mark.slow
@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize("holding", HOLDING)
def test_single_trials_on_noise_are_called_significant_no_more_often_than_said(market: str, holding: str) -> None:
    claims = [judge_best(draw_trials(market, holding, DAYS[seed % 4], 1, seed)) for seed in range(1_000)]
    assert count(claims)[2] <= most_false_alarms(1_000)


def test_seldom_held_noise_deceives_the_papers_ratio_and_not_ours() -> None:
    claims = [judge_best(draw_trials("heavy_tailed", "seldom", 120, 1, seed)) for seed in range(400)]
    _, deflated, ours = count(claims)
    # A few days with a position, of which one went well by far: the luck itself passes for a welcome skewness.
    assert deflated > 2 * LEVEL * 400
    assert ours <= most_false_alarms(400)


def test_copies_of_a_trial_do_not_hide_how_many_there_were() -> None:
    claims = []
    for seed in range(100):
        different = draw_trials("gaussian", "always", 250, 20, seed)
        noise = 0.05 * different.std() * np.random.default_rng(seed).standard_normal((480, 250))
        claims.append(judge_best(np.concatenate((different, different[:1] + noise))))
    _, deflated, ours = count(claims)
    # Five hundred that hardly differ say that there was nothing to choose from, and yet the best of twenty was chosen.
    assert deflated > 2 * LEVEL * 100
    assert ours == 0


@pytest.mark.parametrize(("trials", "mean"), [(1, 0.1), (50, 0.2)])
def test_true_edge_is_called_significant(trials: int, mean: float) -> None:
    # The mean is in daily deviations: 0.1 is a Sharpe ratio of 1.9 a year, 0.2 one of 3.8.
    found = 0
    for seed in range(60):
        returns = draw_trials("garch", "always", 730, trials, seed)
        returns[0] += mean * returns[0].std()
        found += judge_best(returns).ours
    assert found >= 45
