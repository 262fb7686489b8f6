"""A pattern that is there is found; it is called tradable where it earns more than it costs, and only there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.honesty.walks import make_planted, train_card

HORIZON_BARS = 5
ROUND_TRIP_BPS = 10.0
"""Fee and least slippage of both sides; see `train_card`."""


def strength_of(multiple: float) -> float:
    """The drift of each bar, in basis points, that adds up over a horizon to so many times the costs."""
    return multiple * ROUND_TRIP_BPS / HORIZON_BARS


def cards_of(folder: Path, multiple: float, seeds: range, candles: int) -> list[dict[str, Any]]:
    return [
        train_card(folder / str(seed), make_planted(strength_of(multiple), candles, seed), forest={"trees": 25})
        for seed in seeds
    ]


def edges(cards: list[dict[str, Any]]) -> list[str]:
    return [card["metrics"]["edge"] for card in cards]


def assert_strong_is_traded(cards: list[dict[str, Any]]) -> None:
    assert set(edges(cards)) == {"tradable"}
    for card in cards:
        model = card["metrics"]["competitors"]["model"]
        assert model["net_return_bps"]["low"] > 0.0
        assert card["metrics"]["direction_skill"]["low"] > 0.1
        # Not more than of the last label: on a market that goes on as it went, that is a good rule, too.
        for name in ("class_prior", "always_hold", "buy_and_hold", "random"):
            assert model["net_return"] > card["metrics"]["competitors"][name]["net_return"]
        gate = next(gate for gate in card["metrics"]["gate"] if gate["confidence"] == 0.45)
        assert gate["coverage"]["value"] > 0.5


def test_signal_twice_as_strong_as_the_costs_is_found_claimed_and_traded(tmp_path: Path) -> None:
    assert_strong_is_traded(cards_of(tmp_path, 2.0, range(2), 6_000))


def test_signal_no_stronger_than_the_costs_is_claimed_but_not_as_tradable(tmp_path: Path) -> None:
    cards = cards_of(tmp_path, 1.0, range(2), 8_000)
    assert edges(cards) == ["statistical", "statistical"]
    assert any("The edge is statistical only" in warning for card in cards for warning in card["warnings"])


def test_feature_that_carries_the_signal_is_the_most_important(tmp_path: Path) -> None:
    (card,) = cards_of(tmp_path, 2.0, range(1), 5_000)
    first, second, *_ = card["importances"]
    assert first["feature"] == "return_5"
    assert first["log_loss_rise"] > 2 * second["log_loss_rise"]


@pytest.mark.slow
def test_strong_signals_are_found_claimed_and_traded_every_time(tmp_path: Path) -> None:
    assert_strong_is_traded(cards_of(tmp_path, 2.0, range(100, 112), 6_000))


@pytest.mark.slow
@pytest.mark.parametrize(("multiple", "found"), [(0.25, 0.0), (0.5, 0.0), (0.75, 0.4)])
def test_weak_signals_are_never_called_tradable(multiple: float, found: float, tmp_path: Path) -> None:
    claims = edges(cards_of(tmp_path, multiple, range(100, 112), 8_000))
    assert claims.count("tradable") == 0
    assert claims.count("statistical") >= found * len(claims)


@pytest.mark.slow
def test_stronger_signal_is_found_with_more_skill(tmp_path: Path) -> None:
    skills = [
        np.mean(
            [
                card["metrics"]["direction_skill"]["value"]
                for card in cards_of(tmp_path / str(multiple), multiple, range(4), 7_000)
            ]
        )
        for multiple in (0.25, 0.5, 1.0, 2.0)
    ]
    assert skills == sorted(skills)
    assert skills[0] < 0.02
    assert skills[-1] > 0.2
