"""When a host may be called: waits it imposed, a breaker for failures, and its weight budget."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime

from app.errors import UpstreamError, UpstreamRateLimitError, UpstreamRestrictedError

MAXIMUM_WAIT_SECONDS = 3 * 86_400.0
BREAKER_FAILURES = 5
BREAKER_SECONDS = 10.0
DEFAULT_WEIGHT_LIMIT = 6_000
SLOW_DOWN_SHARE = 0.8
STOP_SHARE = 0.95

_FIRST_WAIT_SECONDS = 60.0
_LONGEST_GUESSED_WAIT_SECONDS = 3_600.0

_REASONS: dict[str, tuple[type[UpstreamError], str]] = {
    "upstream_rate_limited": (
        UpstreamRateLimitError,
        "{host} asked for fewer calls; none is made for another {seconds:.0f} seconds.",
    ),
    "upstream_banned": (
        UpstreamRateLimitError,
        "{host} has banned this address for too many calls; none is made for another {seconds:.0f} seconds.",
    ),
    "upstream_restricted": (
        UpstreamRestrictedError,
        (
            "{host} does not serve this location; set BINANCE_BASE_URL or BINANCE_FALLBACK_URL to a host that does, "
            "or MARKET_SOURCE=simulated."
        ),
    ),
    "upstream_forbidden": (
        UpstreamError,
        "The firewall of {host} refuses this address; no call is made for another {seconds:.0f} seconds.",
    ),
    "upstream_unreachable": (
        UpstreamError,
        "{host} cannot be reached; it is tried again in {seconds:.0f} seconds.",
    ),
    "upstream_unavailable": (
        UpstreamError,
        "{host} keeps failing; it is tried again in {seconds:.0f} seconds.",
    ),
}


def refusal(reason: str, host: str, seconds: float) -> UpstreamError:
    """The error for a host that must not be called for another `seconds`; `reason` becomes its code."""
    kind, message = _REASONS[reason]
    wait = max(1.0, seconds)
    return kind(message.format(host=host, seconds=wait), code=reason, retry_after_seconds=wait, context={"host": host})


class _Probe:
    """A call that goes first, and the error its followers need not find out for themselves."""

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self.unreachable: UpstreamError | None = None


class HostGate:
    """Lets calls to one host pass, or refuses them until a wait is over.

    A host whose wait is over, or that was never called, is on probation: one call goes first and the others
    wait for how it ends, so that a host that still refuses hears one call and not a burst.

    Args:
        host: The host's name, for messages.
        monotonic: Seconds that never go back; a machine clock set wrong cannot shorten a wait.
    """

    def __init__(self, host: str, monotonic: Callable[[], float]) -> None:
        self.host = host
        self._monotonic = monotonic
        self._reason = "upstream_unavailable"
        self._blocked_at = -1.0
        self._blocked_until = -1.0
        self._proven = False
        self._probe: _Probe | None = None
        self._failures = 0
        self._guesses = 0

    @property
    def reason(self) -> str:
        """Why the last wait was imposed; the code of the error it raises."""
        return self._reason

    @property
    def remaining_seconds(self) -> float:
        """How long no call may be made; 0 when one may."""
        return max(0.0, self._blocked_until - self._monotonic())

    @asynccontextmanager
    async def passage(self) -> AsyncIterator[None]:
        """Hold the right to make one call.

        Raises:
            UpstreamError: The host must not be called yet; the family and code say why.
        """
        while not self._pass_at_once():
            probe = self._probe
            if probe is None:
                with self._probation():
                    yield
                return
            await probe.over.wait()
            if probe.unreachable is not None:
                raise probe.unreachable
        yield

    def block(self, reason: str, seconds: float) -> float:
        """Refuse calls for `seconds`, unless a longer wait runs already; returns how long it is now."""
        now = self._monotonic()
        until = now + min(seconds, MAXIMUM_WAIT_SECONDS)
        self._proven = False
        if until > self._blocked_until:
            self._reason, self._blocked_at, self._blocked_until = reason, now, until
        return self._blocked_until - now

    def guess_wait_seconds(self, sent: float) -> float:
        """How long to wait when the host names no time: a minute, doubled each time it refuses again.

        Args:
            sent: When the refused call was sent; calls that were under way together count once.
        """
        if sent <= self._blocked_at:
            return self.remaining_seconds
        self._guesses += 1
        return float(min(_FIRST_WAIT_SECONDS * 2 ** (self._guesses - 1), _LONGEST_GUESSED_WAIT_SECONDS))

    def record_answer(self) -> None:
        """The host answered as it should."""
        if not self.remaining_seconds:
            self._proven = True
            self._failures = 0
            self._guesses = 0

    def record_failure(self, reason: str) -> bool:
        """The host failed once more; returns whether that opened the breaker."""
        self._failures += 1
        if self._failures < BREAKER_FAILURES:
            return False
        self.block(reason, BREAKER_SECONDS)
        return True

    def _pass_at_once(self) -> bool:
        remaining = self.remaining_seconds
        if remaining:
            raise refusal(self._reason, self.host, remaining)
        return self._proven

    @contextmanager
    def _probation(self) -> Iterator[None]:
        self._probe = probe = _Probe()
        try:
            yield
        except UpstreamError as error:
            if error.code == "upstream_unreachable":
                probe.unreachable = error
            raise
        finally:
            self._probe = None
            probe.over.set()


class WeightBudget:
    """Follows the weight that a host says we have used in the present minute of its own clock."""

    def __init__(self) -> None:
        self.limit = DEFAULT_WEIGHT_LIMIT
        self._minute = -1
        self._used = 0

    def record(self, header: str | None, at: datetime) -> None:
        """Note the `X-MBX-USED-WEIGHT-1M` header of an answer that came `at` (the exchange's time)."""
        if header is None or not (header.isascii() and header.isdigit() and len(header) < 12):
            return
        minute = _minute_of(at)
        self._used = max(self._used, int(header)) if minute == self._minute else int(header)
        self._minute = minute

    def seconds_until_room(self, share: float, weight: int, at: datetime) -> float:
        """How long to wait until `weight` more stays within `share` of the limit; 0 when it does now."""
        if _minute_of(at) != self._minute or self._used + weight <= share * self.limit:
            return 0.0
        return 60.0 - at.timestamp() % 60


def _minute_of(at: datetime) -> int:
    return int(at.timestamp() // 60)
