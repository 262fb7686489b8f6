"""Cycles computed again from their records alone, and held against what is stored of them, byte for byte.

Nothing but the record, the candles and settings that it names and the model's arrays goes into a replay: no clock, no
market, no account as it stands now. The engine and its agents are those that run live.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, count
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection

from app.agents.decision_making import DecisionMakingAgent, Gate
from app.agents.execution import ExecutionAgent
from app.agents.market_monitoring import MarketMonitoringAgent
from app.agents.risk import RiskAgent
from app.broker.desk import Terms
from app.domain.candle import Candle, Interval
from app.domain.cycle import CycleDraft, CycleReport, CycleStatus
from app.domain.cycle_record import CycleInputs, read_inputs, write_outcome
from app.domain.market import MarketSnapshot
from app.domain.ports import Clock, IdempotencyKey, Selection, Settle
from app.domain.record import find_difference
from app.engine.memory_ledger import MemoryLedger
from app.engine.trading_engine import Seats, TradingEngine
from app.errors import ConflictError, NotFoundError, ServiceError
from app.risk.limits import LimitRules
from app.risk.protection import ProtectionRule
from app.risk.sizing import SizingRule
from app.storage.archive import Archive, Link, count_cycles, find_settings
from app.storage.database import Database
from app.storage.ledger import find_cycle
from app.storage.pages import is_plain
from app.strategies.forest import ForestStrategy
from ml.bundle import Bundle, BundleError, load_bundle

T = TypeVar("T")

_CHUNK = 200
_KEPT = 16
"""So many models, and so many settings, are kept ready."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the settings say about a cycle."""

    gate: Gate
    terms: Terms
    sizing: SizingRule
    limits: LimitRules
    protection: ProtectionRule

    @property
    def risk(self) -> RiskAgent:
        """The seat that sizes entries and holds them to the limits."""
        return RiskAgent(self.sizing, self.limits, self.protection, allow_short=self.terms.allow_short)


ReadRules = Callable[[Mapping[str, Any]], Rules]
"""Builds the rules from a settings document; raises ServiceError where it is none that this version can read."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What came of computing a cycle again.

    `difference` names the first field that differs, with what is recorded and what came out; None where all bytes are
    equal. The versions are those of the code that ran the cycle, and that replayed it.
    """

    cycle_id: str
    difference: str | None
    recorded_version: str
    replayed_version: str

    @property
    def equal(self) -> bool:
        """Whether all bytes are equal."""
        return self.difference is None


@dataclass(frozen=True, slots=True)
class NotReplayed:
    """Why a cycle was not computed again: it was refused, or something that it needs is missing."""

    cycle_id: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class RecordedCycle:
    """A cycle with everything that it came from."""

    report: CycleReport
    inputs: CycleInputs
    candles: tuple[Candle, ...]
    settings: dict[str, Any] | None

    @property
    def model(self) -> tuple[str, str]:
        """The name and the hash of the model that decided it."""
        decision = self.report.decision
        return decision.model_id if decision else "", self.inputs.circumstances.model_sha256


