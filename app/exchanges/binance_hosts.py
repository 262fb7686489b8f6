"""Calls to Binance's hosts: which one is asked, when it may be, and what its answer means."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Generic, TypeVar
from urllib.parse import urlencode, urlsplit

import stamina
import structlog

from app.domain.ports import Clock, WaitStore
from app.errors import (
    DataQualityError,
    ServiceError,
    StorageError,
    UpstreamError,
    UpstreamRateLimitError,
    UpstreamTimeoutError,
)
from app.exchanges.binance_wire import read_error, read_wait_seconds
from app.exchanges.concurrency import SingleFlight, most_telling
from app.exchanges.exchange_clock import ExchangeClock
from app.exchanges.http_source import Answer, ConnectionLostError, HttpSource
from app.exchanges.rate_gate import SLOW_DOWN_SHARE, STOP_SHARE, HostGate, WeightBudget, refusal

T = TypeVar("T")
OnCall = Callable[[str, str, float], None]

log = structlog.get_logger()

# To one host. A pool with more requests than connections would queue them behind the gate's back.
_CONNECTIONS = 12
_PRIMARY_AGAIN_SECONDS = 900.0
_FORBIDDEN_SECONDS = 300.0
_STORED_WAIT_SECONDS = 60.0
_SWITCHING = frozenset({"upstream_restricted", "upstream_forbidden", "upstream_unreachable"})
_BREAKING = frozenset({"upstream_timeout", "upstream_unavailable", "upstream_unreachable"})


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things may take, in seconds, and the clock that says so.

    `total` bounds a call with its retries, `attempt` one request of it, `connect` the connecting alone and
    `probe` a single unretried question to one host; `backoff` is the wait before the first retry, doubled
    for the next, and as much jitter again. A call is attempted up to `attempts` times. Waits and caches run
    by `monotonic`, which never goes back.
    """

    total: float = 10.0
    attempt: float = 5.0
    connect: float = 1.4
    probe: float = 3.0
    backoff: float = 0.15
    attempts: int = 3
    monotonic: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True)
