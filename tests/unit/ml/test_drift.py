"""The drift index: exact values, and what a reference keeps."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.bars import FloatArray
from ml.drift import LEAST_INDEX, LIMIT, WINDOW_ROWS, _caution, compute_stability_index, make_reference, measure_drift
from ml.features import FEATURE_NAMES

N_FEATURES = len(FEATURE_NAMES)
EVEN = np.full(10, 0.1)


def make_rows(count: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """Independent normal features, and probabilities."""
    random = np.random.default_rng(seed)
    return random.standard_normal((count, N_FEATURES)), random.dirichlet([3.0, 4.0, 3.0], count)


def test_index_of_the_expected_shares_is_nothing() -> None:
    assert compute_stability_index(np.full(10, 50), EVEN) == 0.0


def test_index_is_what_a_hand_computes() -> None:
    # Of 100 rows in two bins 75 and 25 instead of 50 and 50, half a row more in each.
    share, base = 75.5 / 101, 50.5 / 101
    wanted = (share - base) * math.log(share / base) + (base - share) * math.log((1 - share) / base)
    assert compute_stability_index(np.array([75, 25]), np.array([0.5, 0.5])) == pytest.approx(wanted)
    assert wanted == pytest.approx(0.2687, abs=1e-4)


def test_index_of_an_empty_bin_is_finite() -> None:
    assert 1.0 < compute_stability_index(np.array([500, 0]), np.array([0.5, 0.5])) < 10.0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 200), min_size=10, max_size=10))
def test_index_is_never_below_nothing(counts: list[int]) -> None:
    assert compute_stability_index(np.array(counts), EVEN) >= 0.0


def test_index_of_a_shift_by_one_deviation_is_about_one() -> None:
    normal = np.random.default_rng(1).standard_normal(200_000)
    edges = np.quantile(normal, np.linspace(0, 1, 11)[1:-1])
    counts = np.bincount(np.searchsorted(edges, normal + 1.0, side="right"), minlength=10)
    assert compute_stability_index(counts, EVEN) == pytest.approx(1.0, abs=0.1)


def test_score_of_the_training_rows_themselves_is_far_below_the_limit() -> None:
    features, probabilities = make_rows(5_000, 2)
    reference = make_reference(features, probabilities)
    assert reference["window_rows"] == WINDOW_ROWS
    assert max(measure_drift(reference, features, probabilities).values()) < 1e-9
    for start in range(0, 5_000, WINDOW_ROWS):
        window = slice(start, start + WINDOW_ROWS)
        assert max(measure_drift(reference, features[window], probabilities[window]).values()) <= 1.0


def test_score_names_the_value_that_moved_and_no_other() -> None:
    features, probabilities = make_rows(5_000, 3)
    reference = make_reference(features, probabilities)
    newest, said = make_rows(WINDOW_ROWS, 4)
    newest[:, FEATURE_NAMES.index("rsi_14")] += 1.0
    said[:, 2] /= 2.0
    scores = measure_drift(reference, newest, said)
    assert {name for name, score in scores.items() if score > LIMIT} == {"rsi_14", "p_BUY"}


def test_reference_watches_all_but_the_time_of_day_and_is_ready_for_json() -> None:
    reference = make_reference(*make_rows(1_000, 5))
    assert json.loads(json.dumps(reference, allow_nan=False)) == reference
    assert set(reference["values"]) == {*FEATURE_NAMES, "p_SELL", "p_HOLD", "p_BUY"} - {"time_sin", "time_cos"}
    assert reference["window_rows"] == 250
    for known in reference["values"].values():
        assert len(known["edges"]) == 9
        assert sum(known["expected"]) == pytest.approx(1.0)
        assert known["greatest"] >= LEAST_INDEX


def test_value_that_never_changed_is_quiet_until_it_does() -> None:
    features, probabilities = make_rows(2_000, 6)
    features[:, 0] = 0.0
    reference = make_reference(features, probabilities)
    newest, said = make_rows(500, 7)
    newest[:, 0] = 0.0
    assert measure_drift(reference, newest, said)["return_1"] < 1e-9
    newest[:, 0] = -0.1
    assert measure_drift(reference, newest, said)["return_1"] > LIMIT


def test_caution_falls_with_the_windows_seen() -> None:
    found = [_caution(rows, 500) for rows in (2_000, 5_000, 10_000, 20_000, 100_000)]
    assert found == sorted(found, reverse=True)
    assert found[0] == pytest.approx(6.7, abs=0.1)
    assert found[-1] == pytest.approx(1.0, abs=0.02)
