"""Optimisations over HTTP: the real service on the simulated market."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.integration.test_http_backtests import follow
from tests.support.edge import problem
from tests.support.portfolio_service import Counter, open_counter

pytestmark = pytest.mark.usefixtures("compiled_kernel", "computed_here")

NOW = datetime(2026, 3, 5, 10, 0, 30, tzinfo=UTC)
ASKED: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "interval": "4h",
    "since": "2026-01-01T00:00:00Z",
    "until": "2026-03-01T00:00:00Z",
    "space": {"fast_bars": {"low": 5, "high": 20, "step": 5}, "slow_bars": {"low": 20, "high": 60, "step": 20}},
    "method": "grid",
    "folds": 3,
}
"""Trials are counted for each symbol, so that what other tests add is about another one."""


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counter]:
    folder = tmp_path_factory.mktemp("optimizations")
    with open_counter(f"sqlite:///{folder / 'trading.db'}", folder, start=NOW) as opened:
        yield opened


@pytest.fixture(scope="module")
def job(counter: Counter) -> Any:
    """An optimisation that several tests look at."""
    answer = counter.client.post("/optimize", json=ASKED)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/jobs/{answer.json()['id']}"
    ended = follow(counter.client, answer.json()["id"])
    assert ended["status"] == "SUCCEEDED", ended
    return ended


def test_job_leads_to_the_run_and_to_the_backtest_of_the_best(counter: Counter, job: Any) -> None:
    assert job["kind"] == "optimization"
    assert set(job["result"]) == {"run_id", "best", "recommended", "reason"}
    run = counter.get(f"/optimize/runs/{job['result']['run_id']}")
    assert run["best"]["values"] == job["result"]["best"]
    assert (run["judgement"]["recommended"], run["judgement"]["reason"]) == (None, job["result"]["reason"])
    assert run["trials"] == 11, "of twelve points one conflicts"
    best = counter.get(f"/backtest/runs/{run['best_run_id']}")
    assert best["request"]["parameters"] == run["best"]["values"]
    assert best["performance"]["sharpe"] == run["best"]["sharpe"]
    assert best["significance"]["trials"] == 11
    assert [one["multiple"] for one in best["costs"]] == [0, 1, 2, 5]


def test_run_says_what_was_asked_and_what_each_choice_came_to(counter: Counter, job: Any) -> None:
    run = counter.get(f"/optimize/runs/{job['result']['run_id']}")
    assert run["request"]["method"] == "grid"
    assert run["request"]["backtest"]["strategy"] == "moving-average-cross"
    assert run["request"]["axes"][1] == {"name": "slow_bars", "low": 20.0, "high": 60.0, "step": 20.0}
    assert len(run["choices"]) == 3
    assert [one["test_since"] for one in run["choices"]][1:] == [one["test_until"] for one in run["choices"]][:-1]
    assert run["choices"][-1]["test_until"] == "2026-03-01T00:00:00.000Z"
    assert len(run["out_of_sample"]["curve"]) == len(run["out_of_sample"]["benchmark"]) == 30
    assert run["plateau"]["names"] == ["fast_bars", "slow_bars"]
    assert [len(row) for row in run["plateau"]["cells"]] == [4, 4, 4]
    assert run["plateau"]["cells"][0][3] is None
    assert 0 <= run["overfitting"]["probability"] <= 1
    assert len(run["top"]) == 11


def test_runs_are_listed_as_json_and_as_csv(counter: Counter, job: Any) -> None:
    run_id = job["result"]["run_id"]  # beside that of another test, where that came first
    listed = [one for one in counter.get("/optimize/runs")["items"] if one["id"] == run_id]
    assert [one["best"] for one in listed] == [job["result"]["best"]]
    assert counter.get("/optimize/runs", symbol="SOLUSDT")["items"] == []
    assert counter.get("/optimize/runs", strategy="forest")["items"] == []
    told = counter.client.get("/optimize/runs", headers={"accept": "text/csv"}).text
    assert [row["id"] for row in csv.DictReader(io.StringIO(told))].count(run_id) == 1


def test_same_key_answers_the_same_job_and_another_body_is_refused(counter: Counter, job: Any) -> None:
    headers = {"Idempotency-Key": "look-once"}
    first = counter.client.post("/optimize", json=ASKED, headers=headers)
    again = counter.client.post("/optimize", json=ASKED, headers=headers)
    assert first.json()["id"] == again.json()["id"] != job["id"]
    assert again.headers["idempotency-replayed"] == "true"
    other = counter.client.post("/optimize", json=ASKED | {"folds": 2}, headers=headers)
    assert other.status_code == 422
    ended = follow(counter.client, first.json()["id"])
    assert ended["result"] == job["result"], "the same request on the same candles is computed once"


@pytest.mark.parametrize(
    ("asked", "code", "said"),
    [
        ({"spaec": {}}, "invalid_input", "body.spaec"),
        ({"source": "/etc/passwd"}, "invalid_input", "body.source"),
        ({"method": "annealing"}, "invalid_input", "body.method"),
        ({"driver": "engine"}, "invalid_input", "body.driver"),
        ({"objectives": ["sharpe", "calmar"]}, "invalid_request", "two of them are for nsga2"),
        ({"objectives": ["maximum_drawdown"]}, "invalid_request", "objectives"),
        ({"method": "nsga2", "objectives": ["sharpe"]}, "invalid_request", "two different ones"),
        ({"objectives": []}, "invalid_input", "body.objectives"),
        ({"trials": 1}, "invalid_input", "body.trials"),
        ({"trials": 100_000}, "invalid_input", "body.trials"),
        ({"method": "genetic", "population": 100, "generations": 100}, "invalid_request", "generations"),
        ({"elite": 40, "population": 40}, "invalid_request", "elite"),
        ({"crossover": 1.5}, "invalid_input", "body.crossover"),
        ({"folds": 0}, "invalid_input", "body.folds"),
        ({"train_share": 0.95}, "invalid_request", "train_share"),
        ({"rolling": "yes"}, "invalid_input", "body.rolling"),
        ({"space": {"fast_bars": {"low": 20, "high": 5}}}, "range_invalid", "from a low to a high"),
        ({"space": {"fast_bars": {"low": 5, "high": 20, "step": 0}}}, "range_invalid", "a step above 0"),
        ({"space": {"fast_bars": {"low": 5, "high": 1e9}}}, "parameter_out_of_range", "fast_bars"),
        ({"space": {"fast_bars": {"low": 5, "high": 20, "by": 5}}}, "invalid_input", "by"),
        ({"space": {"fast_bars": [5, 20]}}, "invalid_input", "body.space.fast_bars"),
        ({"space": {"quick_bars": {}}}, "parameter_unknown", "fast_bars, slow_bars"),
        ({"space": {"min_confidence": {}}}, "nothing_to_vary", "is sure of every signal"),
        ({"space": {"stop_atr_multiple": {}}}, "nothing_to_vary", "stop_rule is none"),
        ({"space": {}}, "grid_too_large", "random"),
        ({"strategy": "buy-and-hold", "space": {}}, "nothing_to_vary", "none of its own"),
        ({"parameters": {"fast_bars": 5}}, "parameter_fixed", "not both"),
        (
            {"space": {"slow_bars": {"low": 10, "high": 20}}, "parameters": {"fast_bars": 100}},
            "no_valid_point",
            "widen",
        ),
        (
            {"strategy": "forest", "space": {"depth": {}}, "model_id": "forest-1"},
            "nothing_to_vary",
            "taught by its own",
        ),
        ({"since": "2026-03-01T00:00:00Z"}, "invalid_request", "candles after since"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_before_anything_runs(
    counter: Counter, asked: dict[str, Any], code: str, said: str
) -> None:
    jobs = counter.get("/jobs")["items"]
    refused = problem(counter.client.post("/optimize", json={**ASKED, **asked}), 422, code)
    assert said in str(refused)
    assert counter.get("/jobs")["items"] == jobs


def test_what_is_left_out_is_looked_for_over_the_last_180_whole_days(counter: Counter) -> None:
    answer = counter.client.post("/optimize", json={"symbol": "ETHUSDT", "interval": "4h", "trials": 3})
    ended = follow(counter.client, answer.json()["id"])
    asked = counter.get(f"/optimize/runs/{ended['result']['run_id']}")["request"]
    assert (asked["backtest"]["since"], asked["backtest"]["until"]) == (
        "2025-09-06T00:00:00.000Z",
        "2026-03-05T00:00:00.000Z",
    )
    assert (asked["method"], asked["objectives"], asked["backtest"]["strategy"]) == (
        *("random", ["sharpe"], "moving-average-cross"),
    )
    assert [one["name"] for one in asked["axes"]] == ["fast_bars", "slow_bars"]
    assert asked["backtest"]["window_bars"] == 901


def test_deleted_run_is_gone(counter: Counter) -> None:
    asked = counter.client.post("/optimize", json=ASKED | {"symbol": "ETHUSDT"}).json()
    address = f"/optimize/runs/{follow(counter.client, asked['id'])['result']['run_id']}"
    assert counter.client.delete(address).status_code == 204
    problem(counter.client.get(address), 404, "optimization_not_found")
    problem(counter.client.delete(address), 404, "optimization_not_found")
