"""Backtests over HTTP: the real service on the simulated market, with a clock that tests move."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.edge import problem
from tests.support.models import write_bundle
from tests.support.portfolio_service import Counter, open_counter

pytestmark = pytest.mark.usefixtures("compiled_kernel", "computed_here")

NOW = datetime(2026, 1, 5, 10, 0, 30, tzinfo=UTC)
ASKED = {
    "symbol": "BTCUSDT",
    "interval": "15m",
    "since": "2026-01-01T00:00:00Z",
    "until": "2026-01-04T00:00:00Z",
    "strategy": "moving-average-cross",
    "parameters": {"fast_bars": 5, "slow_bars": 20},
}
KEY = "0123456789abcdef"


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counter]:
    folder = tmp_path_factory.mktemp("backtests")
    with open_counter(f"sqlite:///{folder / 'trading.db'}", folder, start=NOW) as opened:
        yield opened


def follow(client: httpx.Client, job_id: str) -> Any:
    """The job once it has ended."""
    deadline = time.monotonic() + 120
    while (job := client.get(f"/jobs/{job_id}").json())["status"] in ("QUEUED", "RUNNING"):
        assert time.monotonic() < deadline, job
        time.sleep(0.2)
    return job


def run(counter: Counter, **asked: Any) -> Any:
    """The job of a backtest, once it has ended."""
    answer = counter.client.post("/backtest/run", json={**ASKED, **asked})
    assert answer.status_code == 202, answer.text
    return follow(counter.client, answer.json()["id"])


def pages(counter: Counter, address: str, limit: int) -> Iterator[Any]:
    """The items of all pages of a listing."""
    cursor: dict[str, str] = {}
    while True:
        page = counter.get(address, limit=limit, **cursor)
        yield from page["items"]
        if page["next_cursor"] is None:
            return
        cursor = {"cursor": page["next_cursor"]}


@pytest.fixture(scope="module")
def run_id(counter: Counter) -> str:
    """One run that several tests look at."""
    job = run(counter)
    assert job["status"] == "SUCCEEDED", job
    found: str = job["result"]["run_id"]
    return found


def test_run_answers_a_job_that_leads_to_the_run(counter: Counter) -> None:
    answer = counter.client.post("/backtest/run", json={**ASKED, "seed": 1})

    assert answer.status_code == 202
    assert answer.headers["location"] == f"/jobs/{answer.json()['id']}"
    assert answer.json()["kind"] == "backtest"
    job = follow(counter.client, answer.json()["id"])
    assert (job["status"], job["progress"]) == ("SUCCEEDED", 1.0)
    found = counter.get(f"/backtest/runs/{job['result']['run_id']}")
    assert found["performance"]["total_return"] == job["result"]["total_return"]


def test_run_says_what_was_asked_what_it_ran_on_and_what_came_of_it(counter: Counter, run_id: str) -> None:
    found = counter.get(f"/backtest/runs/{run_id}")

    asked = found["request"]
    assert asked["symbols"] == ["BTCUSDT"]
    assert (asked["since"], asked["until"]) == ("2026-01-01T00:00:00.000Z", "2026-01-04T00:00:00.000Z")
    assert (asked["parameters"], asked["seed"]) == ({"fast_bars": 5.0, "slow_bars": 20.0}, 0)
    assert (asked["initial_cash"], asked["fee_bps"], asked["sizing"]) == ("10000", "2", "fixed_fraction")
    assert (asked["model_maximum_age_days"], asked["training_klines"]) == (7.0, None)
    (series,) = found["data"]["series"]
    assert (found["data"]["source"], series["symbol"], series["missing"]) == ("simulated-7", "BTCUSDT", 0)
    assert series["bars"] == found["data"]["bars"] == 3 * 96 + 100
    assert found["data"]["candle_hash"] == series["candle_hash"]
    assert found["model_ids"] == ["moving-average-cross:fast_bars=5,slow_bars=20"]
    assert [case["multiple"] for case in found["costs"]] == [0, 1, 2, 5]
    assert found["costs"][1]["total_return"] == found["performance"]["total_return"]
    assert found["significance"]["significant"] is None
    assert found["significance"]["verdict"].startswith("Too short to say")
    assert {"simulated_market", "few_days"} <= {caveat["code"] for caveat in found["caveats"]}
    assert sum(found["outcomes"].values()) == 3 * 96
    assert found["outcomes"]["filled"] >= 10
    gain = Decimal(found["final_equity"]) / 10_000 - 1
    assert found["performance"]["total_return"] == pytest.approx(float(gain))


def test_run_of_what_a_run_was_asked_is_that_run(counter: Counter, run_id: str) -> None:
    found = counter.get(f"/backtest/runs/{run_id}")
    created = found["created_at"]
    counter.advance(1)

    answer = counter.client.post("/backtest/run", json=found["request"])

    assert answer.status_code == 202, answer.text
    assert follow(counter.client, answer.json()["id"])["result"]["run_id"] == run_id
    assert counter.get(f"/backtest/runs/{run_id}")["created_at"] == created


def test_run_same_key_answers_the_same_job(counter: Counter, run_id: str) -> None:
    headers = {"Idempotency-Key": "nightly"}
    first = counter.client.post("/backtest/run", json=ASKED, headers=headers)
    assert follow(counter.client, first.json()["id"])["result"]["run_id"] == run_id
    counter.advance(60)

    again = counter.client.post("/backtest/run", json=ASKED, headers=headers)

    assert "idempotency-replayed" not in first.headers
    assert again.status_code == 202
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["id"] == first.json()["id"]
    other = counter.client.post("/backtest/run", json={**ASKED, "seed": 2}, headers=headers)
    problem(other, 422, "idempotency_key_reused")


def test_equity_has_as_many_points_as_are_asked_for_and_its_extremes(counter: Counter, run_id: str) -> None:
    whole = counter.get(f"/backtest/runs/{run_id}/equity")
    thin = counter.get(f"/backtest/runs/{run_id}/equity", points=20)

    assert whole["cycles"] == thin["cycles"] == len(whole["items"]) == 3 * 96
    assert len(thin["items"]) <= 20
    assert whole["items"][0]["time"] == "2026-01-01T00:00:00.000Z"
    amounts = [Decimal(point["equity"]) for point in whole["items"]]
    kept = [Decimal(point["equity"]) for point in thin["items"]]
    assert (min(amounts), max(amounts), amounts[-1]) == (min(kept), max(kept), kept[-1])
    assert amounts[-1] == Decimal(counter.get(f"/backtest/runs/{run_id}")["final_equity"])
    assert all(point["drawdown"] >= 0 for point in whole["items"])


def test_trades_and_decisions_tell_the_same_story_page_by_page(counter: Counter, run_id: str) -> None:
    found = counter.get(f"/backtest/runs/{run_id}")
    trades = list(pages(counter, f"/backtest/runs/{run_id}/trades", 3))
    decisions = list(pages(counter, f"/backtest/runs/{run_id}/decisions", 100))

    assert [trade["number"] for trade in trades] == list(range(1, found["closed_trades"] + 1))
    assert [one["number"] for one in decisions] == list(range(1, 3 * 96 + 1))
    fills = [fill for one in decisions for fill in one["fills"]]
    assert len(fills) == found["fills"]
    exits = [(one, fill) for one in decisions for fill in one["fills"] if fill["side"] == "SELL"]
    assert [trade["closed_at"] for trade in trades] == [one["time"] for one, _ in exits]
    assert [trade["exit_price"] for trade in trades] == [fill["price"] for _, fill in exits]
    assert {trade["side"] for trade in trades} == {"LONG"}
    assert {trade["closed_by"] for trade in trades} == {"signal"}
    first = decisions[0]
    assert (first["time"], first["candle_open_time"]) == ("2026-01-01T00:00:00.000Z", "2025-12-31T23:45:00.000Z")
    assert [one["outcome"] == "filled" for one in decisions] == [bool(one["fills"]) for one in decisions]
    assert [one["signal"] for one in decisions if one["fills"]] == [fill["side"] for fill in fills]
    assert {one["signal"] for one in decisions if one["outcome"] == "hold_signal"} == {"HOLD"}
    assert {one["confidence"] for one in decisions} == {1.0}


@pytest.mark.parametrize(("name", "column"), [("equity", "benchmark"), ("trades", "closed_by"), ("decisions", "fills")])
def test_listing_as_csv_has_the_items_of_its_json(counter: Counter, run_id: str, name: str, column: str) -> None:
    address = f"/backtest/runs/{run_id}/{name}"
    items = counter.get(address)["items"]

    answer = counter.client.get(address, headers={"Accept": "text/csv"})

    assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == len(items)
    assert list(rows[0]) == list(items[0])
    shown = items[0][column]
    assert rows[0][column] == (shown if isinstance(shown, str) else json.dumps(shown, separators=(",", ":")))


def test_runs_are_listed_by_symbol_strategy_and_time(counter: Counter, run_id: str) -> None:
    earlier = [one["id"] for one in counter.get("/backtest/runs", symbol="ETHUSDT")["items"]]
    other = run(counter, symbol="ETHUSDT", strategy="buy-and-hold", parameters={})["result"]["run_id"]

    assert [one["id"] for one in counter.get("/backtest/runs", limit=1)["items"]] == [other]
    assert [one["id"] for one in counter.get("/backtest/runs", symbol="ETHUSDT")["items"]] == [other, *earlier]
    crosses = counter.get("/backtest/runs", strategy="moving-average-cross")["items"]
    assert run_id in [one["id"] for one in crosses]
    assert {one["strategy"] for one in crosses} == {"moving-average-cross"}
    shown = next(one for one in crosses if one["id"] == run_id)
    assert (shown["symbols"], shown["since"], shown["sharpe"]) == (
        ["BTCUSDT"],
        "2026-01-01T00:00:00.000Z",
        counter.get(f"/backtest/runs/{run_id}")["performance"]["sharpe"],
    )
    assert counter.get("/backtest/runs", until="2026-01-05T10:00:00Z")["items"] == []
    cursor = counter.get("/backtest/runs", limit=1)["next_cursor"]
    assert other not in [one["id"] for one in counter.get("/backtest/runs", cursor=cursor)["items"]]
    table = counter.client.get("/backtest/runs?symbol=ETHUSDT", headers={"Accept": "text/csv"}).text
    assert len(table.splitlines()) == 2 + len(earlier)


def test_several_symbols_share_one_account(counter: Counter) -> None:
    job = run(counter, symbol=None, symbols=["ETHUSDT", "BTCUSDT"])

    decisions = counter.get(f"/backtest/runs/{job['result']['run_id']}/decisions", limit=2)["items"]
    assert [one["symbol"] for one in decisions] == ["ETHUSDT", "BTCUSDT"]
    assert len({one["time"] for one in decisions}) == 1


def test_deleted_run_is_gone_and_stays_counted(counter: Counter) -> None:
    asked = {"since": "2025-11-01T00:00:00Z", "until": "2025-11-03T00:00:00Z"}
    first = run(counter, **asked)["result"]["run_id"]
    assert counter.get(f"/backtest/runs/{first}")["significance"]["trials"] == 1

    answer = counter.client.delete(f"/backtest/runs/{first}")

    assert (answer.status_code, answer.content) == (204, b"")
    for path in ("", "/equity", "/trades", "/decisions"):
        problem(counter.client.get(f"/backtest/runs/{first}{path}"), 404, "backtest_not_found")
    problem(counter.client.delete(f"/backtest/runs/{first}"), 404, "backtest_not_found")
    second = run(counter, **asked, fee_bps="0")["result"]["run_id"]
    assert counter.get(f"/backtest/runs/{second}")["significance"]["trials"] == 2


def test_strategies_are_listed_with_their_parameters(counter: Counter) -> None:
    items = counter.get("/backtest/strategies")["items"]

    assert [(item["name"], item["is_learned"]) for item in items] == [
        ("forest", True),
        ("buy-and-hold", False),
        ("moving-average-cross", False),
    ]
    fast = items[2]["parameters"][0]
    assert (fast["name"], fast["kind"], fast["low"], fast["high"], fast["default"]) == (
        "fast_bars",
        "integer",
        1,
        500,
        10,
    )


def test_left_out_is_as_the_service_trades_over_the_last_thirty_days(counter: Counter) -> None:
    answer = counter.client.post("/backtest/run", json={"strategy": "buy-and-hold"})

    asked = counter.get(f"/backtest/runs/{follow(counter.client, answer.json()['id'])['result']['run_id']}")["request"]
    since, until = (datetime.fromisoformat(asked[name]) for name in ("since", "until"))
    now = counter.clock.now()
    assert (asked["symbols"], asked["interval"]) == (["BTCUSDT"], "1m")
    assert until == now.replace(second=0, microsecond=0)
    assert until - since == timedelta(days=30)
    assert asked["min_confidence"] == 0.99, "what the service is set to"


def test_frozen_model_is_asked_about_later_candles_only(counter: Counter) -> None:
    taught = {"rows": 1, "taught_until_ms": int(datetime(2026, 1, 3, tzinfo=UTC).timestamp() * 1_000)}
    model_id = write_bundle(counter.service.settings.model_path, trained_at=NOW, window=taught).name
    asked = {"strategy": "forest", "parameters": {}, "model_id": model_id, "interval": "1m"}
    early = run(counter, **asked, since="2026-01-02T23:59:00Z", until="2026-01-03T01:00:00Z")
    late = run(counter, **asked, since="2026-01-03T00:00:00Z", until="2026-01-03T01:00:00Z", min_confidence=0.5)

    assert (early["status"], early["error_code"]) == ("FAILED", "model_saw_candles")
    assert "Start at 2026-01-03T00:00:00Z or later, or walk forward." in early["error_message"]
    assert late["status"] == "SUCCEEDED", late
    found = counter.get(f"/backtest/runs/{late['result']['run_id']}")
    assert found["model_ids"] == [model_id]
    assert sum(one["count"] for one in found["calibration"]) > 0


@pytest.mark.usefixtures("own_process")
def test_cancelled_backtest_ends_and_leaves_nothing(counter: Counter) -> None:
    before = len(counter.get("/backtest/runs")["items"])
    asked = {**ASKED, "interval": "1m", "driver": "engine", "since": "2025-10-01T00:00:00Z"}
    job = counter.client.post("/backtest/run", json=asked).json()

    busy = counter.client.post("/backtest/run", json=ASKED)
    ended = counter.client.post(f"/jobs/{job['id']}/cancel")

    problem(busy, 409, "job_in_progress")
    assert busy.headers["retry-after"] == "10"
    assert (ended.status_code, ended.json()["status"]) == (200, "CANCELED")
    assert len(counter.get("/backtest/runs")["items"]) == before
    assert run(counter)["status"] == "SUCCEEDED", "the next one runs"


@pytest.mark.parametrize(
    ("asked", "code", "said"),
    [
        ({"symol": "BTCUSDT"}, "invalid_input", "body.symol"),
        ({"source": "/etc/passwd"}, "invalid_input", "body.source"),
        ({"file": "candles.csv"}, "invalid_input", "body.file"),
        ({"symbol": "../../etc/passwd"}, "invalid_input", "body.symbol"),
        ({"symbols": ["ETHUSDT"]}, "invalid_input", "not both"),
        ({"symbol": None, "symbols": ["ETHUSDT", "ETHUSDT"]}, "invalid_request", "different symbols"),
        ({"symbol": None, "symbols": []}, "invalid_input", "body.symbols"),
        ({"strategy": "__import__"}, "invalid_input", "body.strategy"),
        ({"parameters": {"fast_bars": 50, "slow_bars": 10}}, "parameters_conflict", "must be less"),
        ({"parameters": {"fast_bars": "5"}}, "invalid_input", "body.parameters.fast_bars"),
        ({"parameters": {"fast_bars": 1.5}}, "parameter_invalid", "takes an integer"),
        ({"parameters": {"quick_bars": 5}}, "parameter_unknown", "fast_bars, slow_bars"),
        ({"since": "2026-01-04T00:00:00Z"}, "invalid_request", "candles after since"),
        ({"since": "2026-01-01"}, "invalid_input", "body.since"),
        ({"since": "2009-12-31T00:00:00Z"}, "invalid_request", "from 2010 on"),
        ({"since": "2010-01-01T00:00:00Z", "interval": "1m"}, "invalid_request", "span"),
        ({"initial_cash": "-1"}, "invalid_input", "body.initial_cash"),
        ({"initial_cash": "0"}, "invalid_request", "initial_cash"),
        ({"initial_cash": "NaN"}, "invalid_input", "body.initial_cash"),
        ({"initial_cash": "1e5"}, "invalid_input", "body.initial_cash"),
        ({"fee_bps": "0.001"}, "invalid_request", "fee_bps"),
        ({"sizing": "martingale"}, "invalid_input", "body.sizing"),
        ({"allow_short": "true"}, "invalid_input", "body.allow_short"),
        ({"seed": -1}, "invalid_input", "body.seed"),
        ({"seed": 2**32}, "invalid_input", "body.seed"),
        ({"latency_bars": 1_001}, "invalid_input", "body.latency_bars"),
        ({"driver": "turbo"}, "invalid_input", "body.driver"),
        ({"model_id": "../../secret"}, "invalid_input", "body.model_id"),
        ({"model_id": "forest-1"}, "invalid_request", "model"),
        ({"api_key": "x" * 20}, "invalid_input", "body.api_key"),
        ({"database_url": "sqlite:///elsewhere.db"}, "invalid_input", "body.database_url"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_before_anything_runs(
    counter: Counter, asked: dict[str, Any], code: str, said: str
) -> None:
    jobs = counter.get("/jobs")["items"]

    refused = problem(counter.client.post("/backtest/run", json={**ASKED, **asked}), 422, code)

    assert said in str(refused)
    assert counter.get("/jobs")["items"] == jobs


def test_what_the_market_does_not_know_fails_the_job_with_the_reason(counter: Counter) -> None:
    job = run(counter, symbol="NOSUCHUSDT")

    assert (job["status"], job["error_code"]) == ("FAILED", "unknown_symbol")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/backtest/runs?cursor=eHh4", "invalid_cursor"),
        ("/backtest/runs?strategy=none", "invalid_input"),
        ("/backtest/runs?limit=0", "invalid_input"),
        ("/backtest/runs/{}/equity?points=7", "invalid_input"),
        ("/backtest/runs/{}/equity?points=10001", "invalid_input"),
        ("/backtest/runs/{}/trades?cursor=eHh4", "invalid_cursor"),
        ("/backtest/runs/{}/decisions?cursor=dHJhZGU6Mw", "invalid_cursor"),
    ],
)
def test_listing_refuses_what_it_did_not_give_out(counter: Counter, run_id: str, path: str, code: str) -> None:
    problem(counter.client.get(path.format(run_id)), 422, code)


def test_changes_need_the_key_where_there_is_one(tmp_path: Path) -> None:
    with open_counter(f"sqlite:///{tmp_path / 'trading.db'}", tmp_path, start=NOW, api_key=KEY) as guarded:
        problem(guarded.client.post("/backtest/run", json=ASKED), 401, "unauthorized")
        problem(guarded.client.delete("/backtest/runs/none"), 401, "unauthorized")
        headers = {"X-API-Key": KEY}
        problem(guarded.client.delete("/backtest/runs/none", headers=headers), 404, "backtest_not_found")
        assert guarded.get("/backtest/runs") == {"items": [], "next_cursor": None, "unreadable": []}
