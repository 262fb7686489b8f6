"""Where an account stands: what its limits are measured against, from booking to booking and from day to day."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from app.domain.money import UNITS
from app.domain.order import Order, OrderKind, Origin, Side
from app.domain.portfolio import Exit, Portfolio, Position
from app.domain.standing import Run, RunKey, Snapshot, Standing, open_snapshot

OPENED = datetime(2026, 11, 20, 12, tzinfo=UTC)
CASH = 1_000 * UNITS
BTC, ETH = "BTCUSDT", "ETHUSDT"
ONE_EACH = Portfolio(CASH, {BTC: Position(UNITS, UNITS, 0, OPENED), ETH: Position(-UNITS, -UNITS, 0, OPENED)})
MARKS = {BTC: 100 * UNITS, ETH: 10 * UNITS}


def book(snapshot: Snapshot, hours: float = 0, profit: int | None = None, fee: int = 0, trades: int = 0) -> Snapshot:
    """A booking so many hours after the opening, with an exit of this profit."""
    exits = [] if profit is None else [(Exit(1, 1, 1, profit, OPENED, is_long=True), fee)]
    now = OPENED + timedelta(hours=hours)
    return snapshot.followed_by(replace(snapshot.portfolio), {}, now, exits, trades)


def test_run_is_named_by_its_key_and_generation() -> None:
    assert Run(RunKey("binance", name="second"), 3, Decimal(1), OPENED).id == "binance.forest.second.3"


def test_new_account_is_worth_its_cash() -> None:
    snapshot = open_snapshot(CASH, OPENED)
    assert (snapshot.equity, snapshot.peak_equity, snapshot.day_equity, snapshot.drawdown) == (CASH, CASH, CASH, 0)
    assert (snapshot.marks, snapshot.trades_today, snapshot.losses_in_a_row) == ({}, 0, 0)


def test_booking_marks_what_is_held_and_forgets_what_is_not() -> None:
    snapshot = open_snapshot(CASH, OPENED).followed_by(ONE_EACH, MARKS, OPENED, (), 0)
    assert (snapshot.marks, snapshot.equity) == (MARKS, CASH + 90 * UNITS)
    newer = snapshot.followed_by(ONE_EACH, {BTC: 200 * UNITS, "SOLUSDT": 5}, OPENED, (), 0)
    assert newer.marks == {BTC: 200 * UNITS, ETH: 10 * UNITS}
    sold = newer.followed_by(Portfolio(CASH), {}, OPENED, (), 0)
    assert (sold.marks, sold.equity, sold.peak_equity) == ({}, CASH, CASH + 190 * UNITS)
    assert sold.drawdown == 1 - CASH / (CASH + 190 * UNITS)


def test_marked_moves_equity_and_the_peak_of_a_symbol_that_is_held() -> None:
    snapshot = open_snapshot(CASH, OPENED).followed_by(ONE_EACH, MARKS, OPENED, (), 0)
    risen = snapshot.marked(BTC, 150 * UNITS)
    assert (risen.equity, risen.peak_equity) == (CASH + 140 * UNITS,) * 2
    fallen = risen.marked(ETH, 500 * UNITS)
    assert (fallen.equity, fallen.peak_equity) == (CASH - 350 * UNITS, CASH + 140 * UNITS)
    assert snapshot.marked("SOLUSDT", 1) is snapshot


def test_counts_of_the_day_start_again_at_midnight_utc() -> None:
    snapshot = book(open_snapshot(CASH, OPENED), hours=1, trades=2)
    snapshot = book(replace(snapshot, equity=CASH - 5), hours=11.99, trades=1)
    assert (snapshot.trades_today, snapshot.day_equity) == (3, CASH)
    snapshot = replace(snapshot, equity=CASH - 7)
    assert snapshot.on_day_of(OPENED + timedelta(hours=11.999)) is snapshot
    next_day = snapshot.on_day_of(OPENED + timedelta(hours=12))
    assert (next_day.trades_today, next_day.day_equity) == (0, CASH - 7)
    booked = book(snapshot, hours=12, trades=1)
    assert (booked.trades_today, booked.day_equity) == (1, CASH - 7)
    assert snapshot.on_day_of(OPENED - timedelta(days=1)) is snapshot, "a clock that went back starts no day"


def test_losses_in_a_row_count_fees_and_end_with_a_gain() -> None:
    snapshot = book(open_snapshot(CASH, OPENED), hours=1, profit=-5)
    assert (snapshot.losses_in_a_row, snapshot.last_loss_at) == (1, OPENED + timedelta(hours=1))
    snapshot = book(snapshot, hours=2, profit=2, fee=2)
    assert (snapshot.losses_in_a_row, snapshot.last_loss_at) == (2, OPENED + timedelta(hours=2)), "fees lost"
    snapshot = book(snapshot, hours=3)
    assert (snapshot.losses_in_a_row, snapshot.last_loss_at) == (2, OPENED + timedelta(hours=2))
    snapshot = book(snapshot, hours=4, profit=3, fee=2)
    assert (snapshot.losses_in_a_row, snapshot.last_loss_at) == (0, OPENED + timedelta(hours=2)), "even is no loss"


def test_booking_is_never_dated_before_the_one_before_or_its_causes() -> None:
    standing = Standing(Run(RunKey("simulated"), 1, Decimal(1_000), OPENED), open_snapshot(CASH, OPENED))
    minute = timedelta(minutes=1)
    assert standing.booked_at(OPENED + minute) == OPENED + minute
    assert standing.booked_at(OPENED - minute) == OPENED
    assert standing.booked_at(OPENED - minute, OPENED + 2 * minute) == OPENED + 2 * minute


def test_what_is_left_of_an_order() -> None:
    order = Order("a", BTC, Side.BUY, OrderKind.LIMIT, Decimal(3), Origin.PERSON, OPENED, OPENED)
    assert replace(order, filled_quantity=Decimal("1.5")).remaining == Decimal("1.5")
    assert (Side.BUY.opposite, Side.SELL.opposite) == (Side.SELL, Side.BUY)
