"""Cycles to book, made up: each test says only what matters to it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from alembic import command, config
from sqlalchemy import Connection, insert, inspect, text

from app.domain.candle import Candle, Interval
from app.domain.cycle import (
    CycleDraft,
    CycleReport,
    CycleStatus,
    Decision,
    Execution,
    ExecutionStatus,
    LogLine,
    MarketView,
    Settlement,
)
from app.domain.market import Indicators
from app.domain.order import Fill, Side
from app.domain.outcome import Outcome, Truth
from app.domain.portfolio import Portfolio
from app.domain.ports import Settle
from app.domain.signal import Edge, Signal
from app.storage import schema
from app.storage.records import cycle_values, decision_values
from app.storage.tables import accounts, cycles, decisions

START = datetime(2026, 3, 29, 1, 2, 3, 456_789, tzinfo=UTC)
"""Within the hour that summer time skips in Europe."""

SOURCE = "simulated"
CASH = Decimal(10_000)
SYMBOL = "BTCUSDT"


class SteppingClock:
    """A clock that moves on by one microsecond each time it is asked."""

    def __init__(self, now: datetime = START) -> None:
        self._now = now

    def now(self) -> datetime:
        self._now += timedelta(microseconds=1)
        return self._now

    def set_back(self, by: timedelta) -> None:
        self._now -= by


def make_market(index: int) -> MarketView:
    """A view whose newest candle is the `index`th minute after `START`; its numbers do not fit binary floats."""
    opened = START.replace(second=0, microsecond=0) + timedelta(minutes=index)
    candles = tuple(
        Candle(
            open_time=opened - timedelta(minutes=back),
            close_time=opened - timedelta(minutes=back) + timedelta(milliseconds=59_999),
            open=Decimal("65000.10"),
            high=Decimal("65100.30000000"),
            low=Decimal("64990.70"),
            close=Decimal("65050.1") + back,
            volume=Decimal("0.00000001"),
        )
        for back in (2, 1, 0)
    )
    return MarketView(
        price=Decimal("65051.10"),
        candle_open_time=opened,
        candle_close_time=candles[-1].close_time,
        indicators=Indicators(sma_10=0.1 + 0.2, sma_50=None, rsi_14=55.123456789012345, price_change_1m=-1e-17),
        candles=candles,
    )


def make_draft(
    index: int,
    *,
    symbol: str = SYMBOL,
    source: str = SOURCE,
    action: Signal = Signal.BUY,
    cycle_id: str | None = None,
    interval: Interval = Interval.M1,
) -> CycleDraft:
    """The decided cycle of the `index`th candle."""
    others = [signal for signal in Signal if signal is not action]
    return CycleDraft(
        id=cycle_id or f"cycle-{source}-{symbol}-{index}",
        source=source,
        symbol=symbol,
        interval=interval,
        started_at=START + timedelta(minutes=index),
        market=make_market(index),
        decision=Decision(
            action=action,
            confidence=0.61,
            probabilities={action: 0.61, others[0]: 0.1 + 0.1, others[1]: 0.19},
            reason_code="confident",
            reason="Naïve “quotes”, a\nline break and 日本語 survive.",
            model_id="forest-1",
            expected_return=0.1 + 0.2,
            edge=Edge.STATISTICAL,
            drift=1 / 3,
        ),
        logs=(LogLine(START, "market_monitoring", "Price 65051.1."), LogLine(START, "decision_making", "BUY 61 %")),
    )


def make_refusal(index: int, *, symbol: str = SYMBOL, source: str = SOURCE) -> CycleReport:
    """A cycle that was refused because the market was stale."""
    started = START + timedelta(minutes=index)
    return CycleReport(
        id=f"refused-{source}-{symbol}-{index}",
        source=source,
        symbol=symbol,
        interval=Interval.M1,
        status=CycleStatus.REFUSED,
        started_at=started,
        finished_at=started + timedelta(microseconds=1_500),
        logs=(LogLine(started, "trading_engine", "Refused: the newest candle is 614 minutes old."),),
        reason_code="stale_data",
        reason="The newest candle is 614 minutes old.",
    )


def make_outcome(cycle_id: str, *, label: Signal | None = Signal.HOLD, minute: int = 0) -> Outcome:
    """What came of a decision `minute` minutes after `START`; without a label, that this cannot be known."""
    settled_at = START + timedelta(minutes=minute)
    truth = None if label is None else Truth(label, 0.1 + 0.2, 1.0986122886681098)
    return Outcome(cycle_id, settled_at, settled_at + timedelta(seconds=30), truth)


def fill(side: Side, quantity: Decimal, price: Decimal, fee: Decimal = Decimal("0.01")) -> Fill:
    """A fill whose notional is quantity times price, cut to eight decimals."""
    notional = (quantity * price).quantize(Decimal("1e-8"))
    return Fill(side=side, quantity=quantity, price=price, notional=notional, fee=fee, slippage_bps=3.25)


def settle_with(booked: Fill | None) -> Settle:
    """Books `booked` whatever the account holds, or nothing."""

    def settle(_: Portfolio) -> Settlement:
        if booked is None:
            return Settlement(ExecutionStatus.SKIPPED, "hold", "The model says HOLD.")
        return Settlement(ExecutionStatus.FILLED, "filled", f"{booked.side} {booked.quantity}", booked)

    return settle


def buy(quantity: str = "0.01", price: str = "65000") -> Settle:
    """Books a BUY."""
    return settle_with(fill(Side.BUY, Decimal(quantity), Decimal(price)))


def sell(quantity: str = "0.01", price: str = "65000") -> Settle:
    """Books a SELL."""
    return settle_with(fill(Side.SELL, Decimal(quantity), Decimal(price)))


def turn_over(symbol: str = SYMBOL) -> Settle:
    """Sells what is held of `symbol`, and buys a hundredth where nothing is."""

    def settle(portfolio: Portfolio) -> Settlement:
        held = portfolio.quantity(symbol)
        return (sell(str(held)) if held else buy())(portfolio)

    return settle


def as_selling(draft: CycleDraft) -> CycleDraft:
    """The same cycle with the decision to SELL."""
    return replace(draft, decision=replace(draft.decision, action=Signal.SELL))


def make_old_books(connection: Connection, revision: str, cycle_id: str) -> None:
    """A database of an earlier `revision` that holds one skipped cycle, as that version wrote it."""
    settings = config.Config()
    settings.set_main_option("script_location", str(schema.MIGRATIONS))
    settings.attributes["connection"] = connection
    command.upgrade(settings, revision)
    draft = make_draft(1, cycle_id=cycle_id)
    report = draft.finish(Execution(ExecutionStatus.SKIPPED, "hold_signal", "The model says HOLD."), draft.started_at)
    connection.execute(insert(accounts), {"source": SOURCE, "initial_cash": CASH, "created_at": draft.started_at})
    account_id = connection.execute(text("SELECT id FROM accounts")).scalar_one()
    connection.execute(insert(cycles), cycle_values(report, account_id))
    known = {column["name"] for column in inspect(connection).get_columns("decisions")}
    values = {name: value for name, value in decision_values(cycle_id, draft.decision).items() if name in known}
    connection.execute(insert(decisions), values)
