"""One fake per port: real behaviour, kept in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

from app.domain.candle import Candle, Interval
from app.domain.cycle import (
    CycleDraft,
    CycleReport,
    CycleStatus,
    Execution,
    ExecutionStatus,
    Settlement,
    Trade,
)
from app.domain.instrument import Instrument
from app.domain.job import Job
from app.domain.market import MarketSnapshot, Quote
from app.domain.order import Fill, Side
from app.domain.portfolio import Portfolio
from app.domain.ports import Clock, IdempotencyKey, Page, Settle
from app.domain.signal import Edge, Prediction, Signal
from app.errors import InvalidInputError, NotFoundError, NotReadyError, ServiceError

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
T = TypeVar("T")
PREDICTION = Prediction(Signal.BUY, PROBABILITIES, MODEL_ID, 0.001, Edge.NONE)


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


@dataclass
class FakeLedger:
    """Books kept in lists, oldest first."""

    cycles: list[CycleReport] = field(default_factory=list)
    trades: list[Trade] = field(default_factory=list)
    keys: dict[str, tuple[str, str]] = field(default_factory=dict)
    portfolios: dict[str, Portfolio] = field(default_factory=dict)
    error: ServiceError | None = None

    async def open_account(self, source: str, cash: Decimal) -> Portfolio:
        return self.portfolios.setdefault(source, Portfolio(cash))

    async def load_portfolio(self, source: str) -> Portfolio:
        return self.portfolios[source]

    async def record_cycle(
        self, draft: CycleDraft, settle: Settle, clock: Clock, key: IdempotencyKey | None = None
    ) -> CycleReport:
        if key is not None and (earlier := await self.find_replay(key)) is not None:
            return earlier
        earlier_trade = next((trade for trade in self.trades if _same_candle(trade, draft)), None)
        if earlier_trade is not None:
            execution = Execution(
                ExecutionStatus.SKIPPED,
                "candle_already_traded",
                "This candle was traded.",
                earlier_trade,
                duplicate=True,
            )
        else:
            execution = self._book(draft, settle(self.portfolios[draft.source]), clock)
        report = CycleReport(
            draft.id,
            draft.source,
            draft.symbol,
            draft.interval,
            CycleStatus.COMPLETED,
            draft.started_at,
            clock.now(),
            draft.logs,
            draft.market,
            draft.decision,
            execution,
        )
        self.cycles.append(report)
        if key is not None:
            self.keys[key.key] = (key.fingerprint, report.id)
        return report

    def _book(self, draft: CycleDraft, settlement: Settlement, clock: Clock) -> Execution:
        fill = settlement.fill
        if fill is None:
            return Execution(settlement.status, settlement.reason_code, settlement.reason)
        portfolio = _after(self.portfolios[draft.source], draft.symbol, fill)
        self.portfolios[draft.source] = portfolio
        trade = Trade(
            id=len(self.trades) + 1,
            cycle_id=draft.id,
            symbol=draft.symbol,
            interval=draft.interval,
            source=draft.source,
            side=fill.side,
            quantity=fill.quantity,
            price=fill.price,
            notional=fill.notional,
            fee=fill.fee,
            slippage_bps=fill.slippage_bps,
            confidence=draft.decision.confidence,
            model_id=draft.decision.model_id,
            candle_open_time=draft.market.candle_open_time,
            executed_at=clock.now(),
            reason=settlement.reason,
            cash_after=portfolio.cash,
            position_after=portfolio.quantity(draft.symbol),
            edge=draft.decision.edge,
        )
        self.trades.append(trade)
        return Execution(settlement.status, settlement.reason_code, settlement.reason, trade)

    async def record_refusal(self, report: CycleReport) -> None:
        self.cycles.append(report)

    async def find_replay(self, key: IdempotencyKey) -> CycleReport | None:
        if key.key not in self.keys:
            return None
        recorded, cycle_id = self.keys[key.key]
        if recorded != key.fingerprint:
            raise InvalidInputError("This key came with another request.", code="idempotency_key_reused")
        return await self.get_cycle(cycle_id)

    async def get_cycle(self, cycle_id: str) -> CycleReport:
        self._check()
        for report in self.cycles:
            if report.id == cycle_id:
                return report
        raise NotFoundError("There is no such cycle.", code="cycle_not_found", context={"cycle_id": cycle_id})

    async def list_cycles(
        self, *, limit: int, cursor: str | None = None, symbol: str | None = None, source: str | None = None
    ) -> Page[CycleReport]:
        self._check()
        return _page(self.cycles, limit, cursor, lambda row: _matches(row.symbol, row.source, symbol, source))

    async def get_trade(self, trade_id: int) -> Trade:
        self._check()
        if trade_id > len(self.trades):
            raise NotFoundError("There is no such trade.", code="trade_not_found", context={"trade_id": trade_id})
        return self.trades[trade_id - 1]

    async def list_trades(
        self, *, limit: int, cursor: str | None = None, symbol: str | None = None, source: str | None = None
    ) -> Page[Trade]:
        self._check()
        return _page(self.trades, limit, cursor, lambda row: _matches(row.symbol, row.source, symbol, source))

    def _check(self) -> None:
        if self.error is not None:
            raise self.error


def _same_candle(trade: Trade, draft: CycleDraft) -> bool:
    return (trade.source, trade.symbol, trade.interval, trade.candle_open_time) == (
        draft.source,
        draft.symbol,
        draft.interval,
        draft.market.candle_open_time,
    )


def _after(portfolio: Portfolio, symbol: str, fill: Fill) -> Portfolio:
    sign = 1 if fill.side is Side.BUY else -1
    held = portfolio.quantity(symbol) + sign * fill.quantity
    return Portfolio(portfolio.cash - sign * fill.notional - fill.fee, {**portfolio.positions, symbol: held})


def _matches(row_symbol: str, row_source: str, symbol: str | None, source: str | None) -> bool:
    return symbol in (None, row_symbol) and source in (None, row_source)


def _page(rows: list[T], limit: int, cursor: str | None, wanted: Callable[[T], bool]) -> Page[T]:
    if cursor is not None and not cursor.isdigit():
        raise InvalidInputError("That cursor is not one of ours.", code="invalid_cursor")
    end = len(rows) if cursor is None else min(int(cursor), len(rows))
    found = [place for place in range(end - 1, -1, -1) if wanted(rows[place])]
    items = tuple(rows[place] for place in found[:limit])
    return Page(items, str(found[limit - 1]) if len(found) > limit else None)


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
