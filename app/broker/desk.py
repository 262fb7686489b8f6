"""The desk of one booking: it fills, places and cancels orders on the account as it stands, and tells what to book."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from app.broker import fill_rules, order_rules
from app.domain.candle import Candle
from app.domain.cycle import BookedFill, DustTransfer, ExecutionStatus, Settlement
from app.domain.market import MarketSnapshot
from app.domain.money import LARGEST, PPM, from_units, multiply_divide, plain, to_units
from app.domain.order import Check, Fill, Order, OrderKind, OrderStatus, Origin, Side
from app.domain.portfolio import SHORT_COLLATERAL, Exit, worth
from app.domain.standing import Halt, Snapshot, Standing

_PPM_PER_BPS = 100


@dataclass(frozen=True, slots=True)
class Terms:
    """What trading on paper costs, and what of it is possible.

    `fee_bps` and `slippage_bps`, the least slippage at the market, are in basis points (two decimals). `volume_share`
    is the share of a candle's volume that limits and targets may fill on it, 0 without limit. `allow_short` says
    whether a SELL without a position opens a short.
    """

    fee_bps: Decimal
    slippage_bps: Decimal
    volume_share: Decimal
    allow_short: bool = False

    @property
    def fee_ppm(self) -> int:
        """The fee in parts per million of the notional."""
        return int(self.fee_bps * _PPM_PER_BPS)

    @property
    def slippage_ppm(self) -> int:
        """The least slippage in parts per million of the price."""
        return int(self.slippage_bps * _PPM_PER_BPS)

    @property
    def volume_share_ppm(self) -> int:
        """The share of a candle's volume in parts per million."""
        return int(self.volume_share * PPM)


