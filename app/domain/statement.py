"""An account as its owner reads it: a summary, what it holds, and the rows of its listings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from app.domain.booking import entry_price
from app.domain.cycle import Trade
from app.domain.money import from_units
from app.domain.order import Order
from app.domain.portfolio import Position, worth
from app.domain.standing import Halt, Run, Standing


@dataclass(frozen=True, slots=True)
class Posting:
    """One side of a fill's double entry; debits are positive, in quote units."""

    account: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class PostedTrade(Trade):
    """A fill with its double entry, whose amounts sum to zero."""

    postings: tuple[Posting, ...] = ()


@dataclass(frozen=True, slots=True)
class AccountOrder(Order):
    """An order, and whose it is."""

    run: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class EquityPoint:
    """The account after one booking; money in quote units.

    `symbol` and `price` are those of the booking, None where it was about none. `drawdown` is a fraction of the
    highest equity of the run, `day_profit` what the UTC day has brought so far.
    """

    taken_at: datetime
    run: str
    source: str
    symbol: str | None
    price: Decimal | None
    cash: Decimal
    equity: Decimal
    drawdown: float
    day_profit: Decimal


@dataclass(frozen=True, slots=True)
class RunEntry:
    """A run, and when the reset of the account ended it (None: it goes on)."""

    run: Run
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Holding:
    """A position, or the dust of a symbol, at its newest known price; money in quote units.

    `account` is "position:SYMBOL" or "dust:SYMBOL". `quantity` is positive; `cost` and `market_value` are negative for
    a short. `order_ids` are the resting orders that can only make it smaller.
    """

    account: str
    symbol: str
    is_long: bool
    quantity: Decimal
    average_price: Decimal
    cost: Decimal
    mark: Decimal
    market_value: Decimal
    unrealised_profit: Decimal
    entry_fees: Decimal
    opened_at: datetime
    order_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AccountSummary:
    """An account in a few numbers, at the newest known prices; money in quote units.

    Equity is the initial cash and both profits less the fees. `total_return` and `drawdown` are fractions. The day is
    the present one in UTC. `at` is when the account was booked on last.
    """

    run: Run
    at: datetime
    cash: Decimal
    available: Decimal
    margin_held: Decimal
    market_value: Decimal
    equity: Decimal
    peak_equity: Decimal
    initial_cash: Decimal
    total_return: float
    realised_profit: Decimal
    unrealised_profit: Decimal
    fees: Decimal
    open_positions: int
    open_orders: int
    dust_value: Decimal
    drawdown: float
    day_profit: Decimal
    trades_today: int
    halt: Halt | None


def summarize_account(standing: Standing, now: datetime) -> AccountSummary:
    """The summary of an account; `now` tells which day it is."""
    snapshot, portfolio = standing.snapshot.on_day_of(now), standing.portfolio
    cost = sum(one.cost for one in (*portfolio.positions.values(), *portfolio.dust.values()))
    market_value = portfolio.market_value(snapshot.marks)
    return AccountSummary(
        run=standing.run,
        at=snapshot.at,
        cash=from_units(portfolio.cash),
        available=from_units(portfolio.available),
        margin_held=from_units(portfolio.margin_held),
        market_value=from_units(market_value),
        equity=from_units(snapshot.equity),
        peak_equity=from_units(snapshot.peak_equity),
        initial_cash=standing.run.initial_cash,
        total_return=float(from_units(snapshot.equity) / standing.run.initial_cash) - 1.0,
        realised_profit=from_units(portfolio.realised),
        unrealised_profit=from_units(market_value - cost),
        fees=from_units(portfolio.fees),
        open_positions=len(portfolio.positions),
        open_orders=len(standing.orders),
        dust_value=from_units(sum(worth(one.quantity, snapshot.marks[name]) for name, one in portfolio.dust.items())),
        drawdown=snapshot.drawdown,
        day_profit=from_units(snapshot.equity - snapshot.day_equity),
        trades_today=snapshot.trades_today,
        halt=standing.halt,
    )


def list_holdings(standing: Standing) -> list[Holding]:
    """What an account holds: positions by symbol, then dust by symbol."""
    marks, portfolio = standing.snapshot.marks, standing.portfolio
    positions = [
        _holding(
            "position",
            symbol,
            one,
            marks[symbol],
            tuple(order.id for order in standing.orders_of(symbol) if order.reduce_only),
        )
        for symbol, one in sorted(portfolio.positions.items())
    ]
    return positions + [
        _holding("dust", symbol, one, marks[symbol], ()) for symbol, one in sorted(portfolio.dust.items())
    ]


def _holding(kind: str, symbol: str, held: Position, mark: int, order_ids: tuple[str, ...]) -> Holding:
    value = worth(held.quantity, mark)
    return Holding(
        account=f"{kind}:{symbol}",
        symbol=symbol,
        is_long=held.quantity > 0,
        quantity=from_units(abs(held.quantity)),
        average_price=entry_price(held.cost, abs(held.quantity)),
        cost=from_units(held.cost),
        mark=from_units(mark),
        market_value=from_units(value),
        unrealised_profit=from_units(value - held.cost),
        entry_fees=from_units(held.entry_fees),
        opened_at=held.opened_at,
        order_ids=order_ids,
    )
