"""When a host may be asked again, and what is remembered of that over a restart."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from app.domain.candle import Interval
from app.errors import (
    StorageError,
    UpstreamError,
    UpstreamRateLimitError,
)
from app.exchanges.binance import BinanceMarketDataClient
from tests.support.exchange_client import NOW, QUICK, Stopwatch, cycle, failure
from tests.support.exchange_faults import status
from tests.support.exchange_server import ExchangeServer
from tests.unit.exchanges.conftest import MakeClient

pytestmark = pytest.mark.anyio


class Waits:
    """A `ports.WaitStore` in memory, which may be out of order."""

    def __init__(self, **kept: datetime) -> None:
        self.kept: dict[str, datetime] = kept
        self.is_broken = False
        self.loads = 0

    async def load_waits(self) -> dict[str, datetime]:
        self.loads += 1
        await asyncio.sleep(0)
        if self.is_broken:
            raise StorageError("The database is locked.")
        return dict(self.kept)

    async def save_wait(self, host: str, until: datetime) -> None:
        if self.is_broken:
            raise StorageError("The database is locked.")
        self.kept[host] = until


async def test_ban_obeyed_to_its_end(
    exchange: ExchangeServer, client: BinanceMarketDataClient, stopwatch: Stopwatch
) -> None:
    exchange.fail("*", "banned", times=1)
    await failure(client)

    stopwatch.passed += 715
    error = await failure(client)
    assert (error.code, round(error.retry_after_seconds or 0), exchange.count()) == ("upstream_banned", 5, 1)
    assert client.blocked_until == pytest.approx(NOW + timedelta(seconds=5), abs=timedelta(seconds=1))

    stopwatch.passed += 6
    await cycle(client)


async def test_ban_end_read_from_its_text(exchange: ExchangeServer, client: BinanceMarketDataClient) -> None:
    until = int((NOW + timedelta(hours=2)).timestamp() * 1_000)
    exchange.fail("*", status(418, {"code": -1003, "msg": f"Way too much; IP banned until {until}. Use streams."}))

    assert (await failure(client)).retry_after_seconds == pytest.approx(7_200, abs=3)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "Mon, 05 Jan 2026 12:02:00 GMT", "date": "Mon, 05 Jan 2026 12:00:15 GMT"}, 105),
        ({"retry_after": "Mon, 05 Jan 2026 12:02:00 GMT"}, 90),
        ({"retry_after": "Mon, 05 Jan 2026 11:00:00 GMT"}, 1),
        ({"retry_after": "0"}, 1),
        ({"retry_after": "-7"}, 60),
        ({"retry_after": "soon"}, 60),
        ({"retry_after": "9" * 11}, 259_200),
        ({"retry_after": "9" * 40}, 60),
        ({}, 60),
    ],
)
async def test_retry_after_in_every_spelling_understood(
    exchange: ExchangeServer, client: BinanceMarketDataClient, headers: dict[str, str], seconds: float
) -> None:
    exchange.fail("*", status(429, {"code": -1003, "msg": "x"}, **headers))

    assert (await failure(client)).retry_after_seconds == pytest.approx(seconds, abs=2)


async def test_rate_limit_without_header_doubles_until_an_answer(
    exchange: ExchangeServer, client: BinanceMarketDataClient, stopwatch: Stopwatch
) -> None:
    exchange.fail("*", "rate_limited_without_header", times=3)
    waits = []
    for _ in range(3):
        waits.append(round((await failure(client)).retry_after_seconds or 0))
        stopwatch.passed += waits[-1] + 1
    exchange.advance(timedelta(seconds=stopwatch.passed))
    await cycle(client)
    exchange.fail("*", "rate_limited_without_header")
    waits.append(round((await failure(client)).retry_after_seconds or 0))

    assert waits == [60, 120, 240, 60]


async def test_long_wait_survives_a_restart(exchange: ExchangeServer, make_client: MakeClient) -> None:
    waits = Waits()
    exchange.fail("*", "banned")
    await failure(make_client(waits=waits))
    assert waits.kept == {exchange.host: pytest.approx(NOW + timedelta(seconds=720), abs=timedelta(seconds=3))}
    restarted = make_client(waits=waits)

    errors = await asyncio.gather(*(failure(restarted) for _ in range(3)))

    assert {error.code for error in errors} == {"upstream_banned"}
    assert errors[0].retry_after_seconds == pytest.approx(720, abs=3)
    assert exchange.count() == 1
    assert restarted.blocked_until is not None
    assert waits.loads == 2


async def test_short_wait_not_stored(exchange: ExchangeServer, make_client: MakeClient) -> None:
    waits = Waits()
    exchange.fail("*", "rate_limited")

    await failure(make_client(waits=waits))

    assert waits.kept == {}


async def test_past_wait_forgotten(exchange: ExchangeServer, make_client: MakeClient) -> None:
    await cycle(make_client(waits=Waits(**{exchange.host: NOW - timedelta(seconds=1)})))


async def test_unreadable_waits_allow_no_call(exchange: ExchangeServer, make_client: MakeClient) -> None:
    waits = Waits()
    waits.is_broken = True
    client = make_client(waits=waits)

    assert isinstance(await failure(client), StorageError)
    assert exchange.count() == 0
    waits.is_broken = False
    await cycle(client)


async def test_wait_that_cannot_be_stored_still_holds(exchange: ExchangeServer, make_client: MakeClient) -> None:
    waits = Waits()
    client = make_client(waits=waits)
    await cycle(client)
    asked = exchange.count()
    waits.is_broken = True
    exchange.fail("*", status(418, {}, retry_after="720"), times=1)

    codes = [(await failure(client)).code for _ in range(2)]

    assert codes == ["upstream_banned", "upstream_banned"]
    assert exchange.count() <= asked + 2


async def test_breaker_opens_after_five_failed_calls_and_probes_after_ten_seconds(
    exchange: ExchangeServer, make_client: MakeClient, stopwatch: Stopwatch
) -> None:
    client = make_client(timing=replace(QUICK, attempts=1))
    await cycle(client)
    exchange.fail("time", "busy")
    for _ in range(5):
        with pytest.raises(UpstreamError):
            await client._measure_time()
    asked = exchange.count()

    error = await failure(client)
    assert (error.code, exchange.count()) == ("upstream_unavailable", asked)
    assert error.retry_after_seconds == pytest.approx(10, abs=1)

    stopwatch.passed += 11
    exchange.fail("*", "busy")
    await asyncio.gather(failure(client), failure(client))
    assert exchange.count() == asked + 1

    stopwatch.passed += 11
    exchange.heal()
    exchange.advance(timedelta(seconds=22))
    await cycle(client)


async def test_four_fifths_of_the_weight_hold_back_history_only(
    exchange: ExchangeServer, client: BinanceMarketDataClient
) -> None:
    exchange.market.weight_limit = 6_000
    exchange.set_time(NOW.replace(second=59))
    await cycle(client)
    exchange.reported_weight = 4_900
    await cycle(client)
    exchange.reported_weight = 10
    started = time.monotonic()

    await cycle(client)
    assert time.monotonic() - started < 10, "the wait is the background's, not the cycle's"
    candles = await client.fetch_range("BTCUSDT", Interval.M1, NOW - timedelta(minutes=50), NOW - timedelta(minutes=1))

    assert len(candles) == 49
    assert exchange.now() >= NOW + timedelta(seconds=30)


async def test_nineteen_twentieths_of_the_weight_refuse_until_the_minute_ends(
    exchange: ExchangeServer, client: BinanceMarketDataClient, stopwatch: Stopwatch
) -> None:
    exchange.market.weight_limit = 6_000
    await cycle(client)
    exchange.reported_weight = 5_699
    await cycle(client)
    asked = exchange.count()

    error = await failure(client)

    assert isinstance(error, UpstreamRateLimitError)
    assert error.retry_after_seconds == pytest.approx(30, abs=2)
    assert exchange.count() == asked
    exchange.reported_weight = None
    exchange.advance(timedelta(seconds=31))
    stopwatch.passed += 31
    await cycle(client)


@pytest.mark.parametrize("header", ["", "-5", "much", "9" * 30])
async def test_weight_header_out_of_order_ignored(
    exchange: ExchangeServer, client: BinanceMarketDataClient, header: str
) -> None:
    price = {"symbol": "BTCUSDT", "price": "28000.00"}
    exchange.fail("ticker/price", status(200, price, x_mbx_used_weight_1m=header))

    await cycle(client)
    await cycle(client)
