"""From what is to be booked to what is recorded: the same for every ledger."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from itertools import repeat

from app.domain.cycle import (
    BookedFill,
    CycleDraft,
    CycleReport,
    Decision,
    Execution,
    ExecutionStatus,
    Settlement,
    Trade,
)
from app.domain.money import UNITS, from_units
from app.domain.signal import Signal
from app.domain.standing import Run

_NOT_NUMBERED = repeat(0)
_SIGNALS = tuple(Signal)


def make_trades(
    run: Run,
    settlement: Settlement,
    cycle_id: str | None,
    decision: Decision | None,
    at: datetime,
    numbers: Iterator[int] = _NOT_NUMBERED,
) -> list[Trade]:
    """The trades of a settlement in their order; their numbers are 0 where the ledger gives them `numbers` later."""
    return [
        _trade(next(numbers), run, fill, cycle_id, decision if fill.decided else None, at) for fill in settlement.fills
    ]


def make_report(run: Run, draft: CycleDraft, settlement: Settlement, trades: list[Trade], at: datetime) -> CycleReport:
    """The report of a cycle that was booked; `trades` carry their numbers."""
    decided = next((trade for trade in trades if trade.confidence is not None), None)
    execution = Execution(settlement.status, settlement.reason_code, settlement.reason, decided)
    return draft.finish(execution, settlement, run.id, at, tuple(trades))


def make_duplicate_report(run: Run, draft: CycleDraft, earlier: Trade, at: datetime) -> CycleReport:
    """The report of a cycle whose candle was traded before: `earlier` stands in the way of a second fill."""
    execution = Execution(
        ExecutionStatus.SKIPPED,
        "candle_already_traded",
        f"This candle was traded before: trade {earlier.id} of cycle {earlier.cycle_id}.",
        trade=earlier,
        duplicate=True,
    )
    return draft.finish(execution, None, run.id, at)


def in_plain_numbers(decision: Decision) -> Decision:
    """The same decision with its numbers as plain floats, in the order in which they are read from a database.

    A minus zero becomes a zero, which is all that SQLite can keep of it.
    """
    return Decision(
        decision.action,
        _plain_float(decision.confidence),
        {signal: _plain_float(decision.probabilities[signal]) for signal in _SIGNALS},
        decision.reason_code,
        decision.reason,
        decision.model_id,
        expected_return=None if decision.expected_return is None else _plain_float(decision.expected_return),
        edge=decision.edge,
        drift=None if decision.drift is None else _plain_float(decision.drift),
    )


def entry_price(cost: int, quantity: int) -> Decimal:
    """The average entry price of so much, rounded down to 1e-8."""
    return from_units(abs(cost) * UNITS // quantity)


def _plain_float(value: float) -> float:
    return float(value) + 0.0


def _trade(
    number: int, run: Run, fill: BookedFill, cycle_id: str | None, decision: Decision | None, at: datetime
) -> Trade:
    return Trade(
        id=number,
        cycle_id=cycle_id,
        symbol=fill.symbol,
        interval=fill.interval,
        source=run.key.source,
        side=fill.fill.side,
        quantity=fill.fill.quantity,
        price=fill.fill.price,
        notional=fill.fill.notional,
        fee=fill.fill.fee,
        slippage_bps=float(fill.fill.slippage_bps),
        confidence=decision.confidence if decision else None,
        model_id=decision.model_id if decision else None,
        candle_open_time=fill.candle_open_time,
        executed_at=at,
        reason=fill.reason,
        cash_after=from_units(fill.cash_after),
        position_after=from_units(fill.position_after),
        edge=decision.edge if decision else None,
        run=run.id,
        order_id=fill.order_id,
        origin=fill.origin,
        realised_profit=from_units(fill.exit.profit) if fill.exit else None,
    )
