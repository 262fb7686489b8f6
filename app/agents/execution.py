"""The third seat of a cycle: has a decision booked, or the reason why it is not traded."""

from __future__ import annotations

from app.agents.decision_making import CONFIDENT
from app.broker.paper import PaperBroker
from app.domain.cycle import CycleDraft, CycleReport, ExecutionStatus, Settlement
from app.domain.market import MarketSnapshot
from app.domain.order import Side
from app.domain.portfolio import Portfolio
from app.domain.ports import Clock, IdempotencyKey, Ledger


class ExecutionAgent:
    """Books cycles. The account is read and written in one transaction of the ledger."""

    def __init__(self, ledger: Ledger, broker: PaperBroker, clock: Clock) -> None:
        self._ledger = ledger
        self._broker = broker
        self._clock = clock

    async def execute(self, draft: CycleDraft, snapshot: MarketSnapshot, key: IdempotencyKey | None) -> CycleReport:
        """Record the cycle and, where its decision passes, its fill.

        Raises:
            StorageError: Nothing was recorded.
            InvalidInputError: `idempotency_key_reused`.
        """

        def settle(portfolio: Portfolio) -> Settlement:
            if draft.decision.reason_code != CONFIDENT:
                return Settlement(ExecutionStatus.SKIPPED, draft.decision.reason_code, draft.decision.reason)
            return self._broker.settle(Side(draft.decision.action), portfolio, snapshot)

        return await self._ledger.record_cycle(draft, settle, self._clock, key)
