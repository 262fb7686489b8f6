"""Every route's happy path, over a real server, to the last character of its JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import httpx
import pytest

from app import __version__
from app.domain.candle import Interval
from app.domain.outcome import ScoredDecision, StatedDecision, Truth
from app.domain.signal import Signal
from tests.support.edge import Edge, problem, running_edge
from tests.support.fake_service import FakeService
from tests.support.fakes import CARD

RUN = "simulated.forest.main.1"
WORDS = "BUY 0.01 BTC at 64021.31, 3.00 bps from the quote, fee 0.12804262."
TRADE = {
    "id": 1,
    "cycle_id": "cycle-1",
    "symbol": "BTCUSDT",
    "interval": "1m",
    "source": "simulated",
    "side": "BUY",
    "quantity": "0.01",
    "price": "64021.31",
    "notional": "640.2131",
    "fee": "0.12804262",
    "slippage_bps": 3.0015,
    "confidence": 0.5,
    "model_id": "forest-test",
    "candle_open_time": "2026-11-21T01:01:00.000Z",
    "executed_at": "2026-11-21T01:02:03.469Z",
    "reason": WORDS,
    "cash_after": "9359.65885738",
    "position_after": "0.01",
    "edge": "none",
    "run": RUN,
    "order_id": "cycle-1-1",
    "origin": "signal",
    "realised_profit": None,
}
ORDER = {
    "id": "cycle-1-1",
    "symbol": "BTCUSDT",
    "side": "BUY",
    "kind": "MARKET",
    "quantity": "0.01",
    "filled_quantity": "0.01",
    "price": None,
    "trail_fraction": None,
    "reduce_only": False,
    "origin": "signal",
    "status": "FILLED",
    "reason_code": "filled",
    "reason": WORDS,
    "cycle_id": "cycle-1",
    "created_at": "2026-11-21T01:02:03.469Z",
    "active_from": "2026-11-21T01:03:00.000Z",
    "expires_at": None,
    "closed_at": "2026-11-21T01:02:03.469Z",
}
DECISION = {
    "action": "BUY",
    "confidence": 0.5,
    "probabilities": {"BUY": 0.5, "SELL": 0.2, "HOLD": 0.3},
    "reason_code": "confident",
    "reason": "BUY is likeliest.",
    "model_id": "forest-test",
    "expected_return": 0.001,
    "edge": "none",
    "drift": None,
}
CANDLES = [
    {
        "open_time": f"2026-11-21T{minute}:00.000Z",
        "close_time": f"2026-11-21T{minute}:59.999Z",
        "open": open_,
        "high": high,
        "low": low,
        "close": close,
        "volume": "1.25",
    }
    for minute, open_, high, low, close in (
        ("00:59", "63999", "64001", "63998", "64000"),
        ("01:00", "64000", "64002", "63999", "64001"),
        ("01:01", "64001", "64003", "64000", "64002"),
    )
]
MARKET = {
    "price": "64002.1",
    "candle_open_time": "2026-11-21T01:01:00.000Z",
    "candle_close_time": "2026-11-21T01:01:59.999Z",
    "sma_10": 64001.0,
    "sma_50": None,
    "rsi_14": 55.5,
    "price_change_1m": 0.0001,
    "candles": CANDLES,
}
CYCLE = {
    "cycle_id": "cycle-1",
    "symbol": "BTCUSDT",
    "interval": "1m",
    "source": "simulated",
    "status": "COMPLETED",
    "started_at": "2026-11-21T01:02:03.456Z",
    "finished_at": "2026-11-21T01:02:03.469Z",
    "duration_ms": 12.5,
    "market": MARKET,
    "decision": DECISION,
    "execution": {
        "status": "FILLED",
        "reason_code": "filled",
        "reason": WORDS,
        "trade": TRADE,
        "duplicate": False,
    },
    "logs": [
        {"time": "2026-11-21T01:02:03.456Z", "agent": "market_monitoring", "message": "BTCUSDT trades at 64002.10."},
        {"time": "2026-11-21T01:02:03.469Z", "agent": "execution", "message": WORDS},
    ],
    "reason_code": None,
    "reason": None,
    "run": RUN,
    "checks": [
        {
            "code": "max_open_positions",
            "passed": True,
            "value": "0",
            "limit": "5",
            "detail": "No position is open.",
        }
    ],
    "orders": [ORDER],
    "fills": [TRADE],
}
SUMMARY = {
    "cycle_id": "cycle-1",
    "symbol": "BTCUSDT",
    "interval": "1m",
    "source": "simulated",
    "status": "COMPLETED",
    "started_at": "2026-11-21T01:02:03.456Z",
    "finished_at": "2026-11-21T01:02:03.469Z",
    "duration_ms": 12.5,
    "price": "64002.1",
    "candle_open_time": "2026-11-21T01:01:00.000Z",
    "action": "BUY",
    "confidence": 0.5,
    "execution_status": "FILLED",
    "trade_id": 1,
    "reason_code": "filled",
    "reason": WORDS,
}


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    with running_edge() as running:
        yield running


@pytest.fixture
def service(edge: Edge) -> FakeService:
    return edge.renew()


@pytest.fixture
def client(edge: Edge, service: FakeService) -> httpx.Client:
    assert edge.service is service
    return edge.client


def test_run_cycle_new_candle_answers_the_cycle_and_its_trade(client: httpx.Client) -> None:
    response = client.post("/trading/run-cycle", params={"symbol": "BTCUSDT"})

    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json() == CYCLE
    assert list(response.json()) == list(CYCLE)


def test_run_cycle_without_parameters_takes_the_defaults(client: httpx.Client) -> None:
    assert client.post("/trading/run-cycle").json() == CYCLE


@pytest.mark.parametrize("content", [b"{}", b" { } ", b"null"])
def test_run_cycle_with_an_empty_object_runs(client: httpx.Client, content: bytes) -> None:
    response = client.post("/trading/run-cycle", content=content, headers={"Content-Type": "application/json"})

    assert response.status_code == 200


def test_run_cycle_other_interval_is_used(client: httpx.Client) -> None:
    cycle = client.post("/trading/run-cycle?symbol=ETHUSDT&interval=5m").json()

    assert (cycle["symbol"], cycle["interval"]) == ("ETHUSDT", "5m")
    assert cycle["market"]["candle_open_time"] == "2026-11-21T00:55:00.000Z"


def test_run_cycle_same_candle_again_answers_the_earlier_trade_as_duplicate(client: httpx.Client) -> None:
    first = client.post("/trading/run-cycle").json()

    again = client.post("/trading/run-cycle")

    assert again.status_code == 200
    assert again.json()["cycle_id"] == "cycle-2"
    assert again.json()["execution"] == {
        "status": "SKIPPED",
        "reason_code": "candle_already_traded",
        "reason": "This candle was traded before: trade 1 of cycle cycle-1.",
        "trade": first["execution"]["trade"],
        "duplicate": True,
    }


def test_run_cycle_same_key_answers_the_same_bytes_and_says_so(client: httpx.Client, service: FakeService) -> None:
    headers = {"Idempotency-Key": "cron-2026-11-21T01:02"}
    first = client.post("/trading/run-cycle", headers=headers)
    service.clock.advance(minutes=5)

    again = client.post("/trading/run-cycle", headers=headers)

    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.content == first.content
    assert len(service.ledger.cycles) == 1


def test_get_cycle_recorded_answers_what_run_cycle_answered(client: httpx.Client) -> None:
    answered = client.post("/trading/run-cycle")

    assert client.get("/trading/cycles/cycle-1").content == answered.content


def test_list_cycles_has_a_line_for_each(client: httpx.Client) -> None:
    client.post("/trading/run-cycle")

    assert client.get("/trading/cycles").json() == {"items": [SUMMARY], "next_cursor": None}


def test_list_trades_has_the_fill(client: httpx.Client) -> None:
    client.post("/trading/run-cycle")

    response = client.get("/trading/trades")

    assert response.json() == {"items": [TRADE], "next_cursor": None}
    assert list(response.json()["items"][0]) == list(TRADE)


def test_list_trades_pages_newest_first_and_filters(client: httpx.Client, service: FakeService) -> None:
    for minute in range(5):
        symbol = "ETHUSDT" if minute % 2 else "BTCUSDT"
        assert client.post("/trading/run-cycle", params={"symbol": symbol}).status_code == 200
        service.clock.advance(minutes=1)

    first = client.get("/trading/trades", params={"limit": 2}).json()
    second = client.get("/trading/trades", params={"limit": 3, "cursor": first["next_cursor"]}).json()

    assert [item["id"] for item in first["items"]] == [5, 4]
    assert [item["id"] for item in second["items"]] == [3, 2, 1]
    assert second["next_cursor"] is None
    assert [item["id"] for item in client.get("/trading/trades?symbol=ETHUSDT").json()["items"]] == [4, 2]
    assert client.get("/trading/trades?source=binance").json() == {"items": [], "next_cursor": None}


def test_get_trade_has_the_decision_and_the_cycle_behind_it(client: httpx.Client) -> None:
    client.post("/trading/run-cycle")

    assert client.get("/trading/trades/1").json() == {**TRADE, "decision": DECISION, "cycle": SUMMARY}


def test_latest_market_shows_what_a_cycle_would_see(client: httpx.Client, service: FakeService) -> None:
    shown = client.get("/trading/market/latest").json()

    assert shown == {"symbol": "BTCUSDT", "interval": "1m", "source": "simulated", "market": MARKET}
    assert service.ledger.cycles == []


def test_get_model_is_the_card(client: httpx.Client) -> None:
    metrics = {"log_loss": 1.01, "skill": None}

    wanted = {**CARD, "trained_at": "2026-11-21T01:00:00.000Z", "metrics": metrics, "live": {"old": False}}
    assert client.get("/model").json() == wanted


def test_cancel_job_ends_it_once(client: httpx.Client) -> None:
    job_id = client.post("/model/train").json()["id"]
    assert client.post(f"/jobs/{job_id}/cancel").json()["status"] == "CANCELED"
    problem(client.post(f"/jobs/{job_id}/cancel"), 409, "job_ended")
    problem(client.post("/jobs/none/cancel"), 404, "job_not_found")


def test_models_are_listed_taken_into_use_and_rolled_back(client: httpx.Client, service: FakeService) -> None:
    service.models = ["forest-test", "forest-older"]
    names = [model["id"] for model in client.get("/models").json()["items"]]
    assert names == ["forest-test", "forest-older"]
    taken = client.post("/models/forest-older/activate").json()
    assert (taken["id"], taken["state"], taken["edge"], taken["skill"]) == ("forest-older", "ACTIVE", "none", 0.01)
    assert client.post("/models/rollback").json()["id"] == "forest-test"
    problem(client.post("/models/forest-gone/activate"), 404, "model_not_found")
    service.models = ["forest-test"]
    problem(client.post("/models/rollback"), 409, "no_former_model")


def scored(minute: int, label: Signal, model_id: str = "forest-test") -> ScoredDecision:
    """A decision for BUY at 0.5 and what came of it."""
    opened = datetime(2026, 11, 21, 1, minute, tzinfo=UTC)
    probabilities = {Signal.BUY: 0.5, Signal.SELL: 0.25, Signal.HOLD: 0.25}
    decision = StatedDecision(
        f"cycle-{minute}", model_id, "BTCUSDT", Interval.M1, opened, Signal.BUY, 0.5, probabilities
    )
    loss = -math.log(probabilities[label])
    return ScoredDecision(decision, Truth(label, 0.01, loss), opened + timedelta(milliseconds=359_999))


def test_track_record_before_anything_settled_is_empty(client: httpx.Client) -> None:
    assert client.get("/model/track-record").json() == {"items": []}


def test_track_record_has_the_numbers_of_each_model_newest_first(client: httpx.Client, service: FakeService) -> None:
    service.scored = [
        scored(1, Signal.BUY, "forest-old"),
        scored(2, Signal.BUY),
        scored(3, Signal.HOLD),
    ]

    newest, oldest = client.get("/model/track-record").json()["items"]

    hits = {"count": 2, "rate": 0.5, "low": 0.09453, "high": 0.90547}
    assert newest == {
        "model_id": "forest-test",
        "count": 2,
        "first_settled_at": "2026-11-21T01:07:59.999Z",
        "last_settled_at": "2026-11-21T01:08:59.999Z",
        "log_loss": pytest.approx(1.5 * math.log(2)),
        "prior_log_loss": pytest.approx(math.log(2)),
        "skill": pytest.approx(-0.5),
        "brier": pytest.approx((0.375 + 0.875) / 2),
        "calibration_error": 0.0,
        "class_counts": {"BUY": 1, "SELL": 0, "HOLD": 1},
        "gate": pytest.approx(hits, abs=1e-5),
        "bins": [{"lower": 0.5, "upper": 0.55, "stated": 0.5, "hits": pytest.approx(hits, abs=1e-5)}],
        "running": [
            {"settled_at": "2026-11-21T01:07:59.999Z", "log_loss": pytest.approx(math.log(2))},
            {"settled_at": "2026-11-21T01:08:59.999Z", "log_loss": pytest.approx(1.5 * math.log(2))},
        ],
    }
    assert (oldest["model_id"], oldest["count"], oldest["skill"]) == ("forest-old", 1, None)


def test_track_record_of_one_model_leaves_out_the_others(client: httpx.Client, service: FakeService) -> None:
    service.scored = [scored(1, Signal.BUY, "forest-old"), scored(2, Signal.SELL)]

    found = client.get("/model/track-record", params={"model_id": "forest-old"}).json()["items"]

    assert [(item["model_id"], item["count"]) for item in found] == [("forest-old", 1)]
    assert client.get("/model/track-record?model_id=forest-gone").json() == {"items": []}


@pytest.mark.parametrize("model_id", ["", "x" * 129, "a/b", "a%00"])
def test_track_record_of_what_is_no_model_is_refused(client: httpx.Client, model_id: str) -> None:
    problem(client.get(f"/model/track-record?model_id={model_id}"), 422, "invalid_input")


PREDICTION = {
    "signal": "BUY",
    "confidence": 0.5,
    "probabilities": {"BUY": 0.5, "SELL": 0.2, "HOLD": 0.3},
    "model_id": "forest-test",
    "expected_return": 0.001,
    "edge": "none",
}


def test_predict_feature_rows_has_a_result_or_an_error_for_each(client: httpx.Client) -> None:
    body = {"feature_rows": [[0.1, -2], {"return_1": 0.1, "range_1": 1}, [1]]}

    assert client.post("/model/predict", json=body).json() == {
        "items": [
            {"row": 0, "prediction": PREDICTION, "error": None},
            {"row": 1, "prediction": PREDICTION, "error": None},
            {
                "row": 2,
                "prediction": None,
                "error": {"code": "features_mismatch", "message": "A row has 2 features."},
            },
        ]
    }


def test_predict_candles_takes_rows_binance_rows_and_objects(client: httpx.Client) -> None:
    body = {
        "candles": [
            [1795222740000, "63999", "64001.5", 63998, "64000", "1.25", 1795222799999],
            [1795222800000, "1", "2", "1", "1", "1", 1795222859999, "9.5", 12, "1", "2", "0"],
            CANDLES[2],
            {**CANDLES[2], "high": "1", "low": 2},
        ]
    }

    items = client.post("/model/predict", json=body).json()["items"]

    assert [item["error"] and item["error"]["code"] for item in items] == [
        "insufficient_history",
        "insufficient_history",
        None,
        "candle_impossible",
    ]
    assert items[2]["prediction"] == PREDICTION


def test_train_is_accepted_and_leads_to_its_job(client: httpx.Client) -> None:
    response = client.post("/model/train")

    job = {
        "id": "job-1",
        "kind": "training",
        "status": "RUNNING",
        "progress": 0.25,
        "message": "2,500 of 10,000 candles",
        "error_code": None,
        "error_message": None,
        "result": None,
        "created_at": "2026-11-21T01:02:03.456Z",
        "started_at": "2026-11-21T01:02:03.456Z",
        "finished_at": None,
    }
    assert response.status_code == 202
    assert response.headers["location"] == "/jobs/job-1"
    assert response.json() == job
    assert client.get(response.headers["location"]).json() == job
    assert client.get("/jobs?limit=5").json() == {"items": [job]}


def test_train_same_key_answers_the_same_job(client: httpx.Client) -> None:
    first = client.post("/model/train", headers={"Idempotency-Key": "k"})
    again = client.post("/model/train", headers={"Idempotency-Key": "k"})

    assert (again.status_code, again.content) == (202, first.content)
    assert again.headers["idempotency-replayed"] == "true"


def test_health_says_what_people_ask(client: httpx.Client) -> None:
    assert client.get("/health").json() == {
        "version": __version__,
        "source": "simulated",
        "model": {"model_id": "forest-test"},
        "database": {"ok": True},
        "last_cycle": None,
    }


def test_livez_is_alive(client: httpx.Client) -> None:
    assert client.get("/livez").json() == {"status": "alive"}


def test_readyz_all_well_names_every_check(client: httpx.Client) -> None:
    names = ["database", "market", "clock", "model", "ledger"]

    response = client.get("/readyz")

    assert response.status_code == 200
    assert response.json() == {
        "status": "ready",
        "checks": [{"name": name, "ok": True, "detail": "fine"} for name in names],
    }


def test_metrics_count_requests_by_route_template(client: httpx.Client) -> None:
    client.get("/trading/cycles/nothing-here")
    client.get("/no/such/address")

    response = client.get("/metrics")

    assert response.headers["content-type"].startswith("text/plain; version=")
    lines = response.text.splitlines()
    template = 'papertape_http_requests_total{method="GET",route="/trading/cycles/{cycle_id}",status="404"} 1.0'
    assert template in lines
    assert 'papertape_http_requests_total{method="GET",route="unmatched",status="404"} 1.0' in lines
    assert "papertape_ready 1.0" in lines


@pytest.mark.parametrize(
    "path", ["/health", "/livez", "/readyz", "/metrics", "/trading/trades", "/openapi.json", "/docs"]
)
def test_head_answers_as_get_does_without_a_body(client: httpx.Client, path: str) -> None:
    got, headed = client.get(path), client.head(path)

    assert headed.status_code == got.status_code == 200
    assert headed.content == b""
    assert headed.headers["content-type"] == got.headers["content-type"]


@pytest.mark.parametrize(
    ("path", "methods"),
    [("/trading/run-cycle", "OPTIONS, POST"), ("/health", "GET, HEAD, OPTIONS"), ("/jobs/x", "GET, HEAD, OPTIONS")],
)
def test_options_names_the_methods(client: httpx.Client, path: str, methods: str) -> None:
    response = client.options(path)

    assert (response.status_code, response.headers["allow"], response.content) == (204, methods, b"")


def test_root_leads_to_the_documentation(client: httpx.Client) -> None:
    response = client.get("/")

    assert (response.status_code, response.headers["location"]) == (307, "/docs")


def test_money_of_any_size_travels_exactly(client: httpx.Client, service: FakeService) -> None:
    client.post("/trading/run-cycle")
    odd = replace(
        service.ledger.trades[0],
        quantity=Decimal("1E-8"),
        notional=Decimal("123456789012345678901.12345678"),
        fee=Decimal("0E-8"),
    )
    service.ledger.resume(service.ledger.standing, [odd])

    shown = client.get("/trading/trades").json()["items"][0]

    assert shown["quantity"] == "0.00000001"
    assert shown["notional"] == "123456789012345678901.12345678"
    assert shown["fee"] == "0"
