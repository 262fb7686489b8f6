"""The canaries: each kind of leak, planted, is caught; what is sound passes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml.bars import Bars, FloatArray, IntegerArray
from ml.canaries import (
    LeakError,
    check_closed,
    check_features,
    check_join,
    check_plausible,
    check_shuffled,
    check_split,
)
from ml.features import LOOKBACK_BARS, compute_features
from ml.forest import Rows
from ml.labels import LabelRule, compute_labels
from ml.paper import Costs
from ml.preparation import TrainingError, prepare_rows
from ml.splits import Split, split_newest, walk_forward
from ml.training import train
from tests.support.models import MINUTE_MS, walk_bars

RULE = LabelRule(5, 0.1)
BARS = walk_bars(800, 1)

Plant = Callable[[Bars], FloatArray]


def next_return(bars: Bars) -> FloatArray:
    """The classic `shift(-1)`: the return of the next bar."""
    return np.append(bars.close[1:] / bars.close[:-1] - 1.0, 0.0)


def centred_mean(bars: Bars) -> FloatArray:
    """A moving average whose window lies around the bar."""
    mean: FloatArray = np.convolve(bars.close, np.full(11, 1 / 11), mode="same")
    return mean


def scaled_by_the_whole(bars: Bars) -> FloatArray:
    """A close scaled by the mean and deviation of the whole series."""
    scaled: FloatArray = (bars.close - bars.close.mean()) / bars.close.std()
    return scaled


def highest_of_all(bars: Bars) -> FloatArray:
    """A close as a share of the highest high, the future ones too."""
    share: FloatArray = bars.close / bars.high.max()
    return share


def target_echo(bars: Bars) -> FloatArray:
    """The label itself, by another name."""
    return compute_labels(bars, RULE).labels.astype(np.float64)


def forward_return(bars: Bars) -> FloatArray:
    """What the label is about, with its unknown end filled in."""
    return np.nan_to_num(compute_labels(bars, RULE).forward_return)


def joined_one_too_early(bars: Bars) -> FloatArray:
    """A sound feature, joined with the row before its own."""
    return np.append(compute_features(bars)[1:, 0], 0.0)


def filled_backwards(bars: Bars) -> FloatArray:
    """A value known once an hour, its gaps filled from the next one known."""
    known = np.minimum((np.arange(len(bars)) // 60 + 1) * 60, len(bars) - 1)
    return bars.close[known]


PLANTS = [
    next_return,
    centred_mean,
    scaled_by_the_whole,
    highest_of_all,
    target_echo,
    forward_return,
    joined_one_too_early,
    filled_backwards,
]


def with_leak(plant: Plant) -> Callable[[Bars], FloatArray]:
    """Our features, the first of them replaced by a planted one."""

    def compute(bars: Bars) -> FloatArray:
        matrix = compute_features(bars)
        matrix[LOOKBACK_BARS - 1 :, 0] = plant(bars)[LOOKBACK_BARS - 1 :]
        return matrix

    return compute


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_feature_that_sees_the_future_is_caught(plant: Plant) -> None:
    with pytest.raises(LeakError, match="looks ahead") as caught:
        check_features(with_leak(plant), BARS)
    assert caught.value.code == "features_look_ahead"


@pytest.mark.parametrize("bars", [10, LOOKBACK_BARS, LOOKBACK_BARS + 1, 120, 5_000])
def test_features_of_ours_pass_at_any_length(bars: int) -> None:
    check_features(compute_features, walk_bars(bars, 2))


def request(folder: Path, **changes: Any) -> dict[str, Any]:
    """A training of a small forest on a market of one-minute candles."""
    return {
        "folder": str(folder),
        "source": "simulated",
        "interval": "1m",
        "interval_ms": MINUTE_MS,
        "label_rule": {"horizon_bars": 5, "threshold_percent": 0.1},
        "forest": {"trees": 10},
        "min_confidence": 0.45,
        "fee_bps": 2.0,
        "slippage_bps": 3.0,
        "require_positive_return": False,
        "trained_at": "2030-01-01T00:00:00+00:00",
        "candidates": 1,
        "champion": None,
        "backend": "loky",
    } | changes


def refusal(bars: Bars, folder: Path, **changes: Any) -> str:
    """The code with which a training is refused; nothing may be left that could be taken for a model."""
    with pytest.raises(TrainingError) as refused:
        train({"BTCUSDT": bars}, request(folder, **changes), lambda _share, _words: None)
    assert not list(folder.iterdir())
    return refused.value.code


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_training_with_a_feature_that_sees_the_future_is_refused(
    plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml.training.compute_features", with_leak(plant))
    assert refusal(walk_bars(1_500, 3), tmp_path) == "features_look_ahead"


Joined = tuple[IntegerArray, FloatArray]


def join_well(bars: Bars) -> Joined:
    """Each row's close, and the features known at it."""
    return (bars.open_time_ms + MINUTE_MS)[LOOKBACK_BARS:], compute_features(bars)[LOOKBACK_BARS:]


