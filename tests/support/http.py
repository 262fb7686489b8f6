"""Runs an application on a real server, in a thread, on a free port of 127.0.0.1."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fastapi import FastAPI

from app.api.server import GRACE_SECONDS, REQUEST_SECONDS, Server, bind, server_config

START_SECONDS = 30.0
STOP_SECONDS = 20.0


@dataclass(frozen=True)
class RunningServer:
    """Where a server is reached, and the thing itself."""

    url: str
    port: int
    server: Server

    def connect(self) -> socket.socket:
        """A connection of one's own, for what no HTTP client would send."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def exchange(self, *parts: bytes) -> bytes:
        """Send `parts` as they are, and return everything that comes back until the server closes."""
        with self.connect() as connection:
            for part in parts:
                connection.sendall(part)
            return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    """Everything until the other side closes or resets."""
    answer = b""
    try:
        while data := connection.recv(65_536):
            answer += data
    except ConnectionResetError:
        pass
    return answer


@contextmanager
def running_server(
    app: FastAPI, *, request_seconds: float = REQUEST_SECONDS, grace_seconds: int = GRACE_SECONDS
) -> Iterator[RunningServer]:
    """Serve `app`, lifespan included, until the block ends."""
    listener = bind("127.0.0.1", 0)
    port = listener.getsockname()[1]
    ready = threading.Event()
    failures: list[BaseException] = []
    config = server_config(app, request_seconds=request_seconds, grace_seconds=grace_seconds)

    def stopping() -> None:
        app.state.service.event_relay.end_streams()

    server = Server(config, ready.set, stopping)

    async def serve() -> None:
        async with app.router.lifespan_context(app):
            await server.serve(sockets=[listener])

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
                runner.run(serve())
        except BaseException as error:  # noqa: BLE001 - raised again by the test's thread
            failures.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="server", daemon=True)
    thread.start()
    try:
        assert ready.wait(START_SECONDS), "the server did not start"
        if failures:
            raise failures[0]
        yield RunningServer(f"http://127.0.0.1:{port}", port, server)
    finally:
        server.should_exit = True
        thread.join(STOP_SECONDS)
        listener.close()
    assert not thread.is_alive(), "the server did not stop"
    if failures:
        raise failures[0]
