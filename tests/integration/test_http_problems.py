"""Every way a request can fail, and the problem document it gets for it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from app.errors import (
    ConfigurationError,
    ConflictError,
    DataQualityError,
    InvalidInputError,
    NotFoundError,
    NotReadyError,
    ServiceError,
    StorageError,
    UpstreamError,
    UpstreamRateLimitError,
    UpstreamRestrictedError,
    UpstreamTimeoutError,
)
from tests.support.edge import Edge, numbered, problem, running_edge
from tests.support.fake_service import FakeService

JSON = {"Content-Type": "application/json"}


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


@pytest.mark.parametrize(
    ("error", "status", "code", "retry_after"),
    [
        (InvalidInputError("Wrong.", code="invalid_interval"), 422, "invalid_interval", None),
        (NotFoundError("Unknown.", code="unknown_symbol"), 404, "unknown_symbol", None),
        (ConflictError("Busy.", code="cycle_in_progress", retry_after_seconds=2.2), 409, "cycle_in_progress", "3"),
        (NotReadyError("Training.", code="model_not_ready", retry_after_seconds=30), 503, "model_not_ready", "30"),
        (NotReadyError("Waiting."), 503, "not_ready", "1"),
        (UpstreamError("Down."), 502, "upstream_unavailable", None),
        (UpstreamTimeoutError("Slow."), 504, "upstream_timeout", None),
        (UpstreamRateLimitError("Stop.", retry_after_seconds=119.5), 503, "upstream_rate_limited", "120"),
        (UpstreamRestrictedError("Not here.", retry_after_seconds=900), 503, "upstream_restricted", "900"),
        (DataQualityError("Old.", code="stale_data"), 502, "stale_data", None),
        (StorageError("Full.", code="storage_full"), 503, "storage_full", "1"),
    ],
)
def test_service_error_is_answered_as_the_table_says(
    client: httpx.Client,
    service: FakeService,
    error: ServiceError,
    status: int,
    code: str,
    retry_after: str | None,
) -> None:
    service.error = error

    response = client.post("/trading/run-cycle")

    document = problem(response, status, code)
    assert document["detail"] == error.message
    assert document["instance"] == "/trading/run-cycle"
    assert response.headers.get("retry-after") == retry_after


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("the password is hunter2"),
        KeyError("hunter2"),
        ConfigurationError("DATABASE_URL hunter2"),
        ServiceError("hunter2"),
    ],
)
def test_unforeseen_error_is_a_500_that_tells_nothing(
    client: httpx.Client, service: FakeService, error: Exception
) -> None:
    service.error = error

    response = client.post("/trading/run-cycle")

    problem(response, 500, "internal_error")
    assert "hunter2" not in response.text
    assert "Traceback" not in response.text
    assert response.headers["x-content-type-options"] == "nosniff"


def test_refused_cycle_carries_its_id_and_facts(client: httpx.Client, service: FakeService) -> None:
    context = {"cycle_id": "cycle-9", "age_seconds": 840.5, "symbol": "BTCUSDT", "limits": (1, 2), "more": {"a": None}}
    service.error = DataQualityError("Too old.", code="stale_data", context=context)

    document = problem(client.post("/trading/run-cycle"), 502, "stale_data")

    facts = {name: document[name] for name in context}
    assert facts == {**context, "limits": [1, 2]}


def test_facts_can_not_replace_standard_members(client: httpx.Client, service: FakeService) -> None:
    names = ("type", "title", "status", "detail", "instance", "code", "request_id", "errors")
    service.error = NotFoundError("Unknown.", context=dict.fromkeys(names, "forged"))

    document = problem(client.post("/trading/run-cycle"), 404, "not_found")

    assert "forged" not in document.values()
    assert "errors" not in document


def test_facts_are_cut_and_printable(client: httpx.Client, service: FakeService) -> None:
    service.error = UpstreamError(
        "It said: \x1b[31m" + "x" * 2_000 + ".",
        context={"body": "\ud800" + "y" * 5_000, "ratio": float("nan"), "n": 10**30},
    )

    response = client.post("/trading/run-cycle")

    document = response.json()
    assert document["detail"].startswith("It said: \\x1b[31mxxx")
    assert len(document["detail"]) < 1_100
    assert document["body"].startswith("\\ud800yyy")
    assert len(document["body"]) < 220
    assert (document["ratio"], document["n"]) == (None, str(10**30))


@pytest.mark.parametrize(
    "symbol",
    numbered(
        *(
            "btcusdt",
            "BTC",
            "BTC/USDT",
            "BTC-USDT",
            "../../etc/passwd",
            "B" * 21,
            "B" * 3_000,
            "",
            "'; DROP TABLE trades;--",
        ),
        *("BTCUSDT ", "BTCUSDT\n", "BTCUSDT\x00", "\uff22\uff34\uff23USDT", "BTCÜSDT", "₿₿₿₿₿"),
    ),
)
def test_symbol_of_another_form_is_refused_before_anything_else(
    client: httpx.Client, service: FakeService, symbol: str
) -> None:
    for response in (
        client.post("/trading/run-cycle", params={"symbol": symbol}),
        client.get("/trading/market/latest", params={"symbol": symbol}),
        client.get("/trading/trades", params={"symbol": symbol}),
    ):
        document = problem(response, 422, "invalid_input")
        assert document["errors"][0]["field"] == "query.symbol"
        assert len(response.content) < 800
    assert service.ledger.cycles == []


@pytest.mark.parametrize(
    ("path", "field"),
    [
        *(
            (f"/trading/trades?limit={limit}", "query.limit")
            for limit in ("0", "-1", "1001", "x", "1.5", "", "NaN", "1e3")
        ),
        ("/trading/trades?limit=9223372036854775808", "query.limit"),
        (f"/trading/trades?limit={'9' * 4_000}", "query.limit"),
        ("/trading/cycles?limit=0", "query.limit"),
        ("/jobs?limit=1001", "query.limit"),
        ("/trading/trades/0", "path.trade_id"),
        ("/trading/trades/-1", "path.trade_id"),
        ("/trading/trades/x", "path.trade_id"),
        ("/trading/trades/9223372036854775808", "path.trade_id"),
        (f"/trading/trades/{'9' * 4_000}", "path.trade_id"),
        ("/trading/cycles/%00", "path.cycle_id"),
        ("/trading/cycles/..%20", "path.cycle_id"),
        (f"/trading/cycles/{'a' * 65}", "path.cycle_id"),
        ("/jobs/%F0%9F%92%A3", "path.job_id"),
        ("/trading/trades?source=Binance", "query.source"),
        (f"/trading/trades?cursor={'c' * 201}", "query.cursor"),
        ("/trading/trades?cursor=", "query.cursor"),
    ],
)
def test_read_with_a_wrong_value_names_it(client: httpx.Client, path: str, field: str) -> None:
    response = client.get(path)

    document = problem(response, 422, "invalid_input")
    assert [error["field"] for error in document["errors"]] == [field]
    assert "999999" not in json.dumps(document["errors"])
    assert len(document["instance"]) <= 201


def test_cursor_that_the_ledger_does_not_know_is_refused(client: httpx.Client) -> None:
    problem(client.get("/trading/trades?cursor=abc"), 422, "invalid_cursor")


@pytest.mark.parametrize("interval", ["1s", "2m", "1M", "", "1m ", "60"])
def test_interval_that_is_none_is_refused(client: httpx.Client, interval: str) -> None:
    document = problem(client.post("/trading/run-cycle", params={"interval": interval}), 422, "invalid_input")

    assert document["errors"][0]["field"] == "query.interval"


def test_parameter_that_is_misspelt_is_refused_and_trades_nothing(client: httpx.Client, service: FakeService) -> None:
    document = problem(client.post("/trading/run-cycle?symobl=ETHUSDT"), 422, "invalid_input")

    assert document["errors"] == [
        {"field": "query.symobl", "message": "This parameter is not known here", "code": "extra_forbidden"}
    ]
    assert service.ledger.cycles == []


def test_parameter_that_is_doubled_is_refused(client: httpx.Client) -> None:
    document = problem(client.post("/trading/run-cycle?symbol=BTCUSDT&symbol=ETHUSDT"), 422, "invalid_input")

    assert document["errors"][0]["code"] == "duplicate"


def test_many_wrong_parameters_give_a_short_answer(client: httpx.Client) -> None:
    query = "&".join(f"{place}{'x' * 60}=1" for place in range(100))

    response = client.get(f"/trading/trades?{query}")

    assert len(problem(response, 422, "invalid_input")["errors"]) == 20
    assert len(response.content) < 5_000


def test_unknown_symbol_is_not_found(client: httpx.Client) -> None:
    document = problem(client.post("/trading/run-cycle?symbol=NOSUCH"), 404, "unknown_symbol")

    assert document["symbol"] == "NOSUCH"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/trading/trades/7", "trade_not_found"),
        ("/trading/cycles/none", "cycle_not_found"),
        ("/jobs/none", "job_not_found"),
        ("/nothing", "route_not_found"),
        ("/trading/trades/", "route_not_found"),
        ("/HEALTH", "route_not_found"),
        ("//health", "route_not_found"),
        ("/docs/assets/../../etc/passwd", "route_not_found"),
        ("/docs/assets/%2e%2e/%2e%2e/__init__.py", "route_not_found"),
        ("/docs/assets/none.js", "route_not_found"),
        ("/redoc", "route_not_found"),
    ],
)
def test_what_does_not_exist_is_not_found(edge: Edge, path: str, code: str) -> None:
    raw = edge.server.exchange(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    head, _, body = raw.partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 404 ")
    assert b"content-type: application/problem+json" in head
    assert json.loads(body)["code"] == code


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "TRACE"])
def test_run_cycle_by_another_method_is_refused(client: httpx.Client, service: FakeService, method: str) -> None:
    response = client.request(method, "/trading/run-cycle")

    assert response.status_code == 405
    assert response.headers["allow"] == "OPTIONS, POST"
    assert response.headers["content-type"] == "application/problem+json"
    assert service.ledger.cycles == []
    if method != "HEAD":
        problem(response, 405, "method_not_allowed")


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/portfolio/orders", "GET, HEAD, OPTIONS, POST"),
        ("/portfolio/orders/any", "DELETE, GET, HEAD, OPTIONS"),
        ("/portfolio/close", "OPTIONS, POST"),
    ],
)
def test_address_of_several_routes_names_the_methods_of_all(client: httpx.Client, path: str, methods: str) -> None:
    refused, asked = client.put(path), client.options(path)

    problem(refused, 405, "method_not_allowed")
    assert refused.headers["allow"] == asked.headers["allow"] == methods
    assert asked.status_code == 204


@pytest.mark.parametrize(
    "path", ["/trading/trades", "/health", "/model", "/jobs", "/docs", "/docs/assets/swagger-ui.css", "/openapi.json"]
)
def test_read_by_post_is_refused(client: httpx.Client, path: str) -> None:
    response = client.post(path)

    problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize(
    "body",
    numbered(
        *(
            b"{",
            b'{"a":}',
            b"[1,]",
            b"nul",
            b"\xff\xfe{\x00}\x00",
            b"\xef\xbb\xbf{}",
            b"{'feature_rows': [[1]]}",
            b"\x00",
        ),
        *(b'{"feature_rows": [[NaN]]}', b'{"feature_rows": [[Infinity]]}', b'{"feature_rows": [[-Infinity]]}'),
        *(b'{"feature_rows": [[1e400]]}', b'{"feature_rows": [[-1e999]]}'),
        b'{"feature_rows": [[' + b"9" * 5_000 + b"]]}",
        b'{"feature_rows": [[1]], "feature_rows": [[2]]}',
        *(b"[" * 30_000, b"[" * 30_000 + b"]" * 30_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
    ),
)
def test_body_that_is_no_strict_json_is_refused(client: httpx.Client, body: bytes) -> None:
    response = client.post("/model/predict", content=body, headers=JSON)

    document = problem(response, 422, "invalid_input")
    assert document["errors"][0]["field"].startswith("body")
    assert len(response.content) < 1_000


@pytest.mark.parametrize(
    "body",
    numbered(
        *(
            b"{}",
            b"null",
            b"[]",
            b'"text"',
            b"1",
            b'{"feature_rows": []}',
            b'{"candles": []}',
            b'{"feature_rows": [[]]}',
        ),
        *(b'{"feature_rows": [["1"]]}', b'{"feature_rows": [[true]]}', b'{"feature_rows": [[null]]}'),
        *(b'{"feature_rows": [[1e16]]}', b'{"feature_rows": [{}]}', b'{"feature_rows": [[1]], "candles": []}'),
        b'{"feature_rows": [[1]], "\\ud800": 1}',
        b'{"feature_rows": [{"\\udfff": "\\ud800"}]}',
        b'{"candles": [[1, "1", "1", "1", "1", "1"]]}',
        b'{"candles": [[1, "1", "1", "1", "1", "-1", 2]]}',
        b'{"candles": [[1, "1", "1", "1", "1", "1e5", 2]]}',
        b'{"candles": [[1, true, "1", "1", "1", "1", 2]]}',
        b'{"candles": [[99999999999999, "1", "1", "1", "1", "1", 2]]}',
        b'{"candles": [{"open_time": "2026-11-21T01:02:03Z"}]}',
        json.dumps({"feature_rows": [[1]] * 501}).encode(),
        json.dumps({"feature_rows": [[1] * 201]}).encode(),
    ),
)
def test_prediction_of_something_else_is_refused(client: httpx.Client, body: bytes) -> None:
    problem(client.post("/model/predict", content=body, headers=JSON), 422, "invalid_input")


@pytest.mark.parametrize(
    "moment",
    numbered(
        "2026-11-21T01:02:03",
        "1795222923",
        1795222923,
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "x",
        None,
    ),
)
def test_candle_of_no_time_is_refused(client: httpx.Client, moment: object) -> None:
    prices = dict.fromkeys(("open", "high", "low", "close", "volume"), "1")
    candle = {**prices, "open_time": moment, "close_time": "2026-11-21T01:02:03Z"}

    problem(client.post("/model/predict", json={"candles": [candle]}), 422, "invalid_input")


def test_errors_do_not_echo_what_was_sent(client: httpx.Client) -> None:
    canary = "canary" * 2_000

    response = client.post("/model/predict", json={"feature_rows": [[canary]], canary: canary})

    problem(response, 422, "invalid_input")
    assert len(response.content) < 2_000
    assert "canary" * 40 not in response.text


@pytest.mark.parametrize("body", numbered(b'{"symbol": "ETHUSDT"}', b"[]", b'"x"', b"1"))
def test_run_cycle_with_a_body_is_refused(client: httpx.Client, service: FakeService, body: bytes) -> None:
    problem(client.post("/trading/run-cycle", content=body, headers=JSON), 422, "invalid_input")

    assert service.ledger.cycles == []


@pytest.mark.parametrize(
    "media_type",
    [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonx"],
)
def test_body_of_another_media_type_is_refused(client: httpx.Client, media_type: str | None) -> None:
    headers = {} if media_type is None else {"Content-Type": media_type}

    for path in ("/model/predict", "/trading/run-cycle", "/model/train"):
        problem(client.post(path, content=b"{}", headers=headers), 415, "unsupported_media_type")


@pytest.mark.parametrize("key", numbered("", "k" * 256, "two words", "k\u00e9y", "tab\there"))
def test_idempotency_key_of_another_form_is_refused(client: httpx.Client, service: FakeService, key: str) -> None:
    response = client.post("/trading/run-cycle", headers={b"Idempotency-Key": key.encode("latin-1")})

    document = problem(response, 422, "invalid_input")
    assert document["errors"][0]["field"] == "header.Idempotency-Key"
    assert service.ledger.cycles == []


def test_idempotency_key_twice_in_a_request_is_refused(client: httpx.Client) -> None:
    response = client.post("/trading/run-cycle", headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "b")])

    assert problem(response, 422, "invalid_input")["errors"][0]["code"] == "duplicate"


def test_idempotency_key_of_another_request_is_refused(client: httpx.Client, service: FakeService) -> None:
    headers = {"Idempotency-Key": "k"}
    client.post("/trading/run-cycle?symbol=BTCUSDT", headers=headers)

    problem(client.post("/trading/run-cycle?symbol=ETHUSDT", headers=headers), 422, "idempotency_key_reused")
    problem(
        client.post("/trading/run-cycle?symbol=BTCUSDT&interval=5m", headers=headers), 422, "idempotency_key_reused"
    )
    assert len(service.ledger.cycles) == 1


def test_training_while_one_runs_is_refused(client: httpx.Client) -> None:
    client.post("/model/train")

    response = client.post("/model/train")

    problem(response, 409, "training_in_progress")
    assert response.headers["retry-after"] == "30"


def test_readyz_with_failing_checks_names_them(client: httpx.Client, service: FakeService) -> None:
    service.failing = ("model", "clock")

    response = client.get("/readyz")

    document = problem(response, 503, "not_ready")
    assert document["detail"] == "Not ready: clock, model."
    assert document["checks"][2:4] == [
        {"name": "clock", "ok": False, "detail": "broken"},
        {"name": "model", "ok": False, "detail": "broken"},
    ]
    assert response.headers["retry-after"] == "1"
    assert client.get("/health").status_code == 200
    assert "papertape_ready 0.0" in client.get("/metrics").text.splitlines()


def test_ledger_that_can_not_be_read_is_said(client: httpx.Client, service: FakeService) -> None:
    service.ledger.error = StorageError("The database can not be read.")

    for path in ("/trading/trades", "/trading/trades/1", "/trading/cycles", "/trading/cycles/x"):
        problem(client.get(path), 503, "storage_unavailable")
