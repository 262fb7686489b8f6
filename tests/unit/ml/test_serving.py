"""Serving a forest: the same bits as scikit-learn's, from files that cannot do harm."""

from __future__ import annotations

import hashlib
import json
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier

from ml.bars import FloatArray
from ml.bundle import (
    ARRAYS_NAME,
    CARD_NAME,
    BundleError,
    find_newest,
    fits_request,
    load_bundle,
    save_bundle,
    set_aside,
)
from ml.calibration import Calibration
from ml.features import FEATURE_NAMES
from ml.forest import ForestRule, fit_forest, forest_arrays
from ml.predictor import ForestArrays, Predictor
from tests.support.models import make_card

TRAINED_AT = datetime(2026, 1, 5, 12, 30, 15, tzinfo=UTC)
CARD: dict[str, Any] = make_card()


def made_forest(seed: int, classes: tuple[int, ...] = (0, 1, 2), *, missing: bool = False) -> RandomForestClassifier:
    random = np.random.default_rng(seed)
    features = random.standard_normal((400, len(FEATURE_NAMES)))
    if missing:
        features[random.random(features.shape) < 0.1] = np.nan
    labels = random.choice(classes, 400).astype(np.int8)
    return fit_forest(features, labels, ForestRule(trees=12, depth=int(random.integers(1, 9)), seed=seed))


def expected(forest: RandomForestClassifier, rows: FloatArray) -> FloatArray:
    full = np.zeros((len(rows), 3))
    forest.n_jobs = 1  # with threads the trees are added up in whatever order they end
    full[:, forest.classes_.astype(int)] = forest.predict_proba(rows)
    return full


