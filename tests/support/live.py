"""Lives a backtest: the engine as the service wires it, on an exchange that has the candles of the backtest."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import count

from app.agents.decision_making import DecisionMakingAgent
from app.agents.execution import ExecutionAgent
from app.agents.market_monitoring import MarketMonitoringAgent
from app.agents.risk import RiskAgent
from app.domain.candle import Candle, Interval
from app.domain.cycle import Circumstances, CycleReport, Trade
from app.domain.market import MarketSnapshot, Quote
from app.domain.money import to_units
from app.domain.order import Side
from app.domain.ports import Ledger
from app.domain.signal import Prediction
from app.domain.standing import RunKey
from app.engine.trading_engine import Seats, TradingEngine
from app.errors import NotReadyError, ServiceError
from app.research.backtest.books import ORIGINS, OUTCOMES, Books
from app.research.backtest.plan import Series
from tests.support.candles import EPOCH, MILLISECOND
from tests.support.fakes import FakeClock
from tests.support.parity import World

KEY = RunKey("binance")

_STEP = Decimal("0.00000001")


@dataclass(frozen=True, slots=True)
class Life:
    """What became of an account: of each cycle its outcome, its equity and whether a position was held; every trade.

    A trade is (cycle, side, origin, quantity, price, notional, fee, profit, cash after, position after), amounts in
    1e-8 units.
    """

    outcomes: list[str]
    equity: list[int]
    held: list[bool]
    trades: list[tuple[int, ...]]
    halted_cycle: int


def life_of(books: Books) -> Life:
    """A backtest's books as those of a life."""
    fills = books.fills
    trade = (
        fills.cycle,
        fills.side,
        fills.origin,
        fills.quantity,
        fills.price,
        fills.notional,
        fills.fee,
        fills.profit,
    )
    return Life(
        [OUTCOMES[outcome] for outcome in books.outcomes],
        books.equity.tolist(),
        books.held.tolist(),
        [
            tuple(int(value) for value in row)
            for row in zip(*trade, fills.cash_after, fills.position_after, strict=True)
        ],
        books.halted_cycle,
    )


async def live(world: World, ledger: Ledger, clock: FakeClock) -> Life:
    """Run a cycle after each candle, at the moment when the next one opens; of several symbols in their order."""
    exchange = Exchange(world.series, clock)
    oracle = Oracle(world)
    engine = _build_engine(world, ledger, exchange, oracle)
    openings = sorted(
        (ms, place) for place, one in enumerate(world.series) for ms in one.bars.open_time_ms.tolist()[1:]
    )
    clock.moment = EPOCH + (openings[0][0] if openings else 0) * MILLISECOND
    await ledger.open_account(KEY, world.plan.initial_cash)
    life = Life([], [], [], [], -1)
    for cycle, (opened_ms, place) in enumerate(openings):
        clock.moment = EPOCH + opened_ms * MILLISECOND
        oracle.hear_of(place, clock.moment)
        series = world.series[place]
        try:
            report, _ = await engine.run_cycle(series.symbol, series.interval)
            life.outcomes.append(_outcome(report))
            life.trades.extend(_row(cycle, trade) for trade in report.fills)
        except ServiceError as error:
            life.outcomes.append(error.code)
        standing = await ledger.load_standing(KEY)
        life.equity.append(standing.snapshot.equity)
        life.held.append(bool(standing.portfolio.positions))
        if standing.halt is not None and life.halted_cycle < 0:
            life = replace(life, halted_cycle=cycle)
    return life