def test_join_that_is_off_by_one_is_caught() -> None:
    def join_early(bars: Bars) -> Joined:
        decided_at, features = join_well(bars)
        return decided_at[:-1], features[1:]

    check_join(join_well, BARS, MINUTE_MS)
    with pytest.raises(LeakError) as caught:
        check_join(join_early, BARS, MINUTE_MS)
    assert caught.value.code == "join_looks_ahead"


def test_join_by_the_candles_open_is_caught() -> None:
    # A candle stamped with its open seems to be known a whole interval before it is.
    def join_by_open(bars: Bars) -> Joined:
        decided_at, features = join_well(bars)
        return decided_at - MINUTE_MS, features

    with pytest.raises(LeakError) as caught:
        check_join(join_by_open, BARS, MINUTE_MS)
    assert caught.value.code == "join_looks_ahead"


def test_rows_chosen_by_what_came_later_are_caught() -> None:
    def join_survivors(bars: Bars) -> Joined:
        decided_at, features = join_well(bars)
        kept = np.append(bars.close[1:] > bars.close[:-1], False)[LOOKBACK_BARS:]
        return decided_at[kept], features[kept]

    with pytest.raises(LeakError) as caught:
        check_join(join_survivors, walk_bars(900, 2), MINUTE_MS)
    assert caught.value.code == "join_looks_ahead"


def test_training_whose_rows_are_joined_too_early_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The features themselves are sound where check_features computes them, and shifted where rows are made of them.
    from ml import preparation, training  # noqa: PLC0415 - the modules whose function is replaced

    sound = preparation.prepare_segment

    def shifted(bars: Bars, *rest: Any) -> tuple[Any, ...]:
        features, *others = sound(bars, *rest)
        return (np.roll(features, -1, axis=0), *others)

    monkeypatch.setattr(training, "prepare_segment", shifted)
    assert refusal(walk_bars(1_500, 3), tmp_path) == "join_looks_ahead"


def test_candle_that_had_not_closed_is_refused() -> None:
    closed_ms = int(BARS.open_time_ms[-1]) + MINUTE_MS
    check_closed(BARS, MINUTE_MS, closed_ms)
    check_closed(BARS[:0], MINUTE_MS, 0)
    with pytest.raises(LeakError) as caught:
        check_closed(BARS, MINUTE_MS, closed_ms - 1)
    assert caught.value.code == "candle_open"


def test_training_with_a_candle_that_had_not_closed_is_refused(tmp_path: Path) -> None:
    bars = walk_bars(1_500, 3)
    assert refusal(bars, tmp_path, trained_at="1970-01-02T00:59:59+00:00") == "candle_open"
    train({"BTCUSDT": bars}, request(tmp_path, trained_at="1970-01-02T01:00:00+00:00"), lambda _share, _words: None)


