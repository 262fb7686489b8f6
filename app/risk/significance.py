"""Is a result more than luck? The probabilistic and the deflated Sharpe ratio, and the rule that is made of them.

The papers' functions take and give Sharpe ratios *per period*: the mean of the returns over their standard deviation,
of whatever the returns are of. Only `Significance` holds annual ones, of daily returns, as `app.risk.metrics` does. A
number that is not defined is None, never NaN or infinite.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Final

import numpy as np

from app.risk.comparison import choose_block_days
from app.risk.intervals import Intervals, estimate_intervals
from app.risk.metrics import DAYS_PER_YEAR, compute_sharpe
from ml.bars import FloatArray

CONFIDENCE: Final = 0.95
"""A deflated Sharpe ratio above this is called significant."""

LEAST_DAYS: Final = 60
"""Days with a return other than 0 below which nothing is called significant, nor the opposite."""

_NORMAL: Final = NormalDist()
_EULER_MASCHERONI: Final = 0.5772156649015329
_NORMAL_KURTOSIS: Final = 3.0


@dataclass(frozen=True, slots=True)
class SharpeEstimate:
    """A Sharpe ratio and what its error is made of.

    Attributes:
        sharpe: Per period.
        skewness: Third central moment of the returns over the cube of their standard deviation; 0 of normal ones.
        kurtosis: Fourth central moment over the fourth power; 3 of normal returns, at least 1.
        periods: How many independent returns it was estimated from, 2 or more; need not be whole.
    """

    sharpe: float
    skewness: float
    kurtosis: float
    periods: float


@dataclass(frozen=True, slots=True)
class Significance:
    """Whether daily returns are more than luck, and the numbers that say so.

    Attributes:
        days: How many returns there are.
        moved_days: How many of them are other than 0.
        independent_days: How many independent ones they are worth, at most `days`.
        sharpe: Annual.
        probabilistic_sharpe: Probability that the true Sharpe ratio is above 0, were this the only trial, 0 to 1.
        deflated_sharpe: Probability that it is above `expected_maximum_sharpe`, 0 to 1.
        trials: How many were tried, this one included.
        expected_maximum_sharpe: What the best of as many trials without skill reaches on average, annual.
        minimum_track_record_length: Days after which `sharpe` would be significant, were this the only trial; None
            where it is 0 or below.
        intervals: What the same days, drawn again in blocks, come to.
        significant: Whether `deflated_sharpe` is above `CONFIDENCE`; None where nothing can be said.
    """

    days: int
    moved_days: int
    independent_days: float
    sharpe: float | None
    probabilistic_sharpe: float | None
    deflated_sharpe: float | None
    trials: int
    expected_maximum_sharpe: float | None
    minimum_track_record_length: float | None
    intervals: Intervals
    significant: bool | None

    @property
    def verdict(self) -> str:
        """What it comes to, in one sentence for people."""
        if self.moved_days < LEAST_DAYS:
            return f"Too short to say: the account moved on {self.moved_days} days, and {LEAST_DAYS} are the least."
        if self.sharpe is None or self.deflated_sharpe is None or self.expected_maximum_sharpe is None:
            return "Nothing to judge: the returns do not vary."
        said = f"a Sharpe ratio of {self.sharpe:.2f} over {self.days} days"
        if self.sharpe <= 0.0:
            return f"Not significant: nothing was earned, {said}."
        if self.trials > 1:
            luck = f"{self.expected_maximum_sharpe:.2f} by luck"
            said += f", where the best of {self.trials} trials without skill comes to {luck}"
        # Nothing is ever quite certain, and 100.0 would say so.
        chance = f"{100.0 * min(self.deflated_sharpe, 0.999):.1f} %"
        word = "Significant" if self.significant else "Not significant"
        return f"{word}: {said}; the probability that it is more than luck is {chance}, and above 95 % is asked."


def estimate_sharpe(returns: FloatArray) -> SharpeEstimate | None:
    """Estimate the Sharpe ratio per period and the moments that its error rests on, as the papers do.

    The Sharpe ratio is that of a sample (n - 1), skewness and kurtosis those of a population (n), the kurtosis not
    less 3. None below two returns and where they do not vary.

    >>> found = estimate_sharpe(np.array([0.03, -0.01, 0.03, -0.01]))
    >>> round(found.sharpe, 4), round(found.skewness, 4), round(found.kurtosis, 4)
    (0.433, 0.0, 1.0)
    """
    annual = compute_sharpe(returns)
    if annual is None:
        return None
    away = returns - returns.mean()
    scaled = away / math.sqrt(np.square(away).mean())
    return SharpeEstimate(
        sharpe=annual / math.sqrt(DAYS_PER_YEAR),
        skewness=float((scaled**3).mean()),
        kurtosis=float((scaled**4).mean()),
        periods=float(returns.size),
    )


def compute_probabilistic_sharpe(estimate: SharpeEstimate, benchmark: float = 0.0) -> float | None:
    """The probability that the true Sharpe ratio is above a benchmark, from 0 to 1.

    Phi((S - S*) * sqrt(n - 1) / sqrt(1 - skewness * S + (kurtosis - 1) / 4 * S ** 2)); None where that root is 0.
    With what the best of all trials reaches by luck as the benchmark it is the deflated Sharpe ratio.
    Source: D. H. Bailey and M. Lopez de Prado, The Sharpe Ratio Efficient Frontier, Journal of Risk 15 (2012).

    Args:
        estimate: The Sharpe ratio S per period, and n periods.
        benchmark: S*, per period too.

    >>> two_years_of_a_fund = SharpeEstimate(sharpe=0.458, skewness=-2.448, kurtosis=10.164, periods=24)
    >>> round(compute_probabilistic_sharpe(two_years_of_a_fund), 3)
    0.913
    """
    variance = _compute_variance(estimate)
    if variance <= 0.0:
        return None
    return _NORMAL.cdf((estimate.sharpe - benchmark) * math.sqrt((estimate.periods - 1.0) / variance))


def compute_minimum_track_record_length(
    estimate: SharpeEstimate, benchmark: float = 0.0, confidence: float = CONFIDENCE
) -> float | None:
    """How many periods it takes until the probabilistic Sharpe ratio of such returns reaches a confidence.

    1 + (1 - skewness * S + (kurtosis - 1) / 4 * S ** 2) * (z / (S - S*)) ** 2, z the normal quantile; how many there
    are already plays no part. None where S is not above the benchmark, and where the number is too large to write.
    Source: Bailey and Lopez de Prado, 2012.

    Args:
        estimate: The Sharpe ratio S per period.
        benchmark: S*, per period too.
        confidence: What it should reach, above 0 and below 1.

    >>> twice_a_year = SharpeEstimate(sharpe=2 / math.sqrt(12), skewness=0.0, kurtosis=3.0, periods=12)
    >>> round(compute_minimum_track_record_length(twice_a_year, benchmark=1 / math.sqrt(12)) / 12, 2)
    3.24
    """
    above = estimate.sharpe - benchmark
    if above <= 0.0:
        return None
    length = 1.0 + _compute_variance(estimate) * _NORMAL.inv_cdf(confidence) ** 2 / above / above
    return length if math.isfinite(length) else None


def compute_expected_maximum_sharpe(trials: int, variance: float) -> float:
    """What Sharpe ratio the best of independent trials without any skill reaches on average; 0 of one trial.

    sqrt(V) * ((1 - c) * z(1 - 1 / N) + c * z(1 - 1 / (N * e))), c the Euler-Mascheroni constant and z the normal
    quantile. Source: D. H. Bailey and M. Lopez de Prado, The Deflated Sharpe Ratio, Journal of Portfolio Management 40
    (2014).

    Args:
        trials: N, 1 or more.
        variance: V, the variance of the trials' Sharpe ratios, 0 or more; per period gives a maximum per period.

    The paper's own example, 2.5 a year of 250 days, the best of a hundred that vary by a half:

    >>> by_luck = compute_expected_maximum_sharpe(100, 0.5 / 250)
    >>> best = SharpeEstimate(sharpe=2.5 / math.sqrt(250), skewness=-3.0, kurtosis=10.0, periods=1250)
    >>> round(by_luck, 4), round(compute_probabilistic_sharpe(best, by_luck), 4)
    (0.1132, 0.9004)
    """
    if trials < 1 or variance < 0.0:
        raise ValueError("trials must be 1 or more, and variance 0 or more")
    if trials == 1:
        return 0.0
    ordinary = _NORMAL.inv_cdf(1.0 - 1.0 / trials)
    rare = _NORMAL.inv_cdf(1.0 - 1.0 / (trials * math.e))
    return math.sqrt(variance) * ((1.0 - _EULER_MASCHERONI) * ordinary + _EULER_MASCHERONI * rare)


def compute_independent_periods(returns: FloatArray) -> float:
    """How many independent returns these are worth: fewer than there are where a return foretells the next.

    n / max(1, 1 + 2 * sum of (1 - k / (L + 1)) * autocorrelation(k), k = 1 to L), L = n ** (1/3): the ratio of the
    variance of the mean without and with neighbours, of which the latter is the estimate of W. K. Newey and K. D. West,
    Econometrica 55 (1987). That Sharpe ratios need it: A. W. Lo, The Statistics of Sharpe Ratios, Financial Analysts
    Journal 58 (2002).

    >>> compute_independent_periods(np.tile([0.01, -0.01], 500))
    1000.0
    >>> round(compute_independent_periods(np.repeat(np.random.default_rng(0).standard_normal(500), 2)))
    571
    """
    away = returns - returns.mean() if returns.size else returns
    total = float(np.square(away).sum())
    if total == 0.0:
        return float(returns.size)
    lags = choose_block_days(returns.size)
    shares = (2.0 * (1.0 - lag / (lags + 1)) * float(away[lag:] @ away[:-lag]) for lag in range(1, lags + 1))
    return returns.size / max(1.0, 1.0 + sum(shares) / total)


def judge_significance(
    returns: FloatArray, trials: int = 1, trial_variance: float | None = None, seed: int = 0
) -> Significance:
    """Say whether daily returns are more than luck.

    The rule: significant is what has a deflated Sharpe ratio above 0.95. Nothing is said of fewer than `LEAST_DAYS`
    days on which the account moved: a rare loss has not come yet. The papers' formula finds too much in noise that is
    not normal and independent, so four things are done to it, each of which can only take significance away; what each
    is worth is measured in docs/significance.md:

    - a positive skewness counts as 0, because it is mostly the lucky day that is judged;
    - a kurtosis below 3 counts as 3;
    - days count as many as they are worth, `compute_independent_periods`;
    - the trials vary at least by 1 / (n - 1), as trials without skill do by the luck of n days alone: trials that are
      all but the same would say that there was nothing to choose from.

    Args:
        returns: Fractions, oldest first, shape (n_days,).
        trials: How many were tried on these data, this one included, 1 or more.
        trial_variance: The variance of the trials' Sharpe ratios per *day*: that of annual ones over 365. None where
            it is not known; the luck of n days stands in for it.
        seed: Fixes the draws of the intervals.

    >>> days = 0.001 + 0.02 * np.random.default_rng(3).standard_normal(730)
    >>> alone, best_of_many = judge_significance(days), judge_significance(days, trials=500)
    >>> round(alone.sharpe, 2), alone.significant, best_of_many.significant
    (2.06, True, False)
    """
    estimate, independent = estimate_sharpe(returns), compute_independent_periods(returns)
    found = Significance(
        days=returns.size,
        moved_days=int(np.count_nonzero(returns)),
        independent_days=independent,
        sharpe=None,
        probabilistic_sharpe=None,
        deflated_sharpe=None,
        trials=trials,
        expected_maximum_sharpe=None,
        minimum_track_record_length=None,
        intervals=estimate_intervals(returns, seed),
        significant=None,
    )
    if estimate is None:
        return found
    careful = _lower(estimate, independent)
    expected = compute_expected_maximum_sharpe(trials, max(trial_variance or 0.0, 1.0 / (independent - 1.0)))
    deflated = compute_probabilistic_sharpe(careful, expected)
    length = compute_minimum_track_record_length(careful)
    return replace(
        found,
        sharpe=compute_sharpe(returns),
        probabilistic_sharpe=compute_probabilistic_sharpe(careful),
        deflated_sharpe=deflated,
        expected_maximum_sharpe=expected * math.sqrt(DAYS_PER_YEAR),
        minimum_track_record_length=None if length is None else length * returns.size / independent,
        significant=None if deflated is None or found.moved_days < LEAST_DAYS else deflated > CONFIDENCE,
    )


def _compute_variance(estimate: SharpeEstimate) -> float:
    """The variance of the Sharpe ratio times n - 1; by K. Pearson's inequality not below 0 but for rounding."""
    sharpe = estimate.sharpe
    return 1.0 - estimate.skewness * sharpe + (estimate.kurtosis - 1.0) / 4.0 * sharpe**2


def _lower(estimate: SharpeEstimate, independent: float) -> SharpeEstimate:
    """The estimate with what would raise its significance left out."""
    return SharpeEstimate(
        estimate.sharpe, min(estimate.skewness, 0.0), max(estimate.kurtosis, _NORMAL_KURTOSIS), independent
    )
