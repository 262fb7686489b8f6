"""Calibrations: those of scikit-learn, the same bits for one row and many, and nothing wrong let in."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator

from ml.calibration import METHODS, Calibration
from ml.forest import ForestRule, Rows, fit_calibrated, fit_calibration, fit_forest, forest_arrays
from ml.labels import BUY, HOLD, SELL
from ml.predictor import Predictor
from tests.support.models import N_FEATURES, stump


def make_rows(count: int, seed: int, signal: float = 1.0, weight: float = 1.0) -> Rows:
    """Rows whose label the first features tell, as strongly as `signal` says, decided one a minute."""
    random = np.random.default_rng(seed)
    features = random.standard_normal((count, N_FEATURES))
    labels = np.digitize(signal * (features[:, 0] + features[:, 1]) + random.standard_normal(count), [-0.6, 0.6])
    times = np.arange(count, dtype=np.int64)
    return Rows(features, labels.astype(np.int8), np.full(count, weight), times, times)


def make_forest(seed: int, depth: int = 5, count: int = 600) -> RandomForestClassifier:
    rows = make_rows(count, seed)
    return fit_forest(rows.features, rows.labels, ForestRule(trees=20, depth=depth, sample_fraction=0.5, seed=seed))


def calibrate_with_scikit_learn(forest: RandomForestClassifier, rows: Rows, method: str) -> CalibratedClassifierCV:
    forest.n_jobs = 1  # with threads the trees are added up in whatever order they end
    return CalibratedClassifierCV(FrozenEstimator(forest), method=method).fit(rows.features, rows.labels)


def numbers_of(calibrated: CalibratedClassifierCV, method: str) -> Calibration:
    """The calibration that scikit-learn fitted, as one of ours."""
    parts = calibrated.calibrated_classifiers_[0].calibrators
    if method == "temperature":
        return Calibration(beta=float(parts[0].beta_))
    if method == "sigmoid":
        slopes, intercepts = (tuple(float(getattr(part, name)) for part in parts) for name in ("a_", "b_"))
        return Calibration("sigmoid", slopes=slopes, intercepts=intercepts)
    knots = tuple((tuple(part.X_thresholds_.tolist()), tuple(part.y_thresholds_.tolist())) for part in parts)
    return Calibration("isotonic", knots=knots)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), depth=st.integers(1, 9))
def test_calibrated_probabilities_are_those_of_scikit_learn(method: str, seed: int, depth: int) -> None:
    forest = make_forest(seed, depth)
    calibrated = calibrate_with_scikit_learn(forest, make_rows(300, seed + 1), method)
    new = make_rows(200, seed + 2).features
    found = Predictor(forest_arrays(forest), numbers_of(calibrated, method)).predict_batch(new)
    np.testing.assert_allclose(found, calibrated.predict_proba(new), rtol=0, atol=1e-12)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), signal=st.sampled_from([0.0, 0.3, 2.0]))
def test_fitted_temperature_is_that_of_scikit_learn(seed: int, signal: float) -> None:
    forest, rows = make_forest(seed), make_rows(400, seed + 1, signal)
    found = fit_calibration(forest, rows, ForestRule(), 0.5)
    wanted = numbers_of(calibrate_with_scikit_learn(forest, rows, "temperature"), "temperature")
    # Where nothing can be learnt the loss is flat towards no confidence at all, and its end is a matter of rounding.
    if wanted.beta > 0.01:
        assert found.beta == pytest.approx(wanted.beta, rel=1e-6)
    else:
        assert found.beta < 0.01


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_fitted_numbers_are_those_of_scikit_learn(method: str) -> None:
    forest, rows = make_forest(3), make_rows(6_000, 4)
    found = fit_calibration(forest, rows, ForestRule(calibration=method), 0.5)
    wanted = numbers_of(calibrate_with_scikit_learn(forest, rows, method), method)
    assert found.method == method
    assert (found.slopes, found.intercepts, found.knots) == (wanted.slopes, wanted.intercepts, wanted.knots)


def calibrations() -> st.SearchStrategy[Calibration]:
    shares = st.floats(0.0, 1.0)
    rising = st.lists(shares, min_size=1, max_size=6, unique=True).map(sorted)
    pairs = st.tuples(rising, rising).map(
        lambda pair: tuple(tuple(side[: min(map(len, pair))]) for side in pair)  # both equally long
    )
    three = st.tuples(*[st.floats(-900.0, 900.0)] * 3)
    common = {"direction": st.one_of(st.just(1.0), shares), "buy_share": st.floats(0.01, 0.99)}
    return st.one_of(
        st.builds(Calibration, st.just("temperature"), beta=st.floats(0.001, 50.0), **common),
        st.builds(Calibration, st.just("sigmoid"), slopes=three, intercepts=three, **common),
        st.builds(Calibration, st.just("isotonic"), knots=st.tuples(pairs, pairs, pairs), **common),
    )


@settings(max_examples=60, deadline=None)
@given(calibration=calibrations(), seed=st.integers(0, 1_000))
def test_one_row_and_many_have_the_same_bits_and_are_probabilities(calibration: Calibration, seed: int) -> None:
    predictor = Predictor(forest_arrays(FOREST), calibration)
    rows = np.random.default_rng(seed).standard_normal((40, N_FEATURES))
    rows[0, 3] = np.nan
    batch = predictor.predict_batch(rows)
    assert np.stack([predictor.predict(row) for row in rows]).tobytes() == batch.tobytes()
    assert (batch >= 0).all()
    np.testing.assert_allclose(batch.sum(axis=1), 1.0, rtol=1e-12)


FOREST = make_forest(8)


@settings(max_examples=60, deadline=None)
@given(calibration=calibrations())
def test_card_of_a_calibration_reads_back_the_same(calibration: Calibration) -> None:
    card = json.loads(json.dumps(calibration.as_card(), allow_nan=False))
    again = Calibration.from_card(card)
    assert again == calibration
    assert again.as_card() == card


def sigmoid(**changes: Any) -> dict[str, Any]:
    return {"method": "sigmoid", "slopes": [-1.0, -1.0, -1.0], "intercepts": [0.0, 0.0, 0.0]} | changes


def isotonic(stated: object, meant: object) -> dict[str, Any]:
    return {"method": "isotonic", "knots": [[[0.0, 1.0], [0.0, 1.0]], [[0.0], [0.5]], [stated, meant]]}


WRONG: dict[str, dict[str, Any]] = {
    "no method": {"beta": 1.0},
    "unknown method": {"method": "other"},
    "method no text": {"method": 3},
    "unknown number": {"method": "temperature", "gamma": 1.0},
    **{f"beta {beta}": {"method": "temperature", "beta": beta} for beta in (0.0, -1.0, np.nan, np.inf, 1e5, 10**400)},
    "beta a text": {"method": "temperature", "beta": "1.0"},
    "beta a truth": {"method": "temperature", "beta": True},
    "beta a list": {"method": "temperature", "beta": [1.0]},
    **{f"direction {value}": {"method": "temperature", "direction": value} for value in (-0.1, 1.1, np.nan)},
    **{f"buy_share {value}": {"method": "temperature", "buy_share": value} for value in (0.0, 1.0, -1.0, np.nan)},
    "two slopes": sigmoid(slopes=[-1.0, -1.0]),
    "four intercepts": sigmoid(intercepts=[0.0] * 4),
    "nan slope": sigmoid(slopes=[-1.0, np.nan, -1.0]),
    "infinite intercept": sigmoid(intercepts=[0.0, 0.0, np.inf]),
    "slope beyond all": sigmoid(slopes=[-1.0, -1e300, -1.0]),
    "slopes no list": sigmoid(slopes=5),
    "no knots": {"method": "isotonic"},
    "two classes of knots": {"method": "isotonic", "knots": [[[0.0], [0.5]]] * 2},
    "falling stated": isotonic([0.5, 0.4], [0.1, 0.2]),
    "falling meant": isotonic([0.4, 0.5], [0.2, 0.1]),
    "above one": isotonic([0.4, 0.5], [0.2, 1.1]),
    "below zero": isotonic([-0.4, 0.5], [0.2, 0.3]),
    "nan knot": isotonic([0.4, np.nan], [0.2, 0.3]),
    "unequal sides": isotonic([0.4, 0.5], [0.2]),
    "empty knots": isotonic([], []),
    "knots no numbers": isotonic(["a"], ["b"]),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_card_with_a_wrong_number_is_refused(wrong: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        Calibration.from_card(WRONG[wrong])


def test_sigmoid_with_numbers_beyond_the_exponential_gives_probabilities() -> None:
    calibration = Calibration("sigmoid", slopes=(-1e90, 1e90, 0.0), intercepts=(0.0, 0.0, 1e4))
    found = calibration.apply(np.array([[0.2, 0.3, 0.5]]))
    assert found.round(12).tolist() == [[1.0, 0.0, 0.0]]


def test_temperature_softens_and_sharpens_to_exact_values() -> None:
    said = np.array([[0.64, 0.32, 0.04]])
    assert Calibration(beta=1.0).apply(said)[0] == pytest.approx([0.64, 0.32, 0.04])
    # The roots are 0.8, 0.565685 and 0.2; the squares 0.4096, 0.1024 and 0.0016.
    assert Calibration(beta=0.5).apply(said)[0] == pytest.approx(np.array([0.8, 0.32**0.5, 0.2]) / (1 + 0.32**0.5))
    assert Calibration(beta=2.0).apply(said)[0] == pytest.approx(np.array([0.4096, 0.1024, 0.0016]) / 0.5136)


def test_direction_moves_buy_against_sell_and_leaves_hold() -> None:
    said = np.array([[0.1, 0.5, 0.4]])
    assert Calibration(direction=0.0, buy_share=0.6).apply(said)[0] == pytest.approx([0.2, 0.5, 0.3])
    # Half of log(4) is log(2): two thirds of what moves.
    assert Calibration(direction=0.5, buy_share=0.5).apply(said)[0] == pytest.approx([0.5 / 3, 0.5, 1.0 / 3])
    assert Calibration(direction=1.0, buy_share=0.9).apply(said)[0] == pytest.approx([0.1, 0.5, 0.4])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("independent", [2.0, 10.0, 19.0])
def test_few_labels_cannot_make_the_forest_sure(method: str, independent: float) -> None:
    # Every label is what the forest said loudest: the best fit would be all confidence there is.
    count = 60
    rows = make_rows(count, 5, weight=independent / count)
    forest = make_forest(5)
    said = Predictor(forest_arrays(forest)).predict_batch(rows.features)
    lucky = Rows(rows.features, said.argmax(axis=1).astype(np.int8), rows.weights, rows.decided_at, rows.settled_at)
    found = fit_calibration(forest, lucky, ForestRule(calibration=method), 0.5)
    assert found.method == "temperature"
    assert found.beta == pytest.approx(independent / 20)
    assert found.direction == 0.0
    assert (found.apply(said).max(axis=1) <= said.max(axis=1) + 1e-12).all()


def test_labels_below_fifty_cannot_sharpen_and_more_can() -> None:
    rows, forest = make_rows(60, 5, weight=0.7), make_forest(5)
    said = Predictor(forest_arrays(forest)).predict_batch(rows.features)
    lucky = Rows(rows.features, said.argmax(axis=1).astype(np.int8), rows.weights, rows.decided_at, rows.settled_at)
    assert fit_calibration(forest, lucky, ForestRule(), 0.5).beta == 1.0
    heavier = Rows(lucky.features, lucky.labels, np.ones(60), lucky.decided_at, lucky.settled_at)
    assert fit_calibration(forest, heavier, ForestRule(), 0.5).beta > 10.0


def test_no_labels_leave_nothing_to_believe() -> None:
    forest = make_forest(5)
    found = fit_calibration(forest, make_rows(0, 5), ForestRule(), 0.4)
    said = found.apply(np.array([[0.9, 0.05, 0.05]]))[0]
    assert said == pytest.approx([0.4, 1 / 3, 0.8 / 3], abs=1e-4)


def test_direction_that_is_luck_is_not_believed_and_one_that_is_true_is() -> None:
    rule = ForestRule(trees=30)
    lucky = [fit_calibrated(make_rows(1_500, seed, signal=0.0), rule)[1].direction for seed in range(10)]
    assert np.median(lucky) < 0.05
    assert fit_calibrated(make_rows(1_500, 0, signal=1.0), rule)[1].direction > 0.8


def test_class_that_the_forest_never_met_is_left_out_of_its_calibration() -> None:
    rows = make_rows(800, 6)
    without = rows.take(np.flatnonzero(rows.labels != SELL))
    forest = fit_forest(without.features, without.labels, ForestRule(trees=10))
    found = fit_calibration(forest, rows, ForestRule(calibration="sigmoid"), 0.5)
    assert found.method == "temperature"
    assert set(without.labels.tolist()) == {HOLD, BUY}
    assert Predictor(forest_arrays(forest), found).predict_batch(rows.features).max() <= 1.0


@pytest.mark.parametrize("method", METHODS)
def test_compiled_walk_of_very_many_rows_has_the_bits_of_the_plain_one(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml.predictor._COMPILED_ROWS", 6_000)
    forest = make_forest(9, depth=8)
    fitted = numbers_of(calibrate_with_scikit_learn(forest, make_rows(400, 10), method), method)
    predictor = Predictor(forest_arrays(forest), fitted)
    rows = np.random.default_rng(11).standard_normal((9_000, N_FEATURES))
    whole = predictor.predict_batch(rows)
    parts = np.concatenate([predictor.predict_batch(rows[start : start + 2_000]) for start in range(0, 9_000, 2_000)])
    assert whole.tobytes() == parts.tobytes()
    holes = rows.copy()
    holes[4_000, 2] = np.nan
    again = predictor.predict_batch(holes)
    assert np.delete(again, 4_000, axis=0).tobytes() == np.delete(whole, 4_000, axis=0).tobytes()


def test_calibration_of_a_stump_is_what_a_hand_computes() -> None:
    # The stump states 3 to 1 on both sides and is right 9 times in 10: its odds must be squared, beta = 2.
    predictor = Predictor(stump((0.75, 0.0, 0.25), (0.25, 0.0, 0.75)), Calibration(beta=2.0))
    row = np.full(N_FEATURES, -1.0)
    assert predictor.predict(row) == pytest.approx([0.9, 0.0, 0.1], abs=1e-9)
    assert predictor.predict(-row) == pytest.approx([0.1, 0.0, 0.9], abs=1e-9)
