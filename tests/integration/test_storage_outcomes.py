"""Outcomes on each database: what waits to be scored, what is kept, and that nothing counts twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, insert

from app.domain.candle import Interval
from app.domain.cycle import CycleDraft
from app.domain.outcome import Outcome, ScoredDecision, StatedDecision, Truth, WaitingDecisions
from app.domain.signal import Signal
from app.domain.standing import RunKey
from app.errors import StorageError
from app.storage.database import Database, open_engine
from app.storage.ledger import SqlLedger
from app.storage.outcomes import SqlOutcomes
from app.storage.tables import outcomes as table
from tests.support.books import (
    CASH,
    KEY,
    SOURCE,
    SYMBOL,
    SteppingClock,
    make_draft,
    make_market,
    make_old_books,
    make_outcome,
    make_refusal,
    skip,
)

pytest_plugins = ("tests.support.databases",)
pytestmark = pytest.mark.anyio

MINUTE = Interval.M1
NOW = make_market(100).candle_open_time


def opened(index: int) -> datetime:
    return make_market(index).candle_open_time


@pytest.fixture
async def outcomes(database: Database) -> SqlOutcomes:
    await SqlLedger(database, SteppingClock()).open_account(KEY, CASH)
    return SqlOutcomes(database)


async def book(database: Database, *drafts: CycleDraft) -> None:
    ledger = SqlLedger(database, SteppingClock())
    for draft in drafts:
        await ledger.open_account(draft.key, CASH)
        await ledger.record_cycle(draft, skip(draft), SteppingClock())


def of_model(draft: CycleDraft, model_id: str) -> CycleDraft:
    return replace(draft, decision=replace(draft.decision, model_id=model_id))


def stated(draft: CycleDraft) -> StatedDecision:
    """What is kept of a draft's decision."""
    decision = draft.decision
    return StatedDecision(
        draft.id,
        decision.model_id,
        draft.symbol,
        draft.interval,
        draft.market.candle_open_time,
        decision.action,
        decision.confidence,
        decision.probabilities,
    )


async def test_find_waiting_tells_of_each_model_and_market_the_oldest(
    database: Database, outcomes: SqlOutcomes
) -> None:
    await book(
        database,
        *(make_draft(index) for index in (3, 4)),
        of_model(make_draft(5), "forest-2"),
        make_draft(6, symbol="ETHUSDT"),
        make_draft(7, interval=Interval.M5),
        make_draft(1, source="binance"),
    )
    await SqlLedger(database, SteppingClock()).record_refusal(make_refusal(2), KEY)
    assert set(await outcomes.find_waiting(SOURCE, NOW, 1_000)) == {
        WaitingDecisions("forest-1", SYMBOL, MINUTE, opened(3)),
        WaitingDecisions("forest-2", SYMBOL, MINUTE, opened(5)),
        WaitingDecisions("forest-1", "ETHUSDT", MINUTE, opened(6)),
        WaitingDecisions("forest-1", SYMBOL, Interval.M5, opened(7)),
    }
    assert await outcomes.find_waiting("nowhere", NOW, 1_000) == ()


async def test_find_waiting_leaves_out_what_is_older_than_the_bars_asked_for(
    database: Database, outcomes: SqlOutcomes
) -> None:
    await book(database, *(make_draft(index) for index in (3, 50, 99)), make_draft(4, interval=Interval.M5))
    assert set(await outcomes.find_waiting(SOURCE, NOW, 50)) == {
        WaitingDecisions("forest-1", SYMBOL, MINUTE, opened(50)),
        WaitingDecisions("forest-1", SYMBOL, Interval.M5, opened(4)),
    }


async def test_find_unscored_gives_back_what_was_decided_oldest_first(
    database: Database, outcomes: SqlOutcomes
) -> None:
    drafts = [make_draft(index, action=Signal.SELL) for index in (8, 3, 5, 9)]
    await book(database, *drafts, of_model(make_draft(4), "forest-2"), make_draft(4, symbol="ETHUSDT"))
    waiting = WaitingDecisions("forest-1", SYMBOL, MINUTE, opened(3))
    found = await outcomes.find_unscored(SOURCE, waiting, opened(8))
    assert found == tuple(stated(drafts[place]) for place in (1, 2, 0))


