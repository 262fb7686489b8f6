"""A training from candles to card: what it writes, what it compares, and that it is the same each time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml.bars import Bars
from ml.bundle import fits_request, load_bundle
from ml.features import FEATURE_NAMES, compute_features
from ml.forest import ForestRule
from ml.labels import LABEL_KINDS
from ml.predictor import Predictor
from ml.preparation import TrainingError
from ml.training import EMBARGO_FRACTION, train
from tests.support.models import MINUTE_MS, walk_bars

REQUEST: dict[str, Any] = {
    "source": "simulated",
    "interval": "1m",
    "interval_ms": MINUTE_MS,
    "label_rule": {"horizon_bars": 5, "threshold_percent": 0.1},
    "forest": {"trees": 10},
    "min_confidence": 0.4,
    "fee_bps": 2.0,
    "slippage_bps": 3.0,
    "require_positive_return": False,
    "trained_at": "2030-01-01T00:00:00+00:00",
    "candidates": 1,
    "champion": None,
    "backend": "loky",
}


def trained(folder: Path, history: Bars | dict[str, Bars], **changes: Any) -> Path:
    symbols = history if isinstance(history, dict) else {"BTCUSDT": history}
    return train(symbols, {"folder": str(folder), **REQUEST, **changes}, lambda _share, _words: None)


@pytest.mark.parametrize("kind", LABEL_KINDS)
def test_card_tells_what_taught_and_what_judged(tmp_path: Path, kind: str) -> None:
    rule = {"horizon_bars": 5, "threshold_percent": 0.1, "kind": kind, "volatility_multiple": 0.5}
    heard: list[tuple[float, str]] = []
    request = {"folder": str(tmp_path), **REQUEST, "label_rule": rule}
    path = train({"BTCUSDT": walk_bars(3_000, 1)}, request, lambda share, words: heard.append((share, words)))
    card = load_bundle(path).card
    assert card["label_rule"] == rule
    assert card["symbols"] == ["BTCUSDT"]
    assert card["hyperparameters"]["trees"] == 10
    # The first 50 candles have no features; the last five no label; half of the others judge.
    assert card["window"]["rows"] == 3_000 - 50 - 5
    assert card["window"]["first_open_time"] == "1970-01-01T00:00:00+00:00"
    assert card["metrics"]["rows"] == round(2_945 / 2)
    assert card["metrics"]["folds"] == 5
    assert card["metrics"]["embargo_ms"] == int(EMBARGO_FRACTION * 2_944 * MINUTE_MS)
    assert sum(card["window"]["class_counts"].values()) == 2_945
    assert sum(card["metrics"]["class_counts"].values()) == card["metrics"]["rows"]
    assert card["class_returns"]["SELL"] < card["class_returns"]["HOLD"] < card["class_returns"]["BUY"]
    assert 0.0005 <= card["side_cost"] < 0.001
    assert {line["feature"] for line in card["importances"]} == set(FEATURE_NAMES)
    assert card["comparison"] is None
    assert [share for share, _ in heard] == sorted(share for share, _ in heard)
    assert fits_request(card, {**request, "symbols": ["BTCUSDT"]})


def test_training_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    bars = walk_bars(1_000, 2)
    for method in ("temperature", "sigmoid"):
        paths = [
            trained(tmp_path / method / name, bars, forest={"trees": 10, "calibration": method}) for name in ("a", "b")
        ]
        assert paths[0].name == paths[1].name
        for name in ("card.json", "forest.npz"):
            assert (paths[0] / name).read_bytes() == (paths[1] / name).read_bytes()


def test_taught_until_is_when_the_last_label_was_settled(tmp_path: Path) -> None:
    card = load_bundle(trained(tmp_path, walk_bars(2_000, 2))).card
    assert card["window"]["taught_until_ms"] == 2_000 * MINUTE_MS


def test_several_symbols_teach_one_forest_and_overlap_together(tmp_path: Path) -> None:
    history = {"BTCUSDT": walk_bars(1_500, 3), "ETHUSDT": walk_bars(1_500, 4)}
    card = load_bundle(trained(tmp_path, history)).card
    assert card["symbols"] == ["BTCUSDT", "ETHUSDT"]
    assert card["window"]["rows"] == 2 * 1_445
    # A block is twice as many rows as labels overlap: five bars of two symbols.
    assert card["metrics"]["verdict"]["blocks"] == -(-card["metrics"]["rows"] // 20)


def test_gap_is_told_with_its_symbol_and_length(tmp_path: Path) -> None:
    bars = walk_bars(2_000, 5)
    times = bars.open_time_ms + np.where(np.arange(2_000) >= 1_200, 7 * MINUTE_MS, 0)
    gapped = Bars(times, bars.open, bars.high, bars.low, bars.close, bars.volume)
    window = load_bundle(trained(tmp_path, gapped)).card["window"]
    assert window["gaps"] == 1
    assert window["largest_gaps"] == [{"symbol": "BTCUSDT", "after": "1970-01-01T19:59:00+00:00", "missing": 7}]
    assert window["rows"] == 2_000 - 2 * 55


def test_champion_is_compared_on_rows_that_taught_neither(tmp_path: Path) -> None:
    bars = walk_bars(3_000, 6)
    champion = trained(tmp_path, bars[:2_600])
    taught_until = load_bundle(champion).card["window"]["taught_until_ms"]
    comparison = load_bundle(trained(tmp_path, bars, champion=str(champion), forest={"trees": 11})).card["comparison"]
    # Its last label was settled at the close of candle 2,599; the last five of all have none.
    assert taught_until == 2_600 * MINUTE_MS
    assert comparison["champion"] == champion.name
    assert comparison["rows"] == 0 or comparison["rows"] <= 2_995 - 2_600
    newest = [row for row in range(3_000) if (row + 1) * MINUTE_MS > taught_until and row < 2_995]
    fold = round(2_945 / 2) // 5
    assert comparison["rows"] == min(len(newest), fold)


def test_champion_that_has_seen_all_rows_is_not_compared(tmp_path: Path) -> None:
    bars = walk_bars(2_000, 7)
    champion = trained(tmp_path, bars)
    comparison = load_bundle(trained(tmp_path, bars, champion=str(champion), forest={"trees": 11})).card["comparison"]
    assert comparison == {"champion": champion.name, "rows": 0}


def test_champion_that_is_gone_or_broken_is_left_out(tmp_path: Path) -> None:
    bars = walk_bars(600, 8)
    broken = trained(tmp_path / "old", bars)
    (broken / "forest.npz").write_bytes(b"")
    for number, champion in enumerate((tmp_path / "nowhere", broken)):
        path = trained(tmp_path / str(number), bars, champion=str(champion))
        assert load_bundle(path).card["comparison"] is None


def test_model_that_is_served_says_what_its_reference_was_made_of(tmp_path: Path) -> None:
    bars = walk_bars(2_000, 9)
    bundle = load_bundle(trained(tmp_path, bars))
    features = compute_features(bars)[50:1_995]
    said = Predictor(bundle.forest, bundle.calibration).predict_batch(features)
    edges = bundle.card["drift"]["values"]["p_BUY"]["edges"]
    assert edges == np.quantile(said[:, 2], np.linspace(0, 1, 11)[1:-1]).tolist()


@pytest.mark.parametrize(("candles", "horizon", "code"), [(240, 5, "too_few_rows"), (420, 150, "too_few_rows")])
def test_candles_that_are_too_few_are_refused_in_words(tmp_path: Path, candles: int, horizon: int, code: str) -> None:
    with pytest.raises(TrainingError) as refused:
        trained(tmp_path, walk_bars(candles, 4), label_rule={"horizon_bars": horizon, "threshold_percent": 0.5})
    assert refused.value.code == code


def test_rare_class_weighs_more_when_balanced(tmp_path: Path) -> None:
    cards = [
        json.loads(
            (
                trained(tmp_path, walk_bars(1_000, 4), forest={"trees": 10, "class_weight": weight}) / "card.json"
            ).read_text()
        )
        for weight in ("none", "balanced")
    ]
    assert [card["hyperparameters"]["class_weight"] for card in cards] == ["none", "balanced"]
    assert cards[0]["sha256"] != cards[1]["sha256"]


def test_rule_of_the_forest_has_the_defaults_that_its_card_tells(tmp_path: Path) -> None:
    card = load_bundle(trained(tmp_path, walk_bars(500, 4), forest={})).card
    assert ForestRule(**card["hyperparameters"]) == ForestRule()