class Replayer:
    """Replays cycles of a database.

    Args:
        database: An open database.
        models: The folder of the models.
        read_rules: Builds the rules of a cycle from its settings.
        version: The version of the code that replays.
    """

    def __init__(self, database: Database, models: Path, read_rules: ReadRules, version: str) -> None:
        self._database = database
        self._models = models
        self._read_rules = read_rules
        self._version = version
        self._rules: dict[str, Rules] = {}
        self._strategies: dict[str, ForestStrategy] = {}

    async def replay(self, cycle_id: str) -> Replay:
        """Compute one cycle again.

        Raises:
            NotFoundError: `cycle_not_found`.
            ConflictError: `cycle_refused`, nothing was decided; `record_missing`, `record_damaged`,
                `model_missing` or `settings_missing`, what it came from is not there.
            StorageError: `record_incomplete`, a candle is missing or not what it was.
        """
        return await self.compute(await self.load(cycle_id))

    async def load(self, cycle_id: str) -> RecordedCycle:
        """One cycle with what it came from; raises as `replay`."""

        def find(connection: Connection) -> RecordedCycle | None:
            archive = Archive()
            link = archive.find(connection, cycle_id)
            if link is not None:
                return read_cycle(connection, archive, link, {})
            if find_cycle(connection, cycle_id) is None:
                return None
            raise ConflictError(
                "No record was kept of this cycle: it is older than records are.", code="record_missing"
            )

        found = await self._database.read(find) if is_plain(cycle_id) else None
        if found is None:
            raise NotFoundError("There is no cycle with this id.", code="cycle_not_found")
        return found

    async def replay_all(
        self, wanted: Selection, on_progress: Callable[[int, int], None]
    ) -> AsyncIterator[Replay | NotReplayed]:
        """Compute every recorded cycle again that is wanted, in the order in which they were booked.

        Args:
            wanted: Which cycles.
            on_progress: Hears how many are done, and of how many.
        """
        total, last = await self._database.read(lambda connection: count_cycles(connection, wanted))
        archive, after, done = Archive(), 0, 0
        settings: dict[str, dict[str, Any] | None] = {}

        def load(connection: Connection) -> list[tuple[int, str, RecordedCycle | ServiceError]]:
            links = archive.load_cycles(connection, wanted, after, last, _CHUNK)
            return [
                (link.number, str(link.cycle_id), _attempt(lambda: read_cycle(connection, archive, link, settings)))  # noqa: B023 - called at once
                for link in links
            ]

        while found := await self._database.read(load):
            for number, cycle_id, recorded in found:
                after = number
                yield await self._answer(cycle_id, recorded)
            done += len(found)
            on_progress(done, total)

    async def compute(self, recorded: RecordedCycle) -> Replay:
        """Compute a cycle again, and compare; raises ConflictError `model_missing` or `settings_missing`."""
        report, inputs = recorded.report, recorded.inputs
        rules, strategy = self.get_rules(recorded), await self._get_strategy(recorded)
        stage = _Stage(recorded)
        strategy.watch(strategy.model_id, inputs.drift, inputs.doubt)
        ledger = _WatchedLedger(stage, chain((trade.id for trade in report.fills), count(1)))
        earlier = report.execution.trade if report.execution and report.execution.duplicate else None
        ledger.resume(inputs.standing, () if earlier is None else (earlier,))
        seats = Seats(
            MarketMonitoringAgent(stage, bars=len(recorded.candles), minimum_bars=strategy.lookback_bars),
            DecisionMakingAgent(strategy, rules.gate),
            ExecutionAgent(ledger, rules.terms, rules.risk, stage),
        )
        key = inputs.standing.run.key
        engine = TradingEngine(key, seats, ledger, stage, lambda: report.id, lambda: inputs.circumstances)
        try:
            found, _ = await engine.run_cycle(report.symbol, report.interval)
        except ServiceError as error:
            difference: str | None = f"status: {report.status.value!r} and refused: {error.message}"
        else:
            difference = _compare(recorded, found, ledger.draft)
        return Replay(report.id, difference, inputs.circumstances.code_version, self._version)

    async def _answer(self, cycle_id: str, recorded: RecordedCycle | ServiceError) -> Replay | NotReplayed:
        if not isinstance(recorded, ServiceError):
            try:
                return await self.compute(recorded)
            except ServiceError as error:
                recorded = error
        return NotReplayed(cycle_id, recorded.code, recorded.message)

    def get_rules(self, recorded: RecordedCycle) -> Rules:
        """What the settings said about a cycle; raises ConflictError `settings_missing` or `settings_unreadable`."""
        name = recorded.inputs.circumstances.settings_digest
        if name not in self._rules:
            if recorded.settings is None:
                raise ConflictError(
                    f"The settings {name[:12]} that the cycle ran with are missing, or were changed.",
                    code="settings_missing",
                )
            _make_room(self._rules)
            self._rules[name] = self._read_rules(recorded.settings)
        return self._rules[name]

    async def _get_strategy(self, recorded: RecordedCycle) -> ForestStrategy:
        sha256 = recorded.inputs.circumstances.model_sha256
        if sha256 not in self._strategies:
            strategy = ForestStrategy()
            strategy.use(await self.load_model(recorded))
            _make_room(self._strategies)
            self._strategies[sha256] = strategy
        return self._strategies[sha256]

    async def load_model(self, recorded: RecordedCycle) -> Bundle:
        """The model that decided a cycle; raises ConflictError `model_missing`."""
        name, sha256 = recorded.model
        try:
            bundle = await asyncio.to_thread(load_bundle, self._models / name)
        except BundleError as error:
            words = f"The model {name} that decided the cycle cannot be loaded: {error}."
            raise ConflictError(words, code="model_missing") from error
        if bundle.card["sha256"] != sha256:
            words = f"The model {name} is not the one that decided the cycle: its hash is another."
            raise ConflictError(words, code="model_missing")
        return bundle


