"""`python -m app logs`: the newest events, and with --follow each later one once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.cli import main
from app.domain.events import Event, EventType, to_document
from app.storage.database import Database
from app.storage.events import SqlEvents
from tests.support.events import make_event, make_events

pytest_plugins = ("tests.support.databases",)

PROJECT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def own_database(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", sqlite_url)
    monkeypatch.chdir(tmp_path)


def happen(url: str, events: list[Event]) -> None:
    async def work() -> None:
        async with Database(url) as database:
            await SqlEvents(database).append(events)

    asyncio.run(work())


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["app", "logs", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_logs_prints_the_newest_ones_oldest_first(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    happen(sqlite_url, [*make_events(3), make_event(4, EventType.TRADING_HALTED, None, "Halted by hand.")])

    assert run(monkeypatch, "--limit", "2") == 0

    assert capfd.readouterr().out.splitlines() == [
        "2026-11-21 00:00:02Z  trade.filled       BTCUSDT  2",
        "2026-11-21 00:00:04Z  trading.halted     Halted by hand.",
    ]


def test_logs_filters_and_json(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    happen(sqlite_url, [make_event(0), make_event(5, symbol="ETHUSDT"), make_event(6), make_event(7)])

    options = ("--type", "trade.filled", "--symbol", "BTCUSDT", "--since", "2026-11-21T00:00:06Z", "--json")
    assert run(monkeypatch, *options) == 0

    documents = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [document["message"] for document in documents] == ["6", "7"]
    assert documents[0] == to_document(make_event(6)) | {"sequence": 3}


def test_logs_refuses_what_is_no_type_symbol_or_time(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for option, value in (("--type", "trade"), ("--symbol", "btc"), ("--since", "soon"), ("--limit", "0")):
        assert run(monkeypatch, option, value) == 2
        assert capfd.readouterr().err


def test_logs_follow_prints_each_event_once_until_it_is_interrupted(sqlite_url: str, tmp_path: Path) -> None:
    happen(sqlite_url, make_events(2))
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    with subprocess.Popen(
        [sys.executable, "-m", "app", "logs", "--follow", "--json"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        seen = [json.loads(process.stdout.readline())["sequence"] for _ in range(2)]
        happen(sqlite_url, make_events(30))
        seen += [json.loads(process.stdout.readline())["sequence"] for _ in range(30)]
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=20)

    assert (seen, rest, process.returncode) == (list(range(1, 33)), "", 130)
