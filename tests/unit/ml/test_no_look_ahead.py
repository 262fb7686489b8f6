"""What must not happen: the future in a feature or in a training row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.bars import Bars, FloatArray
from ml.features import LOOKBACK_BARS, compute_features, compute_newest_features
from ml.labels import BUY, HOLD, LABEL_KINDS, LabelRule, compute_labels
from ml.paper import Costs
from ml.preparation import Prepared, TrainingError, prepare_rows

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


COSTS = Costs(2.0, 3.0)


def prepare(bars: Bars | dict[str, Bars], rule: LabelRule) -> Prepared:
    history = bars if isinstance(bars, dict) else {"BTCUSDT": bars}
    return prepare_rows(history, MINUTE, rule, COSTS)


def late(bars: Bars, start: int, minutes: int) -> Bars:
    """The same candles, but from number `start` on so many minutes later."""
    times = bars.open_time_ms + np.where(np.arange(len(bars)) >= start, minutes * MINUTE, 0)
    return Bars(times, bars.open, bars.high, bars.low, bars.close, bars.volume)


@pytest.mark.parametrize("kind", LABEL_KINDS)
def test_rows_join_the_features_of_a_candle_with_its_own_label(kind: str) -> None:
    bars, rule = walk(7, 400), LabelRule(6, 0.05, kind, 0.5)
    prepared, features, found = prepare(bars, rule), compute_features(bars), compute_labels(bars, rule)
    rows = prepared.rows
    closed_at = bars.open_time_ms + MINUTE
    numbers = np.searchsorted(closed_at, rows.decided_at)
    assert numbers.tolist() == list(range(LOOKBACK_BARS - 1, 394))
    assert rows.features.tobytes() == features[numbers].tobytes()
    assert rows.labels.tolist() == found.labels[numbers].tolist()
    assert rows.settled_at.tolist() == closed_at[found.settled_at[numbers]].tolist()
    assert prepared.forward_returns.tobytes() == found.forward_return[numbers].tobytes()
    earned = bars.open[numbers + 2] / bars.open[numbers + 1] - 1.0
    assert prepared.next_returns.tobytes() == earned.tobytes()


@pytest.mark.parametrize("kind", LABEL_KINDS)
def test_last_label_is_the_newest_that_was_settled_by_then(kind: str) -> None:
    bars, rule = walk(8, 300), LabelRule(6, 0.05, kind, 0.5)
    prepared, found = prepare(bars, rule), compute_labels(bars, rule)
    for number, decided_at in enumerate(prepared.rows.decided_at.tolist()):
        bar = decided_at // MINUTE - 1
        known = [row for row in range(300) if found.labels[row] >= 0 and found.settled_at[row] <= bar]
        assert prepared.last_labels[number] == (found.labels[known[-1]] if known else HOLD)


def test_rows_to_learn_from_never_reach_across_a_gap() -> None:
    rule, series = LabelRule(5, 0.05), walk(5, 900)
    broken = late(series, 400, 80)
    whole, first, second = prepare(broken, rule), prepare(broken[:400], rule), prepare(broken[400:], rule)
    for name in ("features", "labels", "weights", "decided_at", "settled_at"):
        parts = [getattr(part.rows, name) for part in (first, second)]
        assert getattr(whole.rows, name).tobytes() == np.concatenate(parts).tobytes()
    assert whole.last_labels.tolist() == [*first.last_labels.tolist(), *second.last_labels.tolist()]
    assert whole.series.tolist() == [0] * len(first.rows) + [1] * len(second.rows)


def test_rows_of_several_symbols_are_in_the_order_of_time_and_each_its_own() -> None:
    rule = LabelRule(5, 0.05)
    history = {"BTCUSDT": walk(1, 400), "ETHUSDT": walk(2, 400)}
    both = prepare(history, rule)
    assert (np.diff(both.rows.decided_at) >= 0).all()
    for number, bars in enumerate(history.values()):
        alone, own = prepare(bars, rule), np.flatnonzero(both.series == number)
        taken = both.rows.take(own)
        for name in ("features", "labels", "weights", "decided_at", "settled_at"):
            assert getattr(taken, name).tobytes() == getattr(alone.rows, name).tobytes()
        assert both.next_returns[own].tobytes() == alone.next_returns.tobytes()


@pytest.mark.parametrize(
    ("bars", "threshold", "code"), [(walk(1, 200), 0.1, "too_few_rows"), (walk(1, 600), 20.0, "one_class")]
)
def test_candles_that_cannot_teach_are_refused(bars: Bars, threshold: float, code: str) -> None:
    with pytest.raises(TrainingError) as refused:
        prepare(bars, LabelRule(5, threshold))
    assert refused.value.code == code


def test_price_that_is_no_number_is_refused() -> None:
    series = walk(1, 600)
    close = series.close.copy()
    close[300] = np.nan
    broken = Bars(series.open_time_ms, series.open, series.high, series.low, close, series.volume)
    with pytest.raises(TrainingError) as refused:
        prepare(broken, LabelRule(5, 0.1))
    assert refused.value.code == "features_invalid"


def test_label_of_a_rise_is_a_buy() -> None:
    price = np.array([100.0 * 1.001**bar for bar in range(400)])
    rising = Bars(np.arange(400, dtype=np.int64) * MINUTE, price, price, price, price, price)
    assert set(compute_labels(rising, LabelRule(5, 0.3)).labels[:-5].tolist()) == {BUY}
