"""The tests' own exchange behaves as Binance documents itself."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.domain.candle import Interval
from tests.support.candles import EPOCH, MILLISECOND, load_recorded, made_candles
from tests.support.exchange_client import NOW
from tests.support.exchange_server import ExchangeServer

PROJECT = Path(__file__).resolve().parents[3]
RECORDED = PROJECT.parent / "shared" / "data" / "ADAUSDT-1m.parquet"
MINUTE_MS = 60_000
NOW_MS = (NOW - EPOCH) // MILLISECOND


def get(exchange: ExchangeServer, path: str, **query: object) -> Any:
    response = httpx.get(f"{exchange.url}/api/v3/{path}", params={k: str(v) for k, v in query.items()}, trust_env=False)
    return response.json()


def opens(exchange: ExchangeServer, **query: object) -> list[int]:
    return [row[0] for row in get(exchange, "klines", symbol="BTCUSDT", interval="1m", **query)]


@pytest.mark.parametrize(("query", "count"), [({}, 500), ({"limit": 3}, 3), ({"limit": 5_000}, 1_000)])
def test_klines_limit_newest_rows_with_the_open_one_last(
    exchange: ExchangeServer, query: dict[str, int], count: int
) -> None:
    times = opens(exchange, **query)

    assert len(times) == count
    assert times[-1] == NOW_MS - NOW_MS % MINUTE_MS
    assert times == sorted(times)


def test_klines_window_oldest_from_the_start_newest_to_the_end(exchange: ExchangeServer) -> None:
    base = NOW_MS - NOW_MS % MINUTE_MS - 100 * MINUTE_MS

    assert opens(exchange, startTime=base, limit=2) == [base, base + MINUTE_MS]
    assert opens(exchange, startTime=base + 1, limit=1) == [base + MINUTE_MS]
    assert opens(exchange, endTime=base, limit=2) == [base - MINUTE_MS, base]
    assert opens(exchange, startTime=base, endTime=base + MINUTE_MS) == [base, base + MINUTE_MS]
    assert opens(exchange, startTime=NOW_MS + 10 * MINUTE_MS) == []


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"symbol": "NOSUCH", "interval": "1m"}, -1121),
        ({"symbol": "btcusdt", "interval": "1m"}, -1100),
        ({"symbol": "BTCUSDT", "interval": "7m"}, -1120),
        ({"interval": "1m"}, -1102),
        ({"symbol": "BTCUSDT"}, -1102),
        ({"symbol": "BTCUSDT", "interval": "1m", "endTime": "None"}, -1100),
    ],
)
def test_klines_bad_request_answered_with_binances_code(
    exchange: ExchangeServer, query: dict[str, str], code: int
) -> None:
    assert get(exchange, "klines", **query)["code"] == code


def test_weight_counted_and_limited_by_the_minute(exchange: ExchangeServer) -> None:
    exchange.market.weight_limit = 3
    answers = [httpx.get(f"{exchange.url}/api/v3/time", trust_env=False) for _ in range(4)]

    assert [one.headers["x-mbx-used-weight-1m"] for one in answers] == ["1", "2", "3", "4"]
    assert [one.status_code for one in answers] == [200, 200, 200, 429]
    assert 25 <= int(answers[-1].headers["retry-after"]) <= 30


def test_clock_moves_as_told(exchange: ExchangeServer) -> None:
    exchange.set_time(NOW, runs=False)
    assert get(exchange, "time") == {"serverTime": NOW_MS}

    exchange.advance(timedelta(hours=1))
    assert get(exchange, "time") == {"serverTime": NOW_MS + 3_600_000}


def test_given_candles_appear_as_time_passes(exchange: ExchangeServer) -> None:
    exchange.set_time(NOW, runs=False)
    given = made_candles("ETHUSDT", Interval.M1, end=NOW + timedelta(minutes=5), bars=10)
    exchange.give_candles("BTCUSDT", Interval.M1, given)
    before = opens(exchange)

    exchange.advance(timedelta(minutes=1))

    assert len(opens(exchange)) == len(before) + 1
    price = get(exchange, "ticker/price", symbol="BTCUSDT")["price"]
    assert price == f"{given[len(before)].close:.8f}"


def test_fault_given_times_then_heals(exchange: ExchangeServer) -> None:
    exchange.fail("time", "empty_object", times=2)

    assert [get(exchange, "time") == {} for _ in range(3)] == [True, True, False]
    assert exchange.count("time") == 3


def test_server_as_a_process_prints_its_address() -> None:
    command = [sys.executable, "-m", "tests.support.exchange_server", "--symbols", "7"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            info = httpx.get(f"{url}/api/v3/exchangeInfo", trust_env=False).json()
        finally:
            process.terminate()

    assert [entry["symbol"] for entry in info["symbols"]][4:] == ["ADAUSDT", "COIN000USDT", "COIN001USDT"]


@pytest.mark.skipif(not RECORDED.is_file(), reason="the recorded candles are not here")
def test_recorded_candles_moved_to_end_now() -> None:
    pytest.importorskip("pyarrow", reason="pandas reads parquet with pyarrow only")
    candles = load_recorded(RECORDED, NOW, bars=50)

    assert len(candles) == 50
    assert candles[-1].close_time == NOW.replace(second=0) - MILLISECOND
