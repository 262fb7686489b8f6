"""Calls that share one result, and calls that stand or fall together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

from app.errors import ServiceError

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Runs one call per key at a time; whoever asks meanwhile gets its result or its error."""

    def __init__(self) -> None:
        self._flights: dict[str, asyncio.Task[T]] = {}

    async def run(self, key: str, start: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Join the call under `key`, or make it; a caller who is cancelled does not take it from the others."""
        flight = self._flights.get(key)
        if flight is None:
            flight = asyncio.create_task(start())
            self._flights[key] = flight
            flight.add_done_callback(lambda done: self._land(key, done))
        return await asyncio.shield(flight)

    async def aclose(self) -> None:
        """Cancel the calls that are under way."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def _land(self, key: str, done: asyncio.Task[T]) -> None:
        self._flights.pop(key, None)
        if not done.cancelled():
            # Asking marks the error as seen, also when every caller has gone.
            done.exception()


async def together(*tasks: asyncio.Task[Any]) -> None:
    """Wait for tasks that stand or fall as one: the first to fail cancels the others.

    This is no `asyncio.TaskGroup`: that of Python 3.11 leaves the caller marked as cancelled after an error, and
    it hands errors over in groups.

    Raises:
        ServiceError: The most telling of what failed.
    """
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    errors = [one for one in outcomes if isinstance(one, BaseException) and not isinstance(one, asyncio.CancelledError)]
    if errors:
        raise most_telling(errors)


def most_telling(errors: Sequence[BaseException]) -> BaseException:
    """Choose the error a caller learns most from: a wrong request before a refusal before a failure.

    What is no `ServiceError` is a bug and comes before all.
    """
    return min(errors, key=_rank)


_RANKS = (
    "unknown_symbol",
    "invalid_symbol",
    "invalid_interval",
    "symbol_not_trading",
    "upstream_banned",
    "upstream_rate_limited",
    "upstream_restricted",
    "upstream_forbidden",
    "upstream_timeout",
    "upstream_unavailable",
    "upstream_unreachable",
)


def _rank(error: BaseException) -> int:
    if not isinstance(error, ServiceError):
        return -1
    return _RANKS.index(error.code) if error.code in _RANKS else len(_RANKS) // 2
