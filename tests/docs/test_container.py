"""The image and the compose file: valid, closed by default, and with a health check that tells the truth."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from ruamel.yaml import YAML

from app.settings import Settings

PROJECT = Path(__file__).parents[2]
SETTINGS = {name.upper() for name in Settings.model_fields}
NOT_SETTINGS = {"PATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "NUMBA_CACHE_DIR"}


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in order, continuation lines joined."""
    text = re.sub(r"^#.*\n", "", (PROJECT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", "")
    found = []
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        found.append((word, rest.strip()))
    return found


def last_stage() -> list[tuple[str, str]]:
    """The instructions of the image that is shipped."""
    every = instructions()
    start = max(index for index, (word, _) in enumerate(every) if word == "FROM")
    return every[start:]


def image_environment() -> dict[str, str]:
    """What the image sets."""
    rest = next(rest for word, rest in last_stage() if word == "ENV")
    return dict(pair.split("=", 1) for pair in rest.split())


def compose() -> dict[str, Any]:
    """The one service of the compose file."""
    document = YAML(typ="safe").load(PROJECT / "docker-compose.yml")
    service: dict[str, Any] = document["services"]["papertape"]
    return service


def health_check() -> list[str]:
    """The command of HEALTHCHECK."""
    rest = next(rest for word, rest in last_stage() if word == "HEALTHCHECK")
    command: list[str] = json.loads(rest.partition("CMD ")[2])
    return command


class _Answer(BaseHTTPRequestHandler):
    """Answers /livez with the status the server was made for, and remembers the Host headers."""

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, _LivezServer)
        server.asked.append((self.path, self.headers.get_all("Host") or []))
        self.send_response(server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _LivezServer(HTTPServer):
    def __init__(self, status: int) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.status = status
        self.asked: list[tuple[str, list[str]]] = []


@contextmanager
def livez_server(status: int) -> Iterator[_LivezServer]:
    """A server whose /livez answers `status`."""
    with _LivezServer(status) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def run_health_check(port: int, **environment: str) -> int:
    """The exit status of the health check's command against `port`."""
    program, *arguments = health_check()
    assert program == "python"
    result = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PORT": str(port), **environment},
        capture_output=True,
        check=False,
        timeout=20,
    )
    return result.returncode


def test_compose_file_is_valid_by_the_compose_specification() -> None:
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
        "docker-compose.yml",
    ]
    result = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_compose_publishes_on_loopback_only_where_it_allows_to_go_without_a_key() -> None:
    service = compose()
    assert service["environment"]["ALLOW_KEYLESS"] == "true"
    assert service["ports"] == ["127.0.0.1:8000:8000"]
    assert "network_mode" not in service


def test_compose_service_can_write_to_its_volumes_and_tmp_only() -> None:
    service = compose()
    assert service["read_only"] is True
    assert {volume.partition(":")[2] for volume in service["volumes"]} == {"/data", "/models"}
    assert [mount.partition(":")[0] for mount in service["tmpfs"]] == ["/tmp"]  # noqa: S108 - a mount of its own
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_compose_passes_a_key_on_and_works_without_env_file() -> None:
    service = compose()
    assert service["environment"]["API_KEY"] == "${API_KEY:-}"
    assert service["env_file"] == [{"path": ".env", "required": False}]


@pytest.mark.parametrize("where", ["image", "compose"])
def test_container_environment_names_are_settings(where: str) -> None:
    names = image_environment().keys() if where == "image" else compose()["environment"].keys()
    assert set(names) - NOT_SETTINGS <= SETTINGS


def test_image_listens_beyond_loopback_and_leaves_the_key_to_its_user() -> None:
    environment = image_environment()
    assert environment["HOST"] == "0.0.0.0"  # noqa: S104 - within the container
    assert not {"ALLOW_KEYLESS", "API_KEY"} & environment.keys()


def test_image_runs_as_a_numbered_user_without_rights() -> None:
    assert [rest for word, rest in last_stage() if word == "USER"] == ["10001:10001"]


def test_image_base_can_be_chosen_and_is_the_same_in_both_stages() -> None:
    every = instructions()
    assert every[0][0] == "ARG"
    assert every[0][1].startswith("BASE=python:3.1")
    assert [rest.split()[0] for word, rest in every if word == "FROM"] == ["${BASE}", "${BASE}"]


def test_image_holds_nothing_but_the_environment_and_the_source() -> None:
    copies = [rest.split()[:-1] for word, rest in last_stage() if word == "COPY"]
    assert copies == [["--from=build", "/opt/venv"], ["app"], ["ml"]]
    ignored = (PROJECT / ".dockerignore").read_text().splitlines()
    assert [line for line in ignored if line and not line.startswith("#")] == [
        *("*", "!app", "!ml", "!requirements.txt", "**/__pycache__")
    ]


def test_image_installs_by_hash() -> None:
    install = next(rest for word, rest in instructions() if word == "RUN" and "pip install" in rest)
    assert "--require-hashes --only-binary :all: -r /build/requirements.txt" in install


@pytest.mark.parametrize(("status", "outcome"), [(200, 0), (503, 1), (421, 1)])
def test_health_check_follows_livez(status: int, outcome: int) -> None:
    with livez_server(status) as server:
        assert run_health_check(server.server_port) == outcome
        assert [path for path, _ in server.asked] == ["/livez"]


def test_health_check_nobody_listens_fails() -> None:
    with livez_server(200) as server:
        port = server.server_port
    assert run_health_check(port) == 1


def test_health_check_calls_by_an_allowed_name_and_around_any_proxy() -> None:
    with livez_server(200) as server:
        proxy = "http://127.0.0.1:9"
        hosts = "papertape.example, localhost"
        assert run_health_check(server.server_port, ALLOWED_HOSTS=hosts, http_proxy=proxy, HTTP_PROXY=proxy) == 0
        assert server.asked == [("/livez", ["papertape.example"])]
