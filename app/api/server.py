"""uvicorn as this service runs it: one process, no slow client that holds anything, an end that is clean."""

from __future__ import annotations

import asyncio
import errno
import socket
from asyncio.events import TimerHandle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import structlog
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.api.middleware import new_request_id, security_headers
from app.api.problems import Problem
from app.errors import ConfigurationError

REQUEST_SECONDS = 30.0
"""How long a client may take to send a whole request, or to read what it was sent."""

KEEP_ALIVE_SECONDS = 5
GRACE_SECONDS = 8
"""How long running requests may go on once the service has been asked to stop."""

MAXIMUM_CONNECTIONS = 2_000
MAXIMUM_HEAD_BYTES = 32 * 1024

_BACKLOG = 512
_REASONS = {400: b"Bad Request", 431: b"Request Header Fields Too Large"}

log = structlog.get_logger()


class DeadlineProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, with a deadline while it is the client who keeps us waiting.

    The deadline runs from the moment there is nothing to do but wait for the client (at the start, after
    an answer, or while an answer can not be written) until a whole request has come; bytes that trickle in
    do not move it. With too many connections, one that waits gives way to a new one.
    """

    request_seconds = REQUEST_SECONDS
    maximum_connections = MAXIMUM_CONNECTIONS

    _deadline: TimerHandle | None = None
    _head_bytes = 0
    _head_is_open = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for a request."""
        super().connection_made(transport)
        self._cycles: WeakSet[RequestResponseCycle] = WeakSet()
        if len(self.connections) > self.maximum_connections:
            self._make_room()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop to wait, and let no request of several in a row write to what is closed."""
        # uvicorn tells the last of them only, and the one that is being answered comes before it.
        for cycle in self._cycles:
            cycle.disconnected = True
        super().connection_lost(exc)
        self._stop_watching()

    def data_received(self, data: bytes) -> None:
        """Take what the client sent, unless the head of its request grows without an end."""
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_is_open and self._head_bytes > MAXIMUM_HEAD_BYTES:
            self._refuse(Problem(431, "head_too_large", "The request line and headers are larger than 32 KiB."))
        self._watch()

    def on_message_begin(self) -> None:
        """Note that a head begins."""
        super().on_message_begin()
        self._head_is_open = True

    def on_headers_complete(self) -> None:
        """Note that the head is complete."""
        self._head_is_open = False
        self._head_bytes = 0
        super().on_headers_complete()
        self._cycles.add(self.cycle)

    def on_message_complete(self) -> None:
        """Note that what comes next belongs to another request."""
        self._head_bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Start to wait for the next request."""
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        """Start to wait for the client to read."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """Stop to wait for the client to read."""
        super().resume_writing()
        self._watch()

    def shutdown(self) -> None:
        """Let a running request end; drop a client we wait for."""
        if self.waits_for_client and self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, in the form of all other problems."""
        self._refuse(Problem(400, "malformed_request", f"{msg.rstrip('.')}."))

    @property
    def waits_for_client(self) -> bool:
        """Whether there is nothing to do until the client sends or reads something."""
        if self.cycle is None or self.cycle.response_complete or self._head_is_open:
            return True
        return self.cycle.more_body or self.flow.write_paused

    def _watch(self) -> None:
        if not self.waits_for_client:
            self._stop_watching()
        elif self._deadline is None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(self.request_seconds, self._cut)

    def _stop_watching(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _cut(self) -> None:
        self._deadline = None
        if self.cycle is not None and not self.cycle.response_complete:
            log.warning("http.client_too_slow", seconds=self.request_seconds)
        self.transport.abort()

    def _make_room(self) -> None:
        waiting = (other for other in self.connections if isinstance(other, DeadlineProtocol) and other is not self)
        victim = next((other for other in waiting if other.waits_for_client), self)
        victim.transport.abort()

    def _refuse(self, problem: Problem) -> None:
        request_id = new_request_id()
        body = problem.body("/", request_id)
        headers = [*problem.header_lines(), *security_headers("/"), ("X-Request-ID", request_id)]
        lines = [f"{name}: {value}" for name, value in [*headers, ("Content-Length", str(len(body)))]]
        head = b"HTTP/1.1 %d %s\r\n" % (problem.status, _REASONS[problem.status])
        self.transport.write(head + "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1") + body)
        self.transport.close()


class Server(uvicorn.Server):
    """A uvicorn server that says when it is ready, and whose process ends well after SIGTERM.

    Args:
        config: As `server_config` makes it.
        on_ready: Called once connections are taken.
        on_stop: Called before running requests are waited for, to end those that would go on for ever.
    """

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None], on_stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._on_stop = on_stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Take connections, and say so."""
        await super().startup(sockets=sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, and let what runs end."""
        self._on_stop()
        await super().shutdown(sockets=sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGINT and SIGTERM, and do not die of them afterwards."""
        with super().capture_signals():
            yield
            self._captured_signals.clear()


def server_config(
    app: ASGIApp, *, request_seconds: float = REQUEST_SECONDS, grace_seconds: int = GRACE_SECONDS
) -> uvicorn.Config:
    """How uvicorn serves `app`, whose lifespan the caller runs.

    Args:
        app: The application.
        request_seconds: How long a client may take to send a whole request.
        grace_seconds: How long running requests may go on once the service has been asked to stop.
    """

    class Protocol(DeadlineProtocol):
        pass

    Protocol.request_seconds = request_seconds
    return uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=grace_seconds,
        backlog=_BACKLOG,
        reset_contextvars=True,
    )


def bind(host: str, port: int) -> socket.socket:
    """Take the address, so that one that is taken is said before anything else starts.

    Args:
        host: An address or name of this machine.
        port: The port; 0 for a free one.

    Raises:
        ConfigurationError: The address can not be used (`address_unavailable`).
    """
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return _bound(*found[0])
    except OSError as error:
        raise address_error(host, port, error) from None


def _bound(family: int, kind: int, protocol: int, _name: str, address: tuple[Any, ...]) -> socket.socket:
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def address_error(host: str, port: int, error: OSError) -> ConfigurationError:
    """What to tell somebody whose address can not be listened on."""
    if error.errno == errno.EADDRINUSE:
        message = f"PORT: {port} on {host} is taken; stop what runs there or choose another, such as PORT={port + 1}."
    else:
        message = f"HOST, PORT: can not listen on {host} port {port}: {error.strerror}."
    return ConfigurationError(message, code="address_unavailable")


def address_of(listener: socket.socket) -> str:
    """The http:// address that `listener` is reached at from this machine."""
    host, port = listener.getsockname()[:2]
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
