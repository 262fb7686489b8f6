"""The real process against a real HTTP server that speaks Binance's format: train, trade, kill, restart."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.domain.candle import Interval
from tests.support.candles import load_recorded
from tests.support.exchange_server import ExchangeServer

PROJECT = Path(__file__).parents[2]
RECORDED = PROJECT.parent / "shared" / "data" / "BTCUSDT-1m.parquet"
READY_SECONDS = 60.0


@pytest.fixture(scope="module")
def exchange() -> Iterator[ExchangeServer]:
    """Five symbols; BTCUSDT with recorded candles moved to end now, where they are at hand."""
    with ExchangeServer() as server:
        if RECORDED.exists():
            server.give_candles("BTCUSDT", Interval.M1, load_recorded(RECORDED, datetime.now(UTC), bars=4_000))
        yield server


def environment(exchange: ExchangeServer) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    return kept | {
        "PYTHONPATH": str(PROJECT),
        "MARKET_SOURCE": "binance",
        "BINANCE_BASE_URL": exchange.url,
        "BINANCE_FALLBACK_URL": "",
        "TRAINING_KLINES": "3000",
        "MODEL_THRESHOLD_PERCENT": "0.05",
        "MIN_CONFIDENCE": "0",
        "REQUIRE_POSITIVE_RETURN": "false",
        "PORT": "0",
    }


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, exchange: ExchangeServer) -> Iterator[httpx.Client]:
    """Of one service that is ready, for the tests that leave it running."""
    with running_service(tmp_path_factory.mktemp("service"), exchange) as (_, client):
        yield client


@contextmanager
def running_service(folder: Path, exchange: ExchangeServer) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """`python -m app serve`, once it is ready, and a client for it."""
    output = folder / "output.log"
    with output.open("w") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "app", "serve"],
            cwd=folder,
            env=environment(exchange),
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    try:
        address = find_address(output)
        with httpx.Client(base_url=address, timeout=30, trust_env=False) as client:
            wait_until_ready(client)
            yield process, client
    finally:
        process.kill()
        process.wait()


def find_address(output: Path) -> str:
    """What the banner says, once it is there."""
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


def all_trades(client: httpx.Client) -> list[dict[str, Any]]:
    return list(client.get("/trading/trades", params={"limit": 1000}).json()["items"])


def assert_books_add_up(trades: list[dict[str, Any]]) -> None:
    cash, held = Decimal(10_000), dict.fromkeys(("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "ADAUSDT"), Decimal(0))
    for trade in reversed(trades):
        sign = 1 if trade["side"] == "BUY" else -1
        cash -= sign * Decimal(trade["notional"]) + Decimal(trade["fee"])
        held[trade["symbol"]] += sign * Decimal(trade["quantity"])
        assert Decimal(trade["cash_after"]) == cash
        assert Decimal(trade["position_after"]) == held[trade["symbol"]]
        assert cash >= 0
    candles = [(trade["symbol"], trade["candle_open_time"]) for trade in trades]
    assert len(candles) == len(set(candles))


def test_service_killed_between_cycles_continues_its_books(tmp_path: Path, exchange: ExchangeServer) -> None:
    symbols = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "ADAUSDT")
    with running_service(tmp_path, exchange) as (process, client):
        model = client.get("/model").json()
        assert model["source"] == "binance"
        assert model["window"]["candles"] == 3_000
        reports = []
        for symbol in symbols:
            answer = client.post("/trading/run-cycle", params={"symbol": symbol}, headers={"Idempotency-Key": symbol})
            assert answer.status_code == 200, answer.text
            reports.append(answer.text)
        before = all_trades(client)
        assert_books_add_up(before)
        process.send_signal(signal.SIGKILL)
        process.wait()

    with running_service(tmp_path, exchange) as (process, client):
        assert client.get("/model").json()["model_id"] == model["model_id"]
        assert all_trades(client) == before
        for symbol, report in zip(symbols, reports, strict=True):
            answer = client.post("/trading/run-cycle", params={"symbol": symbol}, headers={"Idempotency-Key": symbol})
            assert answer.headers["Idempotency-Replayed"] == "true"
            assert answer.text == report
        for symbol in symbols * 2:
            assert client.post("/trading/run-cycle", params={"symbol": symbol}).status_code == 200
        assert_books_add_up(all_trades(client))
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=15) == 0

    listed = subprocess.run(
        [sys.executable, "-m", "app", "trades", "--json"],
        cwd=tmp_path,
        env=environment(exchange),
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(before) == 0 or f'"id":{before[0]["id"]}' in listed.stdout.replace(" ", "")


def test_cycles_at_once_on_one_candle_trade_it_once(client: httpx.Client) -> None:
    answers: list[httpx.Response] = []
    threads = [
        threading.Thread(target=lambda: answers.append(client.post("/trading/run-cycle?symbol=ETHUSDT")))
        for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 12
    assert {answer.status_code for answer in answers} <= {200, 409, 503}
    candles = [(trade["symbol"], trade["candle_open_time"]) for trade in all_trades(client)]
    assert len(candles) == len(set(candles))


def test_exchange_that_goes_away_refuses_and_comes_back_without_a_restart(
    client: httpx.Client, exchange: ExchangeServer
) -> None:
    exchange.fail("klines", "html")
    refused = client.post("/trading/run-cycle")
    exchange.heal()
    assert refused.status_code == 502
    assert refused.headers["Content-Type"] == "application/problem+json"
    cycle = client.get(f"/trading/cycles/{refused.json()['cycle_id']}").json()
    assert cycle["status"] == "REFUSED"
    assert cycle["reason_code"] == refused.json()["code"] == "upstream_bad_data"
    assert client.post("/trading/run-cycle").status_code == 200