class Desk:
    """Works on a copy of the account's standing within one booking; nothing is kept until its settlement is booked.

    Args:
        terms: What a fill costs, and what may be filled.
        booking_id: What its orders are named after.
        standing: The account before the booking.
        snapshot: The market as it was seen for the booking; `newest` is its last candle.
        now: When it is booked.
        cycle_id: The cycle that it belongs to, None for what a person does.
    """

    def __init__(
        self,
        terms: Terms,
        booking_id: str,
        standing: Standing,
        snapshot: MarketSnapshot,
        now: datetime,
        cycle_id: str | None = None,
    ) -> None:
        self.terms = terms
        self.fee_ppm = terms.fee_ppm
        self.snapshot = snapshot
        self.symbol = snapshot.symbol
        self.newest = snapshot.candles[-1]
        self.now = now
        self.portfolio = standing.portfolio
        self.halt: Halt | None = None
        self.quote = to_units(snapshot.quote.price)
        self.tick = to_units(snapshot.instrument.tick_size)
        self.lot = to_units(snapshot.instrument.lot_step)
        self._newest_slippage = self.slippage(self.newest)
        self._booking_id = booking_id
        self._cycle_id = cycle_id
        self._before = standing
        self._resting = {order.id: order for order in standing.orders}
        self._changed: dict[str, Order] = {}
        self._placed = 0
        self._entries: list[BookedFill | DustTransfer] = []
        self._exits: list[tuple[Exit, int]] = []
        self._logs: list[tuple[str, str]] = []
        self._valued: Snapshot | None = None

    @property
    def open_from(self) -> datetime:
        """When the candle opened that the market has not closed yet."""
        return self.newest.open_time + self.snapshot.interval.duration

    @property
    def held(self) -> int:
        """The position in the symbol, negative when short."""
        return self.portfolio.quantity(self.symbol)

    @property
    def standing(self) -> Standing:
        """Where the account stands by now."""
        return Standing(
            self._before.run, self._value(), tuple(self._resting.values()), halt=self._before.halt or self.halt
        )

    @property
    def last_price(self) -> int:
        """The price of the newest fill of this booking, the quote before there is one."""
        prices = [to_units(entry.fill.price) for entry in self._entries if isinstance(entry, BookedFill)]
        return prices[-1] if prices else self.quote

    @property
    def last_words(self) -> str:
        """What is said of the newest fill of this booking."""
        return [entry.reason for entry in self._entries if isinstance(entry, BookedFill)][-1]

    @property
    def has_booked(self) -> bool:
        """Whether this booking has a fill, or moved dust."""
        return bool(self._entries)

    def decided_on(self, origin: Origin) -> Candle | None:
        """The candle that an order of `origin` was decided on; a person decides on none."""
        return self.newest if origin is Origin.SIGNAL else None

    def resting(self) -> list[Order]:
        """The resting orders of the symbol, oldest first."""
        return [order for order in self._resting.values() if order.symbol == self.symbol]

    def slippage(self, candle: Candle) -> tuple[int, int]:
        """The slippage of a fill at the market beside `candle`, as a fraction (numerator, denominator)."""
        return fill_rules.slippage_ratio(
            to_units(candle.high), to_units(candle.low), to_units(candle.close), self.terms.slippage_ppm
        )

    def market_price(self, side: Side) -> int:
        """The price of a fill at the market now, on the tick; zero or less where the slippage leaves nothing."""
        rule = fill_rules.buy_price if side is Side.BUY else fill_rules.sell_price
        return rule(self.quote, self._newest_slippage, self.tick)

    def is_exit(self, side: Side) -> bool:
        """Whether a fill of `side` makes the position smaller."""
        return self.held < 0 if side is Side.BUY else self.held > 0

    def capped(self, side: Side, price: int, quantity: int) -> int:
        """The price of an exit: that of buying a short back is never more than its collateral pays for."""
        if side is Side.SELL:
            return price
        cost = -self.portfolio.positions[self.symbol].cost
        collateral = multiply_divide(SHORT_COLLATERAL * cost, quantity, -self.held)
        return min(price, order_rules.cover_cap(collateral, quantity, self.fee_ppm, self.tick))

    def affordable(self, budget: int, price: int) -> int:
        """The largest quantity that `budget` and the free cash pay for at `price`, and that the books can hold."""
        room = LARGEST - abs(self.held) - self.portfolio.dust_quantity(self.symbol)
        paid = fill_rules.affordable_quantity(
            max(0, min(budget, self.portfolio.available)), price, self.lot, self.fee_ppm
        )
        return min(paid, room // self.lot * self.lot)

    def notional(self, side: Side, price: int, quantity: int) -> int:
        """What a fill is worth before its fee."""
        rule = fill_rules.buy_notional if side is Side.BUY else fill_rules.sell_notional
        return rule(price, quantity)

    def below_minimum(self, price: int, quantity: int) -> bool:
        """Whether so much is worth less than the exchange's minimum (or nothing at all)."""
        value = worth(quantity, price)
        return value == 0 or value < to_units(self.snapshot.instrument.minimum_notional)

    def order(self, side: Side, kind: OrderKind, quantity: int, origin: Origin, **more: object) -> Order:
        """A new order of the symbol; `more` are fields of `Order`."""
        self._placed += 1
        if "active_from" not in more:
            more["active_from"] = self._first_judged(kind)
        return Order(
            id=f"{self._booking_id}-{self._placed}",
            symbol=self.symbol,
            side=side,
            kind=kind,
            quantity=from_units(quantity),
            origin=origin,
            created_at=self.now,
            cycle_id=self._cycle_id,
            **more,  # type: ignore[arg-type]
        )

    def rest(self, order: Order) -> None:
        """Let an order rest, as it is now."""
        self._keep(order)

    def end(
        self, order: Order, status: OrderStatus, reason_code: str, reason: str, filled_quantity: Decimal | None = None
    ) -> None:
        """Let an order end, as far as it was filled where `filled_quantity` does not say more."""
        filled = order.filled_quantity if filled_quantity is None else filled_quantity
        self._keep(order.ended(status, reason_code, reason, self.now, filled))

    def fill(
        self,
        order: Order,
        price: int,
        quantity: int,
        reference: int,
        words: str,
        candle: Candle | None = None,
    ) -> None:
        """Fill `quantity` of an order at `price`; what is left of a position, or of its dust, is seen to.

        Args:
            order: The order; it rests on where some of it is left, unless it is one at the market.
            price: The price, in 1e-8 quote units.
            quantity: How much, in 1e-8 base units; never more than turns the position to nothing.
            reference: The price before slippage.
            words: Why it fills, for people.
            candle: The candle that was decided or judged on.
        """
        notional = self.notional(order.side, price, quantity)
        fee = fill_rules.fee(notional, self.fee_ppm)
        self.portfolio, exit_ = self.portfolio.apply(self.symbol, order.side, quantity, notional, fee, self.now)
        if exit_ is not None:
            self._exits.append((exit_, fee))
        fill = Fill(
            side=order.side,
            quantity=from_units(quantity),
            price=from_units(price),
            notional=from_units(notional),
            fee=from_units(fee),
            slippage_bps=round(abs(price - reference) / reference * 10_000, 4),
        )
        reason = (
            f"{order.side} {plain(quantity)} {self.snapshot.instrument.base_asset} at {plain(price)}, "
            f"{fill.slippage_bps:.2f} bps from {words}, fee {plain(fee)}."
        )
        self._entries.append(
            BookedFill(
                order_id=order.id,
                origin=order.origin,
                symbol=self.symbol,
                fill=fill,
                reason=reason,
                cash_after=self.portfolio.cash,
                position_after=self.portfolio.holding(self.symbol),
                decided=order.origin is Origin.SIGNAL,
                interval=None if candle is None else self.snapshot.interval,
                candle_open_time=None if candle is None else candle.open_time,
                exit=exit_,
                reference=reference,
            )
        )
        self._note_fill(order, quantity, reason)
        self._see_to_the_rest(price, candle)

    def sweep_dust(self) -> None:
        """Let the dust of the symbol go with what is sold next."""
        dust = self.portfolio.dust.get(self.symbol)
        if dust is not None:
            self.portfolio = self.portfolio.from_dust(self.symbol)
            self._entries.append(DustTransfer(self.symbol, -dust.quantity, -dust.cost, -dust.entry_fees))

    def move_to_dust(self) -> None:
        """Put the whole position in the symbol to its dust."""
        position = self.portfolio.positions[self.symbol]
        self.portfolio = self.portfolio.to_dust(self.symbol)
        self._entries.append(DustTransfer(self.symbol, position.quantity, position.cost, position.entry_fees))
        self.say("execution", f"{plain(position.quantity)} of {self.symbol} is too little to be sold; it is dust now.")
        self.cancel_exits()

    def cancel_exits(self) -> None:
        """Cancel the orders that could only make a position smaller, as there is none."""
        for order in self.resting():
            if order.reduce_only:
                self.end(order, OrderStatus.CANCELED, "position_closed", "The position that it was for is closed.")

    def say(self, agent: str, message: str) -> None:
        """Add a line to the cycle's log."""
        self._logs.append((agent, message))

    def settle(
        self,
        status: ExecutionStatus,
        reason_code: str,
        reason: str,
        checks: Sequence[Check] = (),
    ) -> Settlement:
        """What is to be booked."""
        numerator, denominator = self._newest_slippage
        rested = {order.id: order.filled_quantity for order in self._before.orders}
        moved = {
            order.id: order
            for order in self._changed.values()
            if order.status is OrderStatus.NEW and rested.get(order.id) == order.filled_quantity
        }
        return Settlement(
            status=status,
            reason_code=reason_code,
            reason=reason,
            symbol=self.symbol,
            price=self.quote,
            side_cost_ppm=numerator * PPM // denominator + self.fee_ppm,
            snapshot=self._value(),
            entries=tuple(self._entries),
            orders=tuple(order for order in self._changed.values() if order.id not in moved),
            moved=tuple(moved.values()),
            checks=tuple(checks),
            logs=tuple(self._logs),
            halt=self.halt,
        )

    def _value(self) -> Snapshot:
        """The account by now; each entry has a portfolio of its own, so that an older value shows by that."""
        if self._valued is None or self._valued.portfolio is not self.portfolio:
            trades = len([entry for entry in self._entries if isinstance(entry, BookedFill) and entry.decided])
            prices = {self.symbol: self.quote}
            self._valued = self._before.snapshot.followed_by(self.portfolio, prices, self.now, self._exits, trades)
        return self._valued

    def _keep(self, order: Order) -> None:
        self._changed[order.id] = order
        if order.status is OrderStatus.NEW:
            self._resting[order.id] = order
        else:
            self._resting.pop(order.id, None)

    def _note_fill(self, order: Order, quantity: int, reason: str) -> None:
        filled = order.filled_quantity + from_units(quantity)
        if filled < order.quantity:
            self._keep(replace(order, filled_quantity=filled))
        else:
            self.end(order, OrderStatus.FILLED, "filled", reason, filled)

    def _see_to_the_rest(self, price: int, candle: Candle | None) -> None:
        """What a fill leaves: too little to sell is dust, nothing needs no orders, a short needs its liquidation."""
        held = self.held
        if held == 0:
            self.cancel_exits()
        elif held > 0 and self._entries_last_exit() and self.below_minimum(price, held):
            self.move_to_dust()
        elif held < 0 and not self._entries_last_exit():
            self._guard_short(candle or self.newest)

    def _entries_last_exit(self) -> bool:
        last = self._entries[-1]
        return isinstance(last, BookedFill) and last.exit is not None

    def _first_judged(self, kind: OrderKind) -> datetime:
        """From which candle on an order of now counts: the open one counts against it, and never for it."""
        opened, duration = self.open_from, self.snapshot.interval.duration
        if kind in (OrderKind.STOP_LOSS, OrderKind.TRAILING_STOP):
            return opened
        exchange_time = self.now - timedelta(seconds=self.snapshot.clock_skew_seconds)
        return opened + max(1, -((opened - exchange_time) // duration)) * duration

    def _guard_short(self, candle: Candle) -> None:
        """Place the liquidation of a short that was opened, or has grown, at the market after `candle` or on it."""
        for order in self.resting():
            if order.origin is Origin.LIQUIDATION:
                self.end(order, OrderStatus.CANCELED, "replaced", "The short has grown; its liquidation has moved.")
        position = self.portfolio.positions[self.symbol]
        price = order_rules.liquidation_price(-position.cost, -position.quantity)
        self.rest(
            self.order(
                Side.BUY,
                OrderKind.STOP_LOSS,
                -position.quantity,
                Origin.LIQUIDATION,
                price=from_units(price),
                reduce_only=True,
                active_from=candle.open_time + self.snapshot.interval.duration,
            )
        )
