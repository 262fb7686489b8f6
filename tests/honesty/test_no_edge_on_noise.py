"""On markets that nothing foretells, nothing is claimed, nothing passes the gate, and no money is made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped]

from ml.evaluation import SIGNIFICANCE, Judged, evaluate
from tests.honesty.walks import KINDS, make_walk, train_card

MEASURED: dict[str, dict[str, Any]] = {
    # A third of the moves each.
    "volatility": {},
    # Busy hours are told from quiet ones here: the log-loss alone would claim an edge nearly every time.
    "fixed": {"label_rule": {"horizon_bars": 5, "threshold_percent": 0.12}},
    "triple_barrier": {
        "label_rule": {
            "horizon_bars": 5,
            "threshold_percent": 0.1,
            "kind": "triple_barrier",
            "volatility_multiple": 1.0,
        }
    },
}
MOST_COVERAGE = 0.02


def most_false_alarms(trials: int) -> int:
    """How many claims by luck are still credible, once in a thousand suites, where each has a chance of 5 %."""
    return int(stats.binom.ppf(0.999, trials, SIGNIFICANCE))


def cards_of(folder: Path, kind: str, seeds: range, candles: int, **changes: Any) -> list[dict[str, Any]]:
    return [train_card(folder / str(seed), make_walk(kind, candles, seed), **changes) for seed in seeds]


def coverage(card: dict[str, Any]) -> float:
    gates = {gate["confidence"]: gate for gate in card["metrics"]["gate"]}
    return float(gates[0.45]["coverage"]["value"])


def assert_honest(cards: list[dict[str, Any]], most: int) -> None:
    edges = [card["metrics"]["edge"] for card in cards]
    assert edges.count("tradable") == 0
    assert len(cards) - edges.count("none") <= most
    assert np.mean([coverage(card) for card in cards]) < MOST_COVERAGE
    earned = [card["metrics"]["competitors"]["model"]["net_return"] for card in cards]
    # Few walks let anything pass, so that one lucky trade can be all that their mean is made of.
    assert np.mean(earned) <= 3.0 * np.std(earned) / np.sqrt(len(earned))
    assert sum(card["metrics"]["net_return_bps"]["low"] > 0.0 for card in cards) <= most
    assert all(card["metrics"]["verdict"]["blocks"] > 100 for card in cards)


@pytest.mark.parametrize(
    "kind", ["garch", *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS if kind != "garch")]
)
def test_walk_with_narrow_barriers_passes_confidence_but_not_the_costs(kind: str, tmp_path: Path) -> None:
    # Where HOLD is rare, BUY and SELL are each near 45 % by chance: only what they should bring tells them from noise.
    rule = {"horizon_bars": 5, "threshold_percent": 0.1, "kind": "triple_barrier", "volatility_multiple": 0.6}
    alone, asked = (
        train_card(tmp_path / str(asks), make_walk(kind, 5_000, 1), label_rule=rule, require_positive_return=asks)
        for asks in (False, True)
    )
    assert coverage(asked) == 0.0
    assert kind != "garch" or coverage(alone) > MOST_COVERAGE, "without the costs the gate lets noise pass here"


@pytest.mark.parametrize(
    "kind",
    ["seasonal", *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS if kind != "seasonal")],
)
def test_walk_of_any_kind_gives_no_edge_no_signals_and_no_money(kind: str, tmp_path: Path) -> None:
    cards = cards_of(tmp_path, kind, range(3), 4_000, forest={"trees": 20})
    assert_honest(cards, most=1)


@pytest.mark.slow
@pytest.mark.parametrize("rule", MEASURED)
@pytest.mark.parametrize("kind", KINDS)
def test_walk_of_any_kind_is_claimed_no_more_often_than_it_says(kind: str, rule: str, tmp_path: Path) -> None:
    cards = cards_of(tmp_path, kind, range(100, 125), 5_000, forest={"trees": 20}, **MEASURED[rule])
    assert_honest(cards, most_false_alarms(len(cards)))


def test_seasons_are_foreseen_and_yet_no_edge(tmp_path: Path) -> None:
    # Three classes are told far better than by their shares, and which way prices go is not told at all.
    cards = cards_of(tmp_path, "seasonal", range(3), 5_000, forest={"trees": 20}, **MEASURED["fixed"])
    assert all(card["metrics"]["skill"]["value"] > 0.01 for card in cards)
    assert max(card["metrics"]["verdict"]["p_log_loss"] for card in cards) < 0.05
    assert_honest(cards, most=1)


def judge_rules(rules: int, rows: int, seed: int) -> list[Judged]:
    """So many rules that say what they like of one market without any pattern, each a little and all by luck."""
    random = np.random.default_rng(seed)
    labels = random.choice(3, rows, p=[0.3, 0.4, 0.3]).astype(np.int8)
    market = Judged(
        probabilities=np.empty((rows, 3)),
        priors=np.tile([0.3, 0.4, 0.3], (rows, 1)),
        labels=labels,
        last_labels=np.roll(labels, 1),
        series=np.zeros(rows, dtype=np.int64),
        next_returns=0.001 * random.standard_normal(rows),
        side_costs=np.full(rows, 0.0005),
        overlap_rows=5,
    )
    up = 0.3 + 0.01 * random.standard_normal((rules, rows))
    said = np.stack((0.6 - up, np.full(up.shape, 0.4), up), axis=2)
    return [replace(market, probabilities=one) for one in said]


def claims_of_the_best(markets: range, rules: int, rows: int) -> tuple[float, float]:
    """On how many markets the best of the rules is claimed: as if it were the only one, and as one of all."""
    alone = together = 0
    for seed in markets:
        found = [evaluate(judged, 0.45, candidates=1) for judged in judge_rules(rules, rows, seed)]
        verdicts = [metrics["verdict"] for metrics in found]
        best = min(
            range(rules), key=lambda number: max(verdicts[number]["p_log_loss"], verdicts[number]["p_direction"])
        )
        alone += found[best]["edge"] != "none"
        deflated = evaluate(judge_rules(rules, rows, seed)[best], 0.45, candidates=rules)
        together += deflated["edge"] != "none"
    return alone / len(markets), together / len(markets)


def test_best_of_thirty_rules_on_noise_is_deflated() -> None:
    alone, together = claims_of_the_best(range(4, 8), 30, 400)
    # Without the deflation luck is found on more than half of the markets.
    assert alone >= 0.5
    assert together == 0.0


@pytest.mark.slow
def test_best_of_thirty_rules_on_many_markets_is_claimed_no_more_often_than_one() -> None:
    alone, together = claims_of_the_best(range(100, 160), 30, 400)
    assert alone > 0.5
    assert together <= most_false_alarms(60) / 60


@pytest.mark.slow
def test_best_of_thirty_trained_forests_on_noise_is_deflated(tmp_path: Path) -> None:
    for seed in range(2):
        bars = make_walk("gaussian", 4_000, 200 + seed)
        claims = []
        for number in range(30):
            rule = {
                "horizon_bars": 3 + number % 5,
                "threshold_percent": 0.1,
                "kind": "volatility",
                "volatility_multiple": 0.3 + 0.1 * (number % 4),
            }
            forest = {"trees": 15, "depth": 2 + number % 3, "seed": number}
            folder = tmp_path / f"{seed}-{number}"
            claims.append(train_card(folder, bars, label_rule=rule, forest=forest, candidates=30)["metrics"]["edge"])
        assert set(claims) == {"none"}
