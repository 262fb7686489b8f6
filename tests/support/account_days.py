"""An account driven through days of made-up prices on the real books, with what came of it noted on the way."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from app.broker.desk import Desk, Terms
from app.broker.market_orders import enter, leave
from app.domain.action import ActionKind
from app.domain.candle import Interval
from app.domain.cycle import Circumstances, CycleDraft, Decision, ExecutionStatus, MarketView, Settlement
from app.domain.market import Indicators, MarketSnapshot, Quote
from app.domain.money import UNITS, from_units
from app.domain.order import Origin, Side
from app.domain.ports import Settle
from app.domain.standing import RunKey, Standing
from app.storage.actions import SqlActions
from app.storage.database import Database
from app.storage.ledger import SqlLedger
from tests.support.fakes import PREDICTION, PROBABILITIES, FakeClock, FakeMarketData

OPENED = datetime(2026, 11, 1, 18, tzinfo=UTC)
CASH = Decimal(10_000)
KEY = RunKey("binance")
TERMS = Terms(fee_bps=Decimal(10), slippage_bps=Decimal(5), volume_share=Decimal(0))
_CIRCUMSTANCES = Circumstances("00ff", "11ee", "1.0", seed=0)


@dataclass(frozen=True)
class Step:
    """A cycle (or a person's order) so long after the opening, which buys, sells or does neither at a price."""

    after: timedelta
    symbol: str
    price: Decimal
    side: Side | None = None
    by_person: bool = False


def make_steps(days: int, *, trades: bool = True, seed: int = 1) -> list[Step]:
    """Six bookings a day of two symbols whose prices wander, one of them a person's now and then."""
    chance = random.Random(seed)
    prices = {"BTCUSDT": 60_000.0, "ETHUSDT": 3_000.0}
    steps = []
    for number in range(days * 6):
        symbol = ("BTCUSDT", "ETHUSDT")[number % 2]
        prices[symbol] *= 1.0 + chance.gauss(0.0, 0.02)
        side = (Side.BUY, Side.SELL, None)[number // 2 % 3] if trades else None
        at = timedelta(hours=4 * number, minutes=1)
        steps.append(Step(at, symbol, Decimal(f"{prices[symbol]:.2f}"), side, by_person=trades and number % 11 == 7))
    return steps


@dataclass
class AccountDays:
    """Books steps one after another; `settled` has what each of them came to."""

    database: Database
    clock: FakeClock = field(default_factory=lambda: FakeClock(OPENED))
    settled: list[tuple[Step, Settlement]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ledger = SqlLedger(self.database, self.clock)
        self.actions = SqlActions(self.database, self.clock)

    async def open(self) -> None:
        """Open the account at `OPENED`."""
        await self.ledger.open_account(KEY, CASH)

    async def book(self, steps: Iterable[Step]) -> None:
        """Book `steps`."""
        for step in steps:
            self.clock.moment = OPENED + step.after
            name = f"booking-{len(self.settled)}-{step.after.total_seconds():.0f}"
            if step.by_person:
                settle = self._settle(step, name, await self._look(step))
                await self.actions.book(KEY, ActionKind.ORDER, name, {}, [settle], None)
            else:
                await self._cycle(step, name)

    def fills(self) -> Iterator[tuple[Step, Settlement, int]]:
        """Each fill's step and settlement, and its place in that."""
        for step, settlement in self.settled:
            for place in range(len(settlement.fills)):
                yield step, settlement, place

    async def _look(self, step: Step) -> MarketSnapshot:
        seen = await FakeMarketData(self.clock, source=KEY.source).fetch_snapshot(step.symbol, Interval.M1, 3)
        candles = tuple(
            replace(candle, open=step.price, high=step.price, low=step.price, close=step.price)
            for candle in seen.candles
        )
        return replace(seen, candles=candles, quote=Quote(step.price, self.clock.now()))

    async def _cycle(self, step: Step, name: str) -> None:
        seen = await self._look(step)
        last = seen.candles[-1]
        draft = CycleDraft(
            id=name,
            key=KEY,
            symbol=step.symbol,
            interval=Interval.M1,
            started_at=self.clock.now(),
            market=MarketView(
                step.price, last.open_time, last.close_time, Indicators(None, None, None, None), tuple(seen.candles)
            ),
            decision=Decision(PREDICTION.signal, 0.5, dict(PROBABILITIES), "confident", "It is.", "forest-1"),
            prediction=PREDICTION,
            snapshot=seen,
            circumstances=_CIRCUMSTANCES,
            logs=(),
        )
        await self.ledger.record_cycle(draft, self._settle(step, name, seen), self.clock)

    def _settle(self, step: Step, name: str, seen: MarketSnapshot) -> Settle:
        origin = Origin.PERSON if step.by_person else Origin.SIGNAL

        def settle(standing: Standing, now: datetime) -> Settlement:
            desk = Desk(TERMS, name, standing, seen, now)
            if step.side is Side.BUY:
                enter(desk, Side.BUY, desk.portfolio.available // 4, 10**9 * UNITS, origin)
            elif step.side is Side.SELL and desk.held:
                leave(desk, desk.held // 2 if len(self.settled) % 2 else desk.held, origin)
            done = desk.settle(ExecutionStatus.FILLED if step.side else ExecutionStatus.SKIPPED, "code", "Words.")
            self.settled.append((step, done))
            return done

        return settle


def worth(units: int) -> float:
    """1e-8 units as a plain number."""
    return float(from_units(units))