class _Stage:
    """The market and the clock of a recorded cycle."""

    def __init__(self, recorded: RecordedCycle) -> None:
        report = recorded.report
        self._snapshot = recorded.inputs.snapshot(report.source, report.symbol, report.interval, recorded.candles)
        said = (line.time for line in report.logs if line.time != report.finished_at)
        self._moments: Iterator[datetime] = iter((report.started_at, *said))
        self._last = report.finished_at

    def now(self) -> datetime:
        """The next of the moments at which the cycle asked for the time."""
        return next(self._moments, self._last)

    async def fetch_snapshot(self, symbol: str, interval: Interval, bars: int) -> MarketSnapshot:  # noqa: ARG002
        """The market as the cycle saw it."""
        return self._snapshot


class _WatchedLedger(MemoryLedger):
    """A ledger that keeps what was to be booked, too."""

    draft: CycleDraft | None = None

    async def record_cycle(
        self, draft: CycleDraft, settle: Settle, clock: Clock, key: IdempotencyKey | None = None
    ) -> CycleReport:
        """Book a cycle, as `MemoryLedger`."""
        self.draft = draft
        return await super().record_cycle(draft, settle, clock, key)


def read_cycle(
    connection: Connection, archive: Archive, link: Link, settings: dict[str, dict[str, Any] | None]
) -> RecordedCycle:
    """A recorded cycle with what its record names.

    Args:
        connection: A connection to the books.
        archive: What reads its candles.
        link: Its record.
        settings: Those that were read before, by their digest; more are added.

    Raises:
        ConflictError: `cycle_refused`, nothing was decided; `record_damaged`.
        StorageError: `record_incomplete`, a candle is missing or not what it was.
    """
    report = link.report
    if report is None:
        raise ConflictError(f"The cycle cannot be read: {link.trouble or 'it is missing'}.", code="record_damaged")
    if report.status is CycleStatus.REFUSED:
        raise ConflictError(
            f"The cycle was refused ({report.reason_code}): nothing was decided that could be replayed.",
            code="cycle_refused",
        )
    try:
        inputs = read_inputs(json.loads(str(link.document)))
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise ConflictError("The record of the cycle is damaged.", code="record_damaged") from error
    candles = archive.candles.read(connection, report.source, report.symbol, report.interval, inputs.candles)
    name = inputs.circumstances.settings_digest
    if name not in settings:
        settings[name] = find_settings(connection, name)
    return RecordedCycle(report, inputs, candles, settings[name])


def _compare(recorded: RecordedCycle, found: CycleReport, draft: CycleDraft | None) -> str | None:
    """The first difference: in the features first, as everything else follows from them."""
    features = list(draft.prediction.features) if draft else []
    difference = find_difference(list(recorded.inputs.features), features, "features")
    if difference is not None:
        return difference
    stored, replayed = write_outcome(recorded.report), write_outcome(found)
    if stored == replayed:
        return None
    return find_difference(json.loads(stored), json.loads(replayed)) or "the bytes differ"


def _attempt(work: Callable[[], T]) -> T | ServiceError:
    try:
        return work()
    except ServiceError as error:
        return error


def _make_room(kept: dict[str, T]) -> None:
    if len(kept) >= _KEPT:
        del kept[next(iter(kept))]