@pytest.fixture(scope="module")
def rows() -> Rows:
    return prepare_rows({"BTCUSDT": walk_bars(4_000, 4)}, MINUTE_MS, RULE, Costs(2.0, 3.0)).rows


def test_split_of_ours_passes_every_check(rows: Rows) -> None:
    for split in walk_forward(rows.decided_at, rows.settled_at, 5, 0.5, 10 * MINUTE_MS):
        check_split(rows, split, 10 * MINUTE_MS)
        assert abs(check_shuffled(rows, split, 0)) < 0.03


def test_split_without_purging_or_embargo_is_caught(rows: Rows) -> None:
    numbers = np.arange(len(rows))
    purged = split_newest(rows.decided_at, rows.settled_at, 0.5)
    check_split(rows, purged, 0)
    unpurged = Split(numbers[: purged.test[0]], purged.test)
    for split, embargo in ((unpurged, 0), (purged, MINUTE_MS)):
        with pytest.raises(LeakError) as caught:
            check_split(rows, split, embargo)
        assert caught.value.code == "split_overlaps"


def shuffled_split(count: int) -> Split:
    """What no split of a time series may be: rows dealt out at random."""
    dealt = np.random.default_rng(0).permutation(count)
    return Split(np.sort(dealt[: count // 2]), np.sort(dealt[count // 2 :]))


def test_split_at_random_is_caught(rows: Rows) -> None:
    with pytest.raises(LeakError) as caught:
        check_split(rows, shuffled_split(len(rows)), 0)
    assert caught.value.code == "split_overlaps"


@pytest.mark.parametrize("taught", [1.0, 0.5, 0.2])
def test_rows_that_judge_and_have_taught_are_caught(rows: Rows, taught: float) -> None:
    split = split_newest(rows.decided_at, rows.settled_at, 0.5)
    again = split.test[: round(taught * len(split.test))]
    with pytest.raises(LeakError) as caught:
        check_shuffled(rows, Split(np.concatenate((split.train, again)), split.test), 0)
    assert caught.value.code == "shuffled_labels_teach"


def test_shuffled_labels_teach_nothing_whatever_the_seed(rows: Rows) -> None:
    split = split_newest(rows.decided_at, rows.settled_at, 0.3)
    gains = [check_shuffled(rows, split, seed) for seed in range(8)]
    assert max(gains) < 0.03
    assert min(gains) > -0.03


def metrics(low: float | None, blocks: int = 100) -> dict[str, Any]:
    return {"direction_skill": {"value": 0.7, "low": low, "high": 0.8}, "verdict": {"blocks": blocks}}


def test_skill_that_no_market_gives_is_refused() -> None:
    with pytest.raises(LeakError, match=r"70\.0%") as caught:
        check_plausible(metrics(0.501))
    assert caught.value.code == "too_good_to_be_true"


@pytest.mark.parametrize("found", [metrics(0.5), metrics(None), metrics(0.6, blocks=29)], ids=str)
def test_skill_that_may_be_luck_is_not_refused(found: dict[str, Any]) -> None:
    check_plausible(found)


def test_training_on_prices_that_tell_the_future_is_refused_as_too_good(tmp_path: Path) -> None:
    # No feature looks ahead, and yet prices rise for 40 minutes and fall for 40: candles made up by somebody.
    noise = 0.0003 * np.random.default_rng(5).standard_normal(6_000)
    wave = np.cumsum(0.0005 * np.sign(np.sin(2 * np.pi * np.arange(6_001) / 80)))
    price = 100.0 * np.exp(wave + np.cumsum(np.append(0.0, noise)) * 0.3)
    bars = Bars(
        MINUTE_MS * np.arange(6_000, dtype=np.int64),
        price[:-1],
        np.maximum(price[:-1], price[1:]),
        np.minimum(price[:-1], price[1:]),
        price[1:],
        np.ones(6_000),
    )
    assert refusal(bars, tmp_path) == "too_good_to_be_true"
