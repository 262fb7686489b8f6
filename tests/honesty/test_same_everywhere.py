"""Live, batch and replay say the same of the same candle, to the last bit, with every calibration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ml.bars import Bars, FloatArray
from ml.bundle import load_bundle
from ml.features import LOOKBACK_BARS, compute_features, compute_newest_features
from ml.predictor import Predictor
from tests.honesty.walks import make_planted, make_walk, train_card


def predictor_of(folder: Path, method: str) -> Predictor:
    """A model that was trained, saved and loaded again."""
    bars = make_planted(2.0, 5_000, 1)
    train_card(folder, bars, forest={"trees": 20, "calibration": method})
    bundle = load_bundle(next(folder.glob("forest-*")))
    assert bundle.calibration.method == method
    assert 0.0 < bundle.calibration.direction < 1.0
    return Predictor(bundle.forest, bundle.calibration)


def batch(predictor: Predictor, bars: Bars) -> FloatArray:
    return predictor.predict_batch(compute_features(bars)[LOOKBACK_BARS - 1 :])


def live(predictor: Predictor, bars: Bars, number: int) -> FloatArray:
    """What a service says at the close of a candle that knows the last `LOOKBACK_BARS` only."""
    window = bars[number - LOOKBACK_BARS + 1 : number + 1]
    return predictor.predict(compute_newest_features(window))


@pytest.mark.parametrize("method", ["temperature", "sigmoid", "isotonic"])
def test_live_batch_and_replay_say_the_same_bits(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ml.forest.ISOTONIC_ROWS", 10)  # or a training of this size is calibrated by temperature
    predictor = predictor_of(tmp_path, method)
    for kind in ("gaussian", "heavy_tailed"):
        bars = make_walk(kind, 900, 7)
        numbers = range(LOOKBACK_BARS - 1, len(bars))
        whole = batch(predictor, bars)
        assert len(np.unique(whole, axis=0)) > 100
        served = np.stack([live(predictor, bars, number) for number in numbers])
        assert served.tobytes() == whole.tobytes()
        # One candle after the other, each time with all that came before it.
        replayed = np.stack([predictor.predict(compute_newest_features(bars[: number + 1])) for number in numbers])
        assert replayed.tobytes() == whole.tobytes()
        late = np.concatenate([batch(predictor, bars[start : start + 350]) for start in (0, 300, 600)])
        assert late[:300].tobytes() == whole[:300].tobytes()


@pytest.mark.slow
def test_batch_of_very_many_candles_says_the_bits_of_live(tmp_path: Path) -> None:
    predictor = predictor_of(tmp_path, "temperature")
    bars = make_walk("garch", 150_000, 8)
    whole = batch(predictor, bars)
    for number in np.random.default_rng(9).integers(LOOKBACK_BARS, len(bars), 5_000).tolist():
        assert live(predictor, bars, number).tobytes() == whole[number - LOOKBACK_BARS + 1].tobytes()
