"""What may be traded, and in which steps."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Instrument:
    """A trading pair and the exchange's rules for it.

    `tick_size` and `minimum_notional` are in quote units, `lot_step` in base units; `trading` is False
    while the exchange halts or has delisted the pair.
    """

    symbol: str
    base_asset: str
    quote_asset: str
    tick_size: Decimal
    lot_step: Decimal
    minimum_notional: Decimal
    trading: bool = True
