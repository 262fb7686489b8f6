"""The event log over HTTP, on a real server: pages, the stream, its end, and readers who do not read."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.domain.events import EventType, to_document
from app.main import create_app
from app.research.event_relay import MAXIMUM_STREAMS
from tests.support.edge import problem, settings
from tests.support.event_service import EventService
from tests.support.events import make_event, make_events
from tests.support.http import RunningServer, running_server

pytest_plugins = ("tests.support.databases",)

ROOT = Path(__file__).parents[2]
DEADLINE = 0.4
PROGRAM = """
import sys
from app import main
from tests.support.edge import settings
from tests.support.event_service import EventService
real = main.create_app
main.create_app = lambda settings: real(settings, build=EventService)
main.serve(settings(port=0, database_url=sys.argv[1]), lambda address, service: print(address, flush=True))
"""


class Place:
    """A running server, its service, and a client."""

    def __init__(self, app: FastAPI, server: RunningServer, client: httpx.Client) -> None:
        self.server = server
        self.client = client
        self.service: EventService = app.state.service

    def read(self, count: int, **headers: str) -> list[dict[str, Any]]:
        """The first `count` events of a stream that goes on after `headers`."""
        with self.client.stream("GET", "/events/stream", headers=headers) as stream:
            return parse(stream.iter_lines(), count)

    def wait_for_streams(self, count: int) -> None:
        """Return once `count` streams are open."""
        deadline = time.monotonic() + 10
        while self.service.relay._streams != count:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture
def place(sqlite_url: str) -> Iterator[Place]:
    app = create_app(settings(database_url=sqlite_url), build=EventService)
    with (
        running_server(app, request_seconds=DEADLINE) as server,
        httpx.Client(base_url=server.url, trust_env=False, timeout=15) as client,
    ):
        yield Place(app, server, client)


def parse(lines: Iterator[str], count: int) -> list[dict[str, Any]]:
    """The documents of the next `count` events; each has its sequence as its id."""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        data = next(lines)
        if data.startswith("data: "):
            found.append(json.loads(data.removeprefix("data: ")))
            assert next(lines) == f"id: {found[-1]['sequence']}"
    return found


def test_list_has_filters_and_pages(place: Place) -> None:
    place.service.happen([*make_events(3), make_event(9, EventType.TRADING_HALTED, None)])

    first = place.client.get("/events", params={"type": "trade.filled", "limit": 2}).json()
    second = place.client.get("/events", params={"type": "trade.filled", "cursor": first["next_cursor"]}).json()
    late = place.client.get("/events", params={"since": "2026-11-21T00:00:02Z", "symbol": "BTCUSDT"}).json()

    assert [event["message"] for event in first["items"] + second["items"]] == ["2", "1", "0"]
    assert [event["message"] for event in late["items"]] == ["2"]
    assert second["next_cursor"] is None
    problem(place.client.get("/events", params={"type": "trade"}), 422, "invalid_input")
    problem(place.client.get("/events", params={"since": "yesterday"}), 422, "invalid_input")


def test_stream_sends_the_documents_of_the_list_and_of_the_file(place: Place) -> None:
    place.service.happen([make_event()])
    streamed = place.read(2, **{"Last-Event-ID": "0"})
    listed = place.client.get("/events").json()["items"]

    assert streamed == listed[::-1]
    assert streamed[1] == to_document(make_event()) | {"sequence": 2}


def test_stream_sends_what_happens_and_resumes_without_loss_or_doubles(place: Place) -> None:
    with place.client.stream("GET", "/events/stream") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert stream.headers["cache-control"] == "no-store"
        assert "x-request-id" in stream.headers
        place.wait_for_streams(1)
        time.sleep(0.05)
        place.service.happen(make_events(3))
        live = parse(stream.iter_lines(), 3)
    place.service.happen(make_events(150))
    resumed = place.read(150, **{"Last-Event-ID": str(live[-1]["sequence"])})
    by_query = place.client.stream("GET", "/events/stream", params={"last_event_id": 153})
    with by_query as stream:
        assert parse(stream.iter_lines(), 1)[0]["sequence"] == 154

    assert [event["sequence"] for event in live + resumed] == list(range(2, 155))


def test_stream_keeps_to_its_filters(place: Place) -> None:
    place.service.happen([make_event(0), make_event(1, EventType.ORDER_PLACED, "ETHUSDT"), make_event(2)])
    wanted = {"type": "order.placed", "symbol": "ETHUSDT", "last_event_id": "0"}
    with place.client.stream("GET", "/events/stream", params=wanted) as stream:
        lines = stream.iter_lines()
        assert parse(lines, 1)[0]["message"] == "1"
        place.service.happen([make_event(3), make_event(4, EventType.ORDER_PLACED, "ETHUSDT")])
        assert parse(lines, 1)[0]["message"] == "4"


def test_stream_refuses_what_is_no_sequence_and_a_foreign_host(place: Place) -> None:
    problem(place.client.get("/events/stream", headers={"Last-Event-ID": "-1"}), 422, "invalid_input")
    problem(place.client.get("/events/stream", params={"since": "2026-11-21T00:00:00Z"}), 422, "invalid_input")
    problem(place.client.get("/events/stream", headers={"Host": "evil.example"}), 421, "host_not_allowed")
    assert place.client.head("/events/stream").status_code == 200


def test_reader_beyond_the_last_place_is_asked_to_come_back_and_finds_it_free_later(place: Place) -> None:
    with ExitStack() as stack:
        for _place in range(MAXIMUM_STREAMS):
            stack.enter_context(place.client.stream("GET", "/events/stream"))
        refused = place.client.get("/events/stream")
        problem(refused, 503, "too_many_streams")
        assert refused.headers["retry-after"] == "5"
        assert place.client.post("/trading/run-cycle").status_code == 200, "streams take no place of a cycle"
    place.wait_for_streams(0)
    assert place.read(1, **{"Last-Event-ID": "0"})[0]["type"] == "service.started"


def test_reader_who_does_not_read_is_dropped_and_nobody_waits_for_him(
    place: Place, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as silent, place.client.stream("GET", "/events/stream") as stream:
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        silent.connect(("127.0.0.1", place.server.port))
        silent.sendall(b"GET /events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        place.wait_for_streams(2)
        time.sleep(0.05)
        lines = stream.iter_lines()
        for _burst in range(12):
            place.service.happen([make_event(message="x" * 20_000)] * 40)
            parse(lines, 40)
        place.wait_for_streams(1)
    place.wait_for_streams(0)
    assert "Traceback" not in capfd.readouterr().out


def test_open_stream_ends_at_once_when_the_process_is_told_to_stop(sqlite_url: str) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    command = [sys.executable, "-c", PROGRAM, sqlite_url]
    with subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as started:
        assert started.stdout is not None
        address = started.stdout.readline().strip()
        with httpx.stream("GET", f"{address}/events/stream?last_event_id=0", trust_env=False, timeout=15) as stream:
            lines = stream.iter_lines()
            assert parse(lines, 1)[0]["type"] == "service.started"
            began = time.monotonic()
            started.send_signal(signal.SIGTERM)
            rest = list(lines)
        _, log = started.communicate(timeout=20)

    assert started.returncode == 0, log
    assert time.monotonic() - began < 4
    assert "Traceback" not in log
    assert not [line for line in rest if line.startswith("data: ")]
