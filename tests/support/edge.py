"""The API on a real server over a fake service that each test gets afresh."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.api.server import GRACE_SECONDS, REQUEST_SECONDS
from app.main import create_app, secrets_of
from app.observability.logging import configure_logging
from app.settings import Settings
from tests.support.fake_service import FakeService
from tests.support.http import RunningServer, running_server
from tests.support.logs import logs_given_back


def settings(**values: Any) -> Settings:
    """Settings that look at neither the environment's `.env` nor a real market, and write no file of events."""
    return Settings(_env_file=None, market_source="simulated", **{"event_log_file": None} | values)


@dataclass
class Edge:
    """A running API, its fake service and a client for it."""

    app: FastAPI
    server: RunningServer
    client: httpx.Client
    stream: io.StringIO

    @property
    def log(self) -> str:
        """What was logged about all requests that have been answered."""
        deadline = time.monotonic() + 5
        while self.server.server.server_state.tasks and time.monotonic() < deadline:
            time.sleep(0.005)
        return self.stream.getvalue()

    @property
    def events(self) -> list[dict[str, Any]]:
        """The same, line by line."""
        return [json.loads(line) for line in self.log.splitlines()]

    @property
    def service(self) -> FakeService:
        """What stands behind the routes now."""
        service = self.app.state.service
        assert isinstance(service, FakeService)
        return service

    def new_event(self) -> asyncio.Event:
        """Something the service's cycles can be made to wait for."""
        return asyncio.Event()

    def renew(self) -> FakeService:
        """Put a fresh service behind the routes."""
        old = self.service
        fresh = FakeService(old.settings)
        fresh.loop = old.loop
        asyncio.run_coroutine_threadsafe(fresh.open_account(), fresh.loop).result(10)
        self.app.state.service = fresh
        return fresh


@contextmanager
def logging_to(stream: io.StringIO, secrets: Sequence[str]) -> Iterator[None]:
    """Send the process's logs to `stream` until the block ends, and then where they went before."""
    with logs_given_back():
        configure_logging("DEBUG", json_lines=True, secrets=secrets, stream=stream)
        yield


@contextmanager
def running_edge(
    request_seconds: float = REQUEST_SECONDS, grace_seconds: int = GRACE_SECONDS, **values: Any
) -> Iterator[Edge]:
    """Run the API with the settings given by `values` until the block ends."""
    chosen = settings(**values)
    stream = io.StringIO()
    app = create_app(chosen, build=FakeService)
    with (
        logging_to(stream, secrets_of(chosen)),
        running_server(app, request_seconds=request_seconds, grace_seconds=grace_seconds) as server,
        httpx.Client(base_url=server.url, trust_env=False, timeout=15) as client,
    ):
        yield Edge(app, server, client, stream)


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The document of `response`, once it is the problem it should be."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["code"] == code, document
    assert document["type"] == f"urn:papertape:problem:{code}"
    assert document["status"] == status
    assert document["title"]
    assert document["detail"].endswith(".")
    assert document["instance"].startswith("/")
    assert document["request_id"] == response.headers["x-request-id"]
    return document


def numbered(*values: object) -> list[Any]:
    """Parameters whose ids are numbers, for values too long or too odd to stand in an id."""
    return [pytest.param(value, id=str(place)) for place, value in enumerate(values)]
