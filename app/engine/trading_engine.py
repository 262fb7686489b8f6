"""One cycle, however it was started. It knows no mode, no HTTP and no SQL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from weakref import WeakValueDictionary

from app.agents.decision_making import DecisionMakingAgent
from app.agents.execution import ExecutionAgent
from app.agents.market_monitoring import Observer
from app.domain.candle import Interval
from app.domain.cycle import Circumstances, CycleDraft, CycleReport, CycleStatus, Decision, LogLine, MarketView
from app.domain.ports import Clock, IdempotencyKey, Ledger
from app.domain.standing import RunKey
from app.errors import ConflictError, NotReadyError, ServiceError, StorageError, UpstreamError

LOCK_WAIT_SECONDS = 15.0
"""How long a caller waits for a running cycle of the same symbol; a cycle's upstream deadline is 10 s."""


@dataclass(frozen=True, slots=True)
class Seats:
    """The agents of a cycle, in their order."""

    monitoring: Observer
    decision: DecisionMakingAgent
    execution: ExecutionAgent


@dataclass(frozen=True, slots=True)
class _Running:
    """A cycle under way."""

    id: str
    symbol: str
    interval: Interval
    started_at: datetime
    logs: list[LogLine] = field(default_factory=list)


class TradingEngine:
    """Chains market monitoring, decision and execution.

    Args:
        key: Whose books the cycles are booked in.
        seats: The agents.
        ledger: Finds earlier cycles by their idempotency key, and keeps refused ones.
        clock: Stamps the cycle.
        new_id: Gives each cycle its id.
        circumstances: Tells what else a cycle depends on, when it is asked.
    """

    lock_wait_seconds = LOCK_WAIT_SECONDS

    def __init__(
        self,
        key: RunKey,
        seats: Seats,
        ledger: Ledger,
        clock: Clock,
        new_id: Callable[[], str],
        circumstances: Callable[[], Circumstances],
    ) -> None:
        self._key = key
        self._circumstances = circumstances
        self._seats = seats
        self._ledger = ledger
        self._clock = clock
        self._new_id = new_id
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def run_cycle(
        self, symbol: str, interval: Interval, key: IdempotencyKey | None = None
    ) -> tuple[CycleReport, bool]:
        """Run one cycle; returns its report, and whether that is the replay of an earlier one.

        Raises:
            UpstreamError, NotReadyError: The cycle was refused; `context["cycle_id"]` names its record.
            ServiceError: The request was wrong, or nothing could be recorded. `ConflictError` (`cycle_in_progress`)
                when another cycle of the symbol did not end in time.
        """
        turn = await self._take_turn(symbol)
        try:
            if key is not None and (earlier := await self._ledger.find_replay(key)) is not None:
                return earlier, True
            running = _Running(self._new_id(), symbol, interval, self._clock.now())
            try:
                report = await self._run(running, key)
            except ServiceError as error:
                await self._keep_refusal(running, error)
                raise
            return report, report.id != running.id
        finally:
            turn.release()

    async def _take_turn(self, symbol: str) -> asyncio.Lock:
        lock = self._locks.get(symbol)
        if lock is None:  # no other cycle of the symbol runs or waits: its lock would still be there
            self._locks[symbol] = lock = asyncio.Lock()
            await lock.acquire()
            return lock
        try:
            async with asyncio.timeout(self.lock_wait_seconds):
                await lock.acquire()
        except TimeoutError:
            raise ConflictError(
                f"A cycle of {symbol} is still running; ask again in a second.",
                code="cycle_in_progress",
                retry_after_seconds=1,
                context={"symbol": symbol},
            ) from None
        return lock

    async def _run(self, running: _Running, key: IdempotencyKey | None) -> CycleReport:
        seats, say = self._seats, self._say
        seats.decision.require_model()
        observation = await seats.monitoring.observe(running.symbol, running.interval)
        say(running, "market_monitoring", _describe_market(observation.view, running.interval))
        decision, prediction = seats.decision.decide(observation)
        say(running, "decision_making", _describe_decision(decision))
        draft = CycleDraft(
            id=running.id,
            key=self._key,
            symbol=running.symbol,
            interval=running.interval,
            started_at=running.started_at,
            market=observation.view,
            decision=decision,
            prediction=prediction,
            snapshot=observation.snapshot,
            circumstances=self._circumstances(),
            logs=tuple(running.logs),
        )
        return await seats.execution.execute(draft, key)

    def _say(self, running: _Running, agent: str, message: str) -> None:
        running.logs.append(LogLine(self._clock.now(), agent, message))

    async def _keep_refusal(self, running: _Running, error: ServiceError) -> None:
        """Record a refusal that time may cure; a caller's mistake is answered and forgotten."""
        if not isinstance(error, UpstreamError | NotReadyError):
            return
        error.context["cycle_id"] = running.id
        self._say(running, "trading_engine", f"Refused: {error.message}")
        report = CycleReport(
            id=running.id,
            source=self._key.source,
            symbol=running.symbol,
            interval=running.interval,
            status=CycleStatus.REFUSED,
            started_at=running.started_at,
            finished_at=running.logs[-1].time,
            logs=tuple(running.logs),
            reason_code=error.code,
            reason=error.message,
        )
        try:
            await self._ledger.record_refusal(report, self._key)
        except StorageError:
            return  # the caller must hear the refusal itself; readiness shows the storage


def _describe_market(view: MarketView, interval: Interval) -> str:
    return (
        f"Price {view.price.normalize():f}; the {interval} candle that closed at "
        f"{view.candle_close_time.isoformat(timespec='seconds')} ended at {view.candles[-1].close.normalize():f}."
    )


def _describe_decision(decision: Decision) -> str:
    return f"{decision.action} with {decision.confidence:.1%}: {decision.reason}"
