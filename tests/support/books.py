"""Cycles to book, made up: each test says only what matters to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from alembic import command, config
from sqlalchemy import Connection, Table, insert, inspect

from app.domain.candle import Candle, Interval
from app.domain.cycle import (
    BookedFill,
    Circumstances,
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
from app.domain.instrument import Instrument
from app.domain.market import Indicators, MarketSnapshot, Quote
from app.domain.money import from_units, to_units
from app.domain.order import Fill, Order, OrderKind, OrderStatus, Origin, Side
from app.domain.outcome import Outcome, Truth
from app.domain.ports import Clock, IdempotencyKey, Ledger, Settle
from app.domain.signal import Doubt, Edge, Prediction, Signal
from app.domain.standing import RunKey, Standing
from app.storage import schema
from app.storage.account_tables import accounts
from app.storage.records import cycle_values, decision_values
from app.storage.tables import cycles, decisions, trades

START = datetime(2026, 3, 29, 1, 2, 3, 456_789, tzinfo=UTC)
"""Within the hour that summer time skips in Europe."""

SOURCE = "simulated"
KEY = RunKey(SOURCE)
CASH = Decimal(10_000)
SYMBOL = "BTCUSDT"
CIRCUMSTANCES = Circumstances("00ff", "settings", "1.0", 7, timedelta(hours=3))

Booking = Callable[[CycleDraft], Settle]
"""What is to be booked of a cycle, whichever it is."""


class SteppingClock:
    """A clock that moves on by one microsecond each time it is asked."""

    def __init__(self, now: datetime = START) -> None:
        self._now = now

    def now(self) -> datetime:
        self._now += timedelta(microseconds=1)
        return self._now

    def set_back(self, by: timedelta) -> None:
        self._now -= by


def make_candle(index: int) -> Candle:
    """The `index`th minute after `START`; its numbers do not fit binary floats."""
    opened = START.replace(second=0, microsecond=0) + timedelta(minutes=index)
    return Candle(
        open_time=opened,
        close_time=opened + timedelta(milliseconds=59_999),
        open=Decimal("65000.10"),
        high=Decimal("65100.30000000"),
        low=Decimal("64990.70"),
        close=Decimal("65050.1") + index % 3,
        volume=Decimal("0.00000001"),
    )


def make_market(index: int) -> MarketView:
    """A view whose newest candle is the `index`th minute after `START`."""
    candles = tuple(make_candle(index - back) for back in (2, 1, 0))
    return MarketView(
        price=Decimal("65051.10"),
        candle_open_time=candles[-1].open_time,
        candle_close_time=candles[-1].close_time,
        indicators=Indicators(sma_10=0.1 + 0.2, sma_50=None, rsi_14=55.123456789012345, price_change_1m=-1e-17),
        candles=candles,
    )


def make_snapshot(index: int, symbol: str = SYMBOL, source: str = SOURCE) -> MarketSnapshot:
    """The market behind `make_market`, with one candle more than a cycle shows."""
    candles = tuple(make_candle(index - back) for back in (3, 2, 1, 0))
    instrument = Instrument(symbol, "BTC", "USDT", Decimal("0.01"), Decimal("0.00001"), Decimal(5))
    quote = Quote(Decimal("65051.10"), candles[-1].close_time + timedelta(seconds=1))
    return MarketSnapshot(source, symbol, Interval.M1, candles, quote, instrument, quote.at, 1 / 3)


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
    probabilities = {action: 0.61, others[0]: 0.1 + 0.1, others[1]: 0.19}
    return CycleDraft(
        id=cycle_id or f"cycle-{source}-{symbol}-{index}",
        key=RunKey(source),
        symbol=symbol,
        interval=interval,
        started_at=START + timedelta(minutes=index),
        market=make_market(index),
        decision=Decision(
            action=action,
            confidence=0.61,
            probabilities=probabilities,
            reason_code="confident",
            reason="Naïve “quotes”, a\nline break and 日本語 survive.",
            model_id="forest-1",
            expected_return=0.1 + 0.2,
            edge=Edge.STATISTICAL,
            drift=1 / 3,
        ),
        prediction=Prediction(
            action,
            probabilities,
            "forest-1",
            0.1 + 0.2,
            Edge.STATISTICAL,
            1 / 3,
            Doubt("drifted", "The market has moved."),
            (0.1 + 0.2, -1e-17),
        ),
        snapshot=replace(make_snapshot(index, symbol, source), interval=interval),
        circumstances=CIRCUMSTANCES,
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


def skip(draft: CycleDraft) -> Settle:
    """Books nothing."""

    def settle(standing: Standing, now: datetime) -> Settlement:
        price = to_units(draft.market.price)
        snapshot = standing.snapshot.followed_by(standing.portfolio, {draft.symbol: price}, now, (), 0)
        return Settlement(ExecutionStatus.SKIPPED, "hold", "The model says HOLD.", draft.symbol, price, snapshot)

    return settle


def take(booked: Fill) -> Booking:
    """Books `booked` as the fill of the decision, whatever the account holds."""

    def booking(draft: CycleDraft) -> Settle:
        return lambda standing, now: _settle(draft, standing, now, booked)

    return booking


def buy(quantity: str = "0.01", price: str = "65000") -> Booking:
    """Books a BUY."""
    return take(fill(Side.BUY, Decimal(quantity), Decimal(price)))


def sell(quantity: str = "0.01", price: str = "65000") -> Booking:
    """Books a SELL."""
    return take(fill(Side.SELL, Decimal(quantity), Decimal(price)))


def turn_over(draft: CycleDraft) -> Settle:
    """Sells what is held, and buys a hundredth where nothing is."""

    def settle(standing: Standing, now: datetime) -> Settlement:
        held = from_units(standing.portfolio.quantity(draft.symbol))
        return (sell(str(held)) if held else buy())(draft)(standing, now)

    return settle


async def book(
    ledger: Ledger, draft: CycleDraft, booking: Booking, clock: Clock, key: IdempotencyKey | None = None
) -> CycleReport:
    """Record a cycle with what is to be booked of it."""
    return await ledger.record_cycle(draft, booking(draft), clock, key)


def as_selling(draft: CycleDraft) -> CycleDraft:
    """The same cycle with the decision to SELL."""
    return replace(draft, decision=replace(draft.decision, action=Signal.SELL))


def make_order(draft: CycleDraft, now: datetime, **more: Any) -> Order:
    """A market order of a cycle's decision, placed `now`; `more` are other fields."""
    order = Order(
        id=f"{draft.id}-1",
        symbol=draft.symbol,
        side=Side.BUY,
        kind=OrderKind.MARKET,
        quantity=Decimal("0.01"),
        origin=Origin.SIGNAL,
        created_at=now,
        active_from=draft.market.candle_open_time + timedelta(minutes=1),
        cycle_id=draft.id,
    )
    return replace(order, **more)