class Query(Generic[T]):
    """One question: where, with which parameters, how much weight it costs and how its answer is read."""

    endpoint: str
    weight: int
    read: Callable[[Answer], T]
    parameters: dict[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Received(Generic[T]):
    """What was read, and the monotonic instants between which the exchange produced it."""

    value: T
    sent: float
    received: float


class _Host:
    """One address, its connections, its gate and its weight."""

    def __init__(self, url: str, monotonic: Callable[[], float]) -> None:
        self.url = url
        self.name = urlsplit(url).netloc
        self.slots = asyncio.Semaphore(_CONNECTIONS)
        self.gate = HostGate(self.name, monotonic)
        self.budget = WeightBudget()


class BinanceHosts:
    """The primary host and its fallback, with retries, waits and a breaker for each.

    Args:
        urls: The primary address and the fallback's, without path; the latter may be empty.
        clock: The machine's clock, for moments that are stored.
        exchange_time: The exchange's clock, for minutes of weight.
        waits: Keeps long waits over restarts, or None.
        on_call: Hears endpoint, outcome ("ok" or an error code) and seconds of every request, or None.
        timing: How long things may take.
    """

    def __init__(
        self,
        urls: tuple[str, str],
        *,
        clock: Clock,
        exchange_time: ExchangeClock,
        waits: WaitStore | None,
        on_call: OnCall | None,
        timing: Timing,
    ) -> None:
        self._hosts = [_Host(url, timing.monotonic) for url in dict.fromkeys(url.rstrip("/") for url in urls) if url]
        self._active = self._hosts[0]
        self._primary_again_at = 0.0
        self._clock = clock
        self._exchange_time = exchange_time
        self._waits = waits
        self._waits_loaded = waits is None
        self._loading: SingleFlight[None] = SingleFlight()
        self._on_call = on_call
        self._timing = timing
        self._monotonic = timing.monotonic
        self._http = HttpSource(
            connect_timeout_seconds=timing.connect,
            attempt_timeout_seconds=timing.attempt,
            maximum_connections=_CONNECTIONS * len(self._hosts),
        )

    @property
    def active_host(self) -> str:
        """The name of the host that is asked first."""
        return self._active.name

    @property
    def blocked_until(self) -> datetime | None:
        """Until when no call can be made to any host, by the machine's clock; None when one can."""
        shortest = math.inf
        for host in self._order(claim=False):
            shortest = min(shortest, host.gate.remaining_seconds)
            if host.gate.reason not in _SWITCHING:
                break
        return self._clock.now() + timedelta(seconds=shortest) if shortest else None

    async def call(self, query: Query[T]) -> Received[T]:
        """Ask the host in use, and the other one where it does not serve us or cannot be reached.

        Raises:
            UpstreamError: The family; no later than `Timing.total` seconds from now.
            NotFoundError: `unknown_symbol`.
            InvalidInputError: `invalid_symbol` or `invalid_interval`.
            StorageError: The stored waits cannot be read, so nobody knows whether a call is allowed.
        """
        deadline = asyncio.get_running_loop().time() + self._timing.total
        await self._load_waits()
        failures: list[BaseException] = []
        for host in (order := self._order(claim=True)):
            is_last = host is order[-1]
            try:
                received = await self._call_host(host, query, *self._patience_with(host, deadline, is_last=is_last))
            except UpstreamError as error:
                if error.code not in _SWITCHING and (is_last or host is self._active):
                    raise
                failures.append(error)
            else:
                self._prefer(host, after=failures)
                return received
        raise most_telling(failures)

    async def probe(self, query: Query[T]) -> Received[T]:
        """Ask each host once, briefly, until one answers; raises as `call`."""
        await self._load_waits()
        failures: list[BaseException] = []
        for host in self._order(claim=True):
            deadline = asyncio.get_running_loop().time() + self._timing.probe
            try:
                received = await self._call_host(host, query, deadline, 1)
            except UpstreamRateLimitError:
                raise
            except UpstreamError as error:
                failures.append(error)
            else:
                self._prefer(host, after=failures)
                return received
        raise most_telling(failures)

    async def wait_for_room(self, weight: int) -> None:
        """Hold back a call that nobody waits for until four fifths of the minute's weight leave room for it."""
        budget = self._active.budget
        while seconds := budget.seconds_until_room(SLOW_DOWN_SHARE, weight, self._now()):
            log.info("upstream.slowed_down", host=self._active.name, seconds=round(seconds, 1))
            await asyncio.sleep(seconds)

    def set_weight_limit(self, limit: int) -> None:
        """Take over the weight a minute allows, as the host in use says."""
        self._active.budget.limit = limit

    async def aclose(self) -> None:
        """Close all connections."""
        await self._loading.aclose()
        await self._http.aclose()

    def _order(self, *, claim: bool) -> list[_Host]:
        """The hosts, the one to ask first in front; one caller in 15 minutes tries a forsaken primary again."""
        primary, *others = self._hosts
        if self._active is primary:
            return self._hosts
        if self._monotonic() < self._primary_again_at:
            return [*others, primary]
        if claim:
            self._primary_again_at = self._monotonic() + _PRIMARY_AGAIN_SECONDS
        return self._hosts

    def _prefer(self, host: _Host, *, after: list[BaseException]) -> None:
        """Ask a host first from now on: the primary always, the fallback when the primary has failed."""
        if host is not self._active and (after or host is self._hosts[0]):
            log.warning("upstream.host_switched", previous=self._active.name, host=host.name)
            self._active = host
            self._primary_again_at = self._monotonic() + _PRIMARY_AGAIN_SECONDS

    def _patience_with(self, host: _Host, deadline: float, *, is_last: bool) -> tuple[float, int]:
        """Until when a host is asked, and how often."""
        if is_last or host is self._active:
            return deadline, self._timing.attempts
        # A forsaken primary gets one short attempt, so that the host in use has time left.
        return min(deadline, asyncio.get_running_loop().time() + self._timing.probe), 1

    async def _call_host(self, host: _Host, query: Query[T], deadline: float, attempts: int) -> Received[T]:
        try:
            async with asyncio.timeout_at(deadline):
                return await self._retry(host, query, attempts)
        except TimeoutError:
            error: UpstreamError = UpstreamTimeoutError(
                f"{host.name} did not answer in time; try again later.", context={"host": host.name}
            )
            self._count_failure(host, error)
            raise error from None
        except UpstreamError as error:
            self._count_failure(host, error)
            raise

    async def _retry(self, host: _Host, query: Query[T], attempts: int) -> Received[T]:
        bad_answers = 0

        def is_worth_it(error: Exception) -> bool:
            nonlocal bad_answers
            bad_answers += isinstance(error, DataQualityError)
            return bad_answers <= 1 and _may_pass(error) and not host.gate.remaining_seconds

        backoff = self._timing.backoff
        async for attempt in stamina.retry_context(
            on=is_worth_it, attempts=attempts, timeout=None, wait_initial=backoff, wait_jitter=backoff
        ):
            with attempt:
                return await self._attempt(host, query)
        raise AssertionError("stamina makes at least one attempt")

    async def _attempt(self, host: _Host, query: Query[T]) -> Received[T]:
        async with host.slots, host.gate.passage():
            wait = host.budget.seconds_until_room(STOP_SHARE, query.weight, self._now())
            if wait:
                raise refusal("upstream_rate_limited", host.name, wait)
            sent = self._monotonic()
            outcome = "cancelled"
            try:
                value = await self._ask(host, query, sent)
                outcome = "ok"
            except ServiceError as error:
                outcome = error.code
                _log_failure(host.name, query.endpoint, error)
                raise
            finally:
                received = self._monotonic()
                if self._on_call is not None:
                    self._on_call(query.endpoint, outcome, received - sent)
            return Received(value, sent, received)

    async def _ask(self, host: _Host, query: Query[T], sent: float) -> T:
        parameters = f"?{urlencode(query.parameters)}" if query.parameters else ""
        answer = await self._http.get(f"{host.url}/api/v3/{query.endpoint}{parameters}")
        host.budget.record(answer.headers.get("x-mbx-used-weight-1m"), self._now())
        if answer.status in {403, 418, 429, 451}:
            raise await self._impose(host, answer, sent)
        if answer.status != 200:
            error = read_error(answer)
            if not isinstance(error, UpstreamError):
                host.gate.record_answer()
            raise error
        value = query.read(answer)
        host.gate.record_answer()
        return value

    async def _impose(self, host: _Host, answer: Answer, sent: float) -> UpstreamError:
        """Close the host's gate as its answer demands."""
        if answer.status == 451:
            reason, seconds = "upstream_restricted", _PRIMARY_AGAIN_SECONDS
        elif answer.status == 403:
            reason, seconds = "upstream_forbidden", _FORBIDDEN_SECONDS
        else:
            reason = "upstream_banned" if answer.status == 418 else "upstream_rate_limited"
            asked = read_wait_seconds(answer, self._now())
            seconds = host.gate.guess_wait_seconds(sent) if asked is None else asked
        wait = host.gate.block(reason, seconds)
        if answer.status in {418, 429} and wait > _STORED_WAIT_SECONDS:
            await self._store_wait(host, wait)
        return refusal(reason, host.name, wait)

    async def _store_wait(self, host: _Host, seconds: float) -> None:
        if self._waits is None:
            return
        try:
            await self._waits.save_wait(host.name, self._clock.now() + timedelta(seconds=seconds))
        except StorageError as error:
            # This process keeps to the wait all the same.
            log.warning("upstream.wait_not_stored", host=host.name, reason=error.code)

    async def _load_waits(self) -> None:
        if not self._waits_loaded:
            await self._loading.run("waits", self._take_over_waits)

    async def _take_over_waits(self) -> None:
        waits = await self._waits.load_waits() if self._waits else {}
        for host in self._hosts:
            seconds = (waits.get(host.name, self._clock.now()) - self._clock.now()).total_seconds()
            if seconds > 0:
                # Waits of more than a minute are stored, and those are bans.
                host.gate.block("upstream_banned", seconds)
                log.warning("upstream.still_banned", host=host.name, seconds=round(seconds, 1))
        self._waits_loaded = True

    def _count_failure(self, host: _Host, error: UpstreamError) -> None:
        if error.code not in _BREAKING or host.gate.remaining_seconds:
            return
        reason = "upstream_unreachable" if error.code == "upstream_unreachable" else "upstream_unavailable"
        if host.gate.record_failure(reason):
            log.warning("upstream.breaker_open", host=host.name, reason=reason)

    def _now(self) -> datetime:
        return self._exchange_time.at(self._monotonic())


def _may_pass(error: Exception) -> bool:
    """Whether the same question may well be answered in a moment."""
    passing = isinstance(error, UpstreamTimeoutError | ConnectionLostError | DataQualityError)
    return passing or (isinstance(error, UpstreamError) and error.code == "upstream_unavailable")


def _log_failure(host: str, endpoint: str, error: ServiceError) -> None:
    if isinstance(error, DataQualityError):
        log.warning("data.rejected", host=host, endpoint=endpoint, reason=error.code, **error.context)
    elif isinstance(error, UpstreamError):
        seconds = error.retry_after_seconds
        log.warning(error.code.replace("_", ".", 1), host=host, endpoint=endpoint, retry_after_seconds=seconds)
