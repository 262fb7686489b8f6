"""Which host is asked, how soon failure is known, and who hears of it."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from app.errors import (
    UpstreamError,
    UpstreamRateLimitError,
    UpstreamRestrictedError,
    UpstreamTimeoutError,
)
from app.exchanges.binance import BinanceMarketDataClient
from tests.support.exchange_client import PATIENT, QUICK, MachineClock, Stopwatch, cycle, failure
from tests.support.exchange_server import ExchangeServer
from tests.unit.exchanges.conftest import MakeClient

pytestmark = pytest.mark.anyio

NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def full_port() -> Iterator[str]:
    """An address whose backlog is full, so that connecting neither works nor fails."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        others = [socket.socket() for _ in range(3)]
        for other in others:
            other.setblocking(False)
            other.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        for other in others:
            other.close()


@pytest.mark.parametrize("fault", ["restricted", "forbidden", "reset"])
async def test_primary_refuses_fallback_serves_and_is_kept(
    exchange: ExchangeServer, fallback: ExchangeServer, make_client: MakeClient, fault: str
) -> None:
    exchange.fail("*", fault)
    client = make_client(fallback_url=fallback.url)

    await cycle(client)
    asked = exchange.count()
    await cycle(client)

    assert client.active_host == fallback.host
    assert exchange.count() == asked
    assert fallback.count("klines") == 2
    assert client.blocked_until is None


async def test_primary_refused_connection_fallback_serves(fallback: ExchangeServer, make_client: MakeClient) -> None:
    client = make_client(base_url=NOWHERE, fallback_url=fallback.url)

    await cycle(client)

    assert client.active_host == fallback.host


async def test_primary_never_connects_fallback_serves_in_time(
    fallback: ExchangeServer, make_client: MakeClient, full_port: str
) -> None:
    client = make_client(timing=replace(PATIENT, connect=1.5), base_url=full_port, fallback_url=fallback.url)
    started = time.monotonic()

    await cycle(client)

    # One caller found out for all: the connect timeout passed once and not once a call.
    assert time.monotonic() - started < 2 * 1.5


async def test_nothing_reachable_said_soon(make_client: MakeClient, full_port: str) -> None:
    client = make_client(timing=replace(QUICK, connect=0.2), base_url=NOWHERE, fallback_url=full_port)
    started = time.monotonic()

    error = await failure(client)

    assert type(error) is UpstreamError
    assert error.code == "upstream_unreachable"
    assert time.monotonic() - started < 3.0


async def test_fallback_that_is_the_primary_asked_once(exchange: ExchangeServer, make_client: MakeClient) -> None:
    exchange.fail("*", "forbidden")

    await failure(make_client(fallback_url=exchange.url + "/"))

    assert exchange.count() == 1


async def test_unknown_host_name_is_unreachable(make_client: MakeClient) -> None:
    error = await failure(make_client(base_url="http://no-such-host.invalid"))

    assert error.code == "upstream_unreachable"


async def test_both_restricted_one_probe_in_fifteen_minutes(
    exchange: ExchangeServer, fallback: ExchangeServer, make_client: MakeClient, stopwatch: Stopwatch
) -> None:
    exchange.fail("*", "restricted")
    fallback.fail("*", "restricted")
    client = make_client(fallback_url=fallback.url)

    errors = await asyncio.gather(*(failure(client) for _ in range(5)))
    stopwatch.passed += 890
    errors.append(await failure(client))

    assert all(isinstance(error, UpstreamRestrictedError) for error in errors)
    assert {error.code for error in errors} == {"upstream_restricted"}
    assert "BINANCE_FALLBACK_URL" in errors[0].message
    assert errors[-1].retry_after_seconds == pytest.approx(10, abs=1)
    assert (exchange.count(), fallback.count()) == (1, 1)
    assert client.blocked_until is not None

    stopwatch.passed += 11
    await failure(client)
    assert (exchange.count(), fallback.count()) == (2, 2)


async def test_restricted_primary_tried_again_after_fifteen_minutes(
    exchange: ExchangeServer, fallback: ExchangeServer, make_client: MakeClient, stopwatch: Stopwatch
) -> None:
    exchange.fail("*", "restricted", times=1)
    client = make_client(fallback_url=fallback.url)
    await cycle(client)
    for server in (exchange, fallback):
        server.advance(timedelta(seconds=901))
    stopwatch.passed += 901

    await cycle(client)
    await cycle(client)

    assert client.active_host == exchange.host


