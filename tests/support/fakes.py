"""One fake per port: real behaviour, kept in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from app.domain.action import ActionKind, ActionReport
from app.domain.booking import make_trades
from app.domain.candle import Candle, Interval
from app.domain.cycle import CycleReport, Settlement, Trade
from app.domain.instrument import Instrument
from app.domain.job import Job
from app.domain.market import MarketSnapshot, Quote
from app.domain.money import to_units
from app.domain.order import Order, OrderStatus, Origin
from app.domain.ports import EVERYTHING, Clock, IdempotencyKey, Page, Selection, Settle
from app.domain.signal import Edge, Prediction, Signal
from app.domain.standing import Halt, Run, RunKey, Standing, open_snapshot
from app.engine.memory_ledger import MemoryLedger, follow
from app.errors import ConflictError, InvalidInputError, NotFoundError, NotReadyError, ServiceError

START = datetime(2026, 11, 21, 1, 2, 3, 456_789, tzinfo=UTC)
MODEL_ID = "forest-test"
PROBABILITIES = {Signal.BUY: 0.5, Signal.SELL: 0.2, Signal.HOLD: 0.3}
CARD: dict[str, Any] = {
    "card_version": 1,
    "model_id": MODEL_ID,
    "trained_at": "2026-11-21T01:00:00+00:00",
    "source": "simulated",
    "symbols": ["BTCUSDT"],
    "interval": "1m",
    "features": ["return_1", "range_1"],
    "classes": ["BUY", "HOLD", "SELL"],
    "label_rule": {"threshold_percent": 0.5, "horizon_bars": 240},
    "window": {"bars": 10_000},
    "hyperparameters": {"n_estimators": 100},
    "libraries": {"numpy": "2.4.6"},
    "metrics": {"log_loss": 1.01, "skill": float("nan")},
    "warnings": [],
    "sha256": "00ff",
}
PREDICTION = Prediction(Signal.BUY, PROBABILITIES, MODEL_ID, 0.001, Edge.NONE, features=(0.25, -1.5))


@dataclass
class FakeClock:
    """A clock that stands until it is moved."""

    moment: datetime = START

    def now(self) -> datetime:
        return self.moment

    def advance(self, **duration: float) -> None:
        self.moment += timedelta(**duration)


def candles_until(end: datetime, bars: int, interval: Interval = Interval.M1) -> tuple[Candle, ...]:
    """`bars` closed candles, the last of which closed before `end`."""
    seconds = interval.milliseconds // 1_000
    last_open = datetime.fromtimestamp(int(end.timestamp()) // seconds * seconds - seconds, UTC)
    candles = []
    for place in range(bars):
        opened = last_open - interval.duration * (bars - 1 - place)
        close = Decimal(64_000) + place
        closed = opened + interval.duration - timedelta(milliseconds=1)
        candles.append(Candle(opened, closed, close - 1, close + 1, close - 2, close, Decimal("1.25")))
    return tuple(candles)


@dataclass
class FakeMarketData:
    """A market of a few symbols that rises by one a candle."""

    clock: Clock
    source: str = "simulated"
    symbols: tuple[str, ...] = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "ADAUSDT")
    error: ServiceError | None = None

    @property
    def candle_source(self) -> str:
        return self.source

    async def fetch_snapshot(self, symbol: str, interval: Interval, bars: int) -> MarketSnapshot:
        instrument = await self.fetch_instrument(symbol)
        now = self.clock.now()
        candles = candles_until(now, bars, interval)
        quote = Quote(candles[-1].close + Decimal("0.10"), now)
        return MarketSnapshot(self.source, symbol, interval, candles, quote, instrument, now, 0.0)

    async def fetch_range(
        self, symbol: str, interval: Interval, since: datetime, until: datetime, limit: int = 1_000
    ) -> list[Candle]:
        await self.fetch_instrument(symbol)
        span = (self.clock.now() - since) // interval.duration + 1
        candles = candles_until(self.clock.now(), span, interval)
        return [candle for candle in candles if since <= candle.open_time < until][:limit]

    async def fetch_instrument(self, symbol: str) -> Instrument:
        if self.error is not None:
            raise self.error
        if symbol not in self.symbols:
            raise NotFoundError(f"{symbol} is not traded here.", code="unknown_symbol", context={"symbol": symbol})
        base = symbol.removesuffix("USDT")
        return Instrument(symbol, base, "USDT", Decimal("0.01"), Decimal("0.00001"), Decimal(5))

    async def probe(self) -> float:
        if self.error is not None:
            raise self.error
        return 0.0

    async def aclose(self) -> None:
        """Nothing is open."""


@dataclass
class FakeWaitStore:
    """Remembers waits for as long as it lives."""

    waits: dict[str, datetime] = field(default_factory=dict)

    async def load_waits(self) -> dict[str, datetime]:
        return dict(self.waits)

    async def save_wait(self, host: str, until: datetime) -> None:
        self.waits[host] = until


@dataclass
class FakeStrategy:
    """Says the same at every candle."""

    prediction: Prediction = PREDICTION
    lookback_bars: int = 3

    def predict(self, candles: Sequence[Candle]) -> Prediction:
        if len(candles) < self.lookback_bars:
            raise NotReadyError("Too few candles.", code="insufficient_history")
        return self.prediction


class FakeLedger(MemoryLedger):
    """The ledger in memory, which can be looked into and told to fail."""

    error: ServiceError | None = None

    @property
    def cycles(self) -> list[CycleReport]:
        """Every cycle, the oldest first."""
        return list(self._reports.values())

    @property
    def trades(self) -> list[Trade]:
        """Every trade, the oldest first."""
        return list(self._trades.values())

    def stand(self, standing: Standing) -> None:
        """Let the account stand elsewhere; what was booked stays."""
        self.standing = standing

    def book(self, settlement: Settlement, now: datetime) -> list[Trade]:
        """Book what no cycle led to; returns the trades with their numbers."""
        made = make_trades(self.standing.run, settlement, None, None, now, self._trade_numbers)
        self._trades |= {trade.id: trade for trade in made}
        self.stand(follow(self.standing, settlement))
        return made

    async def get_cycle(self, cycle_id: str) -> CycleReport:
        self._check()
        return await super().get_cycle(cycle_id)

    async def list_cycles(
        self, *, limit: int, cursor: str | None = None, wanted: Selection = EVERYTHING
    ) -> Page[CycleReport]:
        self._check()
        return await super().list_cycles(limit=limit, cursor=cursor, wanted=wanted)

    async def get_trade(self, trade_id: int) -> Trade:
        self._check()
        return await super().get_trade(trade_id)

    async def list_trades(
        self, *, limit: int, cursor: str | None = None, wanted: Selection = EVERYTHING
    ) -> Page[Trade]:
        self._check()
        return await super().list_trades(limit=limit, cursor=cursor, wanted=wanted)

    def _check(self) -> None:
        if self.error is not None:
            raise self.error


@dataclass
class FakeActions:
    """What people do to the account of a ledger in memory; `reports` keeps it, the oldest first."""

    ledger: FakeLedger
    clock: Clock
    reports: list[ActionReport] = field(default_factory=list)
    keys: dict[str, tuple[str, ActionReport]] = field(default_factory=dict)

    async def find_replay(self, key: IdempotencyKey) -> ActionReport | None:
        if key.key not in self.keys:
            return None
        fingerprint, report = self.keys[key.key]
        if fingerprint != key.fingerprint:
            raise InvalidInputError("This key came with another request.", code="idempotency_key_reused")
        return report

    async def book(
        self,
        key: RunKey,
        kind: ActionKind,
        booking_id: str,
        words: Mapping[str, object],  # noqa: ARG002 - the port's
        settles: Sequence[Settle],
        idempotency_key: IdempotencyKey | None,
    ) -> ActionReport:
        now = self.clock.now()
        orders: list[Order] = []
        fills: list[Trade] = []
        code, reason = "nothing_to_do", "There was nothing to do."
        for settle in settles:
            settlement = settle(await self.ledger.load_standing(key), now)
            fills += self.ledger.book(settlement, now)
            orders += settlement.orders
            code, reason = settlement.reason_code, settlement.reason
        told = ActionReport(
            booking_id, kind, self.ledger.standing.run.id, now, code, reason, tuple(orders), tuple(fills)
        )
        return self._keep(told, idempotency_key)

    async def cancel(
        self,
        key: RunKey,
        booking_id: str,
        words: Mapping[str, object],  # noqa: ARG002 - the port's
        order_id: str,
    ) -> ActionReport:
        before = await self.ledger.load_standing(key)
        order = next((one for one in before.orders if one.id == order_id), None)
        if order is None:
            if any(one.id == order_id for report in self.reports for one in report.orders):
                raise ConflictError("The order does not rest any more; nothing was changed.", code="order_ended")
            raise NotFoundError("There is no order with this id.", code="order_not_found")
        if order.origin is Origin.LIQUIDATION:
            raise ConflictError("The liquidation of a short cannot be cancelled.", code="order_required")
        now, words_for_it = self.clock.now(), "It was cancelled on request."
        ended = _cancelled(order, "canceled", words_for_it, now)
        self.ledger.stand(replace(before, orders=tuple(one for one in before.orders if one is not order)))
        told = ActionReport(booking_id, ActionKind.CANCEL, before.run.id, now, "canceled", words_for_it, (ended,))
        return self._keep(told, None)

    async def reset(
        self, key: RunKey, booking_id: str, cash: Decimal, idempotency_key: IdempotencyKey | None
    ) -> ActionReport:
        now, before = self.clock.now(), await self.ledger.load_standing(key)
        words = "A new run was started."
        ended = tuple(_cancelled(order, "run_ended", words, now) for order in before.orders)
        run = Run(key, before.run.generation + 1, cash, now)
        is_kept = before.halt is not None and before.halt.reason_code != "max_drawdown"
        self.ledger.stand(Standing(run, open_snapshot(to_units(cash), now), halt=before.halt if is_kept else None))
        told = ActionReport(booking_id, ActionKind.RESET, run.id, now, "reset", f"{words} It is {run.id}.", ended)
        return self._keep(told, idempotency_key)

    async def set_halt(self, key: RunKey, booking_id: str, reason: str, *, is_halted: bool) -> ActionReport:
        now, before = self.clock.now(), await self.ledger.load_standing(key)
        kind, code = (ActionKind.HALT, "halted") if is_halted else (ActionKind.RESUME, "resumed")
        snapshot = before.snapshot
        if is_halted:
            halt = before.halt if before.halt and before.halt.reason_code == code else Halt(code, reason, now)
        else:
            halt, snapshot = None, replace(snapshot, peak_equity=snapshot.equity)
        self.ledger.stand(replace(before, snapshot=snapshot, halt=halt))
        return self._keep(ActionReport(booking_id, kind, before.run.id, now, code, reason), None)

    def _keep(self, report: ActionReport, key: IdempotencyKey | None) -> ActionReport:
        self.reports.append(report)
        if key is not None:
            self.keys[key.key] = (key.fingerprint, report)
        return report


def _cancelled(order: Order, code: str, reason: str, now: datetime) -> Order:
    return replace(order, status=OrderStatus.CANCELED, reason_code=code, reason=reason, closed_at=now)


@dataclass
class FakeJobs:
    """Jobs in a list, oldest first."""

    jobs: list[Job] = field(default_factory=list)

    async def get(self, job_id: str) -> Job:
        for job in self.jobs:
            if job.id == job_id:
                return job
        raise NotFoundError("There is no such job.", code="job_not_found", context={"job_id": job_id})

    async def list(self, limit: int) -> Sequence[Job]:
        return self.jobs[::-1][:limit]
