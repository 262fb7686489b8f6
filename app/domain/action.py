"""What a person does to an account."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from app.domain.cycle import Trade
from app.domain.order import Order

ALREADY_HALTED = "already_halted"
NOT_HALTED = "not_halted"


class ActionKind(StrEnum):
    """The things a person can do."""

    ORDER = "order"
    CANCEL = "cancel"
    CLOSE = "close"
    RESET = "reset"
    HALT = "halt"
    RESUME = "resume"


@dataclass(frozen=True, slots=True)
class ActionReport:
    """What came of it: the orders that were placed or changed, and the fills, in their order."""

    id: str
    kind: ActionKind
    run: str
    at: datetime
    reason_code: str
    reason: str
    orders: tuple[Order, ...] = ()
    fills: tuple[Trade, ...] = ()
