"""The forest as a strategy: what it says, when it says nothing, and that history and life hear the same bits."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from app.domain.candle import Candle, Interval
from app.domain.signal import Prediction, Signal
from app.errors import DataQualityError, InvalidInputError, NotReadyError, ServiceError
from app.strategies.bars import bars_from_candles
from app.strategies.forest import ForestStrategy
from ml.bundle import load_bundle
from ml.features import FEATURE_NAMES, LOOKBACK_BARS, compute_features
from ml.forest import ForestRule, fit_forest, forest_arrays
from ml.predictor import ForestArrays
from tests.support.candles import made_candles
from tests.support.models import TRAINED_AT, stump, write_bundle

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
BARS = 300


def candles(bars: int = BARS) -> list[Candle]:
    return made_candles("BTCUSDT", Interval.M1, end=NOW, bars=bars)


def strategy(folder: Path, forest: ForestArrays | None = None) -> ForestStrategy:
    made = ForestStrategy()
    made.use(load_bundle(write_bundle(folder, forest)))
    return made


def fitted_forest() -> ForestArrays:
    rows = compute_features(bars_from_candles(candles()))[LOOKBACK_BARS:]
    labels = np.random.default_rng(5).integers(0, 3, len(rows)).astype(np.int8)
    return forest_arrays(fit_forest(rows, labels, ForestRule(trees=20, leaf_fraction=0.01, sample_fraction=0.9)))


def said(result: Prediction | ServiceError) -> Prediction:
    assert isinstance(result, Prediction)
    return result


def refused(result: Prediction | ServiceError) -> ServiceError:
    assert isinstance(result, ServiceError)
    return result


def row(first: float) -> list[float]:
    return [first, *([0.5] * (len(FEATURE_NAMES) - 1))]


def test_history_in_one_go_and_life_candle_by_candle_hear_the_same_bits(tmp_path: Path) -> None:
    forest = strategy(tmp_path, fitted_forest())
    history = forest.predict_candles(candles())

    for end in range(LOOKBACK_BARS, BARS + 1):
        alone = forest.predict(candles()[:end])
        assert said(history[end - 1]).probabilities == alone.probabilities
        assert said(history[end - 1]).signal is alone.signal
    assert len({str(said(one).probabilities) for one in history[LOOKBACK_BARS:]}) > 50, "the forest tells rows apart"


def test_candles_without_enough_before_them_get_the_reason_instead(tmp_path: Path) -> None:
    forest = strategy(tmp_path)
    results = forest.predict_candles(candles(LOOKBACK_BARS))

    assert {refused(one).code for one in results[:-1]} == {"insufficient_history"}
    assert refused(results[2]).context == {"have": 3, "need": LOOKBACK_BARS}
    assert said(results[-1]).model_id == forest.model_id
    with pytest.raises(NotReadyError, match=f"needs {LOOKBACK_BARS} closed candles; there are 7"):
        forest.predict(candles(7))


@pytest.mark.parametrize(
    ("shares", "signal"),  # in the order SELL, HOLD, BUY
    [
        ((0.2, 0.3, 0.5), Signal.BUY),
        ((0.5, 0.3, 0.2), Signal.SELL),
        ((0.4, 0.2, 0.4), Signal.SELL),
        ((0.2, 0.4, 0.4), Signal.HOLD),
        ((0.4, 0.4, 0.2), Signal.HOLD),
    ],
)
def test_most_probable_signal_wins_and_a_tie_goes_to_the_cheaper_mistake(
    tmp_path: Path, shares: tuple[float, float, float], signal: Signal
) -> None:
    forest = strategy(tmp_path, stump(shares, (0.0, 1.0, 0.0)))

    (prediction,) = forest.predict_features([row(-1.0)])

    assert said(prediction).signal is signal
    assert said(prediction).probabilities == dict(zip((Signal.SELL, Signal.HOLD, Signal.BUY), shares, strict=True))


def test_rows_by_name_and_by_order_are_the_same_and_one_bad_row_spoils_no_other(tmp_path: Path) -> None:
    forest = strategy(tmp_path, stump((0.0, 0.0, 1.0), (1.0, 0.0, 0.0)))
    named = dict(zip(FEATURE_NAMES, row(1.0), strict=True))
    short, foreign = row(1.0)[1:], {**named, "crystal_ball": 1.0}

    results = forest.predict_features(
        [row(-1.0), named, short, foreign, row(float("nan")), row(float("inf")), row(1e300), row(1.0)]
    )

    assert [said(results[place]).signal for place in (0, 1, 7)] == [Signal.BUY, Signal.SELL, Signal.SELL]
    assert all(isinstance(one, InvalidInputError) for one in results[2:7])
    assert [refused(one).code for one in results[2:7]] == ["features_mismatched"] * 2 + ["features_invalid"] * 3
    assert f"has {len(short)} values; the model takes {len(FEATURE_NAMES)}" in refused(results[2]).message
    assert "crystal_ball" in refused(results[3]).message
    assert refused(results[4]).context == {"features": [FEATURE_NAMES[0]]}


def test_prediction_carries_what_it_was_made_of_and_what_its_sizing_needs(tmp_path: Path) -> None:
    history = candles()
    prediction = strategy(tmp_path).predict(history)

    newest = compute_features(bars_from_candles(history))[-1]
    assert prediction.features == tuple(newest.tolist())
    assert {type(value) for value in prediction.features} == {float}
    assert prediction.class_returns == {Signal.SELL: -0.002, Signal.HOLD: 0.0, Signal.BUY: 0.002}
    assert prediction.round_trip_cost == 0.001


def test_cycle_with_a_feature_that_is_no_number_is_refused(tmp_path: Path) -> None:
    forest = strategy(tmp_path)
    history = candles(LOOKBACK_BARS)
    nothing = Decimal(0)
    worthless = [replace(one, open=nothing, high=nothing, low=nothing, close=nothing) for one in history]

    with np.errstate(all="ignore"), pytest.raises(DataQualityError) as caught:
        forest.predict(worthless)

    assert caught.value.code == "features_invalid"


def test_strategy_without_a_model_says_so_and_takes_a_new_one_at_once(tmp_path: Path) -> None:
    forest = ForestStrategy()
    for ask in (
        lambda: forest.predict(candles()),
        lambda: forest.predict_candles(candles()),
        lambda: forest.predict_features([]),
        lambda: forest.model_id,
        lambda: forest.card,
    ):
        with pytest.raises(NotReadyError) as caught:
            ask()
        assert (caught.value.code, caught.value.retry_after_seconds) == ("model_not_ready", 5)

    forest.use(load_bundle(write_bundle(tmp_path)))
    first = forest.model_id
    forest.use(load_bundle(write_bundle(tmp_path, trained_at=TRAINED_AT + timedelta(hours=1))))

    assert forest.predict(candles()).model_id == forest.model_id != first
