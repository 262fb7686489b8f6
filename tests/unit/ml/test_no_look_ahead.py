"""What must not happen: the future in a feature, in a label's beginning or in a training row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.bars import Bars, FloatArray
from ml.features import FEATURE_NAMES, LOOKBACK_BARS, compute_features, compute_newest_features
from ml.labels import CLASSES, UNSETTLED, LabelRule, compute_labels
from ml.splits import split_holdout
from ml.training import TrainingError, prepare_rows, train

MINUTE = 60_000


def walk(seed: int, bars: int, *, halted: bool = False) -> Bars:
    """A random walk on a tick grid, with a halt (flat, no volume) in its middle if wanted."""
    random = np.random.default_rng(seed)
    moves = random.standard_normal(bars) * 0.001
    volume = np.round(random.exponential(10, bars), 3)
    if halted:
        moves[bars // 3 : bars // 3 + 70] = 0.0
        volume[bars // 3 : bars // 3 + 70] = 0.0
    close = np.round(60_000 * np.exp(np.cumsum(moves)), 2)
    opened = np.concatenate(([60_000.0], close[:-1]))
    reach: FloatArray = np.round(np.where(moves == 0, 0.0, random.exponential(20, bars)), 2).astype(np.float64)
    high, low = np.maximum(opened, close) + reach, np.minimum(opened, close) - reach
    return Bars(np.arange(bars, dtype=np.int64) * MINUTE, opened, high, low, close, volume)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), bars=st.integers(LOOKBACK_BARS, 260), data=st.data())
def test_features_do_not_move_when_later_or_older_candles_are_cut_off(
    seed: int, bars: int, data: st.DataObject
) -> None:
    series = walk(seed, bars, halted=bars > 200)
    whole = compute_features(series)
    end = data.draw(st.integers(LOOKBACK_BARS, bars))
    start = data.draw(st.integers(0, end - LOOKBACK_BARS))
    part = compute_features(series[start:end])
    kept = slice(start + LOOKBACK_BARS - 1, end)
    assert part[LOOKBACK_BARS - 1 :].tobytes() == whole[kept].tobytes()
    assert compute_newest_features(series[start:end]).tobytes() == whole[end - 1].tobytes()
    assert np.isfinite(whole[LOOKBACK_BARS - 1 :]).all()
    assert np.isnan(whole[: LOOKBACK_BARS - 1]).all()


def test_features_of_a_price_twice_as_high_are_the_same_bits() -> None:
    series = walk(3, 200)
    doubled = (2 * series.open, 2 * series.high, 2 * series.low, 2 * series.close)
    twice = Bars(series.open_time_ms, *doubled, series.volume)
    assert compute_features(twice).tobytes() == compute_features(series).tobytes()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), horizon=st.integers(1, 30), data=st.data())
def test_label_depends_on_the_bars_of_its_horizon_only(seed: int, horizon: int, data: st.DataObject) -> None:
    series, rule = walk(seed, 120), LabelRule(horizon, 0.1)
    labels = compute_labels(series, rule)
    number = data.draw(st.integers(0, 119 - horizon))
    other = walk(seed + 1, 120)
    mixed = {
        name: np.concatenate(
            (
                getattr(other, name)[: number + 1],
                getattr(series, name)[number + 1 : number + horizon + 1],
                getattr(other, name)[number + horizon + 1 :],
            )
        )
        for name in ("open", "high", "low", "close", "volume")
    }
    assert compute_labels(Bars(series.open_time_ms, **mixed), rule)[number] == labels[number]
    forward = series.close[number + horizon] / series.open[number + 1] - 1
    wanted = "BUY" if forward >= 0.001 else "SELL" if forward <= -0.001 else "HOLD"
    assert CLASSES[labels[number]] == wanted
    assert (labels[-horizon:] == UNSETTLED).all()


@given(
    gaps=st.lists(st.integers(1, 5), min_size=4, max_size=200),
    horizon=st.integers(1, 40),
    share=st.floats(0.05, 0.95),
)
def test_split_of_any_rows_keeps_every_training_label_before_the_test(
    gaps: list[int], horizon: int, share: float
) -> None:
    decided = np.cumsum(np.array(gaps, dtype=np.int64))
    split = split_holdout(decided, decided + horizon, share)
    if len(split.train) and len(split.test):
        assert np.max(decided[split.train] + horizon) < np.min(decided[split.test])
    assert set(split.test.tolist()) == set(range(len(gaps) - len(split.test), len(gaps)))


def test_rows_to_learn_from_never_reach_across_a_gap() -> None:
    rule = LabelRule(5, 0.05)
    series = walk(5, 600)
    times = series.open_time_ms.copy()
    times[300:] += 80 * MINUTE
    broken = Bars(times, series.open, series.high, series.low, series.close, series.volume)
    features, labels, decided = prepare_rows(broken, MINUTE, rule)
    first, second = prepare_rows(series[:300], MINUTE, rule), prepare_rows(broken[300:], MINUTE, rule)
    assert features.tobytes() == np.concatenate((first[0], second[0])).tobytes()
    assert labels.tolist() == [*first[1].tolist(), *second[1].tolist()]
    assert decided.tolist() == [*first[2].tolist(), *(second[2] + 300).tolist()]


@pytest.mark.parametrize(
    ("bars", "threshold", "code"), [(walk(1, 200), 0.1, "too_few_rows"), (walk(1, 600), 20.0, "one_class")]
)
def test_candles_that_cannot_teach_are_refused(bars: Bars, threshold: float, code: str) -> None:
    with pytest.raises(TrainingError) as refused:
        prepare_rows(bars, MINUTE, LabelRule(5, threshold))
    assert refused.value.code == code


def test_training_on_a_random_walk_claims_no_skill_worth_naming(tmp_path_factory: pytest.TempPathFactory) -> None:
    from ml.bundle import load_bundle  # noqa: PLC0415 - used here only

    request = {
        "folder": str(tmp_path_factory.mktemp("models")),
        "source": "simulated",
        "symbol": "BTCUSDT",
        "interval": "1m",
        "interval_ms": MINUTE,
        "horizon_bars": 5,
        "threshold_percent": 0.15,
        "trained_at": "2026-01-05T00:00:00+00:00",
    }
    heard: list[float] = []
    card = load_bundle(train(walk(11, 4_000), request, lambda share, _words: heard.append(share))).card
    assert card["metrics"]["skill"] < 0.01
    assert card["metrics"]["rows"] == round(card["window"]["rows"] * 0.25)
    assert sum(card["window"]["class_counts"].values()) == card["window"]["rows"]
    assert card["features"] == list(FEATURE_NAMES)
    assert heard == sorted(heard)
