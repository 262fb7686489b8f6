"""A stated confidence means what it says: of what is said with 60 %, 60 in 100 come true."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml.bars import Bars
from tests.honesty.walks import KINDS, make_planted, make_walk, train_card

MOST_POINTS = 0.03


def bins_of(cards: list[dict[str, Any]]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Stated, come true and rows of all bins of all cards."""
    return np.array(
        [
            (line["stated"], line["came_true"]["value"], line["rows"])
            for card in cards
            for line in card["metrics"]["calibration"]["bins"]
        ]
    )


HORIZON_BARS = 5


def gaps(cards: list[dict[str, Any]], edges: list[float]) -> list[tuple[float, float]]:
    """Stated less come true, and its standard error, of the rows between each two edges of confidence."""
    bins = bins_of(cards)
    place = np.digitize(bins[:, 0], edges)
    found = []
    for number in np.unique(place).tolist():
        own = bins[place == number]
        stated, came_true = (float(np.average(own[:, side], weights=own[:, 2])) for side in (0, 1))
        # The labels of so many neighbours overlap.
        found.append((stated - came_true, float(0.5 / np.sqrt(own[:, 2].sum() / HORIZON_BARS))))
    return found


def assert_means_what_it_says(cards: list[dict[str, Any]]) -> None:
    ((gap, _),) = gaps(cards, [])
    assert abs(gap) < MOST_POINTS


def planted(seed: int, candles: int, strength_bps: float = 3.0) -> Bars:
    return make_planted(strength_bps, candles, seed)


def test_confidence_of_a_planted_signal_means_what_it_says(tmp_path: Path) -> None:
    cards = [train_card(tmp_path / str(seed), planted(seed, 8_000), forest={"trees": 25}) for seed in range(3)]
    assert_means_what_it_says(cards)
    # A gate lets pass what is said with some confidence: that share must come true as well.
    for card in cards:
        gate = next(gate for gate in card["metrics"]["gate"] if gate["confidence"] == 0.45)
        assert gate["hit_rate"]["low"] - MOST_POINTS < gate["stated"] < gate["hit_rate"]["high"] + MOST_POINTS


@pytest.mark.slow
@pytest.mark.parametrize("method", ["temperature", "sigmoid"])
@pytest.mark.parametrize("strength_bps", [1.0, 2.0, 3.0])
def test_confidence_of_planted_signals_is_not_overstated_at_any_height(
    strength_bps: float, method: str, tmp_path: Path
) -> None:
    cards = [
        train_card(
            tmp_path / str(seed), planted(seed, 10_000, strength_bps), forest={"trees": 25, "calibration": method}
        )
        for seed in range(100, 108)
    ]
    assert_means_what_it_says(cards)
    # It may say less than it knows: where a signal is strong, the rows it is least sure of come true more often.
    assert all(gap < MOST_POINTS + 2.0 * error for gap, error in gaps(cards, [0.4, 0.5, 0.6]))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("multiple", [0.5, 1.0], ids=["thirds", "mostly-hold"])
def test_confidence_on_walks_means_what_it_says(kind: str, multiple: float, tmp_path: Path) -> None:
    rule = {"horizon_bars": 5, "threshold_percent": 0.1, "kind": "volatility", "volatility_multiple": multiple}
    cards = [
        train_card(tmp_path / str(seed), make_walk(kind, 6_000, seed), forest={"trees": 25}, label_rule=rule)
        for seed in range(100, 112)
    ]
    assert_means_what_it_says(cards)
