"""Judging a model: the numbers of tables small enough for a hand, and the edges of the verdict."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, log_loss, matthews_corrcoef

from ml.bars import FloatArray
from ml.evaluation import BASELINES, LEAST_BLOCKS, Judged, evaluate, find_edge, gate_signals, log_losses
from ml.labels import BUY, HOLD, SELL

SURE = {SELL: (0.8, 0.1, 0.1), HOLD: (0.1, 0.8, 0.1), BUY: (0.1, 0.1, 0.8)}


def make_judged(said: list[tuple[float, float, float]] | FloatArray, labels: list[int], **changes: Any) -> Judged:
    """Judged rows of one series that earn and cost nothing, beside a prior of a third each."""
    count = len(labels)
    arrays: dict[str, Any] = {
        "probabilities": np.array(said, dtype=np.float64),
        "priors": np.full((count, 3), 1 / 3),
        "labels": np.array(labels, dtype=np.int8),
        "last_labels": np.full(count, HOLD, dtype=np.int8),
        "series": np.zeros(count, dtype=np.int64),
        "next_returns": np.zeros(count),
        "side_costs": np.zeros(count),
        "overlap_rows": 1,
    }
    return Judged(**arrays | changes)


def random_judged(count: int, seed: int, skill: float = 0.0, **changes: Any) -> Judged:
    random = np.random.default_rng(seed)
    labels = random.choice(3, count, p=[0.3, 0.4, 0.3])
    noise = random.dirichlet([8.0, 10.0, 8.0], count)
    said = (1 - skill) * noise + skill * np.eye(3)[labels]
    return make_judged(said, labels.tolist(), priors=np.tile([0.3, 0.4, 0.3], (count, 1)), **changes)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=60))
@pytest.mark.filterwarnings("ignore:A single label was found")
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_matthews_and_balanced_accuracy_are_those_of_scikit_learn(rows: list[tuple[int, int]]) -> None:
    labels, said = [label for label, _ in rows], [loudest for _, loudest in rows]
    line = evaluate(make_judged([SURE[loudest] for loudest in said], labels), 0.45)["competitors"]["model"]
    assert line["mcc"]["value"] == pytest.approx(matthews_corrcoef(labels, said), abs=1e-12)
    assert line["balanced_accuracy"]["value"] == pytest.approx(balanced_accuracy_score(labels, said), abs=1e-12)
    assert line["accuracy"]["value"] == pytest.approx(np.mean(np.array(labels) == said), abs=1e-12)


def test_log_loss_and_brier_score_are_those_of_scikit_learn() -> None:
    judged = random_judged(300, 1)
    line = evaluate(judged, 0.45)["competitors"]["model"]
    classes = [0, 1, 2]
    assert line["log_loss"]["value"] == pytest.approx(log_loss(judged.labels, judged.probabilities, labels=classes))
    wanted = brier_score_loss(judged.labels, judged.probabilities, labels=classes, scale_by_half=False)
    assert line["brier"]["value"] == pytest.approx(wanted)


def test_numbers_of_a_tiny_table_are_what_a_hand_computes() -> None:
    said = [(0.5, 0.25, 0.25), (0.25, 0.5, 0.25), (0.1, 0.4, 0.5), (0.5, 0.3, 0.2)]
    labels = [SELL, HOLD, SELL, SELL]
    metrics = evaluate(make_judged(said, labels), 0.45)
    model = metrics["competitors"]["model"]
    assert metrics["rows"] == 4
    assert metrics["class_counts"] == {"SELL": 3, "HOLD": 1, "BUY": 0}
    assert metrics["confusion"] == [[2, 0, 1], [0, 1, 0], [0, 0, 0]]
    loss = (3 * math.log(2) + math.log(10)) / 4
    assert model["log_loss"]["value"] == pytest.approx(loss)
    # 0.375 and 0.375 of the first two, 0.81 + 0.16 + 0.25 and 0.25 + 0.09 + 0.04 of the others.
    assert model["brier"]["value"] == pytest.approx((0.375 + 0.375 + 1.22 + 0.38) / 4)
    assert model["accuracy"]["value"] == 0.75
    assert model["balanced_accuracy"]["value"] == pytest.approx((2 / 3 + 1) / 2)
    assert metrics["skill"]["value"] == pytest.approx(1 - loss / math.log(3))
    # BUY against SELL: 2 to 1, 1 to 5 and 5 to 2 for SELL on the three rows that moved; the prior says 1 to 1.
    direction = -(math.log(2 / 3) + math.log(1 / 6) + math.log(5 / 7)) / (3 * math.log(2))
    assert metrics["direction_skill"]["value"] == pytest.approx(1 - direction)
    gates = {gate["confidence"]: gate for gate in metrics["gate"]}
    assert list(gates) == [0.35, 0.40, 0.45, 0.50, 0.60]
    assert gates[0.45]["coverage"]["value"] == 0.75
    assert gates[0.45]["stated"] == 0.5
    assert gates[0.45]["hit_rate"]["value"] == pytest.approx(2 / 3)
    assert gates[0.60] == {
        "confidence": 0.6,
        "coverage": {"value": 0.0, "low": 0.0, "high": 0.0},
        "stated": None,
        "hit_rate": {"value": None, "low": None, "high": None},
    }
    assert metrics["edge"] == "none"


def test_money_of_a_tiny_table_is_what_a_hand_computes() -> None:
    said = [SURE[BUY], (0.4, 0.3, 0.3), SURE[SELL], SURE[HOLD]]
    judged = make_judged(
        said,
        [BUY, BUY, BUY, BUY],
        last_labels=np.array([HOLD, BUY, HOLD, SELL], dtype=np.int8),
        next_returns=np.array([0.02, 0.01, 0.04, -0.03]),
        side_costs=np.full(4, 0.001),
    )
    lines = evaluate(judged, 0.45)["competitors"]
    assert set(lines) == {"model", *BASELINES}
    # In at the first row, kept where the gate lets nothing pass, out at the third.
    assert lines["model"]["net_return"] == pytest.approx(0.02 - 0.001 + 0.01 - 0.001)
    assert lines["model"]["net_return_bps"]["value"] == pytest.approx(10_000 * 0.028 / 4)
    assert lines["model"]["turnover"]["value"] == 0.5
    assert lines["model"]["exposure"] == 0.5
    assert lines["buy_and_hold"]["net_return"] == pytest.approx(0.04 - 0.001)
    assert lines["last_label"]["net_return"] == pytest.approx(0.05 - 0.002)
    assert lines["always_hold"]["net_return"] == 0.0
    assert lines["class_prior"]["net_return"] == 0.0
    assert lines["buy_and_hold"]["accuracy"]["value"] == 1.0
    assert lines["always_hold"]["log_loss"] == {"value": None, "low": None, "high": None}


def test_rows_of_two_series_that_lie_among_each_other_hold_positions_of_their_own() -> None:
    said = [SURE[BUY], SURE[HOLD], SURE[HOLD], SURE[BUY], SURE[SELL], SURE[HOLD]]
    judged = make_judged(
        said,
        [HOLD] * 6,
        series=np.array([0, 1, 0, 1, 0, 1]),
        next_returns=np.array([0.01, 0.5, 0.02, 0.03, 0.5, 0.04]),
        side_costs=np.full(6, 0.001),
    )
    model = evaluate(judged, 0.45)["competitors"]["model"]
    assert model["net_return"] == pytest.approx(0.01 + 0.02 + 0.03 + 0.04 - 3 * 0.001)
    assert model["turnover"]["value"] == 0.5


def test_random_rule_trades_as_often_as_the_model_in_every_series() -> None:
    count = 6_000
    signals = np.resize([BUY] * 10 + [SELL] * 10, count // 2)
    said = np.repeat(np.array([SURE[int(signal)] for signal in signals]), 2, axis=0)
    # The second series is the first one's opposite: next to each other they seem to trade all the time.
    said[1::2] = said[1::2][:, ::-1]
    judged = make_judged(said, [HOLD] * count, series=np.tile([0, 1], count // 2))
    lines = evaluate(judged, 0.45)["competitors"]
    assert lines["model"]["turnover"]["value"] == pytest.approx(0.1, abs=0.01)
    assert lines["random"]["turnover"]["value"] == pytest.approx(0.1, abs=0.01)


def test_calibration_of_confidence_that_is_too_high_is_off_by_as_much() -> None:
    random = np.random.default_rng(2)
    right = random.random(4_000) < 0.6
    judged = make_judged([SURE[BUY]] * 4_000, np.where(right, BUY, SELL).tolist())
    found = evaluate(judged, 0.45)["calibration"]
    assert found["error"]["value"] == pytest.approx(0.8 - right.mean())
    assert [line["rows"] for line in found["bins"]] == [4_000]
    assert found["bins"][0]["stated"] == pytest.approx(0.8)
    assert found["bins"][0]["came_true"]["value"] == pytest.approx(right.mean())


def test_bins_of_confidence_hold_all_rows_in_equal_parts() -> None:
    found = evaluate(random_judged(1_000, 3), 0.45)["calibration"]["bins"]
    assert [line["rows"] for line in found] == [100] * 10
    assert [line["stated"] for line in found] == sorted(line["stated"] for line in found)


def verdict(**changes: float) -> dict[str, Any]:
    return {
        "p_log_loss": 0.01,
        "p_direction": 0.01,
        "p_net_return": 0.01,
        "candidates": 1,
        "significance": 0.05,
        "blocks": LEAST_BLOCKS,
    } | changes


@pytest.mark.parametrize(
    ("changes", "edge"),
    [
        ({}, "tradable"),
        ({"p_net_return": 0.05}, "statistical"),
        ({"p_net_return": 0.0499}, "tradable"),
        ({"p_log_loss": 0.05}, "none"),
        ({"p_log_loss": 0.0499}, "tradable"),
        ({"p_direction": 0.05}, "none"),
        ({"p_direction": 0.05, "p_net_return": 0.0}, "none"),
        ({"blocks": LEAST_BLOCKS - 1}, "none"),
        ({"significance": 0.05 / 30, "candidates": 30}, "none"),
        ({"significance": 0.05 / 4, "p_net_return": 0.0126}, "statistical"),
    ],
    ids=str,
)
def test_edge_is_claimed_only_below_the_significance_of_each_part(changes: dict[str, float], edge: str) -> None:
    assert find_edge(verdict(**changes)) == edge


def test_significance_is_shared_among_the_candidates() -> None:
    found = evaluate(random_judged(400, 4), 0.45, candidates=30)["verdict"]
    assert found["candidates"] == 30
    assert found["significance"] == pytest.approx(0.05 / 30)
    assert found["blocks"] == 40


def test_skill_that_is_true_is_found_and_none_is_not_claimed() -> None:
    assert evaluate(random_judged(2_000, 5, skill=0.2), 0.45)["edge"] == "statistical"
    assert evaluate(random_judged(2_000, 5), 0.45)["edge"] == "none"


def trading_every(rows: int) -> dict[str, Any]:
    """Judged on a market that only rises, buying at every so many rows and selling at the next."""
    count = 2_000
    said = np.full((count, 3), 1 / 3)
    said[::rows], said[1::rows] = SURE[BUY], SURE[SELL]
    return evaluate(make_judged(said, [HOLD] * count, next_returns=np.full(count, 0.01)), 0.45)


def test_handful_of_trades_is_no_proof_of_money() -> None:
    few, enough = trading_every(80), trading_every(60)
    assert few["net_return_bps"]["low"] > 0
    assert few["competitors"]["model"]["turnover"]["value"] * 2_000 == pytest.approx(50)
    assert few["verdict"]["p_net_return"] == 1.0
    assert enough["competitors"]["model"]["turnover"]["value"] * 2_000 == pytest.approx(68)
    assert enough["verdict"]["p_net_return"] < 0.05


def test_telling_busy_hours_from_quiet_ones_is_no_edge() -> None:
    random = np.random.default_rng(6)
    busy = np.arange(4_000) // 50 % 2 == 1
    labels = np.where(busy, np.where(random.random(4_000) < 0.5, BUY, SELL), HOLD)
    said = np.where(busy[:, None], (0.45, 0.1, 0.45), (0.1, 0.8, 0.1))
    found = evaluate(make_judged(said, labels.tolist()), 0.5)
    assert found["skill"]["low"] > 0.4
    assert found["direction_skill"]["value"] == pytest.approx(0.0, abs=1e-9)
    assert found["edge"] == "none"


def test_gate_lets_pass_what_reaches_it_exactly() -> None:
    said = np.array([[0.2, 0.35, 0.45], [0.2, 0.3501, 0.4499], [0.45, 0.3, 0.25], [0.1, 0.8, 0.1]])
    assert gate_signals(said, 0.45).tolist() == [BUY, HOLD, SELL, HOLD]


def test_certainty_that_was_wrong_costs_a_bounded_loss() -> None:
    said = np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    assert log_losses(said, np.array([BUY, SELL], dtype=np.int8)) == pytest.approx([-math.log(1e-6), 0.0])


def test_metrics_are_ready_for_json() -> None:
    metrics = evaluate(random_judged(50, 7), 0.45)
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
