"""What tests of the exchange client share: a moment, clocks, and timeouts that are over soon."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from app.domain.candle import Interval
from app.errors import ServiceError
from app.exchanges.binance import BinanceMarketDataClient
from app.exchanges.binance_hosts import Timing
from tests.support.exchange_server import ExchangeServer

NOW = datetime(2026, 1, 5, 12, 0, 30, tzinfo=UTC)
"""Half a minute past noon, so that no minute ends during a test."""

PATIENT = Timing(backoff=0.004)
"""For tests in which no time-out is wanted, however busy the machine is."""

QUICK = Timing(total=0.9, attempt=0.25, connect=5.0, probe=0.25, backoff=0.004)
"""For tests that wait for an answer that is too late; on a busy machine a connection is not taken for such a one."""


class MachineClock:
    """A machine's clock that is ahead of an exchange's by `skew`."""

    def __init__(self, exchange: ExchangeServer) -> None:
        self.skew = timedelta()
        self._exchange = exchange

    def now(self) -> datetime:
        return self._exchange.now() + self.skew


class Stopwatch:
    """Monotonic seconds that a test may let pass."""

    def __init__(self) -> None:
        self.passed = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.passed


async def cycle(client: BinanceMarketDataClient) -> None:
    """Ask for what a cycle needs."""
    await client.fetch_snapshot("BTCUSDT", Interval.M1, 5)


async def failure(client: BinanceMarketDataClient) -> ServiceError:
    """Ask for what a cycle needs, and return why it was not to be had."""
    with pytest.raises(ServiceError) as caught:
        await cycle(client)
    return caught.value
