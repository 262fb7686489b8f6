"""What is to be thought of an optimisation, and whether what it found should be traded by."""

from __future__ import annotations

from typing import Final

import numpy as np

from app.research.optimization.describing import find_returns
from app.research.optimization.result import Judgement, OptimizationRun
from app.risk.significance import Significance, judge_significance

MOST_OVERFIT: Final = 0.5
"""A probability of overfitting above this says that choosing by the past does harm, if anything."""


def judge(run: OptimizationRun, trials: int, variance: float | None) -> Judgement:
    """Judge a run.

    Args:
        run: What was found.
        trials: How many different things were ever tried on its candles, its own included.
        variance: Of their Sharpe ratios a day; None where it is not known.
    """
    returns = find_returns(np.array(run.best_curve))
    significance = judge_significance(returns, max(trials, run.trials), variance, run.request.seed)
    refusal = _find_refusal(run, significance)
    if refusal is not None:
        return Judgement(significance, None, f"Nothing is recommended. {refusal}")
    return Judgement(significance, run.best.values, f"The best may be traded by. {significance.verdict}")


def _find_refusal(run: OptimizationRun, significance: Significance) -> str | None:
    """Why nothing that was found can be believed, in a sentence; None where it can."""
    found, outside = run.overfitting, run.out_of_sample
    if found is None:
        return "Too few days or trials to say whether choosing the best of them does any good."
    if found.probability > MOST_OVERFIT:
        return (
            f"The probability of overfitting is {found.probability:.0%}: what was best on half of the days was, more "
            "often than not, in the worse half of all trials on the others."
        )
    if not significance.significant:
        return significance.verdict
    if outside.sharpe is None or outside.sharpe <= 0:
        return f"What was chosen came to {outside.total_return:+.1%} on the days after it was chosen."
    return None