async def test_find_unscored_candle_asked_about_twice_is_the_first_decision_only(
    database: Database, outcomes: SqlOutcomes
) -> None:
    first, again = make_draft(3, action=Signal.SELL), make_draft(3, cycle_id="again")
    other = of_model(make_draft(3, cycle_id="other"), "forest-2")
    await book(database, first, again, other)
    waiting = await outcomes.find_waiting(SOURCE, NOW, 1_000)
    found = [decision.cycle_id for one in waiting for decision in await outcomes.find_unscored(SOURCE, one, NOW)]
    assert sorted(found) == sorted([first.id, "other"])
    await outcomes.record(SOURCE, [make_outcome(cycle_id) for cycle_id in found])
    assert await outcomes.find_waiting(SOURCE, NOW, 1_000) == ()


async def test_find_waiting_candle_asked_about_by_two_runs_is_one_decision(
    database: Database, outcomes: SqlOutcomes
) -> None:
    draft = make_draft(3)
    await book(database, draft)
    ledger, other = SqlLedger(database, SteppingClock()), RunKey(SOURCE, name="second")
    await ledger.open_account(other, CASH)
    for again in (replace(draft, id="again", key=other), replace(make_draft(4), id="new", key=other)):
        await ledger.record_cycle(again, skip(again), SteppingClock())
    (waiting,) = await outcomes.find_waiting(SOURCE, NOW, 1_000)
    found = await outcomes.find_unscored(SOURCE, waiting, NOW)
    assert [decision.cycle_id for decision in found] == [draft.id, "new"]


async def test_record_twice_keeps_the_first_outcome(database: Database, outcomes: SqlOutcomes) -> None:
    draft = make_draft(3)
    await book(database, draft)
    kept = make_outcome(draft.id, label=Signal.SELL, minute=7)
    assert await outcomes.record(SOURCE, [kept]) == 1
    assert await outcomes.record(SOURCE, [make_outcome(draft.id)]) == 0
    assert kept.truth is not None
    scored = (ScoredDecision(stated(draft), kept.truth, kept.settled_at),)
    assert await outcomes.load_scored(SOURCE, None, 10) == scored


async def test_record_without_a_truth_is_never_asked_for_again_and_counts_for_nothing(
    database: Database, outcomes: SqlOutcomes
) -> None:
    await book(database, make_draft(3))
    assert await outcomes.record(SOURCE, [make_outcome(make_draft(3).id, label=None)]) == 0
    assert await outcomes.find_waiting(SOURCE, NOW, 1_000) == ()
    assert await outcomes.load_scored(SOURCE, None, 10) == ()