def _build_engine(world: World, ledger: Ledger, exchange: Exchange, oracle: Oracle) -> TradingEngine:
    plan, numbers = world.plan, count()
    risk = RiskAgent(plan.sizing, plan.limits, plan.protection, allow_short=plan.terms.allow_short)
    seats = Seats(
        MarketMonitoringAgent(exchange, bars=plan.window_bars, minimum_bars=plan.minimum_bars),
        DecisionMakingAgent(oracle, plan.gate),
        ExecutionAgent(ledger, plan.terms, risk, exchange.clock),
    )
    return TradingEngine(
        KEY,
        seats,
        ledger,
        exchange.clock,
        lambda: f"cycle-{next(numbers)}",
        lambda: Circumstances("0" * 64, "1" * 64, "1", 7, oracle.model_age),
    )


class Exchange:
    """An exchange that has a world's candles: at each moment those that have closed, and the open of the next."""

    def __init__(self, series: Sequence[Series], clock: FakeClock) -> None:
        self.clock = clock
        self._listed = {one.symbol: (one, _make_candles(one)) for one in series}

    async def fetch_snapshot(self, symbol: str, interval: Interval, bars: int) -> MarketSnapshot:
        series, candles = self._listed[symbol]
        now = self.clock.now()
        end = bisect_left(candles, now, key=lambda candle: candle.close_time)
        price = next(candle.open for candle in candles[end:] if candle.open_time <= now)
        seen, quote = tuple(candles[max(end - bars, 0) : end]), Quote(price, now)
        return MarketSnapshot(KEY.source, symbol, interval, seen, quote, series.instrument, now, 0.0)


class Oracle:
    """The strategy that says what a world says, of the candle that it is shown last or of one before."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._series = world.series[0]
        self._now = EPOCH
        self.lookback_bars = world.plan.minimum_bars
        self.model_id = "oracle"

    def hear_of(self, place: int, now: datetime) -> None:
        """Which series the next cycle is about, and when it runs."""
        self._series, self._now = self._world.series[place], now

    def predict(self, candles: Sequence[Candle]) -> Prediction:
        said_at = self._find_bar((candles[-1].open_time - EPOCH) // MILLISECOND)
        said = self._series.signals.predict(said_at) if said_at >= 0 else None
        if said is None:
            raise NotReadyError("It says nothing.", code="insufficient_history")
        return said

    @property
    def model_age(self) -> timedelta | None:
        """How old the model behind the newest word is."""
        bars = self._series.bars.open_time_ms
        now_ms = (self._now - EPOCH) // MILLISECOND
        said_at = self._find_bar(int(bars[bisect_left(bars, now_ms) - 1]))
        speaker = self._series.signals.speakers[said_at] if said_at >= 0 else -1
        taught = self._series.signals.sources[speaker].taught_until_ms if speaker >= 0 else None
        return None if taught is None else self._now - (EPOCH + taught * MILLISECOND)

    def _find_bar(self, newest_ms: int) -> int:
        return bisect_right(self._series.bars.open_time_ms, newest_ms) - 1 - self._world.plan.latency_bars


def _make_candles(series: Series) -> list[Candle]:
    bars, duration = series.bars, series.interval.duration
    columns = (bars.open, bars.high, bars.low, bars.close, bars.volume)
    rows = zip(bars.open_time_ms.tolist(), *(values.tolist() for values in columns), strict=True)
    opened = [(EPOCH + ms * MILLISECOND, values) for ms, *values in rows]
    return [
        Candle(
            at, at + duration - MILLISECOND, *(Decimal(repr(value)).quantize(_STEP, ROUND_HALF_EVEN) for value in row)
        )
        for at, row in opened
    ]


def _outcome(report: CycleReport) -> str:
    assert report.execution is not None
    return report.execution.reason_code


def _row(cycle: int, trade: Trade) -> tuple[int, ...]:
    amounts = (trade.quantity, trade.price, trade.notional, trade.fee, trade.realised_profit or Decimal(0))
    side, origin = 1 if trade.side is Side.BUY else -1, ORIGINS.index(trade.origin.value)
    after = (to_units(trade.cash_after), to_units(trade.position_after))
    return (cycle, side, origin, *(to_units(amount) for amount in amounts), *after)
