"""Where an account stands: what it holds, and what its limits are measured against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal

from app.domain.order import Order
from app.domain.portfolio import Exit, Portfolio

MAX_DRAWDOWN = "max_drawdown"
"""The reason code of a halt that the drawdown limit led to."""


@dataclass(frozen=True, slots=True)
class RunKey:
    """Whose account it is: a source of market data, a strategy and a name of the user's."""

    source: str
    strategy: str = "forest"
    name: str = "main"


@dataclass(frozen=True, slots=True)
class Run:
    """One account from its opening to its reset; `generation` counts the runs of a key from 1."""

    key: RunKey
    generation: int
    initial_cash: Decimal
    opened_at: datetime

    @property
    def id(self) -> str:
        """The name by which it is asked for, such as "binance.forest.main.1"."""
        return f"{self.key.source}.{self.key.strategy}.{self.key.name}.{self.generation}"


@dataclass(frozen=True, slots=True)
class Halt:
    """That nothing is traded on decisions, since when, and why: by a person, or by the drawdown limit."""

    reason_code: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The account after one booking; money in 1e-8 quote units.

    `marks` has the newest known price of each symbol that is held, `equity` is cash and market value at these.
    `peak_equity` is the highest equity of the run, `day_equity` that at the end of the UTC day before (of the opening
    on the first day). `trades_today` counts the fills of decisions since then. `losses_in_a_row` counts the newest
    exits that lost, fees included.
    """

    at: datetime
    portfolio: Portfolio
    equity: int
    peak_equity: int
    day_equity: int
    marks: Mapping[str, int] = field(default_factory=dict)
    trades_today: int = 0
    losses_in_a_row: int = 0
    last_loss_at: datetime | None = None

    @property
    def drawdown(self) -> float:
        """How far equity is below its peak, a fraction from 0 to 1 and beyond."""
        return (self.peak_equity - self.equity) / self.peak_equity

    def on_day_of(self, now: datetime) -> Snapshot:
        """This snapshot with the counts of the UTC day of `now`."""
        if now.date() <= self.at.date():
            return self
        return replace(self, day_equity=self.equity, trades_today=0)

    def marked(self, symbol: str, price: int) -> Snapshot:
        """This snapshot with `symbol` worth `price` a base unit; the same where that is its mark, or none is held."""
        if self.marks.get(symbol, price) == price:
            return self
        marks = {**self.marks, symbol: price}
        equity = self.portfolio.cash + self.portfolio.market_value(marks)
        return replace(self, marks=marks, equity=equity, peak_equity=max(self.peak_equity, equity))

    def followed_by(
        self,
        portfolio: Portfolio,
        prices: Mapping[str, int],
        now: datetime,
        exits: Sequence[tuple[Exit, int]],
        trades: int,
    ) -> Snapshot:
        """The account after a booking.

        Args:
            portfolio: What it holds then.
            prices: The newest prices; they go before the marks so far.
            now: When it was booked.
            exits: What each fill took out of a position, and the fee of that fill.
            trades: How many of the fills were those of decisions.
        """
        before = self.on_day_of(now)
        known = {**before.marks, **prices}
        marks = {symbol: known[symbol] for symbol in portfolio.symbols()}
        equity = portfolio.cash + portfolio.market_value(marks)
        losses, last_loss_at = before.losses_in_a_row, before.last_loss_at
        for exit_, fee in exits:
            lost = exit_.profit - exit_.entry_fees - fee < 0
            losses, last_loss_at = (losses + 1, now) if lost else (0, last_loss_at)
        return Snapshot(
            at=now,
            portfolio=portfolio,
            equity=equity,
            peak_equity=max(before.peak_equity, equity),
            day_equity=before.day_equity,
            marks=marks,
            trades_today=before.trades_today + trades,
            losses_in_a_row=losses,
            last_loss_at=last_loss_at,
        )


def open_snapshot(cash: int, at: datetime) -> Snapshot:
    """The account when it is opened with `cash`."""
    return Snapshot(at, Portfolio(cash), cash, cash, cash)


@dataclass(frozen=True, slots=True)
class Standing:
    """Everything a booking may look at: the account, its resting orders, and whether it is halted."""

    run: Run
    snapshot: Snapshot
    orders: tuple[Order, ...] = ()
    halt: Halt | None = None

    @property
    def portfolio(self) -> Portfolio:
        """What is held."""
        return self.snapshot.portfolio

    def booked_at(self, now: datetime, *causes: datetime) -> datetime:
        """The time of a booking at `now`: never before the one before it or its `causes`, where a clock went back."""
        return max(now, self.snapshot.at, *causes)

    def orders_of(self, symbol: str) -> tuple[Order, ...]:
        """The resting orders of one symbol, the oldest first."""
        return tuple(order for order in self.orders if order.symbol == symbol)