async def test_record_more_than_one_write_takes_keeps_them_all(
    database: Database, outcomes: SqlOutcomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.storage.outcomes._ROWS_A_WRITE", 20)
    drafts = [make_draft(index) for index in range(41)]
    await book(database, *drafts)
    assert await outcomes.record(SOURCE, [make_outcome(draft.id) for draft in drafts]) == 41
    assert len(await outcomes.load_scored(SOURCE, None, 100)) == 41


async def test_record_by_two_processes_at_once_counts_each_decision_once(
    database: Database, database_url: str, outcomes: SqlOutcomes
) -> None:
    drafts = [make_draft(index) for index in range(40)]
    await book(database, *drafts)
    found = [make_outcome(draft.id) for draft in drafts]
    async with Database(database_url) as other:
        keepers = (outcomes, SqlOutcomes(other))
        counts = await asyncio.gather(
            *(keeper.record(SOURCE, found[start:]) for start in (20, 10, 0) for keeper in keepers)
        )
    assert sum(counts) == 40
    assert len(await outcomes.load_scored(SOURCE, None, 100)) == 40


async def test_load_scored_is_of_a_source_and_model_and_ends_with_the_newest(
    database: Database, outcomes: SqlOutcomes
) -> None:
    drafts = [of_model(make_draft(index), f"forest-{index % 2}") for index in range(6)]
    foreign = make_draft(9, source="binance")
    await book(database, *drafts, foreign)
    found = [make_outcome(draft.id, minute=minute) for minute, draft in zip((5, 1, 4, 2, 3, 0), drafts, strict=True)]
    await outcomes.record(SOURCE, found)
    await outcomes.record("binance", [make_outcome(foreign.id)])

    async def places(model_id: str | None, limit: int) -> list[int]:
        rows = await outcomes.load_scored(SOURCE, model_id, limit)
        return [int(row.decision.cycle_id.rsplit("-", 1)[1]) for row in rows]

    assert await places(None, 100) == [5, 1, 3, 4, 2, 0]
    assert await places(None, 2) == [2, 0]
    assert await places("forest-1", 100) == [5, 1, 3]
    assert await places("forest-gone", 100) == []


async def test_load_scored_numbers_come_back_to_the_last_digit(database: Database, outcomes: SqlOutcomes) -> None:
    await book(database, make_draft(1))
    truth = Truth(Signal.BUY, -1e-17, 13.815510557964274)
    await outcomes.record(SOURCE, [Outcome(make_draft(1).id, NOW, NOW + timedelta(microseconds=1), truth)])
    (row,) = await outcomes.load_scored(SOURCE, None, 1)
    assert (row.truth, row.settled_at) == (truth, NOW)
    assert row.decision.probabilities == make_draft(1).decision.probabilities


@pytest.mark.parametrize(
    "change",
    [
        *({"label": None}, {"forward_return": None}, {"log_loss": None}),
        *({"log_loss": -0.1}, {"label": "UP"}, {"cycle_id": "x"}),
    ],
    ids=str,
)
async def test_outcome_that_is_not_whole_is_refused(
    database: Database, outcomes: SqlOutcomes, change: dict[str, Any]
) -> None:
    draft = make_draft(1)
    await book(database, draft)
    row = {"cycle_id": draft.id, "label": "BUY", "forward_return": 0.1, "log_loss": 0.2}
    times = {"settled_at": NOW, "scored_at": NOW}
    with pytest.raises(StorageError) as caught:
        await database.write(lambda connection: connection.execute(insert(table), row | times | change))
    assert caught.value.code == "storage_constraint"
    assert len(await outcomes.find_waiting(SOURCE, NOW, 1_000)) == 1


async def test_books_of_the_version_before_are_kept_and_their_decisions_can_be_scored(bare_database_url: str) -> None:
    engine = open_engine(bare_database_url)
    await engine.run_exclusively(lambda connection: make_old_books(connection, "0002", "cycle-old"))
    await engine.aclose()
    async with Database(bare_database_url) as database:
        outcomes = SqlOutcomes(database)
        assert await outcomes.find_waiting(SOURCE, NOW, 1_000) == (
            WaitingDecisions("forest-1", SYMBOL, MINUTE, opened(1)),
        )
        assert await outcomes.record(SOURCE, [make_outcome("cycle-old")]) == 1


async def test_search_for_what_waits_walks_the_index_of_its_candles(
    sqlite_database: Database,
) -> None:
    await SqlLedger(sqlite_database, SteppingClock()).open_account(KEY, CASH)
    outcomes = SqlOutcomes(sqlite_database)
    waiting = WaitingDecisions("forest-1", SYMBOL, MINUTE, opened(1))
    found = await explained(sqlite_database, lambda: outcomes.find_unscored(SOURCE, waiting, NOW))
    loaded = await explained(sqlite_database, lambda: outcomes.load_scored(SOURCE, None, 10))
    index = "ix_cycles_account_id_interval_candle_open_time_symbol"
    assert sum(index in step for step in found) == 2, found
    assert not [step for step in [*found, *loaded] if step.startswith("SCAN") and "INDEX" not in step]
    assert loaded[0] == "SCAN outcomes USING INDEX ix_outcomes_settled_at", loaded


async def explained(database: Database, work: Callable[[], Awaitable[object]]) -> list[str]:
    """The query plan of the last statement that `work` runs."""
    seen: list[tuple[str, Any]] = []
    engine = database._engine._read_engine  # type: ignore[attr-defined]

    def note(*arguments: Any) -> None:
        seen.append((arguments[2], arguments[3]))

    event.listen(engine, "before_cursor_execute", note)
    await work()
    event.remove(engine, "before_cursor_execute", note)
    statement, parameters = seen[-1]
    rows = await database.read(
        lambda connection: connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
    )
    return [row.detail for row in rows]
