"""The last seat of a cycle: judges resting orders, has a decision booked, or says why it is not traded."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial

from app.agents.decision_making import CONFIDENT
from app.agents.risk import Review, RiskAgent
from app.broker.desk import Desk, Terms
from app.broker.market_orders import Protection, enter, leave, protect
from app.broker.resting import judge_resting
from app.domain.cycle import CycleDraft, CycleReport, ExecutionStatus, Settlement
from app.domain.order import Origin, Side
from app.domain.ports import Clock, IdempotencyKey, Ledger
from app.domain.standing import Standing


@dataclass(frozen=True, slots=True)
class ExecutionAgent:
    """Books cycles: the account is read and written in one transaction of the ledger.

    Attributes:
        ledger: Where cycles are booked.
        terms: What trading on paper costs.
        risk: Says how much an order may risk, for the account as it stands within the transaction.
        clock: Stamps what is booked.
    """

    ledger: Ledger
    terms: Terms
    risk: RiskAgent
    clock: Clock

    async def execute(self, draft: CycleDraft, key: IdempotencyKey | None) -> CycleReport:
        """Record the cycle, what its candles did to resting orders and, where its decision passes, its fill.

        Raises:
            StorageError: Nothing was recorded.
            InvalidInputError: `idempotency_key_reused`.
        """
        return await self.ledger.record_cycle(draft, partial(self.settle, draft), self.clock, key)

    def settle(self, draft: CycleDraft, standing: Standing, now: datetime) -> Settlement:
        """What is to be booked of a cycle, for the account as it stands."""
        desk = Desk(self.terms, draft.id, standing, draft.snapshot, now, cycle_id=draft.id)
        judge_resting(desk)
        standing = desk.standing
        desk.halt = self.risk.find_halt(standing, now)
        decision = draft.decision
        if decision.reason_code != CONFIDENT:
            return desk.settle(ExecutionStatus.SKIPPED, decision.reason_code, decision.reason)
        side = Side(decision.action)
        by_now = standing if desk.halt is None else desk.standing
        review = self.risk.review(side, draft.prediction, draft.snapshot, by_now, draft.circumstances.model_age, now)
        desk.say("risk", review.reason)
        if not review.approved:
            return desk.settle(ExecutionStatus.SKIPPED, review.reason_code, review.reason, review.checks)
        return _trade(desk, side, review)


def _trade(desk: Desk, side: Side, review: Review) -> Settlement:
    if review.is_entry:
        refusal = enter(desk, side, review.budget, review.quantity_cap, Origin.SIGNAL)
    else:
        refusal = leave(desk, abs(desk.held), Origin.SIGNAL)
    if refusal is not None:
        return desk.settle(ExecutionStatus.SKIPPED, refusal.code, refusal.reason, review.checks)
    words = desk.last_words
    if review.is_entry:
        protect(desk, Protection(review.stop_distance, review.target_distance, review.trail_fraction))
    return desk.settle(ExecutionStatus.FILLED, "filled", words, review.checks)
