"""Orders, what a broker reports of them, and the checks that stand before them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum


class Side(StrEnum):
    """Which way a fill moves the position."""

    BUY = "BUY"
    SELL = "SELL"

    @property
    def opposite(self) -> Side:
        """The side that takes a fill of this one back."""
        return Side.SELL if self is Side.BUY else Side.BUY


class OrderKind(StrEnum):
    """When an order fills: at once, or once a candle's prices have reached it."""

    MARKET = "MARKET"
    LIMIT = "LIMIT"
    STOP_LOSS = "STOP_LOSS"
    TAKE_PROFIT = "TAKE_PROFIT"
    TRAILING_STOP = "TRAILING_STOP"


class OrderStatus(StrEnum):
    """How far an order has come; all but NEW are final."""

    NEW = "NEW"
    FILLED = "FILLED"
    REJECTED = "REJECTED"
    CANCELED = "CANCELED"
    EXPIRED = "EXPIRED"


class Origin(StrEnum):
    """Who placed an order: a decision, a decision for its protection, a person, or the margin of a short."""

    SIGNAL = "signal"
    PROTECTION = "protection"
    PERSON = "person"
    LIQUIDATION = "liquidation"


@dataclass(frozen=True, slots=True)
class Order:
    """One paper order.

    `quantity` and `filled_quantity` are in base units; `price` is the limit, the target or the trigger in quote units
    (None for MARKET; that of a TRAILING_STOP moves), `trail_fraction` how far a TRAILING_STOP stays from the best
    price. With `reduce_only` it can make a position smaller and nothing else. Candles that open from `active_from` on
    are still to be judged; `expires_at` ends it. `cycle_id` names the cycle that placed it. Times are aware UTC.
    """

    id: str
    symbol: str
    side: Side
    kind: OrderKind
    quantity: Decimal
    origin: Origin
    created_at: datetime
    active_from: datetime
    price: Decimal | None = None
    trail_fraction: Decimal | None = None
    reduce_only: bool = False
    expires_at: datetime | None = None
    cycle_id: str | None = None
    status: OrderStatus = OrderStatus.NEW
    reason_code: str | None = None
    reason: str | None = None
    filled_quantity: Decimal = Decimal(0)
    closed_at: datetime | None = None

    @property
    def remaining(self) -> Decimal:
        """What is still to be filled, in base units."""
        return self.quantity - self.filled_quantity

    def ended(
        self, status: OrderStatus, reason_code: str, reason: str, at: datetime, filled_quantity: Decimal
    ) -> Order:
        """This order once it has come to its end, not by `replace`, which takes twice as long."""
        return Order(
            self.id,
            self.symbol,
            self.side,
            self.kind,
            self.quantity,
            self.origin,
            self.created_at,
            self.active_from,
            self.price,
            self.trail_fraction,
            self.reduce_only,
            self.expires_at,
            self.cycle_id,
            status,
            reason_code,
            reason,
            filled_quantity,
            at,
        )


@dataclass(frozen=True, slots=True)
class Fill:
    """One simulated execution.

    `quantity` is in base units and positive; `price`, `notional` and `fee` are in quote units, `fee` never
    negative; `slippage_bps` is how far the price was moved against us, in basis points of the quote.
    """

    side: Side
    quantity: Decimal
    price: Decimal
    notional: Decimal
    fee: Decimal
    slippage_bps: float


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at before an order, with its value and its limit as they are shown.

    `code` is the reason code where it fails. A check that only shrinks an order passes, and says so in `detail`.
    """

    code: str
    passed: bool
    value: str
    limit: str
    detail: str
