"""What came of decisions, in SQL: which ones wait to be scored, their scores, and those of a model."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, bindparam, exists, func, insert, select
from sqlalchemy.sql.elements import ColumnElement

from app.domain.candle import Interval
from app.domain.outcome import Outcome, ScoredDecision, StatedDecision, Truth, WaitingDecisions
from app.domain.signal import Signal
from app.storage.account_tables import accounts
from app.storage.database import Database
from app.storage.tables import cycles, decisions, outcomes

_ROWS_A_WRITE = 500
"""Cycles that want to book wait for no more than this many outcomes."""

# In the order of the fields of StatedDecision, the probabilities last.
_DECISION_COLUMNS = (
    cycles.c.id,
    decisions.c.model_id,
    cycles.c.symbol,
    cycles.c.interval,
    cycles.c.candle_open_time,
    decisions.c.action,
    decisions.c.confidence,
    decisions.c.p_buy,
    decisions.c.p_sell,
    decisions.c.p_hold,
)

_earlier = cycles.alias("earlier")
_earlier_decision = decisions.alias("earlier_decision")
# All runs of a source: what a model said does not depend on whose account it was said for.
_ACCOUNTS = select(accounts.c.id).where(accounts.c.source == bindparam("source"))
_LOCK = select(accounts.c.id).where(accounts.c.source == bindparam("source"), accounts.c.generation == 1)
# A candle that a model was asked about twice counts once.
_ASKED_BEFORE = exists().where(
    _earlier.c.account_id.in_(_ACCOUNTS),
    _earlier.c.interval == cycles.c.interval,
    _earlier.c.candle_open_time == cycles.c.candle_open_time,
    _earlier.c.symbol == cycles.c.symbol,
    _earlier.c.number < cycles.c.number,
    _earlier_decision.c.cycle_id == _earlier.c.id,
    _earlier_decision.c.model_id == decisions.c.model_id,
)


def _unscored(*columns: ColumnElement[Any]) -> Select[Any]:
    return (
        select(*columns)
        .join_from(accounts, cycles, cycles.c.account_id == accounts.c.id)
        .join(decisions, decisions.c.cycle_id == cycles.c.id)
        .outerjoin(outcomes, outcomes.c.cycle_id == cycles.c.id)
        .where(
            accounts.c.source == bindparam("source"),
            cycles.c.interval == bindparam("interval"),
            cycles.c.candle_open_time >= bindparam("since"),
            outcomes.c.cycle_id.is_(None),
            ~_ASKED_BEFORE,
        )
    )


_SELECT_WAITING = _unscored(decisions.c.model_id, cycles.c.symbol, func.min(cycles.c.candle_open_time)).group_by(
    decisions.c.model_id, cycles.c.symbol
)
_SELECT_UNSCORED = (
    _unscored(*_DECISION_COLUMNS)
    .where(
        decisions.c.model_id == bindparam("model_id"),
        # Nothing added keeps SQLite from the index of a symbol's cycles, of all times; the one of the candles is meant.
        cycles.c.symbol.concat("") == bindparam("symbol"),
        cycles.c.candle_open_time <= bindparam("until"),
    )
    .order_by(cycles.c.candle_open_time)
)
_SELECT_SCORED = (
    select(*_DECISION_COLUMNS, outcomes.c.label, outcomes.c.forward_return, outcomes.c.log_loss, outcomes.c.settled_at)
    .join_from(outcomes, decisions, decisions.c.cycle_id == outcomes.c.cycle_id)
    .join(cycles, cycles.c.id == outcomes.c.cycle_id)
    # The sum keeps the database from reading all cycles of the account first, to sort them; it is to walk the outcomes.
    .join(accounts, accounts.c.id == cycles.c.account_id + 0)
    .where(accounts.c.source == bindparam("source"), outcomes.c.label.is_not(None))
    .order_by(outcomes.c.settled_at.desc(), cycles.c.number.desc())
    .limit(bindparam("limit"))
)


class SqlOutcomes:
    """Keeps what came of decisions on SQLite or PostgreSQL.

    Args:
        database: An open database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_waiting(self, source: str, now: datetime, bars: int) -> tuple[WaitingDecisions, ...]:
        """Which models have decisions without an outcome among the `bars` newest candles of a market before `now`."""

        def query(connection: Connection) -> tuple[WaitingDecisions, ...]:
            return tuple(
                WaitingDecisions(model_id, symbol, interval, oldest)
                for interval in Interval
                for model_id, symbol, oldest in connection.execute(
                    _SELECT_WAITING,
                    {"source": source, "interval": interval.value, "since": now - bars * interval.duration},
                )
            )

        return await self._database.read(query)

    async def find_unscored(
        self, source: str, waiting: WaitingDecisions, until: datetime
    ) -> tuple[StatedDecision, ...]:
        """The decisions that `waiting` tells of whose candle opened by `until`, oldest first.

        Of several decisions of a model on the same candle only the first is there.
        """

        def query(connection: Connection) -> tuple[StatedDecision, ...]:
            wanted = {
                "source": source,
                "model_id": waiting.model_id,
                "symbol": waiting.symbol,
                "interval": waiting.interval.value,
                "since": waiting.oldest,
                "until": until,
            }
            return tuple(_decision_from_row(row) for row in connection.execute(_SELECT_UNSCORED, wanted))

        return await self._database.read(query)

    async def record(self, source: str, found: Sequence[Outcome]) -> int:
        """Keep `found`; returns how many decisions were given a label that had none. A first outcome stays."""
        written = 0
        for start in range(0, len(found), _ROWS_A_WRITE):
            written += await self._record_some(source, found[start : start + _ROWS_A_WRITE])
        return written

    async def load_scored(self, source: str, model_id: str | None, limit: int) -> tuple[ScoredDecision, ...]:
        """The `limit` decisions (of one model, or of all) whose labels settled last, oldest first."""
        statement = _SELECT_SCORED if model_id is None else _SELECT_SCORED.where(decisions.c.model_id == model_id)
        rows = await self._database.read(
            lambda connection: connection.execute(statement, {"source": source, "limit": limit}).all()
        )
        return tuple(_scored_from_row(row) for row in reversed(rows))

    async def _record_some(self, source: str, found: Sequence[Outcome]) -> int:
        def job(connection: Connection) -> int:
            # The lock keeps another process from scoring the same decisions between the look and the entry.
            connection.execute(_LOCK.with_for_update(), {"source": source})
            ids = [outcome.cycle_id for outcome in found]
            known = set(connection.scalars(select(outcomes.c.cycle_id).where(outcomes.c.cycle_id.in_(ids))))
            rows = [_outcome_values(outcome) for outcome in found if outcome.cycle_id not in known]
            if rows:
                connection.execute(insert(outcomes), rows)
            return sum(row["label"] is not None for row in rows)

        return await self._database.write(job)


def _outcome_values(outcome: Outcome) -> dict[str, Any]:
    truth = outcome.truth
    return {
        "cycle_id": outcome.cycle_id,
        "label": truth.label.value if truth else None,
        "forward_return": truth.forward_return if truth else None,
        "log_loss": truth.log_loss if truth else None,
        "settled_at": outcome.settled_at,
        "scored_at": outcome.scored_at,
    }


def _decision_from_row(row: Sequence[Any]) -> StatedDecision:
    cycle_id, model_id, symbol, interval, opened, action, confidence, buy, sell, hold = row
    probabilities = {Signal.BUY: buy, Signal.SELL: sell, Signal.HOLD: hold}
    return StatedDecision(
        cycle_id, model_id, symbol, Interval(interval), opened, Signal(action), confidence, probabilities
    )


def _scored_from_row(row: Sequence[Any]) -> ScoredDecision:
    *decision, label, forward_return, log_loss, settled_at = row
    return ScoredDecision(_decision_from_row(decision), Truth(Signal(label), forward_return, log_loss), settled_at)
