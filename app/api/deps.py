"""What the routes need of the service, and how they get at it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, cast

from fastapi import Depends, Header, Request
from fastapi.exceptions import RequestValidationError

from app.api.requests import EmptyBody, text_schema
from app.domain.candle import Candle, Interval
from app.domain.cycle import CycleReport, MarketView
from app.domain.events import Event, EventFilter
from app.domain.job import Job
from app.domain.model import Model
from app.domain.ports import Clock, IdempotencyKey, Ledger, Page, Selection
from app.domain.signal import Prediction
from app.domain.standing import RunKey
from app.engine.portfolio_desk import PortfolioDesk
from app.errors import ServiceError
from app.observability.metrics import Metrics
from app.research.backtest.keeper import BacktestKeeper
from app.research.backtest.request import BacktestRequest
from app.research.optimization.keeper import OptimizationKeeper
from app.research.parity.report import ParityReport
from app.research.performance import PerformanceReport
from app.research.reasons import TradeReason
from app.research.replay import Replay
from app.research.track_record import TrackRecord
from app.settings import Settings
from app.storage.portfolio_views import SqlPortfolio

_KEY_PATTERN = r"^[!-~]{1,255}$"

FeatureRow = Sequence[float] | Mapping[str, float]
"""The model's inputs for one moment: in the card's order, or by name."""


class Jobs(Protocol):
    """Long work that runs beside requests."""

    async def get(self, job_id: str) -> Job:
        """One job; raises `NotFoundError`."""
        ...

    async def list(self, limit: int) -> Sequence[Job]:
        """The newest `limit` jobs, newest first."""
        ...


class EventLog(Protocol):
    """What happened, to be looked up."""

    async def list(self, wanted: EventFilter, *, limit: int, cursor: str | None = None) -> Page[Event]:
        """The events that are wanted, newest first; raises `InvalidInputError` (`invalid_cursor`)."""
        ...


class EventRelay(Protocol):
    """What happens, to be followed."""

    def seat(self) -> AbstractContextManager[None]:
        """A place for one reader; raises `NotReadyError` (`too_many_streams`)."""
        ...

    def follow(self, after: int | None, wanted: EventFilter) -> AsyncGenerator[Event | None]:
        """Events after a sequence, or from now on, oldest first, until the service stops or the reader is too slow.

        None comes where nothing has for a while.
        """
        ...

    def end_streams(self) -> None:
        """Let every stream end."""
        ...


class Replayer(Protocol):
    """Computes cycles again from their records."""

    async def replay(self, cycle_id: str) -> Replay:
        """Compute one again; raises `NotFoundError`, and `ConflictError` when what it came from is not there."""
        ...


class Reasons(Protocol):
    """Finds out why trades were made."""

    async def find(self, trade_id: int) -> TradeReason:
        """Why a trade was made; raises `NotFoundError`."""
        ...


class Performance(Protocol):
    """How accounts did."""

    async def measure(self, run_id: str | None) -> PerformanceReport:
        """How a run did, by default the newest; raises `NotFoundError` (`run_not_found`)."""
        ...


class Parity(Protocol):
    """Life held against the backtest."""

    async def latest(self) -> ParityReport:
        """The newest report; raises `NotFoundError` (`parity_not_found`)."""
        ...


class ReadinessCheck(Protocol):
    """One named answer to "could a cycle run now?"."""

    @property
    def name(self) -> str:
        """What was looked at: database, market, clock, model or ledger."""
        ...

    @property
    def ok(self) -> bool:
        """Whether it is as it should be."""
        ...

    @property
    def detail(self) -> str:
        """What was found, in a few words."""
        ...


class Service(Protocol):
    """The running service, as the routes see it; `app.bootstrap` builds the real one."""

    @property
    def settings(self) -> Settings:
        """What it runs with."""
        ...

    @property
    def metrics(self) -> Metrics:
        """What it counts."""
        ...

    @property
    def clock(self) -> Clock:
        """Its time."""
        ...

    @property
    def key(self) -> RunKey:
        """Whose account it trades on."""
        ...

    @property
    def portfolio(self) -> PortfolioDesk:
        """What people do to that account."""
        ...

    @property
    def portfolio_views(self) -> SqlPortfolio:
        """What people read of all accounts."""
        ...

    @property
    def ledger(self) -> Ledger:
        """The books."""
        ...

    @property
    def performance(self) -> Performance:
        """How the account did."""
        ...

    @property
    def backtests(self) -> BacktestKeeper:
        """Backtests, and what came of them."""
        ...

    @property
    def optimizations(self) -> OptimizationKeeper:
        """Optimisations, and what came of them."""
        ...

    @property
    def jobs(self) -> Jobs:
        """Long work."""
        ...

    @property
    def replayer(self) -> Replayer:
        """Computes cycles again."""
        ...

    @property
    def reasons(self) -> Reasons:
        """Why trades were made."""
        ...

    @property
    def parity(self) -> Parity:
        """Life held against the backtest."""
        ...

    @property
    def event_log(self) -> EventLog:
        """What happened."""
        ...

    @property
    def event_relay(self) -> EventRelay:
        """What happens."""
        ...

    async def start(self) -> None:
        """Open everything; raises `ServiceError` when the service can not run."""
        ...

    async def stop(self) -> None:
        """Finish or abandon what runs, and close everything; also after a start that failed."""
        ...

    async def run_cycle(self, symbol: str, interval: Interval, key: IdempotencyKey | None) -> tuple[CycleReport, bool]:
        """Run one cycle; True when the report is that of an earlier call with the same key."""
        ...

    async def latest_market(self, symbol: str) -> tuple[MarketView, str, Interval]:
        """What the market looks like now, with its source and interval."""
        ...

    async def start_training(self, key: IdempotencyKey | None) -> tuple[Job, bool]:
        """Queue a training; True when the job is that of an earlier call with the same key."""
        ...

    async def start_parity(self, wanted: Selection, key: IdempotencyKey | None) -> tuple[Job, bool]:
        """Queue a comparison; True when the job is that of an earlier call with the same key."""
        ...

    async def start_backtest(self, request: BacktestRequest, key: IdempotencyKey | None) -> tuple[Job, bool]:
        """Queue a backtest; True when the job is that of an earlier call with the same key."""
        ...

    async def cancel_job(self, job_id: str) -> Job:
        """End a job before its time; raises `NotFoundError`, and `ConflictError` when it is not under way."""
        ...

    def model_card(self) -> Mapping[str, Any]:
        """The card of the model in use; raises `NotReadyError` (`model_not_ready`)."""
        ...

    async def list_models(self, limit: int) -> Sequence[Model]:
        """The registered models of this market, newest first."""
        ...

    async def activate_model(self, model_id: str) -> Model:
        """Take a registered model into use; raises `NotFoundError` and `ConflictError`."""
        ...

    async def roll_back_model(self) -> Model:
        """Take the model into use again that was before; raises `NotFoundError` and `ConflictError`."""
        ...

    async def track_record(self, model_id: str | None) -> Sequence[TrackRecord]:
        """How the decisions of each model (or of one) came out, the newest model first."""
        ...

    def predict_candles(self, candles: Sequence[Candle]) -> Sequence[Prediction | ServiceError]:
        """What the model says at each of `candles` (oldest first), or why it says nothing there."""
        ...

    def predict_features(self, rows: Sequence[FeatureRow]) -> Sequence[Prediction | ServiceError]:
        """What the model says about each row, or why it says nothing."""
        ...

    async def checks(self) -> Sequence[ReadinessCheck]:
        """Every readiness check; quick, and raises nothing."""
        ...

    async def health(self) -> Mapping[str, Any]:
        """The state of things for people; quick, and raises nothing."""
        ...


# These are coroutines because FastAPI sends plain functions to a thread, which takes longer than all they do.


async def _service(request: Request) -> Service:
    return cast("Service", request.app.state.service)


RunningService = Annotated[Service, Depends(_service)]
"""The service of this application."""


@dataclass(frozen=True, slots=True)
class Replayable:
    """A caller's idempotency key before it is tied to a request; None when there is none."""

    key: str | None

    def bind(self, *request: str) -> IdempotencyKey | None:
        """The key with the fingerprint of what it asks for."""
        return None if self.key is None else IdempotencyKey(self.key, fingerprint(*request))


def fingerprint(*parts: str) -> str:
    """A hash that differs whenever one of `parts` does."""
    return hashlib.sha256(json.dumps(parts).encode("ascii")).hexdigest()


async def _idempotency_key(
    request: Request,
    idempotency_key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            pattern=_KEY_PATTERN,
            description="Any text of 1 to 255 visible ASCII characters that is yours alone. The same key and request "
            "give the first answer again; the same key with another request is refused.",
        ),
        text_schema(pattern=_KEY_PATTERN),
    ] = None,
) -> Replayable:
    if len(request.headers.getlist("idempotency-key")) > 1:
        error = {"type": "duplicate", "loc": ("header", "Idempotency-Key"), "msg": "Send one key only", "input": None}
        raise RequestValidationError([error])
    return Replayable(idempotency_key)


async def no_body(body: EmptyBody | None = None) -> EmptyBody | None:
    """Refuse a body that says anything: nothing, null or an empty object may be sent."""
    return body


IdempotencyHeader = Annotated[Replayable, Depends(_idempotency_key)]
"""The `Idempotency-Key` header, if it was sent."""
