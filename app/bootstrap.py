"""The composition root: the one place that reads settings and names concrete classes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import structlog

from app import __version__, readiness
from app.agents.decision_making import DecisionMakingAgent
from app.agents.execution import ExecutionAgent
from app.agents.market_monitoring import MarketMonitoringAgent
from app.choices import choose_market, describe_settings, make_gate, make_risk, make_spec, make_terms, read_rules
from app.domain.candle import Candle, Interval
from app.domain.cycle import Circumstances, CycleReport, MarketView
from app.domain.events import Event, EventType
from app.domain.job import Job
from app.domain.model import ActivationReason, Model
from app.domain.ports import Clock, IdempotencyKey, MarketData, Selection
from app.domain.signal import Prediction
from app.domain.standing import RunKey
from app.engine.clocks import SystemClock
from app.engine.portfolio_desk import PortfolioDesk
from app.engine.trading_engine import Seats, TradingEngine
from app.errors import ConflictError, ServiceError
from app.exchanges.binance import BinanceMarketDataClient
from app.observability.event_file import EventFile
from app.observability.metrics import Metrics
from app.readiness import Check, MarketProbe
from app.research.backtest.keeper import BacktestKeeper
from app.research.backtest.request import BacktestRequest
from app.research.child import OnProgress
from app.research.drift_monitor import DriftMonitor, DriftReport
from app.research.event_relay import EventRelay
from app.research.history import HistoryKeeper
from app.research.jobs import JobRunner
from app.research.model_keeper import ModelKeeper
from app.research.optimization.keeper import OptimizationKeeper
from app.research.parity.keeper import ParityKeeper
from app.research.performance import PerformanceKeeper
from app.research.reasons import ReasonFinder
from app.research.replay import Replayer
from app.research.scoring import Scorer, read_label_rule
from app.research.track_record import TrackRecord, summarize
from app.settings import Settings
from app.storage.actions import SqlActions
from app.storage.backtests import SqlBacktests
from app.storage.candle_store import CandleStore
from app.storage.database import Database
from app.storage.events import SqlEvents
from app.storage.jobs import SqlJobs
from app.storage.ledger import SqlLedger
from app.storage.models import SqlModels
from app.storage.optimizations import SqlOptimizations
from app.storage.outcomes import SqlOutcomes
from app.storage.performance_rows import SqlPerformanceRows
from app.storage.portfolio_views import SqlPortfolio
from app.storage.waits import SqlWaits
from app.strategies.forest import FeatureRow, ForestStrategy
from ml.bundle import Bundle

log = structlog.get_logger()

_TRACK_RECORD_DECISIONS = 10_000
"""A track record is of the newest so many decisions: reading and adding them up takes 0.2 s."""


class Service:
    """Everything, wired: what the API and the command line talk to.

    Nothing is opened before `start`.

    Args:
        settings: What it runs with.
        clock: The machine's clock, or a simulated one.
        new_id: Gives each cycle its id.
    """

    market: MarketData
    history: HistoryKeeper
    backtests: BacktestKeeper
    optimizations: OptimizationKeeper
    keeper: ModelKeeper
    engine: TradingEngine
    scorer: Scorer
    drift: DriftMonitor
    portfolio: PortfolioDesk
    _monitoring: MarketMonitoringAgent

    def __init__(self, settings: Settings, clock: Clock, new_id: Callable[[], str]) -> None:
        self.settings = settings
        self.clock = clock
        self.metrics = Metrics(__version__)
        self.database = Database(settings.database_url.get_secret_value())
        self.jobs = SqlJobs(self.database, clock)
        self.outcomes = SqlOutcomes(self.database)
        self.models = SqlModels(self.database, clock)
        self.event_log = SqlEvents(self.database)
        self.ledger = SqlLedger(self.database, clock, self.event_log.notify)
        self.actions = SqlActions(self.database, clock, self.event_log.notify)
        self.performance = PerformanceKeeper(SqlPerformanceRows(self.database), lambda: self.key)
        self.portfolio_views = SqlPortfolio(self.database)
        file = EventFile(settings.event_log_file) if settings.event_log_file else None
        self.event_relay = EventRelay(self.event_log, file, clock)
        self.strategy = ForestStrategy()
        self.replayer = Replayer(self.database, settings.model_path, read_rules, __version__)
        self.reasons = ReasonFinder(self.database, self.ledger, self.replayer)
        self.parity = ParityKeeper(self.database, self.replayer, clock)
        self._new_id = new_id
        self._job_runner = JobRunner(self.jobs)
        self._keeping: list[asyncio.Task[None]] = []
        self._ledger_error: ServiceError | None = None
        self._settings_digest = ""
        self._market_probe = MarketProbe()

    async def start(self, *, train: bool = True) -> None:
        """Open the database and the market, and load the model; unless told not to, begin to train and to score.

        Raises:
            ConfigurationError: The database cannot be what `DATABASE_URL` says.
            StorageError: The database cannot be used.
        """
        await self.database.open()
        self.market = await choose_market(self.settings, self.clock, SqlWaits(self.database), self.metrics)
        await self._open_books()
        self._wire()
        await self.keeper.load()
        if train:
            await self.event_relay.start(__version__)
            self._keeping = [
                asyncio.create_task(self.keeper.keep()),
                asyncio.create_task(self.scorer.keep(self._report_scores)),
                asyncio.create_task(self.drift.keep(self._report_drift)),
                asyncio.create_task(self.performance.warm()),
            ]

    async def stop(self) -> None:
        """Abandon trainings, and close what is open; also after a start that failed."""
        await self._job_runner.stop()
        for task in self._keeping:
            task.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)
        await self.event_relay.stop(__version__)
        if hasattr(self, "market"):
            await self.market.aclose()
        await self.database.aclose()

    @property
    def key(self) -> RunKey:
        """Whose books cycles are booked in."""
        return RunKey(self.market.source, name=self.settings.run_name)

    async def run_cycle(
        self, symbol: str, interval: Interval, key: IdempotencyKey | None = None
    ) -> tuple[CycleReport, bool]:
        """Run one cycle, as `TradingEngine.run_cycle`; refused while the books do not add up."""
        self._require_books()
        began = asyncio.get_running_loop().time()

        def observe(outcome: str, reason_code: str) -> None:
            self.metrics.observe_cycle(outcome, reason_code, asyncio.get_running_loop().time() - began)

        try:
            report, replayed = await self.engine.run_cycle(symbol, interval, key)
        except ServiceError as error:
            observe("REFUSED", error.code)
            log.warning("cycle.refused", symbol=symbol, code=error.code, **_cycle_id(error))
            raise
        if not replayed and report.execution is not None:
            observe(report.execution.status.value, report.execution.reason_code)
            log.info(
                "cycle.completed",
                cycle_id=report.id,
                symbol=symbol,
                status=report.execution.status.value,
                reason_code=report.execution.reason_code,
            )
        return report, replayed

    async def latest_market(self, symbol: str) -> tuple[MarketView, str, Interval]:
        """The market as a cycle would see it now, with its source and interval."""
        interval = self.settings.default_interval
        observation = await self._monitoring.observe(symbol, interval)
        return observation.view, self.market.source, interval

    async def start_training(self, key: IdempotencyKey | None = None) -> tuple[Job, bool]:
        """Queue a training; True when the job is that of an earlier call with `key`."""

        async def work(on_progress: OnProgress) -> Mapping[str, object]:
            bundle = await self.keeper.train(on_progress)
            return {
                "model_id": bundle.model_id,
                "edge": bundle.card["metrics"]["edge"],
                "skill": bundle.card["metrics"]["skill"],
                "direction_skill": bundle.card["metrics"]["direction_skill"],
                "net_return_bps": bundle.card["metrics"]["net_return_bps"],
            }

        if self.keeper.is_training and (key is None or await self.jobs.find_replay(key) is None):
            raise ConflictError(
                "A training is under way; wait for it to end.", code="training_in_progress", retry_after_seconds=10
            )
        return await self._job_runner.start("training", work, key)

    async def start_backtest(self, request: BacktestRequest, key: IdempotencyKey | None = None) -> tuple[Job, bool]:
        """Queue a backtest, whose result names its run; True when the job is that of an earlier call with `key`."""

        async def work(on_progress: OnProgress) -> Mapping[str, object]:
            run = (await self.backtests.run(request, on_progress)).run
            return {"run_id": run.id, "total_return": run.performance.total_return, "sharpe": run.performance.sharpe}

        return await self._job_runner.start("backtest", work, key)

    async def start_parity(self, wanted: Selection, key: IdempotencyKey | None = None) -> tuple[Job, bool]:
        """Queue a comparison of life with the backtest; True when the job is that of an earlier call with `key`."""
        return await self._job_runner.start("parity", partial(self.parity.summarize, wanted), key)

    async def cancel_job(self, job_id: str) -> Job:
        """End a job before its time; raises as `JobRunner.cancel`."""
        return await self._job_runner.cancel(job_id)

    def model_card(self) -> Mapping[str, Any]:
        """The card of the model in use, and how far the market is from it; raises `NotReadyError`."""
        card, report, age = self.strategy.card, self.drift.report, self.keeper.age
        of_this = report is not None and report.model_id == card["model_id"]
        live = {
            "age_days": round(age / timedelta(days=1), 2) if age is not None else None,
            "old": self.keeper.is_old,
            "doubt": asdict(self.strategy.doubt) if self.strategy.doubt else None,
            "drift": asdict(report) | {"score": report.score} if report is not None and of_this else None,
        }
        return {**card, "live": live}

    async def list_models(self, limit: int) -> Sequence[Model]:
        """The registered models of this market, newest first."""
        return await self.keeper.list_models(limit)

    async def activate_model(self, model_id: str) -> Model:
        """Take a registered model into use; raises as `ModelKeeper.activate`."""
        return await self.keeper.activate(model_id, ActivationReason.REQUEST)

    async def roll_back_model(self) -> Model:
        """Take the model into use again that was before the present one; raises as `ModelKeeper.roll_back`."""
        return await self.keeper.roll_back()

    async def track_record(self, model_id: str | None = None) -> Sequence[TrackRecord]:
        """How the decisions of each model (or of one) came out, the newest model first; empty before any settled."""
        scored = await self.outcomes.load_scored(self.market.source, model_id, _TRACK_RECORD_DECISIONS)
        return await asyncio.to_thread(summarize, scored, self.settings.min_confidence)

    def predict_candles(self, candles: Sequence[Candle]) -> Sequence[Prediction | ServiceError]:
        """What the model says after each of `candles`."""
        return self.strategy.predict_candles(candles)

    def predict_features(self, rows: Sequence[FeatureRow]) -> Sequence[Prediction | ServiceError]:
        """What the model says about each row of features."""
        return self.strategy.predict_features(rows)

    async def checks(self) -> Sequence[Check]:
        """Every readiness check: database, ledger, market, clock and model."""
        return [
            await readiness.check_database(self.database),
            readiness.check_ledger(self._ledger_error),
            await self._market_probe.check(self.market),
            readiness.check_clock(self.market),
            readiness.check_model(self.keeper),
        ]

    async def health(self) -> dict[str, Any]:
        """The state of things for people."""
        bundle = self.strategy.bundle
        state: dict[str, Any] = {
            "version": __version__,
            "source": self.market.source,
            "simulated": self.market.source == "simulated",
            "database": self.database.description,
            "model": {
                "id": bundle.model_id if bundle else None,
                "trained_at": bundle.card["trained_at"] if bundle else None,
                "old": self.keeper.is_old,
                "phase": self.keeper.status.phase.value,
                "progress": round(self.keeper.status.progress, 3),
                "message": self.keeper.status.message,
            },
        }
        if isinstance(self.market, BinanceMarketDataClient):
            state["exchange"] = {"host": self.market.active_host, "clock_skew_seconds": self.market.clock_skew_seconds}
        with suppress(ServiceError):
            state["halted"] = (await self.ledger.load_standing(self.key)).halt is not None
            newest = (await self.ledger.list_cycles(limit=1, wanted=Selection(source=self.market.source))).items
            state["last_cycle"] = readiness.describe_cycle(newest[0]) if newest else None
        return state

    def _require_books(self) -> None:
        if self._ledger_error is not None:
            raise self._ledger_error

    async def _open_books(self) -> None:
        try:
            self._settings_digest = await self.ledger.keep_settings(describe_settings(self.settings))
            await self.ledger.open_account(self.key, self.settings.initial_cash)
        except ServiceError as error:
            if error.code != "ledger_mismatch":
                raise
            self._ledger_error = error
            told = Event(self.clock.now(), EventType.BOOKS_MISMATCH, error.message, (error.code,))
            await self.event_log.append([told])
        await self.jobs.interrupt_running()
        newest = (await self.ledger.list_cycles(limit=1, wanted=Selection(source=self.market.source))).items
        self.metrics.set_last_cycle(newest[0].finished_at if newest else None)

    def _wire(self) -> None:
        settings, spec = self.settings, make_spec(self.settings)
        self.history = HistoryKeeper(self.market, CandleStore(self.database), self.clock)
        runs, place = SqlBacktests(self.database, self.clock), (settings.model_path, settings.training_backend)
        self.backtests = BacktestKeeper(self.market, self.history, runs, self.clock, settings.model_path)
        optimizations = SqlOptimizations(self.database)
        self.optimizations = OptimizationKeeper(self.backtests, runs, optimizations, self._job_runner, *place)
        self.keeper = ModelKeeper(self.history, self.models, self.strategy, self.clock, spec, self._model_taken)
        self._monitoring = MarketMonitoringAgent(
            self.market, bars=settings.default_klines_limit, minimum_bars=self.strategy.lookback_bars
        )
        self.scorer = Scorer(
            self.history, self.outcomes, self.clock, lambda model_id: read_label_rule(settings.model_path, model_id)
        )
        self.drift = DriftMonitor(
            self.history,
            self.strategy,
            self.clock,
            settings.default_interval,
            spec.maximum_age,
            lambda model_id: self.outcomes.load_scored(self.market.source, model_id, _TRACK_RECORD_DECISIONS),
        )
        terms = make_terms(settings)
        seats = Seats(
            self._monitoring,
            DecisionMakingAgent(self.strategy, make_gate(settings)),
            ExecutionAgent(self.ledger, terms, make_risk(settings), self.clock),
        )
        self.engine = TradingEngine(self.key, seats, self.ledger, self.clock, self._new_id, self._circumstances)
        self.portfolio = PortfolioDesk(
            self.key,
            self._monitoring,
            self.ledger,
            self.actions,
            terms,
            settings.default_interval,
            self._new_id,
            self._require_books,
        )

    def _circumstances(self) -> Circumstances:
        return Circumstances(
            model_sha256=self.strategy.card["sha256"],
            settings_digest=self._settings_digest,
            code_version=__version__,
            seed=self.settings.simulated_seed,
            model_age=self.keeper.age,
        )

    def _model_taken(self, bundle: Bundle) -> None:
        self.metrics.set_model(bundle.trained_at)

    def _report_drift(self, report: DriftReport) -> None:
        self.metrics.set_drift(report.scores, doubted=self.strategy.doubt is not None)

    async def _report_scores(self, count: int) -> None:
        records = await self.track_record()
        self.metrics.observe_scores(count, {record.model_id: record.log_loss for record in records})


def build_service(
    settings: Settings, clock: Clock | None = None, new_id: Callable[[], str] = lambda: uuid4().hex
) -> Service:
    """Wire a service; nothing is opened before its `start`."""
    return Service(settings, clock or SystemClock(), new_id)


def _cycle_id(error: ServiceError) -> dict[str, object]:
    return {"cycle_id": error.context["cycle_id"]} if "cycle_id" in error.context else {}