def _settle(draft: CycleDraft, standing: Standing, now: datetime, booked: Fill) -> Settlement:
    quantity, notional, fee = (to_units(amount) for amount in (booked.quantity, booked.notional, booked.fee))
    portfolio, exit_ = standing.portfolio.apply(draft.symbol, booked.side, quantity, notional, fee, now)
    price, exits = to_units(booked.price), [] if exit_ is None else [(exit_, fee)]
    reason = f"{booked.side} {booked.quantity}"
    end = {"filled_quantity": booked.quantity, "status": OrderStatus.FILLED, "closed_at": now}
    order = make_order(
        draft, now, side=booked.side, quantity=booked.quantity, reason_code="filled", reason=reason, **end
    )
    entry = BookedFill(
        order_id=order.id,
        origin=Origin.SIGNAL,
        symbol=draft.symbol,
        fill=booked,
        reason=reason,
        cash_after=portfolio.cash,
        position_after=portfolio.holding(draft.symbol),
        decided=True,
        interval=draft.interval,
        candle_open_time=draft.market.candle_open_time,
        exit=exit_,
    )
    return Settlement(
        ExecutionStatus.FILLED,
        "filled",
        reason,
        draft.symbol,
        price,
        standing.snapshot.followed_by(portfolio, {draft.symbol: price}, now, exits, 1),
        side_cost_ppm=500,
        entries=(entry,),
        orders=(order,),
    )


def make_old_books(connection: Connection, revision: str, cycle_id: str) -> None:
    """A database of an earlier `revision` with a skipped cycle, a BUY and a SELL of half of it, as it wrote them."""
    settings = config.Config()
    settings.set_main_option("script_location", str(schema.MIGRATIONS))
    settings.attributes["connection"] = connection
    command.upgrade(settings, revision)
    skipped = make_draft(1, cycle_id=cycle_id)
    _insert(connection, accounts, {"source": SOURCE, "initial_cash": CASH, "created_at": skipped.started_at})
    held = Execution(ExecutionStatus.SKIPPED, "hold_signal", "The model says HOLD.")
    _insert_old_cycle(connection, skipped, held)
    filled = Execution(ExecutionStatus.FILLED, "filled", "Filled.")
    names = ("quantity", "price", "notional", "cash_after", "position_after")
    bought, sold = ("0.01", "65000", "650", "9349.99", "0.01"), ("0.005", "80000", "400", "9749.98", "0.005")
    for number, (signal, amounts) in enumerate(((Signal.BUY, bought), (Signal.SELL, sold)), start=2):
        draft = make_draft(number, cycle_id=f"{cycle_id}-{number}", action=signal)
        _insert_old_cycle(connection, draft, filled)
        _insert_old_trade(connection, draft, dict(zip(names, amounts, strict=True)))


def _insert_old_cycle(connection: Connection, draft: CycleDraft, execution: Execution) -> None:
    report = draft.finish(execution, None, "", draft.started_at)
    _insert(connection, cycles, cycle_values(report, 1))
    _insert(connection, decisions, decision_values(draft.id, draft.decision))


def _insert_old_trade(connection: Connection, draft: CycleDraft, trade: Mapping[str, str]) -> None:
    amounts = {name: Decimal(amount) for name, amount in trade.items()}
    of_cycle = {"cycle_id": draft.id, "account_id": 1, "symbol": draft.symbol, "interval": draft.interval.value}
    decision = draft.decision
    of_decision = {"side": decision.action.value, "confidence": decision.confidence, "model_id": decision.model_id}
    times = {"candle_open_time": draft.market.candle_open_time, "executed_at": draft.started_at}
    rest = {"fee": Decimal("0.01"), "slippage_bps": 3.25, "reason": "Filled."}
    _insert(connection, trades, {**of_cycle, **of_decision, **times, **rest, **amounts})


def _insert(connection: Connection, table: Table, values: Mapping[str, Any]) -> None:
    """Insert what the table's earlier shape knows of."""
    known = {column["name"] for column in inspect(connection).get_columns(table.name)}
    connection.execute(insert(table).inline(), {name: value for name, value in values.items() if name in known})
