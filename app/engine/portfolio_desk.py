"""What people do to the account themselves: orders of their own, closing, cancelling, resetting, halting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from app.agents.market_monitoring import MarketMonitoringAgent
from app.broker import order_rules
from app.broker.desk import Desk, Terms
from app.broker.market_orders import Refusal, buy_or_sell, leave
from app.broker.resting import judge_resting
from app.domain.action import ActionKind, ActionReport
from app.domain.candle import Interval
from app.domain.cycle import ExecutionStatus, Settlement
from app.domain.instrument import Instrument
from app.domain.market import MarketSnapshot
from app.domain.money import LARGEST, PPM, from_units, to_units
from app.domain.order import OrderKind, Origin, Side
from app.domain.ports import Actions, IdempotencyKey, Ledger, Settle
from app.domain.record import to_plain
from app.domain.standing import RunKey, Standing
from app.errors import ConflictError, InvalidInputError

_STOPS = (OrderKind.STOP_LOSS, OrderKind.TRAILING_STOP)
_HALTED = "Trading is halted; POST /trading/resume lets positions be opened again. Closing goes on."


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """The order that a person asks for; `price` and `trail_fraction` as in `app.domain.order.Order`."""

    symbol: str
    side: Side
    kind: OrderKind
    quantity: Decimal
    price: Decimal | None = None
    trail_fraction: Decimal | None = None
    expires_at: datetime | None = None
    reduce_only: bool = False


@dataclass(frozen=True, slots=True)
class PortfolioDesk:
    """Books what people ask for on the account of a key, with the rules that cycles are booked by.

    Attributes:
        key: Whose account it is.
        monitoring: Sees the market; an order is refused where a cycle would be.
        ledger: Where the account is read.
        actions: Where it is booked.
        terms: What trading on paper costs.
        interval: The candles that resting orders are counted from.
        new_id: Gives each booking its id.
        require_books: Raises while the books do not add up; trading can be halted all the same.
    """

    key: RunKey
    monitoring: MarketMonitoringAgent
    ledger: Ledger
    actions: Actions
    terms: Terms
    interval: Interval
    new_id: Callable[[], str]
    require_books: Callable[[], None] = lambda: None

    async def place(self, asked: OrderRequest, key: IdempotencyKey | None) -> tuple[ActionReport, bool]:
        """Fill a market order, or let another one rest; True where `key` was used before and nothing is done.

        Resting orders of the symbol are judged first. Where that fills one, and leaves the order nothing to do, it is
        booked and reported all the same, with the reason.

        Raises:
            InvalidInputError: `order_invalid`, the order makes no sense: a price that is missing or off, for instance.
            ConflictError: `halted`, `no_position`, `insufficient_cash` and others: the account does not allow it.
            ServiceError: The market cannot be seen, as for a cycle, or the books do not add up.
        """
        if (earlier := await self._find_replay(key)) is not None:
            return earlier, True
        self.require_books()
        snapshot = (await self.monitoring.observe(asked.symbol, self.interval)).snapshot
        check_order(asked, snapshot)
        booking_id = self.new_id()

        def settle(standing: Standing, now: datetime) -> Settlement:
            desk = Desk(self.terms, booking_id, standing, snapshot, now)
            judge_resting(desk)
            refusal = _place(desk, asked)
            if refusal is not None and desk.has_booked:
                return desk.settle(ExecutionStatus.SKIPPED, refusal.code, refusal.reason)
            if refusal is not None:
                raise ConflictError(refusal.reason, code=refusal.code, context={"symbol": asked.symbol})
            if asked.kind is OrderKind.MARKET:
                return desk.settle(ExecutionStatus.FILLED, "filled", desk.last_words)
            return desk.settle(ExecutionStatus.SKIPPED, "placed", "The order rests until its price is reached.")

        return await self._book(ActionKind.ORDER, booking_id, to_plain(asked), [settle], key)

    async def close(self, symbol: str | None, key: IdempotencyKey | None) -> tuple[ActionReport, bool]:
        """Close the position in `symbol`, or all, at the market; what is too little to be sold becomes dust.

        Raises:
            ConflictError: `no_position`, there is none in `symbol`.
            ServiceError: A market cannot be seen, or the books do not add up; nothing is closed then.
        """
        if (earlier := await self._find_replay(key)) is not None:
            return earlier, True
        self.require_books()
        held = sorted((await self.ledger.load_standing(self.key)).portfolio.positions)
        symbols = held if symbol is None else [symbol]
        if symbol is not None and symbol not in held:
            raise _no_position(symbol)
        observed = await asyncio.gather(*(self.monitoring.observe(one, self.interval) for one in symbols))
        booking_id = self.new_id()
        settles = [
            self._closing(f"{booking_id}-{place}", one.snapshot, is_asked_for=symbol is not None)
            for place, one in enumerate(observed, start=1)
        ]
        return await self._book(ActionKind.CLOSE, booking_id, {"symbol": symbol}, settles, key)

    async def cancel(self, order_id: str) -> ActionReport:
        """Cancel a resting order.

        Raises:
            NotFoundError: `order_not_found`.
            ConflictError: `order_ended`, it does not rest any more; `order_required`, it guards a short.
            ServiceError: The books do not add up.
        """
        self.require_books()
        return await self.actions.cancel(self.key, self.new_id(), {"order_id": order_id}, order_id)

    async def reset(self, cash: Decimal, key: IdempotencyKey | None) -> tuple[ActionReport, bool]:
        """Start a new run with `cash`; the old one stays readable. Refused while the books do not add up."""
        if (earlier := await self._find_replay(key)) is not None:
            return earlier, True
        self.require_books()
        booking_id = self.new_id()
        report = await self.actions.reset(self.key, booking_id, cash, key)
        return report, report.id != booking_id

    async def set_halt(self, *, is_halted: bool, reason: str) -> ActionReport:
        """Halt trading on decisions, or let it go on where the books add up; kept over restarts."""
        if not is_halted:
            self.require_books()
        return await self.actions.set_halt(self.key, self.new_id(), reason, is_halted=is_halted)

    async def _find_replay(self, key: IdempotencyKey | None) -> ActionReport | None:
        return None if key is None else await self.actions.find_replay(key)

    def _closing(self, booking_id: str, snapshot: MarketSnapshot, *, is_asked_for: bool) -> Settle:
        def settle(standing: Standing, now: datetime) -> Settlement:
            if is_asked_for and standing.portfolio.quantity(snapshot.symbol) == 0:
                raise _no_position(snapshot.symbol)
            desk = Desk(self.terms, booking_id, standing, snapshot, now)
            judge_resting(desk)
            if desk.held == 0:
                return desk.settle(ExecutionStatus.SKIPPED, "no_position", "The position was closed before.")
            refusal = leave(desk, abs(desk.held), Origin.PERSON)
            if refusal is not None:
                return desk.settle(ExecutionStatus.SKIPPED, refusal.code, refusal.reason)
            return desk.settle(ExecutionStatus.FILLED, "closed", desk.last_words)

        return settle

    async def _book(
        self,
        kind: ActionKind,
        booking_id: str,
        words: dict[str, object],
        settles: Sequence[Settle],
        key: IdempotencyKey | None,
    ) -> tuple[ActionReport, bool]:
        report = await self.actions.book(self.key, kind, booking_id, words, settles, key)
        return report, report.id != booking_id


def check_order(asked: OrderRequest, snapshot: MarketSnapshot) -> None:
    """Refuse an order that makes no sense on this market.

    Raises:
        InvalidInputError: `order_invalid`.
    """
    instrument = snapshot.instrument
    _check_quantity(asked, instrument)
    if asked.kind is OrderKind.MARKET:
        if asked.price is not None or asked.expires_at is not None:
            raise _invalid("a MARKET order fills at once: leave out price and expires_at", asked)
    elif asked.kind is not OrderKind.TRAILING_STOP:
        _check_price(asked, instrument, snapshot.quote.price)
    elif asked.price is not None:
        raise _invalid("a TRAILING_STOP follows the price: leave out price", asked)
    if (asked.trail_fraction is not None) != (asked.kind is OrderKind.TRAILING_STOP):
        raise _invalid("trail_fraction belongs to a TRAILING_STOP, which needs it", asked)
    if asked.expires_at is not None and asked.expires_at <= snapshot.exchange_time:
        raise _invalid("expires_at must lie in the future", asked)


def _check_quantity(asked: OrderRequest, instrument: Instrument) -> None:
    if not 0 < asked.quantity <= from_units(LARGEST):
        raise _invalid("quantity must be above zero, and no more than 92 billion", asked)
    if asked.quantity % instrument.lot_step:
        raise _invalid(f"quantity must be in whole lots of {instrument.lot_step.normalize():f}", asked)


def _check_price(asked: OrderRequest, instrument: Instrument, quote: Decimal) -> None:
    if asked.price is None:
        raise _invalid(f"a {asked.kind} order needs a price", asked)
    if asked.price <= 0 or asked.price % instrument.tick_size:
        raise _invalid(f"price must be in whole ticks of {instrument.tick_size.normalize():f}", asked)
    waits_above = (asked.side is Side.BUY) is (asked.kind in _STOPS)
    waits = asked.price > quote if waits_above else asked.price < quote
    if asked.kind is not OrderKind.LIMIT and not waits:
        where = "above" if waits_above else "below"
        raise _invalid(f"the price of a {asked.kind} {asked.side} must lie {where} the market, {quote:f}", asked)


def _place(desk: Desk, asked: OrderRequest) -> Refusal | None:
    quantity, is_exit = to_units(asked.quantity), desk.is_exit(asked.side)
    if not is_exit and (refusal := _refuse_entry(desk, asked)) is not None:
        return refusal
    if asked.kind is OrderKind.MARKET:
        return buy_or_sell(desk, asked.side, quantity, Origin.PERSON)
    price = _resting_price(desk, asked)
    if not is_exit and desk.below_minimum(price, quantity):
        minimum = desk.snapshot.instrument.minimum_notional.normalize()
        return Refusal("below_minimum_notional", f"The order is worth less than the {minimum:f} the exchange asks for.")
    if price <= 0:
        return Refusal("price_not_positive", "The stop would rest at a price of nothing; take a smaller fraction.")
    desk.rest(
        desk.order(
            asked.side,
            asked.kind,
            quantity,
            Origin.PERSON,
            price=from_units(price),
            trail_fraction=asked.trail_fraction,
            reduce_only=asked.reduce_only or asked.kind is not OrderKind.LIMIT or desk.is_exit(asked.side),
            expires_at=asked.expires_at,
        )
    )
    return None


def _resting_price(desk: Desk, asked: OrderRequest) -> int:
    if asked.trail_fraction is None:
        return to_units(asked.price or Decimal(0))
    sign = order_rules.BUY if asked.side is Side.BUY else order_rules.SELL
    return order_rules.trailing_trigger(sign, desk.quote, int(asked.trail_fraction * PPM), desk.tick)


def _refuse_entry(desk: Desk, asked: OrderRequest) -> Refusal | None:
    if asked.reduce_only or asked.kind not in (OrderKind.MARKET, OrderKind.LIMIT):
        return Refusal("no_position", "There is no position that it could make smaller.")
    if desk.standing.halt is not None:
        return Refusal("halted", _HALTED)
    if asked.side is Side.SELL and not desk.terms.allow_short:
        return Refusal("no_position", "There is nothing to sell (ALLOW_SHORT lets it be sold short).")
    return None


def _no_position(symbol: str) -> ConflictError:
    return ConflictError(f"There is no position in {symbol}.", code="no_position", context={"symbol": symbol})


def _invalid(words: str, asked: OrderRequest) -> InvalidInputError:
    return InvalidInputError(f"{words[:1].upper()}{words[1:]}.", code="order_invalid", context={"symbol": asked.symbol})
