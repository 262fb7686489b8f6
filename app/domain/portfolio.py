"""What an account holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Portfolio:
    """Cash in quote units and the base quantity held of each symbol; nothing is ever negative."""

    cash: Decimal
    positions: Mapping[str, Decimal] = field(default_factory=dict)

    def quantity(self, symbol: str) -> Decimal:
        """The base quantity held of `symbol`, zero when none is."""
        return self.positions.get(symbol, Decimal(0))
