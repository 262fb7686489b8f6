"""What a backtest comes to: every cycle and every fill, in whole numbers, the same from each driver."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from app.domain.money import plain
from ml.bars import IntegerArray

CodeArray = npt.NDArray[np.int8]
BoolArray = npt.NDArray[np.bool_]

OUTCOMES = (
    "filled",
    "hold_signal",
    "no_edge",
    "below_min_confidence",
    "expected_return_not_positive",
    "already_in_position",
    "no_position",
    "halted",
    "daily_loss",
    "max_drawdown",
    "cooldown",
    "max_trades_per_day",
    "max_open_positions",
    "price_band",
    "model_too_old",
    "size_unknown",
    "size_zero",
    "insufficient_cash",
    "max_symbol_exposure",
    "max_gross_exposure",
    "volume_share",
    "below_minimum_notional",
    "stop_unknown",
    "price_not_positive",
    "moved_to_dust",
    "insufficient_history",
    "stale_data",
    "candle_jump",
    "price_far_from_close",
)
"""What came of a cycle: the reason codes of the live engine. From `FIRST_REFUSAL` on the cycle was refused."""

FIRST_REFUSAL = OUTCOMES.index("insufficient_history")

ORIGINS = ("signal", "protection", "liquidation", "person")
"""Who placed an order; a person only in an account that a backtest goes on with."""


@dataclass(frozen=True, slots=True, eq=False)
class Fills:
    """Every fill in its order; all of shape (n_fills,), amounts in 1e-8 of a quote or base unit.

    Attributes:
        cycle: In which cycle it was booked, its place in `Books`.
        side: 1 for a BUY, -1 for a SELL.
        origin: Who placed the order, its place in `ORIGINS`.
        quantity: How much, above 0.
        price: At what price.
        reference: The price before slippage.
        notional: What it was worth.
        fee: What it cost.
        profit: What it realised before fees; 0 for an entry.
        entry_fees: The fees of the entry that an exit closed; 0 for an entry.
        cash_after: The account's cash then.
        position_after: What it held of the symbol then, dust included.
    """

    cycle: IntegerArray
    side: IntegerArray
    origin: IntegerArray
    quantity: IntegerArray
    price: IntegerArray
    reference: IntegerArray
    notional: IntegerArray
    fee: IntegerArray
    profit: IntegerArray
    entry_fees: IntegerArray
    cash_after: IntegerArray
    position_after: IntegerArray

    def __len__(self) -> int:
        return len(self.cycle)


@dataclass(frozen=True, slots=True, eq=False)
class Books:
    """The books of a run; the arrays of cycles are of shape (n_cycles,), oldest first.

    Attributes:
        times_ms: When each cycle ran: the open time of the bar after it, milliseconds since the epoch.
        series: Which series it was about.
        first_bars: After which bar of each series its first cycle here ran, shape (n_series,); the others follow.
        outcomes: What came of it, its place in `OUTCOMES`.
        equity: The account's worth then at the newest quotes, in 1e-8 quote units.
        held: Whether it held a position then.
        fills: Everything that was bought and sold.
        halted_cycle: The cycle in which the drawdown limit halted trading; -1 where it never did.
    """

    times_ms: IntegerArray
    series: IntegerArray
    first_bars: IntegerArray
    outcomes: CodeArray
    equity: IntegerArray
    held: BoolArray
    fills: Fills
    halted_cycle: int

    def __len__(self) -> int:
        return len(self.times_ms)

    @property
    def bars(self) -> IntegerArray:
        """After which bar of its series each cycle ran, counted anew at each call."""
        bars: IntegerArray = np.empty(len(self), dtype=np.int64)
        for series, first in enumerate(self.first_bars):
            own = np.flatnonzero(self.series == series)
            bars[own] = first + np.arange(len(own))
        return bars


def find_first_difference(first: Books, second: Books) -> str | None:
    """The first thing in which two runs differ, in words, with both values; None where all numbers are equal."""
    for name in ("times_ms", "series", "bars", "outcomes", "equity", "held"):
        found = _compare(getattr(first, name), getattr(second, name))
        if found is not None:
            return f"cycle {found}: {name} {_show(first, name, found)} and {_show(second, name, found)}"
    for field in fields(Fills):
        found = _compare(getattr(first.fills, field.name), getattr(second.fills, field.name))
        if found is not None:
            return f"fill {found}: {field.name} {_show(first.fills, field.name, found)} and " + (
                _show(second.fills, field.name, found)
            )
    if first.halted_cycle != second.halted_cycle:
        return f"halted in cycle {first.halted_cycle} and {second.halted_cycle}"
    return None


def _compare(first: np.ndarray, second: np.ndarray) -> int | None:
    shared = min(len(first), len(second))
    different = np.flatnonzero(first[:shared] != second[:shared])
    if len(different):
        return int(different[0])
    return shared if len(first) != len(second) else None


def _show(owner: Books | Fills, name: str, place: int) -> str:
    values = getattr(owner, name)
    if place >= len(values):
        return "nothing"
    value = values[place]
    if name == "outcomes":
        return OUTCOMES[int(value)]
    is_amount = name in {"equity", "quantity", "price", "reference", "notional", "fee", "profit", "entry_fees"}
    is_amount = is_amount or name in {"cash_after", "position_after"}
    return plain(int(value)) if is_amount else str(value)
