"""The service behind the API, made of fakes: real behaviour, kept in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from itertools import count
from typing import Any

from app import __version__
from app.agents.market_monitoring import MarketMonitoringAgent
from app.api.deps import EventLog, EventRelay, FeatureRow
from app.broker.desk import Desk, Terms
from app.broker.market_orders import enter
from app.broker.resting import judge_resting
from app.domain.candle import Candle, Interval
from app.domain.cycle import (
    Circumstances,
    CycleDraft,
    CycleReport,
    Decision,
    ExecutionStatus,
    LogLine,
    MarketView,
    Settlement,
)
from app.domain.events import Event, EventFilter
from app.domain.job import Job, JobStatus
from app.domain.market import Indicators, MarketSnapshot
from app.domain.model import Model, ModelState
from app.domain.money import UNITS
from app.domain.order import Check, Origin, Side
from app.domain.outcome import ScoredDecision
from app.domain.ports import IdempotencyKey, Page, Selection
from app.domain.signal import Edge, Prediction, Signal
from app.domain.standing import RunKey, Standing
from app.engine.portfolio_desk import PortfolioDesk
from app.errors import ConflictError, DataQualityError, InvalidInputError, NotFoundError, ServiceError
from app.observability.metrics import Metrics
from app.research.backtest.keeper import BacktestKeeper
from app.research.backtest.request import BacktestRequest
from app.research.history import HistoryKeeper
from app.research.jobs import JobRunner
from app.research.optimization.keeper import OptimizationKeeper
from app.research.parity.report import ParityReport
from app.research.reasons import TradeReason
from app.research.replay import Replay
from app.research.track_record import TrackRecord, summarize
from app.settings import Settings
from app.storage.backtests import SqlBacktests
from app.storage.candle_store import CandleStore
from app.storage.database import Database
from app.storage.jobs import SqlJobs
from app.storage.optimizations import SqlOptimizations
from app.storage.portfolio_views import SqlPortfolio
from tests.support.fakes import (
    CARD,
    MODEL_ID,
    PREDICTION,
    PROBABILITIES,
    FakeActions,
    FakeClock,
    FakeJobs,
    FakeLedger,
    FakeMarketData,
    FakeStrategy,
)
from tests.support.performances import FakePerformance

BARS = 3
"""How many candles a cycle looks at, so that answers stay short."""


@dataclass(frozen=True)
class FakeCheck:
    """A readiness check with a given answer."""

    name: str
    ok: bool = True
    detail: str = "fine"


CIRCUMSTANCES = Circumstances("00ff", "11ee", __version__, seed=0)
TERMS = Terms(fee_bps=Decimal(2), slippage_bps=Decimal(3), volume_share=Decimal("0.1"))


def _buy(draft: CycleDraft, standing: Standing, now: datetime) -> Settlement:
    """Judges resting orders as a cycle does, then buys a hundredth."""
    desk = Desk(TERMS, draft.id, standing, draft.snapshot, now, cycle_id=draft.id)
    judge_resting(desk)
    check = Check("max_open_positions", passed=True, value="0", limit="5", detail="No position is open.")
    refusal = enter(desk, Side.BUY, desk.portfolio.available, UNITS // 100, Origin.SIGNAL)
    if refusal is not None:
        return desk.settle(ExecutionStatus.SKIPPED, refusal.code, refusal.reason, (check,))
    return desk.settle(ExecutionStatus.FILLED, "filled", desk.last_words, (check,))


def model_entry(model_id: str) -> Model:
    """A model of the registry that is in use."""
    card = CARD | {"metrics": {"edge": "none", "skill": {"value": 0.01}, "direction_skill": {"value": None}}}
    moment = datetime(2026, 11, 21, 1, tzinfo=UTC)
    return Model(model_id, "simulated", "1m", "00ff", ModelState.ACTIVE, card | {"comparison": None}, moment, moment)


@dataclass
class FakeEvents:
    """An event log and its stream, kept in memory; the stream ends with the newest event."""

    happened: list[Event] = field(default_factory=list)

    async def list(self, wanted: EventFilter, *, limit: int, cursor: str | None = None) -> Page[Event]:
        assert cursor is None
        found = [event for event in reversed(self.happened) if wanted.type in (None, event.type)]
        return Page(tuple(found[:limit]), None)

    def seat(self) -> AbstractContextManager[None]:
        return nullcontext()

    async def follow(self, after: int | None, wanted: EventFilter) -> AsyncGenerator[Event | None]:
        for event in self.happened:
            if event.sequence > (after or 0) and wanted.type in (None, event.type):
                yield event

    def end_streams(self) -> None:
        """Every stream has ended by itself."""


@dataclass
class FakeRecords:
    """Says of every cycle of a ledger that its replay is equal, and of every trade that a person asked for it."""

    ledger: FakeLedger

    async def replay(self, cycle_id: str) -> Replay:
        return Replay((await self.ledger.get_cycle(cycle_id)).id, None, __version__, __version__)

    async def find(self, trade_id: int) -> TradeReason:
        return TradeReason(await self.ledger.get_trade(trade_id), "A person asked for it.")


@dataclass
class FakeParity:
    """Life was never compared with the backtest."""

    async def latest(self) -> ParityReport:
        raise NotFoundError("Life was not compared with the backtest yet.", code="parity_not_found")


@dataclass
class FakeService:
    """A service that buys at every new candle, kept in memory.

    `error` is raised by the next calls; while `hold` is set, cycles wait for it.
    """

    settings: Settings
    clock: FakeClock = field(default_factory=FakeClock)
    jobs: FakeJobs = field(default_factory=FakeJobs)
    metrics: Metrics = field(default_factory=lambda: Metrics(__version__))
    error: Exception | None = None
    failing: tuple[str, ...] = ()
    hold: asyncio.Event | None = None
    running: int = 0
    most_running: int = 0
    training_keys: dict[str, str] = field(default_factory=dict)
    scored: list[ScoredDecision] = field(default_factory=list)
    models: list[str] = field(default_factory=lambda: [MODEL_ID])
    events: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.market = FakeMarketData(self.clock)
        self.key = RunKey(self.market.source, name=self.settings.run_name)
        self.ledger = FakeLedger(self.clock)
        self.actions = FakeActions(self.ledger, self.clock)
        self.strategy = FakeStrategy()
        numbers = count(1)
        self.portfolio = PortfolioDesk(
            self.key,
            MarketMonitoringAgent(self.market, bars=60, minimum_bars=self.strategy.lookback_bars),
            self.ledger,
            self.actions,
            TERMS,
            self.settings.default_interval,
            lambda: f"action-{next(numbers)}",
        )
        self.performance = FakePerformance(self._check)
        # Never opened: the listings are tested on the real service.
        database = Database(self.settings.database_url.get_secret_value())
        self.portfolio_views = SqlPortfolio(database)
        history = HistoryKeeper(self.market, CandleStore(database), self.clock)
        runs = SqlBacktests(database, self.clock)
        self.backtests = BacktestKeeper(self.market, history, runs, self.clock, self.settings.model_path)
        self.optimizations = OptimizationKeeper(
            self.backtests,
            runs,
            SqlOptimizations(database),
            JobRunner(SqlJobs(database, self.clock)),
            self.settings.model_path,
            "loky",
        )
        self.event_log: EventLog = FakeEvents()
        self.replayer = self.reasons = FakeRecords(self.ledger)
        self.event_relay: EventRelay = FakeEvents()
        self.parity = FakeParity()

    async def start(self) -> None:
        self.events.append("start")
        self.loop = asyncio.get_running_loop()
        await self.open_account()

    async def stop(self) -> None:
        self.events.append("stop")

    async def open_account(self) -> None:
        """Open the books."""
        await self.ledger.open_account(self.key, self.settings.initial_cash)

    def release(self) -> None:
        """From any thread: let the cycles go on that wait for `hold`."""
        if self.hold is not None:
            self.loop.call_soon_threadsafe(self.hold.set)

    async def run_cycle(self, symbol: str, interval: Interval, key: IdempotencyKey | None) -> tuple[CycleReport, bool]:
        self._check()
        if key is not None and (earlier := await self.ledger.find_replay(key)) is not None:
            return earlier, True
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            if self.hold is not None:
                await self.hold.wait()
            snapshot = await self.market.fetch_snapshot(symbol, interval, BARS)
        finally:
            self.running -= 1
        view = _view(snapshot)
        decision = Decision(
            Signal.BUY, 0.5, dict(PROBABILITIES), "confident", "BUY is likeliest.", MODEL_ID, 0.001, Edge.NONE
        )
        started = self.clock.now()
        logs = (LogLine(started, "market_monitoring", f"{symbol} trades at {view.price}."),)
        cycle_id = f"cycle-{len(self.ledger.cycles) + 1}"
        self.clock.advance(milliseconds=12.5)
        draft = CycleDraft(
            id=cycle_id,
            key=self.key,
            symbol=symbol,
            interval=interval,
            started_at=started,
            market=view,
            decision=decision,
            prediction=PREDICTION,
            snapshot=snapshot,
            circumstances=CIRCUMSTANCES,
            logs=logs,
        )
        return await self.ledger.record_cycle(draft, partial(_buy, draft), self.clock, key), False

    async def latest_market(self, symbol: str) -> tuple[MarketView, str, Interval]:
        self._check()
        interval = self.settings.default_interval
        snapshot = await self.market.fetch_snapshot(symbol, interval, BARS)
        return _view(snapshot), self.market.source, interval

    async def start_parity(self, wanted: Selection, key: IdempotencyKey | None) -> tuple[Job, bool]:
        raise NotImplementedError

    async def start_training(self, key: IdempotencyKey | None) -> tuple[Job, bool]:
        self._check()
        if key is not None and key.key in self.training_keys:
            return await self.jobs.get(self.training_keys[key.key]), True
        if any(job.status is JobStatus.RUNNING for job in self.jobs.jobs):
            raise ConflictError("A training is running.", code="training_in_progress", retry_after_seconds=30)
        job = Job(
            id=f"job-{len(self.jobs.jobs) + 1}",
            kind="training",
            status=JobStatus.RUNNING,
            progress=0.25,
            message="2,500 of 10,000 candles",
            error_code=None,
            error_message=None,
            result=None,
            created_at=self.clock.now(),
            started_at=self.clock.now(),
            finished_at=None,
        )
        self.jobs.jobs.append(job)
        if key is not None:
            self.training_keys[key.key] = job.id
        return job, False

    async def start_backtest(self, request: BacktestRequest, key: IdempotencyKey | None) -> tuple[Job, bool]:
        self._check()
        raise ConflictError(f"{request.strategy} is tested on the real service, {key}.", code="job_in_progress")

    async def cancel_job(self, job_id: str) -> Job:
        self._check()
        job = await self.jobs.get(job_id)
        if job.status is not JobStatus.RUNNING:
            raise ConflictError("The job has ended.", code="job_ended")
        ended = replace(job, status=JobStatus.CANCELED)
        self.jobs.jobs[self.jobs.jobs.index(job)] = ended
        return ended

    def model_card(self) -> Mapping[str, Any]:
        self._check()
        return CARD | {"live": {"old": False}}

    async def list_models(self, limit: int) -> Sequence[Model]:
        self._check()
        return [model_entry(name) for name in self.models][:limit]

    async def activate_model(self, model_id: str) -> Model:
        self._check()
        if model_id not in self.models:
            raise NotFoundError("There is no model with this id.", code="model_not_found")
        self.models = [model_id, *(name for name in self.models if name != model_id)]
        return model_entry(model_id)

    async def roll_back_model(self) -> Model:
        self._check()
        if len(self.models) < 2:
            raise ConflictError("There is no model to go back to.", code="no_former_model")
        return await self.activate_model(self.models[1])

    async def track_record(self, model_id: str | None) -> Sequence[TrackRecord]:
        self._check()
        wanted = [row for row in self.scored if model_id in (None, row.decision.model_id)]
        return summarize(wanted, self.settings.min_confidence)

    def predict_candles(self, candles: Sequence[Candle]) -> Sequence[Prediction | ServiceError]:
        self._check()
        lookback = self.strategy.lookback_bars
        return [self._predict(candles[max(0, place - lookback + 1) : place + 1]) for place in range(len(candles))]

    def _predict(self, window: Sequence[Candle]) -> Prediction | ServiceError:
        if window[-1].high < window[-1].low:
            return DataQualityError("The high is below the low.", code="candle_impossible")
        try:
            return self.strategy.predict(window)
        except ServiceError as error:
            return error

    def predict_features(self, rows: Sequence[FeatureRow]) -> Sequence[Prediction | ServiceError]:
        self._check()
        wrong = InvalidInputError("A row has 2 features.", code="features_mismatch")
        return [self.strategy.prediction if len(row) == 2 else wrong for row in rows]

    async def checks(self) -> Sequence[FakeCheck]:
        names = ("database", "market", "clock", "model", "ledger")
        return [
            FakeCheck(name, name not in self.failing, "broken" if name in self.failing else "fine") for name in names
        ]

    async def health(self) -> Mapping[str, Any]:
        return {
            "version": __version__,
            "source": self.market.source,
            "model": {"model_id": MODEL_ID},
            "database": {"ok": True},
            "last_cycle": None,
        }

    def _check(self) -> None:
        if self.error is not None:
            raise self.error


def _view(snapshot: MarketSnapshot) -> MarketView:
    last = snapshot.candles[-1]
    indicators = Indicators(64_001.0, None, 55.5, 0.0001)
    return MarketView(snapshot.quote.price, last.open_time, last.close_time, indicators, tuple(snapshot.candles))
