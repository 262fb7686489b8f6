"""What a broker reports."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum


class Side(StrEnum):
    """Which way a fill moves the position."""

    BUY = "BUY"
    SELL = "SELL"


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
