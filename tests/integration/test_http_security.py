"""Host, origin, key, CORS, sizes and headers: what a stranger or a web page may not do."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from tests.support.edge import Edge, numbered, problem, running_edge
from tests.support.fake_service import FakeService
from tests.support.http import read_all

PAGE = "https://dashboard.example.org"
RUN = b"POST /trading/run-cycle HTTP/1.1\r\nHost: localhost\r\n"
EVERYWHERE = ".".join("0000")
API_KEY = "0123456789abcdef-secret"


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    with running_edge(cors_origins=(PAGE,)) as running:
        yield running


@pytest.fixture
def service(edge: Edge) -> FakeService:
    return edge.renew()


@pytest.fixture
def client(edge: Edge, service: FakeService) -> httpx.Client:
    assert edge.service is service
    return edge.client


def answer_to(edge: Edge, *lines: str) -> tuple[int, dict[str, object]]:
    """Status and document of the answer to a request written by hand."""
    raw = edge.server.exchange("\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1"))
    head, _, body = raw.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]", "localhost:1", "127.0.0.1:65535", "[::1]:8000"]
)
def test_host_of_this_machine_is_served(edge: Edge, host: str) -> None:
    assert answer_to(edge, "GET /livez HTTP/1.1", f"Host: {host}") == (200, {"status": "alive"})


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "127.0.0.2", "[::2]", EVERYWHERE),
        *("evil.example:8000", "localhost.", "127.1", "2130706433"),
    ],
)
@pytest.mark.parametrize("request_line", ["GET /health HTTP/1.1", "POST /trading/run-cycle HTTP/1.1"])
def test_host_of_another_name_is_refused(edge: Edge, service: FakeService, host: str, request_line: str) -> None:
    status, document = answer_to(edge, request_line, f"Host: {host}")

    assert (status, document["code"]) == (421, "host_not_allowed")
    assert service.ledger.cycles == []


@pytest.mark.parametrize(
    "lines",
    numbered(
        (),
        ("Host: localhost", "Host: localhost"),
        ("Host: localhost", "Host: evil.example"),
        ("Host:",),
        ("Host: localhost:port",),
        ("Host: user@localhost",),
        ("Host: localhost/path",),
        ("Host: local host",),
        ("Host: localhost, evil.example",),
        ("Host: [::1",),
    ),
)
def test_host_that_is_missing_doubled_or_malformed_is_refused(
    edge: Edge, service: FakeService, lines: tuple[str, ...]
) -> None:
    status, document = answer_to(edge, "POST /trading/run-cycle HTTP/1.1", *lines)

    assert (status, document["code"]) == (400, "host_invalid")
    assert service.ledger.cycles == []


def test_forwarded_headers_change_nothing(edge: Edge) -> None:
    headers = ("X-Forwarded-Host: localhost", "X-Forwarded-For: 127.0.0.1", "Forwarded: host=localhost")

    assert answer_to(edge, "GET /livez HTTP/1.1", "Host: evil.example", *headers)[0] == 421


@pytest.mark.parametrize(
    "headers",
    numbered(
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "file://"},
        {"Origin": "http://[::1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "anything"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
    ),
)
@pytest.mark.parametrize("path", ["/trading/run-cycle", "/model/train", "/model/predict", "/nothing"])
def test_post_of_another_site_is_refused(
    client: httpx.Client, service: FakeService, headers: dict[str, str], path: str
) -> None:
    problem(client.post(path, headers=headers), 403, "cross_origin")

    assert service.ledger.cycles == []
    assert service.jobs.jobs == []


def test_post_with_two_origins_is_refused(client: httpx.Client) -> None:
    response = client.post("/trading/run-cycle", headers=[("Origin", PAGE), ("Origin", "https://evil.example")])

    problem(response, 403, "cross_origin")


def test_post_of_this_service_or_a_listed_page_or_no_page_runs(edge: Edge, client: httpx.Client) -> None:
    for headers in (
        {"Origin": edge.server.url, "Sec-Fetch-Site": "same-origin"},
        {"Origin": PAGE, "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-origin"},
        {},
    ):
        assert client.post("/trading/run-cycle", headers=headers).status_code == 200


def test_read_of_another_site_is_served_without_leave_to_look(client: httpx.Client) -> None:
    response = client.get("/trading/trades", headers={"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"})

    assert response.status_code == 200
    assert "access-control-allow-origin" not in response.headers
    assert response.headers["cross-origin-resource-policy"] == "same-origin"


def test_listed_page_may_look_and_post_without_credentials(client: httpx.Client) -> None:
    response = client.get("/trading/trades", headers={"Origin": PAGE})
    preflight = client.options(
        "/trading/run-cycle",
        headers={
            "Origin": PAGE,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "x-api-key, idempotency-key",
        },
    )

    assert response.headers["access-control-allow-origin"] == PAGE
    assert "access-control-allow-credentials" not in response.headers
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == PAGE


@pytest.mark.parametrize(
    ("origin", "method", "headers"),
    [
        ("https://evil.example", "POST", "x-api-key"),
        (PAGE, "PUT", "x-api-key"),
        (PAGE, "POST", "x-other"),
        ("null", "GET", "accept"),
    ],
)
def test_preflight_of_what_is_not_allowed_is_refused(
    client: httpx.Client, origin: str, method: str, headers: str
) -> None:
    response = client.options(
        "/trading/run-cycle",
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": headers,
        },
    )

    problem(response, 400, "cross_origin")
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize(
    "path", ["/health", "/trading/trades", "/docs", "/docs/start.js", "/openapi.json", "/nothing", "/"]
)
def test_every_answer_carries_the_security_headers(client: httpx.Client, path: str) -> None:
    headers = client.get(path).headers

    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "unsafe-eval" not in headers["content-security-policy"]
    assert "server" not in headers


def test_policy_of_the_api_allows_nothing(client: httpx.Client) -> None:
    policy = client.get("/health").headers["content-security-policy"]

    assert policy == "default-src 'none'; frame-ancestors 'none'"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        *(("4f1c2a7be5d94b0f", True), ("job-7.run_2026", True), ("A" * 64, True)),
        *(
            ("short", False),
            ("A" * 65, False),
            ("has blank in it", False),
            ("a" * 8 + "\u00e9", False),
            ("-leading8", False),
        ),
        *(('"quoted-text"', False), ("<script>alert(1)</script>", False)),
    ],
)
def test_request_id_of_the_caller_is_kept_when_it_is_plain(client: httpx.Client, given: str, *, kept: bool) -> None:
    response = client.get("/nothing", headers={b"X-Request-ID": given.encode("latin-1")})

    shown = response.headers["x-request-id"]
    assert (shown == given) is kept
    assert len(shown) == len(given) if kept else len(shown) == 16
    assert response.json()["request_id"] == shown


def test_body_above_64_kib_is_refused_by_its_length(client: httpx.Client) -> None:
    body = b'{"feature_rows": [[' + b" " * 64 * 1024 + b"1]]}"

    for path in ("/model/predict", "/trading/run-cycle", "/health", "/nothing"):
        headers = {"Content-Type": "application/json"}
        problem(client.post(path, content=body, headers=headers), 413, "body_too_large")


def test_body_of_64_kib_is_taken(client: httpx.Client) -> None:
    head, tail = b'{"feature_rows": [[', b"1, 2]]}"
    body = head + b" " * (64 * 1024 - len(head) - len(tail)) + tail

    response = client.post("/model/predict", content=body, headers={"Content-Type": "application/json"})

    assert response.status_code == 200


def test_body_of_50_megabytes_is_refused_and_the_connection_goes_on(client: httpx.Client) -> None:
    problem(client.post("/model/predict", content=b"x" * 50_000_000), 413, "body_too_large")

    assert client.get("/livez").status_code == 200


def test_chunked_body_without_an_end_is_refused_by_counting(edge: Edge) -> None:
    head = b"POST /model/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with edge.server.connect() as connection:
        connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(9):
            connection.sendall(b"2000\r\n" + b" " * 0x2000 + b"\r\n")
        answer = connection.recv(65_536)

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code": "body_too_large"' in answer


def test_chunked_body_of_a_sane_size_is_taken(client: httpx.Client) -> None:
    def parts() -> Iterator[bytes]:
        yield b'{"feature_rows": '
        yield b"[[1, 2]]}"

    response = client.post("/model/predict", content=parts(), headers={"Content-Type": "application/json"})

    assert response.status_code == 200


def test_address_above_8_kib_is_refused(client: httpx.Client) -> None:
    problem(client.get("/trading/trades?cursor=" + "c" * 8_200), 414, "address_too_long")


def test_head_above_32_kib_is_refused(edge: Edge) -> None:
    lines = b"".join(b"X-%d: " % place + b"v" * 1_000 + b"\r\n" for place in range(33))
    with edge.server.connect() as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + lines)
        answer = read_all(connection)

    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b'"code": "head_too_large"' in answer


@pytest.mark.parametrize(
    "raw",
    numbered(
        *(b"\x00\x01\x02\x03\r\n\r\n", b"GET\r\n\r\n", b"GET /livez HTTP/9.9\r\nHost: localhost\r\n\r\n"),
        *(b"\x16\x03\x01\x02\x00\x01\x00", b"SSH-2.0-OpenSSH_9.2\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        RUN + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        RUN + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        RUN + b"Content-Length: -1\r\n\r\n",
        RUN + b"Content-Length: 99999999999999999999999\r\n\r\n",
        RUN + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        RUN + b"Bad Header: 1\r\n\r\n",
        RUN + b"X: a\x00b\r\n\r\n",
        b"POST /trading/run-cycle HTTP/1.1\r\n Host: localhost\r\n\r\n",
        b"POST /trading/run-cycle\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"CONNECT localhost:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ),
)
def test_what_is_not_clean_http_is_refused_without_effect(edge: Edge, service: FakeService, raw: bytes) -> None:
    with edge.server.connect() as connection:
        connection.sendall(raw)
        connection.shutdown(1)
        answer = connection.recv(65_536)

    assert answer == b"" or answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 404 ", b"HTTP/1.1 415 "))
    if answer:
        assert b"application/problem+json" in answer
        assert b"content-security-policy" in answer.lower()
    assert service.ledger.cycles == []
    assert edge.client.get("/livez").status_code == 200


def test_upgrade_to_another_protocol_is_not_made(edge: Edge) -> None:
    upgrade = ("Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
    raw = edge.server.exchange(
        "\r\n".join(["GET /livez HTTP/1.1", "Host: localhost", "Connection: upgrade, close", *upgrade, "", ""]).encode()
    )

    assert raw.startswith(b"HTTP/1.1 200 ")


@pytest.fixture(scope="module")
def locked() -> Iterator[Edge]:
    with running_edge(api_key=API_KEY) as running:
        yield running


WRITES = ("/trading/run-cycle", "/model/train", "/model/predict")


@pytest.mark.parametrize("path", WRITES)
def test_change_without_the_key_is_refused(locked: Edge, path: str) -> None:
    locked.renew()

    response = locked.client.post(path)

    problem(response, 401, "unauthorized")
    assert response.headers["www-authenticate"].startswith("ApiKey ")
    assert locked.service.ledger.cycles == []


def test_removal_without_the_key_is_refused(locked: Edge) -> None:
    problem(locked.client.delete("/portfolio/orders/any"), 401, "unauthorized")
    problem(locked.client.delete("/portfolio/orders/any", headers={"X-API-Key": API_KEY}), 404, "order_not_found")


def test_change_with_the_key_is_made(locked: Edge) -> None:
    locked.renew()

    assert locked.client.post("/trading/run-cycle", headers={"X-API-Key": API_KEY}).status_code == 200


def test_key_given_twice_or_in_the_address_is_none(locked: Edge) -> None:
    twice = [("X-API-Key", API_KEY), ("X-API-Key", "x")]

    assert locked.client.post("/trading/run-cycle", headers=twice).status_code == 401
    assert locked.client.post(f"/trading/run-cycle?api_key={API_KEY}").status_code == 401
    assert locked.client.post("/trading/run-cycle", headers={"Cookie": f"X-API-Key={API_KEY}"}).status_code == 401


@pytest.mark.parametrize(
    "path", ["/health", "/livez", "/readyz", "/metrics", "/trading/trades", "/docs", "/openapi.json"]
)
def test_reading_needs_no_key(locked: Edge, path: str) -> None:
    assert locked.client.get(path).status_code == 200


def test_key_is_documented_where_it_is_needed(locked: Edge, edge: Edge) -> None:
    document = locked.client.get("/openapi.json").json()

    assert document["components"]["securitySchemes"]["ApiKey"]["name"] == "X-API-Key"
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert ("security" in operation) == (method in ("post", "delete")), path
    assert "securitySchemes" not in edge.client.get("/openapi.json").json()["components"]


def test_guessing_is_stopped_after_ten_wrong_keys() -> None:
    with running_edge(api_key=API_KEY) as guessed:
        for place in range(10):
            wrong = guessed.client.post("/trading/run-cycle", headers={"X-API-Key": f"guess-{place}"})
            problem(wrong, 401, "unauthorized")

        for key in ("guess-11", API_KEY):
            response = guessed.client.post("/trading/run-cycle", headers={"X-API-Key": key})
            problem(response, 429, "too_many_wrong_keys")
            assert 1 <= int(response.headers["retry-after"]) <= 60
        assert guessed.client.get("/trading/trades").status_code == 200
        assert guessed.service.ledger.cycles == []


def test_public_service_shows_no_documentation() -> None:
    with running_edge(host=EVERYWHERE, api_key=API_KEY) as public:
        for path in ("/docs", "/docs/start.js", "/docs/assets/swagger-ui.css", "/openapi.json"):
            problem(public.client.get(path), 404, "route_not_found")
        assert public.client.get("/").headers["location"] == "/health"
