"""What became of a position, or of the part of it that one fill closed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class ClosedTrade:
    """One exit held against its average entry; money in quote units.

    `trade_id` is the fill that closed it. `profit` is what the exit brought less what the entry cost, before `fees`,
    which are those of the exit and the entry's share.
    """

    trade_id: int
    run: str
    symbol: str
    source: str
    is_long: bool
    quantity: Decimal
    entry_price: Decimal
    exit_price: Decimal
    entry_notional: Decimal
    profit: Decimal
    fees: Decimal
    opened_at: datetime
    closed_at: datetime
    reason: str

    @property
    def net_profit(self) -> Decimal:
        """The profit after fees."""
        return self.profit - self.fees

    @property
    def net_return(self) -> float:
        """The profit after fees as a fraction of what the entry was worth."""
        return float(self.net_profit / self.entry_notional) if self.entry_notional else 0.0
