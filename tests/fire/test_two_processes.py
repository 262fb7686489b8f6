"""Several processes on one account: they trade a candle once, close once, and sell no more than there is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection, text

from app.storage.database import Database
from tests.support.fire import audit
from tests.support.fire_child import CASH, KEY, AskingProcess, Desks, Task

pytest_plugins = ("tests.support.databases",)
pytestmark = pytest.mark.anyio

PROJECT = Path(__file__).parents[2]
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
PEOPLES = "BNBUSDT"
READY_SECONDS = 120.0
HAMMERED_SECONDS = 8.0


async def test_processes_with_keys_of_their_own_trade_each_candle_once(database_url: str) -> None:
    processes = [AskingProcess(Task(database_url, name, until=60, keys=name)) for name in ("one", "two")]
    told = [process.finish() for process in processes]
    assert all(len(one) >= 30 for one in told)
    assert not set(told[0].values()) & set(told[1].values())
    await assert_whole(database_url, booked=sum(map(len, told)))


async def test_processes_with_the_same_keys_book_each_request_once(database_url: str) -> None:
    processes = [AskingProcess(Task(database_url, name, until=60)) for name in ("one", "two")]
    told = [process.finish() for process in processes]
    both = told[0].keys() & told[1].keys()
    assert len(both) >= 30
    assert [told[0][number] for number in both] == [told[1][number] for number in both]
    await assert_whole(database_url, booked=len(told[0].keys() | told[1].keys()))


async def assert_whole(url: str, booked: int) -> None:
    async with Database(url) as database:
        await Desks(database, "last").ledger.open_account(KEY, CASH)
        assert await database.read(audit) == []
        assert await database.read(lambda connection: count(connection, "records")) == booked
        assert await database.read(lambda connection: count(connection, "trades WHERE confidence IS NOT NULL")) >= 10


def count(connection: Connection, of_what: str) -> int:
    return int(connection.execute(text(f"SELECT count(*) FROM {of_what}")).scalar_one())


@pytest.mark.slow
async def test_services_hammered_at_once_trade_each_candle_once(database_url: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(running_service(tmp_path, name, database_url)) for name in ("one", "two")]
        with ThreadPoolExecutor(16) as pool:
            people = [pool.submit(buy_and_close, client) for client in clients for _ in range(2)]
            cycles = [pool.submit(hammer, client, symbol) for client in clients for symbol in SYMBOLS * 2]
            answers = [answer for one in cycles for answer in one.result()]
            bought, closed = (sum(counts) for counts in zip(*(one.result() for one in people), strict=True))
        assert all(client.get("/readyz").status_code == 200 for client in clients)
    statuses = Counter(status for status, _ in answers)
    assert set(statuses) <= {200, 409, 503}, statuses
    assert statuses[200] >= 100
    filled = Counter(
        (report["symbol"], report["market"]["candle_open_time"])
        for status, report in answers
        if status == 200 and report["execution"]["status"] == "FILLED"
    )
    assert filled
    assert bought >= closed >= 10
    assert set(filled.values()) == {1}
    async with Database(database_url) as database:
        assert await database.read(audit) == []


def hammer(client: httpx.Client, symbol: str) -> list[tuple[int, Any]]:
    """Ask for cycles of a symbol, one after the other, for a while."""
    deadline = time.monotonic() + HAMMERED_SECONDS
    answers = []
    while time.monotonic() < deadline:
        answer = client.post("/trading/run-cycle", params={"symbol": symbol})
        answers.append((answer.status_code, answer.json()))
    return answers


def buy_and_close(client: httpx.Client) -> tuple[int, int]:
    """Buy and close a symbol of one's own for a while; returns how often either was filled."""
    deadline = time.monotonic() + HAMMERED_SECONDS
    bought = closed = 0
    order = {"symbol": PEOPLES, "side": "BUY", "quantity": "0.1"}
    while time.monotonic() < deadline:
        answer = client.post("/portfolio/orders", json=order)
        assert answer.status_code in (201, 409, 503), answer.text
        bought += answer.status_code == 201
        answer = client.post("/portfolio/close", params={"symbol": PEOPLES})
        assert answer.status_code in (200, 409, 503), answer.text
        closed += answer.status_code == 200 and bool(answer.json()["fills"])
    return bought, closed


@contextmanager
def running_service(folder: Path, name: str, url: str) -> Iterator[httpx.Client]:
    """`python -m app serve` on the simulated market, once it is ready; the second finds the model of the first."""
    output = folder / f"{name}.log"
    kept = {one: os.environ[one] for one in ("PATH", "HOME", "LANG") if one in os.environ}
    environment = kept | {
        "PYTHONPATH": str(PROJECT),
        "DATABASE_URL": url,
        "MARKET_SOURCE": "simulated",
        "TRAINING_KLINES": "1500",
        # Whatever the model says of the present candle, it is hardly HOLD, and either way it is traded.
        "MODEL_THRESHOLD_PERCENT": "0.01",
        "MODEL_HORIZON_BARS": "5",
        "ALLOW_SHORT": "true",
        "MIN_CONFIDENCE": "0",
        "REQUIRE_POSITIVE_RETURN": "false",
        "EVENT_LOG_FILE": f"{name}.jsonl",
        "PORT": "0",
    }
    with output.open("w") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "app", "serve"], cwd=folder, env=environment, stdout=sink, stderr=subprocess.STDOUT
        )
    try:
        with httpx.Client(base_url=find_address(output), timeout=30, trust_env=False) as client:
            wait_until_ready(client)
            yield client
    finally:
        process.terminate()
        process.wait(30)


def find_address(output: Path) -> str:
    deadline = time.monotonic() + READY_SECONDS
    while (match := re.search(r"listening on (http://\S+)", output.read_text())) is None:
        assert time.monotonic() < deadline, output.read_text()
        time.sleep(0.05)
    return match[1]


def wait_until_ready(client: httpx.Client) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while (answer := client.get("/readyz")).status_code != 200:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.1)
