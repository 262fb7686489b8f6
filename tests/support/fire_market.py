"""A market of random candles with gaps and jumps, and accounts of several kinds to be driven through it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import cast

from app.agents.market_monitoring import MarketMonitoringAgent, Observation
from app.agents.risk import RiskAgent
from app.broker.desk import Terms
from app.domain.candle import Candle, Interval
from app.domain.cycle import Circumstances, CycleDraft, Decision, LogLine, MarketView
from app.domain.instrument import Instrument
from app.domain.market import Indicators, MarketSnapshot, Quote
from app.domain.money import from_units, to_units
from app.domain.risk import SizingMethod, StopRule
from app.domain.signal import Edge, Prediction, Signal
from app.domain.standing import RunKey
from app.risk.limits import LimitRules
from app.risk.protection import ProtectionRule
from app.risk.sizing import SizingRule

START = datetime(2026, 11, 21, 20, 0, 30, tzinfo=UTC)
MINUTE = Interval.M1.duration
BARS = 20

_MILLISECOND = timedelta(milliseconds=1)


def _instrument(base: str, tick: str, lot: str, minimum: str) -> Instrument:
    return Instrument(f"{base}USDT", base, "USDT", Decimal(tick), Decimal(lot), Decimal(minimum))


INSTRUMENTS = {
    "60000": _instrument("BTC", "0.01", "0.00001", "5"),
    "0.00001234": _instrument("PEPE", "0.00000001", "1", "1"),
    "5000000": _instrument("GOLD", "1", "0.00000001", "10"),
    "30": _instrument("COARSE", "0.5", "10", "0"),
    "100": _instrument("FINE", "0.01", "0.00000001", "0.1"),
    "0.5": _instrument("TINY", "0.00000001", "0.01", "0"),
}
"""Tiny and huge prices, ticks and lots, by the price that they start from."""


@dataclass
class FireClock:
    """A clock that moves on by a microsecond each time it is asked."""

    moment: datetime = START

    def now(self) -> datetime:
        self.moment += timedelta(microseconds=1)
        return self.moment


@dataclass
class FireSymbol:
    """One symbol: its candles so far; the newest has closed, and the next is open."""

    instrument: Instrument
    start: int
    candles: list[Candle] = field(default_factory=list)

    @property
    def tick(self) -> int:
        return to_units(self.instrument.tick_size)

    def on_tick(self, price: float) -> int:
        """A price within bounds, in whole ticks, in 1e-8."""
        bounded = max(self.start / 500, min(self.start * 500, price))
        return max(1, round(bounded / self.tick)) * self.tick

    def add(self, random: Random, opened: datetime, wildness: float) -> None:
        """A candle that opens at `opened`; the wilder, the further it jumps and runs."""
        last = to_units(self.candles[-1].close) if self.candles else self.start
        opening = self.on_tick(last * random.lognormvariate(0, wildness * random.choice((0, 0, 0, 1, 4))))
        close = self.on_tick(opening * random.lognormvariate(0, wildness))
        top, bottom = max(opening, close), min(opening, close)
        high = max(top, self.on_tick(top * (1 + abs(random.gauss(0, wildness)))))
        low = min(bottom, self.on_tick(bottom / (1 + abs(random.gauss(0, wildness)))))
        volume = Decimal(str(round(random.choice((0, 0.001, 1, 50, 1e6)) * random.random(), 5)))
        first, highest, lowest, last_price = (from_units(one) for one in (opening, high, low, close))
        closed = opened + MINUTE - _MILLISECOND
        self.candles.append(Candle(opened, closed, first, highest, lowest, last_price, volume))
        del self.candles[: -3 * BARS]


class FireMarket:
    """Several symbols, one clock; it is what the desks of people observe, too.

    Args:
        random: Where chance comes from.
        chosen: Which of `INSTRUMENTS`.
    """

    def __init__(self, random: Random, chosen: Sequence[str]) -> None:
        self.clock = FireClock()
        self.random = random
        self.symbols = {
            INSTRUMENTS[price].symbol: FireSymbol(INSTRUMENTS[price], to_units(Decimal(price))) for price in chosen
        }
        self.seen: dict[str, MarketSnapshot] = {}
        self._open = START.replace(second=0) - BARS * MINUTE
        self.advance(BARS, 0.01)

    def advance(self, minutes: int, wildness: float, gap: int = 0) -> None:
        """Let time pass: `minutes` candles of each symbol close, after `gap` minutes that have none."""
        self._open += gap * MINUTE
        for _ in range(minutes):
            for one in self.symbols.values():
                one.add(self.random, self._open, wildness)
            self._open += MINUTE
        self.clock.moment = max(self.clock.moment, self._open + timedelta(seconds=self.random.uniform(0, 50)))

    def add(self, symbol: str, opening: str, to: str, volume: str = "1000") -> None:
        """Let one candle of one symbol close that runs from one price to another."""
        first, last = Decimal(opening), Decimal(to)
        closed = self._open + MINUTE - _MILLISECOND
        self.symbols[symbol].candles.append(
            Candle(self._open, closed, first, max(first, last), min(first, last), last, Decimal(volume))
        )
        self._open += MINUTE
        self.clock.moment = self._open

    def snapshot(self, symbol: str, stray: float = 0.001) -> MarketSnapshot:
        """The market of a symbol as it is seen now; the quote strays a little from the last close."""
        one = self.symbols[symbol]
        price = one.on_tick(to_units(one.candles[-1].close) * self.random.lognormvariate(0, stray))
        now = self.clock.now()
        self.seen[symbol] = MarketSnapshot(
            "simulated",
            symbol,
            Interval.M1,
            tuple(one.candles[-BARS:]),
            Quote(from_units(price), now),
            one.instrument,
            now,
            0.0,
        )
        return self.seen[symbol]

    def as_monitoring(self) -> MarketMonitoringAgent:
        """Itself, for those who ask for the agent and only observe."""
        return cast("MarketMonitoringAgent", self)

    async def observe(self, symbol: str, _interval: Interval) -> Observation:
        """As the market monitoring agent does."""
        snapshot = self.snapshot(symbol)
        return Observation(snapshot, view_of(snapshot))


def view_of(snapshot: MarketSnapshot) -> MarketView:
    newest = snapshot.candles[-1]
    nothing = Indicators(None, None, None, None)
    return MarketView(snapshot.quote.price, newest.open_time, newest.close_time, nothing, tuple(snapshot.candles[-3:]))


def draft_of(snapshot: MarketSnapshot, key: RunKey, cycle_id: str, signal: Signal, confidence: float) -> CycleDraft:
    """A decided cycle; a signal that is not HOLD passes the gate."""
    rest = (1 - confidence) / 2
    probabilities = {one: confidence if one is signal else rest for one in Signal}
    code = "hold_signal" if signal is Signal.HOLD else "confident"
    returns = {Signal.BUY: 0.01, Signal.SELL: -0.01, Signal.HOLD: 0.0}
    at = snapshot.exchange_time
    return CycleDraft(
        id=cycle_id,
        key=key,
        symbol=snapshot.symbol,
        interval=snapshot.interval,
        started_at=at,
        market=view_of(snapshot),
        decision=Decision(signal, confidence, probabilities, code, "It says so.", "forest-1", 0.01, Edge.NONE, 0.1),
        prediction=Prediction(
            signal, probabilities, "forest-1", 0.01, Edge.NONE, class_returns=returns, round_trip_cost=0.001
        ),
        snapshot=snapshot,
        circumstances=Circumstances("0" * 64, "1" * 64, "1", 7, timedelta(hours=1)),
        logs=(LogLine(at, "market_monitoring", "Seen."),),
    )


def make_terms(random: Random) -> Terms:
    """What trading costs: nothing, something, or absurdly much."""
    fee, slippage = Decimal(random.choice(("0", "2", "7.5", "1000"))), Decimal(random.choice(("0", "3", "1000")))
    return Terms(fee, slippage, Decimal(random.choice(("0", "0.1", "0.000001"))), allow_short=random.random() < 0.7)


def make_risk(random: Random, *, allow_short: bool) -> RiskAgent:
    """A risk seat of one kind or another; half of them have no limits."""
    method, stop = random.choice(list(SizingMethod)), random.choice(list(StopRule))
    none = Decimal(0)
    limits = (
        LimitRules(
            *(none, none, none, none, none),
            cooldown_losses=0,
            max_trades_per_day=0,
            max_open_positions=0,
            price_band_percent=none,
        )
        if random.random() < 0.5
        else LimitRules(max_drawdown=Decimal("0.1"), max_daily_loss=Decimal("0.2"))
    )
    multiple = Decimal(random.choice(("0.1", "2", "30")))
    return RiskAgent(
        SizingRule(method, cash_fraction=Decimal(random.choice(("0.25", "1"))), kelly_cap=Decimal(1)),
        limits,
        ProtectionRule(stop, multiple, random.choice((none, multiple))),
        allow_short=allow_short,
    )