def near_thresholds(forest: RandomForestClassifier) -> FloatArray:
    """Rows whose every value is a threshold of some tree, or the number next to one in 32 or 64 bits."""
    thresholds = np.concatenate([tree.tree_.threshold[tree.tree_.feature >= 0] for tree in forest.estimators_])
    thresholds = thresholds[np.isfinite(thresholds)]  # where only missing values are split off it is infinite
    single = thresholds.astype(np.float32)
    values = np.concatenate(
        [
            thresholds,
            np.nextafter(thresholds, np.inf),
            np.nextafter(thresholds, -np.inf),
            single,
            np.nextafter(single, np.float32(np.inf)),
            np.nextafter(single, np.float32(-np.inf)),
            [0.0, -0.0],
        ]
    ).astype(np.float64)
    width = len(FEATURE_NAMES)
    return np.resize(values, (-(-len(values) // width) + 1, width))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), missing=st.booleans(), classes=st.sampled_from([(0, 1, 2), (0, 1), (1, 2), (0, 2)]))
def test_probabilities_of_any_forest_are_those_of_scikit_learn_bit_for_bit(
    seed: int, missing: bool, classes: tuple[int, ...]
) -> None:
    forest = made_forest(seed, classes, missing=missing)
    predictor = Predictor(forest_arrays(forest))
    random = np.random.default_rng(seed + 1)
    rows = np.concatenate((random.standard_normal((50, len(FEATURE_NAMES))), near_thresholds(forest)))
    holes = rows[:60].copy()
    holes[random.random(holes.shape) < 0.2] = np.nan
    for batch in (rows, holes):
        wanted = expected(forest, batch)
        assert predictor.predict_batch(batch).tobytes() == wanted.tobytes()
        singles = np.array([predictor.predict(row) for row in batch[:40]])
        assert singles.tobytes() == wanted[:40].tobytes()


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e39])
def test_row_that_is_too_large_is_refused_as_scikit_learn_does(value: float) -> None:
    forest = made_forest(1)
    row = np.zeros(len(FEATURE_NAMES))
    row[3] = value
    with pytest.raises(ValueError, match=r"infin"), np.errstate(over="ignore"):
        forest.predict_proba(row[None, :])
    with pytest.raises(ValueError, match="infinite"):
        Predictor(forest_arrays(forest)).predict(row)


def test_loading_and_predicting_need_no_training_stack(tmp_path: Path) -> None:
    path = save_bundle(tmp_path, forest_arrays(made_forest(2)), CARD, TRAINED_AT)
    code = (
        "import sys, numpy as np; from pathlib import Path; import app.strategies.forest; import ml.indicators\n"
        "from ml.bundle import load_bundle; from ml.predictor import Predictor\n"
        f"bundle = load_bundle(Path({str(path)!r})); Predictor(bundle.forest).predict(np.zeros({len(FEATURE_NAMES)}))\n"
        "assert not {'sklearn', 'pandas', 'joblib', 'scipy', 'polars'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])


def test_bundle_saved_and_loaded_predicts_the_same_bits_and_names_itself(tmp_path: Path) -> None:
    forest = forest_arrays(made_forest(3))
    path = save_bundle(tmp_path, forest, CARD, TRAINED_AT)
    bundle = load_bundle(path)
    rows = np.random.default_rng(0).standard_normal((100, len(FEATURE_NAMES)))
    assert Predictor(bundle.forest).predict_batch(rows).tobytes() == Predictor(forest).predict_batch(rows).tobytes()
    assert bundle.model_id == path.name
    assert bundle.model_id.startswith("forest-simulated-1m-20260105T123015Z-")
    assert bundle.trained_at == TRAINED_AT
    assert bundle.card["features"] == list(FEATURE_NAMES)


def test_bundle_of_the_same_rows_is_the_same_bytes(tmp_path: Path) -> None:
    paths = [save_bundle(tmp_path / name, forest_arrays(made_forest(4)), CARD, TRAINED_AT) for name in ("a", "b")]
    assert paths[0].name == paths[1].name
    assert (paths[0] / ARRAYS_NAME).read_bytes() == (paths[1] / ARRAYS_NAME).read_bytes()


def rewrite(path: Path, change: Callable[[dict[str, np.ndarray[Any, Any]], dict[str, Any]], None]) -> None:
    """Change a bundle and make its card vouch for the change, as a forger would."""
    card = json.loads((path / CARD_NAME).read_text())
    with np.load(path / ARRAYS_NAME) as stored:
        arrays = {name: stored[name].copy() for name in stored.files}
    change(arrays, card)
    buffer = BytesIO()
    np.savez(buffer, **arrays)
    (path / ARRAYS_NAME).write_bytes(buffer.getvalue())
    calibration = json.dumps(card["calibration"], sort_keys=True).encode()
    card["sha256"] = hashlib.sha256(buffer.getvalue() + calibration).hexdigest()
    (path / CARD_NAME).write_text(json.dumps(card))


def set_value(name: str, value: object) -> Callable[[dict[str, np.ndarray[Any, Any]], dict[str, Any]], None]:
    def change(arrays: dict[str, np.ndarray[Any, Any]], _card: dict[str, Any]) -> None:
        arrays[name].reshape(-1)[0] = value

    return change


FORGERIES: dict[str, Callable[[dict[str, np.ndarray[Any, Any]], dict[str, Any]], None]] = {
    "root out of range": set_value("roots", 10**6),
    "negative root": set_value("roots", -1),
    "child out of range": set_value("children", 10**6),
    "negative child": set_value("children", -5),
    "column out of range": set_value("feature", len(FEATURE_NAMES)),
    "nan threshold": set_value("threshold", np.nan),
    "odd missing_right": set_value("missing_right", 2),
    "nan probability": set_value("probabilities", np.nan),
    "root of shares that are no whole": set_value("probabilities", 0.9),
    "wrong type": lambda arrays, _: arrays.update(threshold=arrays["threshold"].astype(np.float32)),
    "wrong shape": lambda arrays, _: arrays.update(feature=arrays["feature"][:-1]),
    "array missing": lambda arrays, _: arrays.clear(),
    "objects": lambda arrays, _: arrays.update(roots=np.array([print], dtype=object)),
    "depth too small": lambda _, card: card.update(depth=0),
    "depth endless": lambda _, card: card.update(depth=10**9),
    "depth no number": lambda _, card: card.update(depth="3"),
    "calibration of no method": lambda _, card: card.update(calibration={"method": "other"}),
    "calibration without end": lambda _, card: card["calibration"].update(beta=1e9),
    "calibration no number": lambda _, card: card["calibration"].update(beta="1"),
    "calibration nan": lambda _, card: card["calibration"].update(direction=float("nan")),
    "calibration of more numbers": lambda _, card: card["calibration"].update(gamma=1.0),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_bundle_that_was_forged_is_refused_as_invalid(tmp_path: Path, forgery: str) -> None:
    path = save_bundle(tmp_path, forest_arrays(made_forest(5)), CARD, TRAINED_AT)
    rewrite(path, FORGERIES[forgery])
    with pytest.raises(BundleError) as refused:
        load_bundle(path)
    assert refused.value.reason_code == "invalid"


def flip_bit(path: Path) -> None:
    content = bytearray((path / ARRAYS_NAME).read_bytes())
    content[len(content) // 2] ^= 1
    (path / ARRAYS_NAME).write_bytes(content)


def edit_card(path: Path, **changes: object) -> None:
    card = json.loads((path / CARD_NAME).read_text())
    (path / CARD_NAME).write_text(json.dumps(card | changes))


def put_pickle(path: Path) -> None:
    (path / ARRAYS_NAME).write_bytes(pickle.dumps([1, 2]))


DAMAGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "bit flipped": ("altered", flip_bit),
    "cut short": ("altered", lambda path: (path / ARRAYS_NAME).write_bytes((path / ARRAYS_NAME).read_bytes()[:-100])),
    "empty": ("altered", lambda path: (path / ARRAYS_NAME).write_bytes(b"")),
    "pickle": ("altered", put_pickle),
    "no arrays": ("missing", lambda path: (path / ARRAYS_NAME).unlink()),
    "no card": ("missing", lambda path: (path / CARD_NAME).unlink()),
    "card no JSON": ("invalid", lambda path: (path / CARD_NAME).write_text("{")),
    "card nested": ("invalid", lambda path: (path / CARD_NAME).write_text("[" * 100_000)),
    "card a list": ("mismatched", lambda path: (path / CARD_NAME).write_text("[]")),
    "card of a later version": ("mismatched", lambda path: edit_card(path, card_version=99)),
    "other features": ("mismatched", lambda path: edit_card(path, features_hash="0" * 64)),
    "other classes": ("mismatched", lambda path: edit_card(path, classes=["BUY", "HOLD", "SELL"])),
    "another's card": ("altered", lambda path: edit_card(path, model_id="forest-other")),
    "time without a zone": ("invalid", lambda path: edit_card(path, trained_at="2026-01-01T00:00:00")),
    "other temperature": ("altered", lambda path: edit_card(path, calibration={"method": "temperature", "beta": 9.0})),
    "no calibration": ("invalid", lambda path: edit_card(path, calibration=None)),
    "calibration emptied": ("altered", lambda path: edit_card(path, calibration={})),
    "no drift": ("invalid", lambda path: edit_card(path, drift=None)),
    "no side cost": ("invalid", lambda path: edit_card(path, side_cost=None)),
    "no class returns": ("invalid", lambda path: edit_card(path, class_returns=[])),
    "card of the last version": ("mismatched", lambda path: edit_card(path, card_version=1)),
    "no metrics": ("invalid", lambda path: edit_card(path, metrics=None)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_bundle_that_is_damaged_is_refused_with_its_reason(tmp_path: Path, damage: str) -> None:
    reason_code, harm = DAMAGES[damage]
    path = save_bundle(tmp_path, forest_arrays(made_forest(6)), CARD, TRAINED_AT)
    harm(path)
    with pytest.raises(BundleError) as refused:
        load_bundle(path)
    assert refused.value.reason_code == reason_code


def test_newest_fitting_bundle_is_found_and_broken_ones_are_reported(tmp_path: Path) -> None:
    forest = forest_arrays(made_forest(7))
    old = save_bundle(tmp_path, forest, CARD, TRAINED_AT)
    new = save_bundle(tmp_path, forest, CARD, TRAINED_AT.replace(hour=13))
    broken = save_bundle(tmp_path, forest, CARD, TRAINED_AT.replace(hour=14))
    foreign = save_bundle(tmp_path, forest, CARD | {"source": "binance"}, TRAINED_AT.replace(hour=15))
    flip_bit(broken)
    (tmp_path / ".writing-left-behind").mkdir()
    rejected: list[tuple[Path, str]] = []

    def find() -> Path | None:
        found = find_newest(
            tmp_path,
            lambda card: bool(card["source"] == "simulated"),
            lambda path, error: rejected.append((path, error.reason_code)),
        )
        return found.path if found else None

    assert find() == new
    assert rejected == [(broken, "altered")]
    kept = set_aside(broken, TRAINED_AT)
    assert kept.name.startswith(f"{broken.name}.bad-2026")
    assert find() == new
    assert len(rejected) == 1
    assert foreign.exists()
    assert old.exists()


def test_calibration_saved_and_loaded_is_the_same(tmp_path: Path) -> None:
    fitted = Calibration(
        "sigmoid", slopes=(-0.1, 1 / 3, 2.0), intercepts=(1e-9, -7.7, 0.2), direction=0.3, buy_share=0.6
    )
    path = save_bundle(tmp_path, forest_arrays(made_forest(3)), CARD | {"calibration": fitted.as_card()}, TRAINED_AT)
    assert load_bundle(path).calibration == fitted


def test_bundle_of_another_calibration_has_another_name(tmp_path: Path) -> None:
    forest = forest_arrays(made_forest(3))
    cards = [CARD | {"calibration": Calibration(beta=beta).as_card()} for beta in (0.5, 0.6)]
    assert len({save_bundle(tmp_path, forest, card, TRAINED_AT) for card in cards}) == 2


REQUEST: dict[str, Any] = {
    "source": "simulated",
    "interval": "1m",
    "symbols": ["BTCUSDT"],
    "label_rule": {"horizon_bars": 5, "threshold_percent": 0.1},
    "forest": {"trees": 1},
}


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        ({}, True),
        ({"forest": {}}, False),
        ({"label_rule": {"horizon_bars": 5, "threshold_percent": 0.1, "kind": "volatility"}}, False),
        ({"label_rule": {"horizon_bars": 6, "threshold_percent": 0.1}}, False),
        ({"source": "binance"}, False),
        ({"interval": "5m"}, False),
        ({"symbols": ["BTCUSDT", "ETHUSDT"]}, False),
        ({"forest": {"trees": 2}}, False),
        ({"forest": {"depth": 5}}, False),
    ],
    ids=str,
)
def test_model_fits_a_request_for_the_same_market_and_rules_only(changes: dict[str, Any], fits: bool) -> None:
    card = CARD | {name: REQUEST[name] for name in ("label_rule", "forest")}
    assert fits_request(card, REQUEST | changes) is fits


def test_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_bundle(tmp_path, forest_arrays(made_forest(8)), CARD, TRAINED_AT)
    with zipfile.ZipFile(path / ARRAYS_NAME) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    packed = (path / ARRAYS_NAME).stat().st_size
    assert packed < unpacked
    monkeypatch.setattr("ml.bundle._MAXIMUM_ARRAYS_BYTES", (packed + unpacked) // 2)
    with pytest.raises(BundleError, match="larger"):
        load_bundle(path)


def test_forest_arrays_of_a_stump_keep_their_leaves_in_place() -> None:
    arrays = forest_arrays(made_forest(9))
    leaf = (arrays.children == np.arange(len(arrays.feature))[:, None]).all(axis=1)
    assert isinstance(arrays, ForestArrays)
    assert np.allclose(arrays.probabilities[leaf].sum(axis=1), 1.0)
    assert (arrays.children >= np.arange(len(arrays.feature))[:, None]).all()
