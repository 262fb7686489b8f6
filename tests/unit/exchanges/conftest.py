"""A Binance of one's own, and clients of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Protocol

import pytest

from app.domain.ports import WaitStore
from app.exchanges.binance import BinanceMarketDataClient
from app.exchanges.binance_hosts import OnCall, Timing
from tests.support.exchange_client import NOW, PATIENT, MachineClock, Stopwatch
from tests.support.exchange_server import ExchangeServer


class MakeClient(Protocol):
    """Makes a client of the primary host."""

    def __call__(
        self,
        *,
        base_url: str = "",
        fallback_url: str = "",
        waits: WaitStore | None = None,
        on_call: OnCall | None = None,
        timing: Timing = PATIENT,
    ) -> BinanceMarketDataClient: ...


@pytest.fixture
def exchange() -> Iterator[ExchangeServer]:
    """The primary host."""
    with ExchangeServer() as server:
        server.set_time(NOW)
        yield server


@pytest.fixture
def fallback() -> Iterator[ExchangeServer]:
    """The second host."""
    with ExchangeServer() as server:
        server.set_time(NOW)
        yield server


@pytest.fixture
def clock(exchange: ExchangeServer) -> MachineClock:
    return MachineClock(exchange)


@pytest.fixture
def stopwatch() -> Stopwatch:
    return Stopwatch()


@pytest.fixture
async def make_client(exchange: ExchangeServer, clock: MachineClock, stopwatch: Stopwatch) -> AsyncIterator[MakeClient]:
    clients: list[BinanceMarketDataClient] = []

    def make(
        *,
        base_url: str = "",
        fallback_url: str = "",
        waits: WaitStore | None = None,
        on_call: OnCall | None = None,
        timing: Timing = PATIENT,
    ) -> BinanceMarketDataClient:
        client = BinanceMarketDataClient(
            base_url or exchange.url,
            fallback_url,
            clock,
            waits=waits,
            on_call=on_call,
            timing=replace(timing, monotonic=stopwatch),
        )
        clients.append(client)
        return client

    yield make
    for client in clients:
        await client.aclose()


@pytest.fixture
def client(make_client: MakeClient) -> BinanceMarketDataClient:
    return make_client()
