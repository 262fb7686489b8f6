"""Every seam to the outside, on one screen. An adapter satisfies a port without inheriting from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Generic, Protocol, TypeVar

from app.domain.action import ActionKind, ActionReport
from app.domain.candle import Candle, Interval
from app.domain.cycle import CycleDraft, CycleReport, Settlement, Trade
from app.domain.instrument import Instrument
from app.domain.market import MarketSnapshot
from app.domain.signal import Prediction
from app.domain.standing import RunKey, Standing

T = TypeVar("T")


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> datetime:
        """The present moment, aware UTC."""
        ...


class Snapshots(Protocol):
    """Where a cycle sees the market."""

    async def fetch_snapshot(self, symbol: str, interval: Interval, bars: int) -> MarketSnapshot:
        """The newest `bars` closed candles (fewer where the exchange has fewer) and the quote after them."""
        ...


class MarketData(Snapshots, Protocol):
    """One source of market data. Everything that waits is async and bounded in time.

    All methods raise the `UpstreamError` family, `NotFoundError` (`unknown_symbol`) or
    `InvalidInputError` (`invalid_interval`).
    """

    @property
    def source(self) -> str:
        """The name that books and models of this source carry: "binance" or "simulated"."""
        ...

    @property
    def candle_source(self) -> str:
        """The name that kept candles carry: `source`, and more where one source can tell several histories."""
        ...

    async def fetch_range(
        self, symbol: str, interval: Interval, since: datetime, until: datetime, limit: int = 1_000
    ) -> list[Candle]:
        """The closed candles that opened from `since` until before `until`, oldest first; gaps are left as they are.

        One page of at most `limit` (1 to 1000) candles, the oldest of the span. A call nobody waits for: it may be
        held back until the exchange's budget has room.
        """
        ...

    async def fetch_instrument(self, symbol: str) -> Instrument:
        """The trading rules of `symbol`, from a cache of at most an hour."""
        ...

    async def probe(self) -> float:
        """Ask the exchange for its time; returns the clock skew in seconds (positive: we are ahead)."""
        ...

    async def aclose(self) -> None:
        """Close connections."""
        ...


class WaitStore(Protocol):
    """Remembers, over restarts, until when a host told us not to call it."""

    async def load_waits(self) -> dict[str, datetime]:
        """Host to the moment (aware UTC) it may be called again; past ones may be left out."""
        ...

    async def save_wait(self, host: str, until: datetime) -> None:
        """Remember that `host` must not be called before `until`."""
        ...


class Strategy(Protocol):
    """A trading rule: closed candles in, prediction out. Pure computation, no I/O."""

    @property
    def model_id(self) -> str:
        """The name decisions carry; raises `NotReadyError` (`model_not_ready`) while there is no model."""
        ...

    @property
    def lookback_bars(self) -> int:
        """How many closed candles a prediction needs."""
        ...

    def predict(self, candles: Sequence[Candle]) -> Prediction:
        """What to do after the last of `candles` (oldest first, contiguous).

        Raises:
            NotReadyError: No model is loaded yet (`model_not_ready`), or the candles are too few.
            DataQualityError: A feature is not finite (`features_invalid`).
        """
        ...


Settle = Callable[[Standing, datetime], Settlement]
"""Decides, from the account as it stands inside the booking transaction and the time, what to book. Pure and quick."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows of a listing are wanted; None is any. `since` counts, `until` does not; both are aware UTC."""

    symbol: str | None = None
    source: str | None = None
    run: str | None = None
    since: datetime | None = None
    until: datetime | None = None


EVERYTHING = Selection()


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A caller's key and the fingerprint (a hash) of the request it came with."""

    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a listing, newest first, and the cursor of the next (None on the last page)."""

    items: tuple[T, ...]
    next_cursor: str | None


class Actions(Protocol):
    """What people do to their accounts; each is one booking.

    All methods raise `StorageError` when the database cannot be read or written, and those that take an idempotency
    key `InvalidInputError` (`idempotency_key_reused`) where it came with another request before.
    """

    async def find_replay(self, key: IdempotencyKey) -> ActionReport | None:
        """What was done under `key`, or None."""
        ...

    async def book(
        self,
        key: RunKey,
        kind: ActionKind,
        booking_id: str,
        words: Mapping[str, object],
        settles: Sequence[Settle],
        idempotency_key: IdempotencyKey | None,
    ) -> ActionReport:
        """Book what `settles` decide, one after another, each from where the one before left the account."""
        ...

    async def cancel(self, key: RunKey, booking_id: str, words: Mapping[str, object], order_id: str) -> ActionReport:
        """Cancel a resting order.

        Raises:
            NotFoundError: `order_not_found`.
            ConflictError: `order_ended`, it does not rest any more; `order_required`, it guards a short.
        """
        ...

    async def reset(
        self, key: RunKey, booking_id: str, cash: Decimal, idempotency_key: IdempotencyKey | None
    ) -> ActionReport:
        """Start a new run with `cash`; the old one stays readable, its resting orders are cancelled."""
        ...

    async def set_halt(self, key: RunKey, booking_id: str, reason: str, *, is_halted: bool) -> ActionReport:
        """Halt or resume the runs of `key`; doing it twice changes nothing more."""
        ...


class Ledger(Protocol):
    """The books: cycles, decisions, orders and fills of the runs of each key, append-only.

    All methods raise `StorageError` when the database cannot be read or written.
    """

    async def open_account(self, key: RunKey, cash: Decimal) -> Standing:
        """Open the account of `key` with `cash` unless it exists; check the books; return where it stands.

        Raises:
            StorageError: `ledger_mismatch`, when the fills do not add up to what is recorded.
        """
        ...

    async def load_standing(self, key: RunKey) -> Standing:
        """Where the newest run of `key` stands."""
        ...

    async def record_cycle(
        self, draft: CycleDraft, settle: Settle, clock: Clock, key: IdempotencyKey | None = None
    ) -> CycleReport:
        """Book a cycle, its decision and its fills in one transaction, and return the report.

        Where a decision on the same (run, symbol, interval, candle) has a fill already, `settle` is not asked: the
        execution is SKIPPED, `candle_already_traded`, `duplicate`, with the earlier trade. Where `key` was used
        before, nothing is booked and the earlier report comes back.

        Raises:
            InvalidInputError: `idempotency_key_reused`, the key came with another request before.
        """
        ...

    async def record_refusal(self, report: CycleReport, key: RunKey) -> None:
        """Keep a REFUSED cycle; it trades nothing and uses up no idempotency key."""
        ...

    async def find_replay(self, key: IdempotencyKey) -> CycleReport | None:
        """The report recorded under `key`, or None; raises as `record_cycle` for another request's key."""
        ...

    async def get_cycle(self, cycle_id: str) -> CycleReport:
        """One cycle; raises `NotFoundError`."""
        ...

    async def list_cycles(
        self, *, limit: int, cursor: str | None = None, wanted: Selection = EVERYTHING
    ) -> Page[CycleReport]:
        """Cycles, newest first; `limit` from 1 to 1000; raises `InvalidInputError` (`invalid_cursor`)."""
        ...

    async def get_trade(self, trade_id: int) -> Trade:
        """One trade; raises `NotFoundError`."""
        ...

    async def list_trades(
        self, *, limit: int, cursor: str | None = None, wanted: Selection = EVERYTHING
    ) -> Page[Trade]:
        """Trades, newest first; `limit` from 1 to 1000; raises `InvalidInputError` (`invalid_cursor`)."""
        ...
