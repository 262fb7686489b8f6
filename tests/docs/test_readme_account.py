"""The commands on the account that the README shows do what it says, and print what it shows."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.portfolio_service import Counter, open_counter

pytest_plugins = ("tests.support.databases",)

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def counter(sqlite_url: str, tmp_path: Path) -> Iterator[Counter]:
    with open_counter(sqlite_url, tmp_path) as opened:
        yield opened


def blocks() -> tuple[list[str], str]:
    """The commands of the section, and what one of them prints."""
    section = README.read_text(encoding="utf-8").partition("### The account")[2]
    found = re.findall(r"^```\w+\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return found[0].splitlines(), found[1]


def run(counter: Counter, command: str) -> httpx.Response:
    """What a command of curl is answered."""
    words = iter(shlex.split(command, comments=True)[1:])
    method, body, headers, address = "GET", None, {}, ""
    for word in words:
        if word == "--json":
            method, body = "POST", next(words)
            headers["Content-Type"] = "application/json"
        elif word == "-X":
            method = next(words)
        elif word == "-H":
            name, _, value = next(words).partition(": ")
            headers[name] = value
        else:
            address = word.removeprefix("http://127.0.0.1:8000")
    resting = counter.get("/portfolio/orders", status="NEW")["items"]
    if "/ID" in address:
        address = address.replace("ID", resting[0]["id"])
    return counter.client.request(method, address, content=body, headers=headers)


def test_commands_on_the_account_work_and_print_what_is_shown(counter: Counter) -> None:
    commands, shown = blocks()
    printed = []
    for command in commands:
        answer = run(counter, command)
        assert answer.status_code in (200, 201), f"{command}: {answer.text}"
        if answer.headers["content-type"].startswith("text/csv"):
            printed.append(answer.text)

    assert [text.replace("\r\n", "\n") for text in printed] == [shown]
    assert len(commands) == 12
