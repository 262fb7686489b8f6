"""Clients that are slow, silent, gone or too many hold nothing but their own connection."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import httpx
import pytest

from app.api.server import GRACE_SECONDS, DeadlineProtocol
from tests.support.edge import Edge, problem, running_edge
from tests.support.http import read_all

DEADLINE = 0.4
AMPLE = 15.0


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    with running_edge(request_seconds=DEADLINE) as running:
        yield running


POST = b"POST /model/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(b"", id="silent"),
        pytest.param(b"\r\n", id="blank line"),
        pytest.param(b"GET /li", id="half a request line"),
        pytest.param(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Half: ", id="half a head"),
        pytest.param(POST + b"Content-Length: 20\r\n\r\n{", id="half a body"),
        pytest.param(POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{", id="half a chunk"),
        pytest.param(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\nGET /li", id="half a second request"),
    ],
)
def test_client_that_stops_sending_is_cut_at_the_deadline(edge: Edge, start: bytes) -> None:
    began = time.monotonic()
    with edge.server.connect() as connection:
        connection.sendall(start)
        read_all(connection)
        waited = time.monotonic() - began

    assert DEADLINE * 0.8 < waited < AMPLE


@pytest.mark.parametrize(
    ("start", "drip"),
    [
        pytest.param(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n", b"X: y\r\n", id="headers"),
        pytest.param(POST + b"Content-Length: 60000\r\n\r\n", b" ", id="body"),
        pytest.param(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\r\n", id="blank lines"),
    ],
)
def test_client_that_drips_is_cut_at_the_deadline(edge: Edge, start: bytes, drip: bytes) -> None:
    began = time.monotonic()
    with edge.server.connect() as connection:
        connection.sendall(start)
        with suppress(BrokenPipeError, ConnectionResetError):
            while time.monotonic() - began < AMPLE:
                connection.sendall(drip)
                time.sleep(0.02)
        waited = time.monotonic() - began

    assert DEADLINE * 0.8 < waited < AMPLE


def test_client_that_does_not_read_is_cut_at_the_deadline(edge: Edge) -> None:
    written = len(edge.stream.getvalue())

    def after_the_cut() -> str:
        return edge.stream.getvalue()[written:].partition("http.client_too_slow")[2]

    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.connect(("127.0.0.1", edge.server.port))
        request = b"GET /docs/assets/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
        connection.sendall(request * 8)
        wait_for(lambda: "http.request" in after_the_cut())
    assert "http.failed" not in after_the_cut(), "who was cut is no fault of the service"


def test_request_that_takes_longer_than_the_deadline_is_answered(edge: Edge) -> None:
    service = edge.renew()
    service.hold = edge.new_event()
    threading.Timer(DEADLINE * 2, service.release).start()

    assert edge.client.post("/trading/run-cycle").status_code == 200


def test_pipelined_requests_are_answered_in_order(edge: Edge) -> None:
    one = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

    answer = edge.server.exchange(one * 3 + last)

    assert answer.count(b"HTTP/1.1 200 ") == 3
    assert answer.rindex(b"HTTP/1.1 200 ") < answer.index(b"HTTP/1.1 404 ")


def test_client_that_leaves_before_its_body_is_whole_leaves_nothing(edge: Edge) -> None:
    service = edge.renew()
    with edge.server.connect() as connection:
        connection.sendall(POST.replace(b"/model/predict", b"/trading/run-cycle") + b"Content-Length: 20\r\n\r\n{")

    assert edge.client.get("/livez").status_code == 200
    assert service.ledger.cycles == []


def test_client_that_leaves_during_its_cycle_still_gets_it_booked(edge: Edge) -> None:
    service = edge.renew()
    service.hold = edge.new_event()
    with edge.server.connect() as connection:
        connection.sendall(b"POST /trading/run-cycle HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: gone\r\n\r\n")
        wait_for(lambda: service.running == 1)
    service.release()
    wait_for(lambda: len(service.ledger.cycles) == 1)

    again = edge.client.post("/trading/run-cycle", headers={"Idempotency-Key": "gone"})

    assert again.headers["idempotency-replayed"] == "true"
    assert len(service.ledger.trades) == 1


def test_five_hundred_half_sent_requests_hold_up_nobody() -> None:
    with running_edge() as edge, ExitStack() as stack:
        for place in range(500):
            connection = stack.enter_context(edge.server.connect())
            connection.sendall((b"GET /livez HTTP/1.1\r\nX: ", POST + b"Content-Length: 9\r\n\r\n{", b"")[place % 3])
        began = time.monotonic()
        for _ in range(20):
            assert edge.client.get("/livez").status_code == 200
            assert edge.client.post("/trading/run-cycle").status_code == 200
        assert time.monotonic() - began < AMPLE


def test_connections_above_the_limit_push_out_those_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DeadlineProtocol, "maximum_connections", 20)
    with running_edge() as edge, ExitStack() as stack:
        silent = [stack.enter_context(edge.server.connect()) for _ in range(40)]
        for connection in silent:
            connection.settimeout(0.2)

        assert edge.client.get("/livez").status_code == 200
        assert len(edge.server.server.server_state.connections) <= 20


def test_stop_with_slow_clients_takes_no_longer_than_without() -> None:
    with ExitStack() as stack:
        with running_edge() as edge:
            for start in (b"", b"GET /li", POST + b"Content-Length: 20\r\n\r\n{"):
                stack.enter_context(edge.server.connect()).sendall(start)
            assert edge.client.get("/livez").status_code == 200
            began = time.monotonic()
        assert time.monotonic() - began < GRACE_SECONDS / 2
    assert edge.service.events == ["start", "stop"]


def test_stop_during_a_cycle_lets_it_finish() -> None:
    answers: list[httpx.Response] = []
    with running_edge() as edge:
        service = edge.service
        service.hold = edge.new_event()
        caller = threading.Thread(target=lambda: answers.append(edge.client.post("/trading/run-cycle")))
        caller.start()
        wait_for(lambda: service.running == 1)
        edge.server.server.should_exit = True
        time.sleep(0.3)
        service.release()
        caller.join(AMPLE)

    assert answers[0].status_code == 200
    assert service.events == ["start", "stop"]


def test_stop_during_a_cycle_that_does_not_end_gives_it_up_after_the_grace() -> None:
    answers: list[httpx.Response] = []
    with running_edge(grace_seconds=1) as edge:
        service = edge.service
        service.hold = edge.new_event()
        caller = threading.Thread(target=lambda: answers.append(edge.client.post("/trading/run-cycle")))
        caller.start()
        wait_for(lambda: service.running == 1)
        edge.server.server.should_exit = True
        caller.join(AMPLE)

    problem(answers[0], 503, "service_stopping")
    assert service.events == ["start", "stop"]
    assert service.ledger.cycles == []


def test_overload_is_shed_while_health_answers() -> None:
    with running_edge() as busy:
        service = busy.service
        service.hold = busy.new_event()
        with httpx.Client(base_url=busy.server.url, limits=httpx.Limits(max_connections=200), timeout=20) as many:
            answers: list[httpx.Response] = []
            threads = [
                threading.Thread(target=lambda: answers.append(many.post("/trading/run-cycle"))) for _ in range(100)
            ]
            for thread in threads:
                thread.start()
            wait_for(lambda: len(answers) == 20)
            for path in ("/health", "/livez", "/readyz", "/metrics", "/trading/trades", "/docs"):
                assert busy.client.get(path).status_code == 200
            shed = busy.client.get("/trading/market/latest")
            service.release()
            for thread in threads:
                thread.join(AMPLE)

    problem(shed, 503, "overloaded")
    assert shed.headers["retry-after"] == "1"
    assert sorted(answer.status_code for answer in answers) == [200] * 80 + [503] * 20
    assert service.most_running == 16
    assert {answer.json()["code"] for answer in answers if answer.status_code == 503} == {"overloaded"}


def wait_for(condition: Callable[[], object], seconds: float = AMPLE) -> None:
    """Wait until `condition()` is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)
