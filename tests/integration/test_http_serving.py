"""The process: it says when it is ready, ends well when asked to, and says in a line why it can not start."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from app.api.server import address_of, bind
from app.errors import ConfigurationError, StorageError
from app.main import create_app, secrets_of
from tests.support.edge import settings
from tests.support.fake_service import FakeService
from tests.support.http import running_server

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from app import main
from tests.support.edge import settings
from tests.support.fake_service import FakeService
real = main.create_app
main.create_app = lambda settings: real(settings, build=FakeService)
main.serve(settings(port=0, log_format="json"), lambda address, service: print(address, service.events, flush=True))
print("ended", flush=True)
"""


@contextmanager
def process() -> Iterator[subprocess.Popen[str]]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as started:
        try:
            yield started
        finally:
            started.kill()


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_served_process_ends_well_when_asked_to(signal_number: signal.Signals) -> None:
    with process() as started:
        assert started.stdout is not None
        address, _, events = started.stdout.readline().strip().partition(" ")
        assert events == "['start']", started.communicate(timeout=5)[1]
        assert httpx.get(f"{address}/livez", trust_env=False).json() == {"status": "alive"}
        started.send_signal(signal_number)
        output, log = started.communicate(timeout=30)

    assert (started.returncode, output) == (0, "ended\n"), log
    events_logged = [line.split('"event": "')[1].split('"')[0] for line in log.splitlines()]
    assert [events_logged[0], events_logged[-1]] == ["service.started", "service.stopped"]


def test_bind_address_that_is_taken_says_so() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        with pytest.raises(ConfigurationError, match=f"PORT: {port} on 127.0.0.1 is taken") as caught:
            bind("127.0.0.1", port)

    assert caught.value.code == "address_unavailable"


def test_bind_address_of_another_machine_says_so() -> None:
    with pytest.raises(ConfigurationError, match=r"HOST, PORT: can not listen on 192\.0\.2\.1 port 8000"):
        bind("192.0.2.1", 8000)


@pytest.mark.parametrize(
    ("host", "start"),
    [("127.0.0.1", "http://127.0.0.1:"), (".".join("0000"), "http://127.0.0.1:"), ("localhost", "http://")],
)
def test_address_of_a_listener_can_be_reached(host: str, start: str) -> None:
    with bind(host, 0) as listener:
        assert address_of(listener).startswith(start)
        assert not address_of(listener).endswith(":0")


def test_service_that_can_not_start_raises_its_own_error_and_is_stopped() -> None:
    built: list[FakeService] = []

    class Broken(FakeService):
        async def start(self) -> None:
            built.append(self)
            raise StorageError("The database is not ours.")

    with pytest.raises(StorageError), running_server(create_app(settings(), build=Broken)):
        pass

    assert built[0].events == ["stop"]


def test_create_app_opens_nothing() -> None:
    def build(_settings: object) -> FakeService:
        raise AssertionError("built too early")

    assert create_app(settings(), build=build).title == "Papertape"


def test_secrets_are_the_key_and_every_spelling_of_the_password() -> None:
    chosen = settings(api_key="sixteen-or-more-characters", database_url="postgresql://u:p%40ss%2Fword@h/d")

    assert secrets_of(chosen) == ["sixteen-or-more-characters", "p%40ss%2Fword", "p@ss/word", "p%40ss%2Fword"]
    assert secrets_of(settings()) == []
