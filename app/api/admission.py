"""Who may change things, and how many at once: the API key and the shedding of overload."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections import OrderedDict, deque
from collections.abc import Callable

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.middleware import SAFE_METHODS
from app.api.problems import Problem, send_problem

log = structlog.get_logger()

MAXIMUM_GUESSES = 10
GUESS_WINDOW_SECONDS = 60.0

_MAXIMUM_ADDRESSES = 1_024
_EXPENSIVE_READS = frozenset({"/trading/market/latest"})


class GuessLimiter:
    """Counts wrong keys per address over the last minute, for at most 1,024 addresses.

    Args:
        now: Seconds that never go back.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._guesses: OrderedDict[str, deque[float]] = OrderedDict()

    def wait_seconds(self, address: str) -> float:
        """How long `address` has to wait before its next try; 0 while it may try."""
        guesses = self._guesses.get(address)
        if guesses is None or len(guesses) < MAXIMUM_GUESSES:
            return 0.0
        return max(0.0, guesses[0] + GUESS_WINDOW_SECONDS - self._now())

    def note(self, address: str) -> None:
        """Count a wrong key from `address`."""
        self._guesses.setdefault(address, deque(maxlen=MAXIMUM_GUESSES)).append(self._now())
        self._guesses.move_to_end(address)
        if len(self._guesses) > _MAXIMUM_ADDRESSES:
            self._guesses.popitem(last=False)


class ApiKeyGuard:
    """Lets nothing change without the key, once there is one.

    Args:
        app: What to call for those who may pass.
        api_key: The key; None lets everybody pass.
        limiter: Counts wrong keys; more than ten a minute from an address are not even looked at.
    """

    def __init__(self, app: ASGIApp, api_key: str | None, limiter: GuessLimiter | None = None) -> None:
        self.app = app
        self._digest = None if api_key is None else _digest(api_key)
        self._limiter = limiter or GuessLimiter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        problem = None
        if scope["type"] == "http" and scope["method"] not in SAFE_METHODS and self._digest is not None:
            problem = self._judge(scope, self._digest)
        if problem is None:
            await self.app(scope, receive, send)
        else:
            await send_problem(problem, scope, send)

    def _judge(self, scope: Scope, digest: bytes) -> Problem | None:
        client = scope.get("client")
        address = client[0] if client else "-"
        wait = self._limiter.wait_seconds(address)
        if wait > 0:
            return Problem(429, "too_many_wrong_keys", "Too many wrong API keys; wait.", retry_after_seconds=wait)
        keys = Headers(scope=scope).getlist("x-api-key")
        if len(keys) == 1 and hmac.compare_digest(_digest(keys[0]), digest):
            return None
        if keys:
            self._limiter.note(address)
            log.warning("auth.wrong_key", address=address)
        return Problem(
            401,
            "unauthorized",
            "Send the API key of this service in one X-API-Key header.",
            headers=(("WWW-Authenticate", 'ApiKey realm="papertape", header="X-API-Key"'),),
        )


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


class LoadShedder:
    """Runs a bounded number of requests that cost something, lets some wait, and turns the rest away.

    What costs: every method that changes something, and the read that asks the exchange. Reads of the
    database, health, metrics and the documentation always pass, so that an overloaded service can be seen.

    Args:
        app: What to call when there is room.
        running: How many run at once.
        waiting: How many more may wait.
        patience_seconds: How long one waits.
    """

    def __init__(self, app: ASGIApp, running: int = 16, waiting: int = 64, patience_seconds: float = 10.0) -> None:
        self.app = app
        self._room = asyncio.Semaphore(running)
        self._maximum_waiting = waiting
        self._waiting = 0
        self._patience_seconds = patience_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or not _costs(scope):
            await self.app(scope, receive, send)
            return
        if not await self._enter():
            detail = "The service is busy; try again in a moment."
            await send_problem(Problem(503, "overloaded", detail, retry_after_seconds=1), scope, send)
            return
        try:
            await self.app(scope, receive, send)
        finally:
            self._room.release()

    async def _enter(self) -> bool:
        if self._room.locked() and self._waiting >= self._maximum_waiting:
            return False
        self._waiting += 1
        try:
            async with asyncio.timeout(self._patience_seconds):
                await self._room.acquire()
        except TimeoutError:
            return False
        finally:
            self._waiting -= 1
        return True


def _costs(scope: Scope) -> bool:
    return scope["method"] not in SAFE_METHODS or scope["path"] in _EXPENSIVE_READS
