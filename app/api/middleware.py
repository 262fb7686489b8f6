"""What stands before the routes, as plain ASGI: identity, records, Host, sizes and origin."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Collection
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.errors import INTERNAL, STOPPING
from app.api.problems import Problem, send_problem
from app.observability.metrics import Metrics

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""

MAXIMUM_BODY_BYTES = 64 * 1024
MAXIMUM_TARGET_BYTES = 8 * 1024

_PROBES = frozenset({"/livez", "/readyz", "/health", "/metrics"})
_METHODS = SAFE_METHODS | {"POST", "PUT", "PATCH", "DELETE", "TRACE"}
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{7,63}\Z")
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]{2,45}\]|[a-z0-9][a-z0-9.-]{0,252})(:\d{1,5})?\Z")
_API_POLICY = "default-src 'none'; frame-ancestors 'none'"
_DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)

log = structlog.get_logger()


def security_headers(path: str) -> tuple[tuple[str, str], ...]:
    """What every answer carries; the page under /docs may also run the scripts and styles of this service."""
    policy = _DOCS_POLICY if path == "/docs" or path.startswith("/docs/") else _API_POLICY
    return (*_HEADERS, ("Content-Security-Policy", policy))


def new_request_id() -> str:
    """A fresh id: 16 hexadecimal digits."""
    return secrets.token_hex(8)


class RequestIdentity:
    """Outermost: names the request, puts the security headers on its answer, and serves HEAD as GET.

    A caller's own `X-Request-ID` is kept when it is 8 to 64 plain characters.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.match(given) else new_request_id()
        # The server keeps the scope it made, and leaves the body out when that one says HEAD.
        inner = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        inner["state"] = {**scope.get("state", {}), "request_id": request_id, "method": scope["method"]}

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                for name, value in security_headers(scope["path"]):
                    headers.setdefault(name, value)
            await send(message)

        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        await self.app(inner, receive, send_named)


class RequestRecord:
    """Writes one log line and one count for each request, and turns what nobody foresaw into a plain 500."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 0
        started = time.perf_counter()

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_noted)
        except asyncio.CancelledError:
            if not status:
                await send_problem(STOPPING, scope, send_noted)
            raise
        except Exception:
            log.exception("http.failed", path=scope["path"])
            if status:
                raise
            await send_problem(INTERNAL, scope, send_noted)
        finally:
            _record(scope, status, time.perf_counter() - started)


def _record(scope: Scope, status: int, seconds: float) -> None:
    state = scope["state"]
    method = state["method"] if state["method"] in _METHODS else "OTHER"
    route = getattr(scope.get("route"), "path", "unmatched")
    metrics: Metrics = scope["app"].state.service.metrics
    metrics.observe_request(route, method, status, seconds)
    level = "debug" if route in _PROBES and status == 200 else "info"
    facts = {"code": state["problem_code"]} if "problem_code" in state else {}
    getattr(log, level)(
        "http.request",
        method=method,
        path=scope["path"],
        status=status,
        duration_ms=round(seconds * 1_000, 2),
        **facts,
    )


class HostGuard:
    """Refuses a request without exactly one Host header that names this service (DNS rebinding).

    Args:
        app: What to call when the header is good.
        allowed_hosts: The names, without ports; `[::1]` in brackets.
    """

    def __init__(self, app: ASGIApp, allowed_hosts: Collection[str]) -> None:
        self.app = app
        self._allowed = frozenset(name.lower() for name in allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        problem = self._judge(scope) if scope["type"] == "http" else None
        if problem is None:
            await self.app(scope, receive, send)
        else:
            await send_problem(problem, scope, send)

    def _judge(self, scope: Scope) -> Problem | None:
        hosts = Headers(scope=scope).getlist("host")
        match = _HOST.match(hosts[0].lower()) if len(hosts) == 1 else None
        if match is None:
            return Problem(400, "host_invalid", "Send exactly one Host header, such as Host: localhost.")
        if match["name"] not in self._allowed:
            return Problem(
                421,
                "host_not_allowed",
                "This service does not answer for that Host; ALLOWED_HOSTS lists those it does.",
            )
        return None


class SizeLimits:
    """Refuses long addresses and bodies, and reads a body whole before anything else waits for it.

    A body is read here, outside of authentication and shedding, so that a caller who sends slowly holds
    nothing but his own connection.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > MAXIMUM_TARGET_BYTES:
            await send_problem(Problem(414, "address_too_long", "The address is longer than 8 KiB."), scope, send)
            return
        headers = Headers(scope=scope)
        length = int(headers.get("content-length", "0"))
        if length == 0 and "transfer-encoding" not in headers:
            await self.app(scope, receive, send)
            return
        body = await _read_body(receive) if length <= MAXIMUM_BODY_BYTES else None
        if body is None:
            await send_problem(Problem(413, "body_too_large", "The body is larger than 64 KiB."), scope, send)
        elif not isinstance(body, _Disconnected):
            await self.app(scope, _replay(body, receive), send)


class _Disconnected:
    """The caller left before the body was complete."""


async def _read_body(receive: Receive) -> bytes | _Disconnected | None:
    """The whole body; None when it is too large."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return _Disconnected()
        body += message.get("body", b"")
        if len(body) > MAXIMUM_BODY_BYTES:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    pending = [body]

    async def replay() -> Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        return await receive()

    return replay


class OriginGuard:
    """Refuses what a browser sends from another site, unless that site is listed (cross-site forgery).

    Args:
        app: What to call when the request may pass.
        origins: Origins, such as https://example.org, that may change things.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self.app = app
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] in SAFE_METHODS or self._may_pass(Headers(scope=scope)):
            await self.app(scope, receive, send)
            return
        detail = "A page of another site may not change anything here; CORS_ORIGINS lists those that may."
        await send_problem(Problem(403, "cross_origin", detail), scope, send)

    def _may_pass(self, headers: Headers) -> bool:
        origins = headers.getlist("origin")
        if origins:
            return len(origins) == 1 and (origins[0] in self._origins or _is_own(origins[0], headers["host"]))
        return headers.get("sec-fetch-site", "none") in ("none", "same-origin")


def _is_own(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()
