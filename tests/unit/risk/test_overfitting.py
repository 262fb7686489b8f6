"""The probability of backtest overfitting: against a naive count of everything, on noise, and on a good trial."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped]

from app.risk.overfitting import Overfitting, compute_overfitting
from ml.bars import FloatArray


def noise(periods: int, trials: int, seed: int) -> FloatArray:
    drawn: FloatArray = 0.01 * np.random.default_rng(seed).standard_normal((periods, trials))
    return drawn


def sharpe(returns: FloatArray) -> float:
    deviation = returns.std(ddof=1)
    return float(returns.mean() / deviation) if deviation > 1e-15 else 0.0


def count_naively(returns: FloatArray, blocks: int) -> list[tuple[float, float, float]]:
    """Logit, Sharpe ratio within and without of every half, by copying its rows."""
    parts = np.split(returns, blocks)
    found = []
    for chosen in combinations(range(blocks), blocks // 2):
        inside = np.concatenate([parts[number] for number in chosen])
        outside = np.concatenate([parts[number] for number in range(blocks) if number not in chosen])
        within = [sharpe(column) for column in inside.T]
        without = [sharpe(column) for column in outside.T]
        best = int(np.argmax(within))
        share = stats.rankdata(np.round(without, 10))[best] / (returns.shape[1] + 1)
        found.append((float(np.log(share / (1 - share))), within[best], without[best]))
    return found


def of(found: Overfitting | None) -> Overfitting:
    assert found is not None
    return found


@pytest.mark.parametrize(("trials", "blocks"), [(2, 4), (7, 6), (12, 8), (33, 10)])
def test_every_half_is_what_a_naive_count_gives(trials: int, blocks: int) -> None:
    returns = noise(blocks * 9, trials, seed=trials)
    # Some trials trade seldom, one never, and two are the same but for how much they bet.
    returns[:, 0] *= np.arange(len(returns)) % 5 == 0
    returns[:, -1] = 3.0 * returns[:, 0] if trials > 2 else 0.0
    found, naive = of(compute_overfitting(returns, blocks)), np.array(count_naively(returns, blocks))
    assert found.logits == pytest.approx(naive[:, 0])
    assert found.in_sample == pytest.approx(naive[:, 1])
    assert found.out_of_sample == pytest.approx(naive[:, 2])
    assert found.probability == pytest.approx((naive[:, 0] < 1e-12).mean())
    assert found.loss_probability == pytest.approx((naive[:, 2] < 0).mean())
    assert found.slope == pytest.approx(stats.linregress(naive[:, 1], naive[:, 2]).slope)


def test_example_is_what_a_hand_computes() -> None:
    # Two trials, two blocks: each is the better one in one of them, and the worse one in the other.
    returns = np.array([[0.03, 0.01], [0.01, -0.01], [0.01, 0.03], [-0.01, 0.01]])
    found = of(compute_overfitting(returns, blocks=2))
    assert found.probability == 1.0
    assert found.loss_probability == 0.0
    # The worst of two has rank 1 of 3: the logarithm of 1/3 over 2/3.
    assert found.logits.tolist() == pytest.approx([np.log(0.5)] * 2)
    # Means of 2 % and 0, a deviation of 1 % times the root of 2.
    assert found.in_sample.tolist() == pytest.approx([np.sqrt(2.0)] * 2)
    assert found.out_of_sample.tolist() == pytest.approx([0.0] * 2)
    assert found.slope is None


def test_noise_is_overfit_half_of_the_time() -> None:
    found = [of(compute_overfitting(noise(240, 20, seed), blocks=8)) for seed in range(150)]
    # One sweep varies by 0.18, the mean of 150 by 0.015.
    assert np.mean([one.probability for one in found]) == pytest.approx(0.5, abs=0.045)
    assert np.mean([one.loss_probability for one in found]) == pytest.approx(0.5, abs=0.06)


def test_better_trial_is_not_overfit() -> None:
    returns = noise(800, 50, seed=1)
    returns[:, 20] += 0.005
    found = of(compute_overfitting(returns))
    assert found.probability == 0.0
    assert found.loss_probability == 0.0
    assert len(found.logits) == 12_870
    assert found.logits.min() == pytest.approx(np.log(50.0))


def test_trials_that_earn_nothing_in_all_are_always_overfit() -> None:
    # What is earned in one half was lost in the other, so that the best of a half is the worst of the other.
    returns = noise(320, 30, seed=2)
    found = of(compute_overfitting(returns - returns.mean(axis=0)))
    assert found.probability == 1.0
    assert found.loss_probability == 1.0
    assert found.slope == pytest.approx(-1.0, abs=0.1)


def test_equal_trials_stand_at_the_median() -> None:
    found = of(compute_overfitting(np.repeat(noise(160, 1, seed=3), 37, axis=1), blocks=8))
    assert found.logits == pytest.approx(np.zeros(70))
    assert found.probability == 1.0


def test_trials_that_never_trade_have_no_slope() -> None:
    found = of(compute_overfitting(np.zeros((64, 3)), blocks=4))
    assert found.in_sample.tolist() == found.out_of_sample.tolist() == [0.0] * 6
    assert found.slope is None
    assert found.loss_probability == 0.0


def test_blocks_of_uneven_length_use_every_period() -> None:
    returns = noise(103, 6, seed=4)
    found = of(compute_overfitting(returns, blocks=4))
    # Blocks begin at 0, 25, 51 and 77; the first half is what lies before 51.
    within = [sharpe(column) for column in returns[:51].T]
    assert found.in_sample[0] == pytest.approx(max(within))
    assert found.out_of_sample[0] == pytest.approx(sharpe(returns[51:, int(np.argmax(within))]))


@pytest.mark.parametrize("shape", [(31, 5), (400, 1), (400, 0)])
def test_too_few_periods_or_trials_say_nothing(shape: tuple[int, int]) -> None:
    assert compute_overfitting(np.ones(shape)) is None


@pytest.mark.parametrize("blocks", [0, -2, 1, 7])
def test_blocks_that_have_no_halves_are_refused(blocks: int) -> None:
    with pytest.raises(ValueError, match="even"):
        compute_overfitting(noise(100, 5, seed=0), blocks)
