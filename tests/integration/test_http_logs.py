"""One line a request, which nothing a caller sends can break, and in which no secret stands."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from app.errors import UpstreamError
from tests.support.edge import Edge, running_edge

API_KEY = "key-that-must-not-be-logged"
SPELT_OUT = "hunter2/with:signs"
DATABASE_URL = "postgresql://paper:hunter2%2Fwith%3Asigns@db/papertape"


@pytest.fixture
def edge() -> Iterator[Edge]:
    with running_edge(api_key=API_KEY, database_url=DATABASE_URL) as running:
        yield running


def requests(edge: Edge) -> list[dict[str, object]]:
    return [event for event in edge.events if event["event"] == "http.request"]


def test_request_leaves_one_line_with_what_is_needed(edge: Edge) -> None:
    edge.client.get("/trading/trades?limit=3", headers={"X-Request-ID": "request-0001"})

    (event,) = requests(edge)
    assert isinstance(event.pop("duration_ms"), float)
    assert isinstance(event.pop("timestamp"), str)
    assert event == {
        "event": "http.request",
        "level": "info",
        "method": "GET",
        "path": "/trading/trades",
        "status": 200,
        "request_id": "request-0001",
    }


def test_refused_request_leaves_its_code(edge: Edge) -> None:
    edge.client.get("/trading/trades?limit=0")
    edge.client.post("/trading/run-cycle")
    edge.client.get("/nothing", headers={"Host": "evil.example"})

    shown = [(event["status"], event["code"]) for event in requests(edge)]
    assert shown == [(422, "invalid_input"), (401, "unauthorized"), (421, "host_not_allowed")]


def test_probes_are_quiet_while_they_pass(edge: Edge) -> None:
    edge.client.get("/livez")
    edge.service.failing = ("model",)
    edge.client.get("/readyz")

    assert [(event["path"], event["level"]) for event in requests(edge)] == [("/livez", "debug"), ("/readyz", "info")]


@pytest.mark.parametrize(
    "path",
    [
        "/trading/cycles/x%0A2026-11-21%20%5Binfo%5D%20forged",
        "/%1B%5B31mred",
        "/a%0D%0Ab",
        "/%E2%80%AEright-to-left",
        "/%C2%85next-line%E2%80%A8separator",
        "/%FF%FE",
        "/" + "x" * 5_000,
    ],
)
def test_path_can_not_break_a_line(edge: Edge, path: str) -> None:
    edge.client.get(path)

    lines = edge.log.splitlines()
    (line,) = [line for line in lines if "http.request" in line]
    assert line.isprintable()
    assert len(json.loads(line)["path"]) <= 201 * 6


def test_headers_and_queries_are_not_logged(edge: Edge) -> None:
    edge.client.get(
        "/nothing?api_key=canary", headers={"User-Agent": "canary", "Cookie": "canary", "Referer": "canary"}
    )

    assert "canary" not in edge.log


def test_secrets_are_masked_wherever_they_come_from(edge: Edge) -> None:
    edge.client.post("/trading/run-cycle", headers={"X-API-Key": API_KEY})
    edge.client.post(f"/trading/run-cycle/{API_KEY}", headers={"X-API-Key": API_KEY})
    edge.service.error = RuntimeError(f"could not connect to {DATABASE_URL} with {SPELT_OUT}")
    edge.client.post("/trading/run-cycle", headers={"X-API-Key": API_KEY})
    facts = {"password": "other", "api_key": "other"}
    structlog.get_logger().warning("adapter.event", url=DATABASE_URL, **facts, text=SPELT_OUT)
    logging.getLogger("sqlalchemy").warning("connecting to %s", DATABASE_URL)

    log = edge.log
    assert API_KEY not in log
    assert "hunter2" not in log
    assert "other" not in log
    assert "postgresql://paper:***@db/papertape" in log


def test_unforeseen_error_is_logged_once_with_its_traceback_and_request(edge: Edge) -> None:
    edge.service.error = RuntimeError("it broke\n2026-11-21 [info] forged\x1b[0m")

    response = edge.client.post("/trading/run-cycle", headers={"X-API-Key": API_KEY})

    (event,) = [event for event in edge.events if event["event"] == "http.failed"]
    assert event["request_id"] == response.json()["request_id"]
    assert event["level"] == "error"
    assert 'app/api/middleware.py", line ' in event["exception"]
    assert "RuntimeError: it broke" in event["exception"]
    assert "\n    2026-11-21 [info] forged\\x1b[0m" in event["exception"]
    assert requests(edge)[-1]["code"] == "internal_error"


def test_foreseen_error_leaves_no_traceback(edge: Edge) -> None:
    edge.service.error = UpstreamError("The exchange is down.")

    edge.client.post("/trading/run-cycle", headers={"X-API-Key": API_KEY})

    assert "Traceback" not in edge.log
    assert requests(edge)[-1]["code"] == "upstream_unavailable"


def test_wrong_key_is_noted_without_the_key(edge: Edge) -> None:
    edge.client.post("/trading/run-cycle", headers={"X-API-Key": "a-guess"})

    (event,) = [event for event in edge.events if event["event"] == "auth.wrong_key"]
    assert event["address"] == "127.0.0.1"
    assert "a-guess" not in edge.log


def test_ids_of_a_request_do_not_stay_for_the_next(edge: Edge) -> None:
    edge.client.get("/trading/trades", headers={"X-Request-ID": "request-0001"})
    edge.client.get("/trading/trades", headers={"X-Request-ID": "request-0002"})

    assert [event["request_id"] for event in requests(edge)] == ["request-0001", "request-0002"]


def test_servers_own_lines_come_in_the_same_form(edge: Edge) -> None:
    edge.server.exchange(b"nonsense\r\n\r\n")

    assert any(event["event"] == "Invalid HTTP request received." for event in edge.events)