async def test_forsaken_primary_hangs_fallback_still_serves(
    exchange: ExchangeServer, fallback: ExchangeServer, make_client: MakeClient, stopwatch: Stopwatch
) -> None:
    exchange.fail("*", "restricted", times=1)
    client = make_client(timing=replace(PATIENT, probe=0.3), fallback_url=fallback.url)
    await cycle(client)
    exchange.fail("*", "no_answer")
    fallback.advance(timedelta(seconds=901))
    stopwatch.passed += 901

    await cycle(client)

    assert client.active_host == fallback.host
    assert exchange.count() == 2


async def test_server_errors_do_not_switch_hosts(
    exchange: ExchangeServer, fallback: ExchangeServer, make_client: MakeClient
) -> None:
    exchange.fail("*", "busy")

    assert (await failure(make_client(fallback_url=fallback.url))).code == "upstream_unavailable"
    assert fallback.count() == 0


@pytest.mark.parametrize("fault", ["rate_limited", "banned"])
async def test_waits_are_not_evaded_through_the_fallback(
    exchange: ExchangeServer, fallback: ExchangeServer, make_client: MakeClient, fault: str
) -> None:
    exchange.fail("*", fault)
    client = make_client(fallback_url=fallback.url)

    await failure(client)
    error = await failure(client)

    assert isinstance(error, UpstreamRateLimitError)
    assert (exchange.count(), fallback.count()) == (1, 0)


async def test_probe_returns_how_far_the_machine_is_ahead(client: BinanceMarketDataClient, clock: MachineClock) -> None:
    clock.skew = timedelta(seconds=-90)
    assert client.clock_skew_seconds is None

    assert await client.probe() == pytest.approx(-90, abs=0.5)
    assert client.clock_skew_seconds == pytest.approx(-90, abs=0.5)


@pytest.mark.parametrize("fault", ["no_answer", "busy", "html", "restricted", "reset"])
async def test_probe_primary_fails_fallback_answers(
    exchange: ExchangeServer, fallback: ExchangeServer, make_client: MakeClient, fault: str
) -> None:
    exchange.fail("*", fault)
    client = make_client(timing=replace(PATIENT, probe=0.5), fallback_url=fallback.url)

    await client.probe()

    assert client.active_host == fallback.host
    assert exchange.count() == (2 if fault == "reset" else 1), "aiohttp asks twice where a connection breaks"


async def test_probe_no_host_answers_raises_in_time(
    exchange: ExchangeServer, fallback: ExchangeServer, make_client: MakeClient
) -> None:
    exchange.fail("*", "no_answer")
    fallback.fail("*", "no_answer")
    client = make_client(timing=QUICK, fallback_url=fallback.url)
    started = time.monotonic()

    with pytest.raises(UpstreamTimeoutError):
        await client.probe()

    assert time.monotonic() - started < 2 * QUICK.probe + 5.0


async def test_probe_rate_limited_does_not_evade_it(
    exchange: ExchangeServer, fallback: ExchangeServer, make_client: MakeClient
) -> None:
    exchange.fail("*", "rate_limited")

    with pytest.raises(UpstreamRateLimitError):
        await make_client(fallback_url=fallback.url).probe()

    assert fallback.count() == 0


async def test_every_request_is_reported(exchange: ExchangeServer, make_client: MakeClient) -> None:
    calls: list[tuple[str, str, float]] = []
    client = make_client(on_call=lambda *call: calls.append(call))
    exchange.fail("klines", "busy", times=1)

    await cycle(client)

    assert sorted((endpoint, outcome) for endpoint, outcome, _ in calls) == [
        ("exchangeInfo", "ok"),
        ("klines", "ok"),
        ("klines", "upstream_unavailable"),
        ("ticker/price", "ok"),
        ("time", "ok"),
    ]
    assert all(0 <= seconds < 1 for _, _, seconds in calls)


async def test_cancelled_call_leaves_a_working_client(
    exchange: ExchangeServer, client: BinanceMarketDataClient
) -> None:
    exchange.fail("*", "no_answer", times=1)
    hanging = asyncio.create_task(cycle(client))
    await asyncio.sleep(0.05)

    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging

    await cycle(client)


async def test_connections_dropped_while_idle_are_replaced(
    exchange: ExchangeServer, client: BinanceMarketDataClient
) -> None:
    await cycle(client)
    exchange.drop_connections()
    await asyncio.sleep(0.02)

    await cycle(client)
