"""Replays and the reasons behind trades over HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app import __version__
from tests.support.edge import Edge, problem, running_edge


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    with running_edge() as running:
        yield running


def test_replay_answers_whether_it_is_equal(edge: Edge) -> None:
    cycle_id = edge.client.post("/trading/run-cycle").json()["cycle_id"]

    answer = edge.client.get(f"/trading/cycles/{cycle_id}/replay")

    versions = {"recorded": __version__, "replayed": __version__}
    assert answer.json() == {"cycle_id": cycle_id, "equal": True, "difference": None, "versions": versions}


def test_why_answers_what_is_known(edge: Edge) -> None:
    edge.client.post("/trading/run-cycle")
    trade = edge.client.get("/trading/trades").json()["items"][0]

    answer = edge.client.get(f"/trading/trades/{trade['id']}/why").json()

    assert (answer["summary"], answer["notes"], answer["trade"]) == ("A person asked for it.", [], trade)
    assert [answer[name] for name in ("order", "candle", "decision", "explanation", "gate", "price")] == [None] * 6


def test_what_does_not_exist_is_not_found(edge: Edge) -> None:
    problem(edge.client.get("/trading/cycles/nothing/replay"), 404, "cycle_not_found")
    problem(edge.client.get("/trading/trades/999999/why"), 404, "trade_not_found")
