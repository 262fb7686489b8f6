"""Of optimisations on noise at most one in twenty ends with a recommendation, whatever the search."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from app.research.optimization.judging import judge
from app.research.optimization.request import Method
from app.research.optimization.request import make_request as make
from app.research.optimization.result import OptimizationRun
from app.research.optimization.space import Axis
from ml.bars import FloatArray
from tests.honesty.walks import draw_returns
from tests.support.optimizations import WINDOW, count_bars, make_base, optimize

pytestmark = pytest.mark.usefixtures("compiled_kernel")

DAYS: Final = (70, 120, 365)
MARKETS: Final = ("gaussian", "heavy_tailed", "garch")
SEARCH: Final = {"trials": 50, "population": 15, "generations": 4, "folds": 2}
WIDE: Final = (Axis("fast_bars", 1, 60, 1, is_integer=True), Axis("slow_bars", 2, 130, 1, is_integer=True))
GRID: Final = (Axis("fast_bars", 1, 57, 7, is_integer=True), Axis("slow_bars", 2, 122, 10, is_integer=True))


def draw_market(study: int, days: int) -> FloatArray:
    """Closes of a market that nobody can know anything of."""
    returns = 10.0 * draw_returns(MARKETS[study % 3], WINDOW + count_bars(days), study)
    closes: FloatArray = 100.0 * np.exp(np.cumsum(returns))
    return closes


def run_study(study: int, method: Method, folder: Path) -> OptimizationRun:
    """An optimisation without costs, which would only make it worse; short as well, so that a fall is no excuse."""
    days = DAYS[study // 3 % 3]
    base = make_base({"allow_short": True, "max_symbol_exposure": 1, "max_gross_exposure": 1}, days=days)
    place = folder / str(study)
    place.mkdir()
    return optimize(
        make(base, GRID if method is Method.GRID else WIDE, {**SEARCH, "method": method, "seed": study}),
        draw_market(study, days),
        place,
        flat=True,
    )


def count(studies: range, methods: tuple[Method, ...], folder: Path) -> Counter[str]:
    """How many would be believed by what they look like, and how many are recommended."""
    found: Counter[str] = Counter()
    for study in studies:
        run = run_study(study, methods[study % len(methods)], folder)
        judgement = judge(run, run.trials, None)
        found["naive"] += (judgement.significance.probabilistic_sharpe or 0.0) > 0.95
        found["overfit"] += run.overfitting is None or run.overfitting.probability > 0.5
        found["significant"] += judgement.significance.significant is True
        found["recommended"] += judgement.recommended is not None
    return found


def test_optimising_noise_recommends_nothing(tmp_path: Path) -> None:
    found = count(range(12), (Method.GRID, Method.RANDOM, Method.GENETIC), tmp_path)
    assert found["naive"] >= 2
    assert found["recommended"] == 0


@pytest.mark.slow
def test_of_many_optimisations_on_noise_at_most_a_twentieth_ends_with_a_recommendation(tmp_path: Path) -> None:
    found = count(range(100), tuple(Method), tmp_path)
    # Without the count of trials many are called significant. No tolerance is taken here.
    assert found["naive"] >= 10
    assert found["significant"] <= 5
    assert found["recommended"] <= 5
