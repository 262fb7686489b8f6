"""The engine, its agents and real books on the simulated market; only the strategy is scripted."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from app.agents.decision_making import DecisionMakingAgent, Gate
from app.agents.execution import ExecutionAgent
from app.agents.market_monitoring import MarketMonitoringAgent
from app.agents.risk import RiskAgent
from app.broker.desk import Terms
from app.domain.candle import Candle, Interval
from app.domain.cycle import Circumstances, CycleDraft, CycleReport, CycleStatus, ExecutionStatus
from app.domain.market import MarketSnapshot
from app.domain.money import UNITS, from_units
from app.domain.order import Side
from app.domain.portfolio import Portfolio
from app.domain.ports import IdempotencyKey
from app.domain.signal import Edge, Prediction, Signal
from app.domain.standing import RunKey
from app.engine.clocks import SimulatedClock
from app.engine.trading_engine import Seats, TradingEngine
from app.errors import ConflictError, InvalidInputError, NotFoundError, NotReadyError, UpstreamTimeoutError
from app.exchanges.simulated import SimulatedMarketData
from app.risk.limits import LimitRules
from app.risk.protection import ProtectionRule
from app.risk.sizing import SizingRule
from app.storage.database import Database
from app.storage.ledger import SqlLedger

pytestmark = pytest.mark.anyio

START = datetime(2026, 1, 5, 10, 0, 30, tzinfo=UTC)
KEY = RunKey("simulated")
TERMS = Terms(Decimal(2), Decimal(3), Decimal("0.1"))


class ScriptedStrategy:
    """Says what it is told to, with a confidence."""

    lookback_bars = 5

    def __init__(self) -> None:
        self.signal = Signal.BUY
        self.confidence = 0.6
        self.ready = True

    @property
    def model_id(self) -> str:
        if not self.ready:
            raise NotReadyError("No model yet.", code="model_not_ready", retry_after_seconds=5)
        return "scripted"

    def predict(self, candles: Sequence[Candle]) -> Prediction:
        assert len(candles) >= self.lookback_bars
        rest = (1 - self.confidence) / 2
        probabilities = {signal: self.confidence if signal is self.signal else rest for signal in Signal}
        return Prediction(self.signal, probabilities, self.model_id, 0.001, Edge.STATISTICAL, features=(0.5, -0.25))


class SlowMarket(SimulatedMarketData):
    """The simulated market, which waits until it may answer and can be told to fail."""

    def __init__(self, clock: SimulatedClock) -> None:
        super().__init__(clock, seed=7)
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails = False

    async def fetch_snapshot(self, symbol: str, interval: Interval, bars: int) -> MarketSnapshot:
        await self.gate.wait()
        if self.fails:
            raise UpstreamTimeoutError("The exchange did not answer.")
        return await super().fetch_snapshot(symbol, interval, bars)


class Bench:
    """An engine and everything around it."""

    def __init__(self, database: Database) -> None:
        self.clock = SimulatedClock(START)
        self.market = SlowMarket(self.clock)
        self.strategy = ScriptedStrategy()
        self.ledger = SqlLedger(database, self.clock)
        risk = RiskAgent(SizingRule(), LimitRules(), ProtectionRule(), allow_short=False)
        self.age = timedelta(hours=1)
        seats = Seats(
            MarketMonitoringAgent(self.market, bars=60, minimum_bars=5),
            DecisionMakingAgent(self.strategy, Gate(0.45)),
            ExecutionAgent(self.ledger, TERMS, risk, self.clock),
        )
        numbers = itertools.count(1)
        self.engine = TradingEngine(
            KEY, seats, self.ledger, self.clock, lambda: f"cycle-{next(numbers)}", self.tell_circumstances
        )

    def tell_circumstances(self) -> Circumstances:
        return Circumstances("model", "settings", "1.0", 7, self.age)


Opener = Callable[[], AbstractAsyncContextManager[Bench]]


@pytest.fixture
def bench(tmp_path: Path) -> Opener:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Bench]:
        async with Database(f"sqlite:///{tmp_path / 'books.db'}") as database:
            made = Bench(database)
            await made.ledger.open_account(KEY, Decimal(10_000))
            yield made

    return opened


async def test_cycle_with_a_confident_buy_fills_at_the_slipped_quote(bench: Opener) -> None:
    async with bench() as at:
        report, replayed = await at.engine.run_cycle("BTCUSDT", Interval.M1)
        quote = (await at.market.fetch_snapshot("BTCUSDT", Interval.M1, 60)).quote
        assert not replayed
        assert report.status is CycleStatus.COMPLETED
        assert report.market is not None
        assert report.market.price == quote.price
        assert report.market.candle_close_time < START
        assert report.execution is not None
        assert report.execution.status is ExecutionStatus.FILLED
        trade = report.execution.trade
        assert trade is not None
        assert trade.side is Side.BUY
        assert trade.price > quote.price
        assert trade.cash_after == Decimal(10_000) - trade.notional - trade.fee
        assert trade.position_after == trade.quantity
        assert [line.agent for line in report.logs] == ["market_monitoring", "decision_making", "risk", "execution"]
        assert report.fills == (trade,)
        assert [order.id for order in report.orders] == [trade.order_id]
        assert all(check.passed for check in report.checks)
        assert await at.ledger.get_cycle(report.id) == report


async def test_cycle_of_a_candle_that_was_traded_shows_the_earlier_trade(bench: Opener) -> None:
    async with bench() as at:
        first, _ = await at.engine.run_cycle("BTCUSDT", Interval.M1)
        at.clock.advance(timedelta(seconds=10))
        second, replayed = await at.engine.run_cycle("BTCUSDT", Interval.M1)
        assert not replayed
        assert second.execution is not None
        assert first.execution is not None
        assert second.execution.status is ExecutionStatus.SKIPPED
        assert second.execution.reason_code == "candle_already_traded"
        assert second.execution.duplicate
        assert second.execution.trade == first.execution.trade
        assert len((await at.ledger.list_trades(limit=10)).items) == 1


@pytest.mark.parametrize(
    ("signal", "confidence", "reason_code"),
    [
        (Signal.HOLD, 0.9, "hold_signal"),
        (Signal.BUY, 0.44, "below_min_confidence"),
        (Signal.SELL, 0.44, "below_min_confidence"),
        (Signal.SELL, 0.45, "no_position"),
    ],
)
async def test_cycle_that_does_not_trade_says_why(
    bench: Opener, signal: Signal, confidence: float, reason_code: str
) -> None:
    async with bench() as at:
        at.strategy.signal, at.strategy.confidence = signal, confidence
        report, _ = await at.engine.run_cycle("BTCUSDT", Interval.M1)
        assert report.execution is not None
        assert report.execution.status is ExecutionStatus.SKIPPED
        assert report.execution.reason_code == reason_code
        assert report.execution.trade is None
        assert report.fills == ()
        assert (await at.ledger.load_standing(KEY)).portfolio == Portfolio(10_000 * UNITS)


async def test_cycle_after_a_buy_sells_the_whole_position(bench: Opener) -> None:
    async with bench() as at:
        await at.engine.run_cycle("BTCUSDT", Interval.M1)
        at.clock.advance(timedelta(minutes=1))
        again, _ = await at.engine.run_cycle("BTCUSDT", Interval.M1)
        assert again.execution is not None
        assert again.execution.reason_code == "already_in_position"
        at.clock.advance(timedelta(minutes=1))
        at.strategy.signal = Signal.SELL
        sold, _ = await at.engine.run_cycle("BTCUSDT", Interval.M1)
        assert sold.execution is not None
        assert sold.execution.trade is not None
        assert sold.execution.trade.position_after == 0
        assert sold.execution.trade.realised_profit is not None
        portfolio = (await at.ledger.load_standing(KEY)).portfolio
        assert portfolio.quantity("BTCUSDT") == 0
        assert from_units(portfolio.cash) == sold.execution.trade.cash_after


async def test_cycle_with_a_used_key_replays_and_another_request_is_refused(bench: Opener) -> None:
    async with bench() as at:
        key = IdempotencyKey("key", "a request")
        first, _ = await at.engine.run_cycle("BTCUSDT", Interval.M1, key)
        at.clock.advance(timedelta(minutes=5))
        second, replayed = await at.engine.run_cycle("BTCUSDT", Interval.M1, key)
        assert replayed
        assert second == first
        with pytest.raises(InvalidInputError) as refused:
            await at.engine.run_cycle("ETHUSDT", Interval.M1, IdempotencyKey("key", "another request"))
        assert refused.value.code == "idempotency_key_reused"


async def test_cycles_of_one_symbol_take_turns_and_a_late_one_is_told(bench: Opener) -> None:
    async with bench() as at:
        at.market.gate.clear()
        at.engine.lock_wait_seconds = 0.05
        first = asyncio.create_task(at.engine.run_cycle("BTCUSDT", Interval.M1))
        await asyncio.sleep(0)
        with pytest.raises(ConflictError) as refused:
            await at.engine.run_cycle("BTCUSDT", Interval.M1)
        assert refused.value.code == "cycle_in_progress"
        assert refused.value.retry_after_seconds == 1
        at.engine.lock_wait_seconds = 5
        others = [asyncio.create_task(at.engine.run_cycle("BTCUSDT", Interval.M1)) for _ in range(8)]
        at.market.gate.set()
        reports = [report for report, _ in await asyncio.gather(first, *others)]
        filled = [one for one in reports if one.execution and one.execution.status is ExecutionStatus.FILLED]
        assert len(filled) == 1
        assert len((await at.ledger.list_trades(limit=10)).items) == 1


async def test_refused_cycle_is_kept_and_named_in_the_error(bench: Opener) -> None:
    async with bench() as at:
        at.market.fails = True
        with pytest.raises(UpstreamTimeoutError) as refused:
            await at.engine.run_cycle("BTCUSDT", Interval.M1, IdempotencyKey("key", "a request"))
        kept = await at.ledger.get_cycle(str(refused.value.context["cycle_id"]))
        assert kept.status is CycleStatus.REFUSED
        assert kept.run == "simulated.forest.main.1"
        assert kept.reason_code == "upstream_timeout"
        at.market.fails = False
        report, replayed = await at.engine.run_cycle("BTCUSDT", Interval.M1, IdempotencyKey("key", "a request"))
        assert not replayed
        assert report.status is CycleStatus.COMPLETED


async def test_cycle_without_a_model_is_refused_before_anything_is_fetched(bench: Opener) -> None:
    async with bench() as at:
        at.strategy.ready = False
        at.market.fails = True
        with pytest.raises(NotReadyError) as refused:
            await at.engine.run_cycle("BTCUSDT", Interval.M1)
        assert refused.value.code == "model_not_ready"


async def test_cycle_of_an_unknown_symbol_leaves_no_record(bench: Opener) -> None:
    async with bench() as at:
        with pytest.raises(NotFoundError) as refused:
            await at.engine.run_cycle("NOSUCH", Interval.M1)
        assert "cycle_id" not in refused.value.context
        assert (await at.ledger.list_cycles(limit=10)).items == ()


async def test_cycle_hands_on_what_its_decision_came_from(bench: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    booked: list[CycleDraft] = []
    execute = ExecutionAgent.execute

    async def listen(seat: ExecutionAgent, draft: CycleDraft, key: IdempotencyKey | None) -> CycleReport:
        booked.append(draft)
        return await execute(seat, draft, key)

    monkeypatch.setattr(ExecutionAgent, "execute", listen)
    async with bench() as at:
        await at.engine.run_cycle("BTCUSDT", Interval.M1)
        at.age = timedelta(hours=2)
        await at.engine.run_cycle("BTCUSDT", Interval.M1)
        snapshot = await at.market.fetch_snapshot("BTCUSDT", Interval.M1, 60)
    first, second = booked
    assert (first.id, first.key, first.snapshot) == ("cycle-1", KEY, snapshot)
    assert first.prediction.features == (0.5, -0.25)
    assert first.prediction.probabilities == first.decision.probabilities
    assert first.circumstances == Circumstances("model", "settings", "1.0", 7, timedelta(hours=1))
    assert second.circumstances.model_age == timedelta(hours=2), "asked for with every cycle"


async def test_cycle_on_a_model_that_is_too_old_is_refused_by_that_limit(bench: Opener) -> None:
    async with bench() as at:
        at.age = timedelta(days=15)
        report, _ = await at.engine.run_cycle("BTCUSDT", Interval.M1)
        assert report.execution is not None
        assert report.execution.reason_code == "model_too_old"
        assert [check.code for check in report.checks if not check.passed] == ["model_too_old"]
        assert (await at.ledger.get_cycle(report.id)).checks == report.checks
