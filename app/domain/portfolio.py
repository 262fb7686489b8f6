"""What an account holds, and how a fill changes it: whole numbers of 1e-8 quote or base units throughout.

Cost is kept at the average: what an exit takes out of a position's cost is its share of it. Fees are kept apart: they
are in no cost and in no profit. Every posting of a fill has its counterpart, so that together they are zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from app.domain.money import UNITS, multiply_divide
from app.domain.order import Side

SHORT_COLLATERAL = 2
"""A short holds its proceeds and as much again from the cash: so many times its cost."""


@dataclass(frozen=True, slots=True)
class Position:
    """What is held of one symbol.

    `quantity` is negative for a short. `cost` is what was paid for what is held, without fees; for a short it is
    negative, what was got for it. `entry_fees` were paid on top. `opened_at` is when it was last nothing.
    """

    quantity: int
    cost: int
    entry_fees: int
    opened_at: datetime

    @property
    def average_price(self) -> int:
        """The average entry price in 1e-8 quote units, rounded down."""
        return self.cost * UNITS // self.quantity


@dataclass(frozen=True, slots=True)
class Exit:
    """What a fill took out of a position: profit is what it brought less the cost that it released, before fees."""

    quantity: int
    cost: int
    entry_fees: int
    profit: int
    opened_at: datetime
    is_long: bool


@dataclass(frozen=True, slots=True)
class Portfolio:
    """Cash, positions, dust, and the profit and fees of all fills so far.

    `dust` holds what is too little to be sold, by symbol; it goes with the next sale of the symbol.
    """

    cash: int
    positions: Mapping[str, Position] = field(default_factory=dict)
    dust: Mapping[str, Position] = field(default_factory=dict)
    realised: int = 0
    fees: int = 0

    def quantity(self, symbol: str) -> int:
        """What the position in `symbol` comes to, negative when short, zero when there is none."""
        position = self.positions.get(symbol)
        return position.quantity if position else 0

    def holding(self, symbol: str) -> int:
        """The position in `symbol` and its dust."""
        return self.quantity(symbol) + self.dust_quantity(symbol)

    def dust_quantity(self, symbol: str) -> int:
        """The dust of `symbol`."""
        dust = self.dust.get(symbol)
        return dust.quantity if dust else 0

    @property
    def margin_held(self) -> int:
        """The part of the cash that open shorts hold."""
        return sum(SHORT_COLLATERAL * -one.cost for one in self.positions.values() if one.quantity < 0)

    @property
    def available(self) -> int:
        """The cash that no short holds."""
        return self.cash - self.margin_held

    def symbols(self) -> list[str]:
        """The symbols of which anything is held, sorted."""
        return sorted({*self.positions, *self.dust})

    def market_value(self, marks: Mapping[str, int]) -> int:
        """What everything held is worth at `marks` (1e-8 quote units a base unit); a short counts negative.

        Raises:
            KeyError: A symbol that is held has no mark.
        """
        return sum([worth(self.holding(symbol), marks[symbol]) for symbol in self.symbols()])

    def apply(
        self, symbol: str, side: Side, quantity: int, notional: int, fee: int, at: datetime
    ) -> tuple[Portfolio, Exit | None]:
        """Book a fill; returns what is held then and, where the fill made a position smaller, what it took out.

        Raises:
            ValueError: The fill would turn a long position into a short one or back.
        """
        signed = quantity if side is Side.BUY else -quantity
        paid = notional if side is Side.BUY else -notional
        held = self.positions.get(symbol)
        position: Position | None
        if held is None or (held.quantity > 0) == (signed > 0):
            position, exit_ = _enter(held, signed, paid, fee, at), None
        else:
            position, exit_ = _leave(held, signed, paid)
        # Not by `replace`, which takes three times as long: a start books every fill of the account again.
        booked = Portfolio(
            self.cash - paid - fee,
            _with(self.positions, symbol, position),
            self.dust,
            self.realised + (exit_.profit if exit_ else 0),
            self.fees + fee,
        )
        return booked, exit_

    def to_dust(self, symbol: str) -> Portfolio:
        """The whole position in `symbol` put to its dust."""
        position = self.positions[symbol]
        return replace(
            self,
            positions=_with(self.positions, symbol, None),
            dust=_with(self.dust, symbol, _joined(self.dust.get(symbol), position)),
        )

    def from_dust(self, symbol: str) -> Portfolio:
        """The dust of `symbol` put to its position."""
        return replace(
            self,
            positions=_with(self.positions, symbol, _joined(self.positions.get(symbol), self.dust[symbol])),
            dust=_with(self.dust, symbol, None),
        )


def worth(quantity: int, price: int) -> int:
    """What `quantity` is worth at `price`, rounded down.

    >>> worth(quantity=50_000_000, price=3)
    1
    """
    return multiply_divide(quantity, price, UNITS)


def postings(side: Side, notional: int, fee: int, symbol: str, exit_: Exit | None) -> dict[str, int]:
    """The double entry of a fill, in 1e-8 quote units: account name to amount, debits positive; they sum to zero.

    >>> postings(Side.BUY, notional=100, fee=2, symbol="BTCUSDT", exit_=None)
    {'cash': -102, 'position:BTCUSDT': 100, 'fees': 2, 'profit': 0}
    """
    paid = notional if side is Side.BUY else -notional
    return {
        "cash": -paid - fee,
        f"position:{symbol}": -exit_.cost if exit_ else paid,
        "fees": fee,
        "profit": -exit_.profit if exit_ else 0,
    }


def find_contradictions(portfolio: Portfolio, initial_cash: int) -> list[str]:
    """What cannot be in a sound account, in words: money from nowhere, or cash below what is owed."""
    held: Iterable[Position] = (*portfolio.positions.values(), *portfolio.dust.values())
    cost = sum(one.cost for one in held)
    followed = initial_cash + portfolio.realised - portfolio.fees - cost
    found = []
    if portfolio.cash != followed:
        found.append(f"cash is {portfolio.cash}, but cost, profit and fees leave {followed} (in 1e-8 units)")
    if portfolio.available < 0:
        found.append(f"the cash that no short holds is {portfolio.available}, below zero (in 1e-8 units)")
    return found


def _enter(held: Position | None, signed: int, paid: int, fee: int, at: datetime) -> Position:
    if held is None:
        return Position(signed, paid, fee, at)
    return Position(held.quantity + signed, held.cost + paid, held.entry_fees + fee, held.opened_at)


def _leave(held: Position, signed: int, paid: int) -> tuple[Position | None, Exit]:
    if abs(signed) > abs(held.quantity):
        raise ValueError("A fill cannot turn a position round; close it first.")
    cost = multiply_divide(held.cost, abs(signed), abs(held.quantity))
    fees = multiply_divide(held.entry_fees, abs(signed), abs(held.quantity))
    exit_ = Exit(abs(signed), cost, fees, -paid - cost, held.opened_at, held.quantity > 0)
    if signed == -held.quantity:
        return None, exit_
    return Position(held.quantity + signed, held.cost - cost, held.entry_fees - fees, held.opened_at), exit_


def _joined(first: Position | None, second: Position) -> Position:
    if first is None:
        return second
    return Position(
        first.quantity + second.quantity,
        first.cost + second.cost,
        first.entry_fees + second.entry_fees,
        min(first.opened_at, second.opened_at),
    )


def _with(holdings: Mapping[str, Position], symbol: str, position: Position | None) -> dict[str, Position]:
    changed = dict(holdings)
    if position is not None:
        changed[symbol] = position
    else:
        changed.pop(symbol, None)
    return changed
