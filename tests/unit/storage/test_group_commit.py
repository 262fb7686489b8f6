"""The writer that commits together what was asked for together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence

import pytest
import structlog
from sqlalchemy import Connection, create_engine, text
from structlog.testing import capture_logs

from app.errors import StorageError
from app.storage.group_commit import BATCH_JOBS, QUEUED_JOBS, GroupCommit, Job, Outcome, run_jobs

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _fresh_logging() -> Iterator[None]:
    yield
    structlog.reset_defaults()


class MemoryDatabase:
    """Commits to a SQLite database in memory, when and how the test says."""

    def __init__(self) -> None:
        self.engine = create_engine("sqlite://", connect_args={"check_same_thread": False})
        self.batches: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        with self.engine.begin() as connection:
            connection.execute(text("CREATE TABLE notes (id INTEGER PRIMARY KEY, note TEXT UNIQUE)"))

    async def commit(self, jobs: Sequence[Job]) -> list[Outcome]:
        await self.gate.wait()
        self.batches.append(len(jobs))
        if self.error is not None:
            raise self.error
        with self.engine.begin() as connection:
            return run_jobs(connection, jobs)

    def notes(self) -> list[str]:
        with self.engine.begin() as connection:
            return [row.note for row in connection.execute(text("SELECT note FROM notes ORDER BY id"))]


def add(note: str) -> Job:
    def job(connection: Connection) -> str:
        connection.execute(text("INSERT INTO notes (note) VALUES (:note)"), {"note": note})
        return note.upper()

    return job


def probe(connection: Connection) -> None:
    connection.execute(text("SELECT 1"))


@pytest.fixture
async def memory() -> AsyncIterator[MemoryDatabase]:
    database = MemoryDatabase()
    yield database
    database.engine.dispose()


async def test_submit_returns_what_the_job_returned(memory: MemoryDatabase) -> None:
    writer = GroupCommit(memory.commit, probe)
    assert await writer.submit(add("a")) == "A"
    await writer.aclose()
    assert memory.notes() == ["a"]


async def test_submit_at_the_same_time_commits_together_in_bounded_batches(memory: MemoryDatabase) -> None:
    writer = GroupCommit(memory.commit, probe)
    results = await asyncio.gather(*(writer.submit(add(str(number))) for number in range(150)))
    await writer.aclose()
    assert results == [str(number) for number in range(150)]
    assert memory.notes() == results
    assert memory.batches == [BATCH_JOBS, BATCH_JOBS, 150 - 2 * BATCH_JOBS]


async def test_submit_failing_job_takes_back_only_its_own_work(memory: MemoryDatabase) -> None:
    def failing(connection: Connection) -> None:
        add("gone")(connection)
        raise KeyError("a bug")

    writer = GroupCommit(memory.commit, probe)
    tasks = [asyncio.create_task(writer.submit(job)) for job in (add("a"), failing, add("b"))]
    with pytest.raises(KeyError):
        await tasks[1]
    assert (await tasks[0], await tasks[2]) == ("A", "B")
    await writer.aclose()
    assert memory.batches == [3]
    assert memory.notes() == ["a", "b"]


async def test_submit_unique_row_taken_meanwhile_is_looked_at_again(memory: MemoryDatabase) -> None:
    attempts: list[int] = []

    def job(connection: Connection) -> str:
        attempts.append(1)
        if len(attempts) == 2:
            return "found it"
        add("a")(connection)
        return "added it"

    writer = GroupCommit(memory.commit, probe)
    await writer.submit(add("a"))
    assert await writer.submit(job) == "found it"
    await writer.aclose()


async def test_submit_row_that_breaks_a_rule_is_refused_after_two_attempts(memory: MemoryDatabase) -> None:
    writer = GroupCommit(memory.commit, probe)
    await writer.submit(add("a"))
    with pytest.raises(StorageError) as caught:
        await writer.submit(add("a"))
    await writer.aclose()
    assert caught.value.code == "storage_constraint"
    assert memory.notes() == ["a"]


async def test_submit_failed_commit_fails_the_whole_batch_each_with_its_own_error(memory: MemoryDatabase) -> None:
    memory.error = StorageError("The disk is full.", code="storage_full", retry_after_seconds=30)
    writer = GroupCommit(memory.commit, probe)
    with capture_logs() as logs:
        errors = await asyncio.gather(*(writer.submit(add(str(number))) for number in range(3)), return_exceptions=True)
    assert [getattr(error, "code", None) for error in errors] == ["storage_full"] * 3
    assert len({id(error) for error in errors}) == 3
    assert [log["event"] for log in logs] == ["storage.commit_failed"]
    memory.error = None
    with capture_logs() as logs:
        assert await writer.submit(add("a")) == "A"
    await writer.aclose()
    assert [log["event"] for log in logs] == ["storage.recovered"]
    assert memory.batches == [3, 2]  # the probe goes ahead of the first batch after a failed one
    assert memory.notes() == ["a"]


async def test_submit_bug_in_the_database_does_not_end_the_writer(memory: MemoryDatabase) -> None:
    memory.error = RuntimeError("a bug")
    writer = GroupCommit(memory.commit, probe)
    with capture_logs() as logs, pytest.raises(RuntimeError):
        await writer.submit(add("a"))
    memory.error = None
    assert await writer.submit(add("b")) == "B"
    await writer.aclose()
    assert [log["event"] for log in logs] == ["storage.writer_failed"]


async def test_submit_cancelled_caller_neither_breaks_the_batch_nor_loses_the_work(memory: MemoryDatabase) -> None:
    memory.gate.clear()
    writer = GroupCommit(memory.commit, probe)
    tasks = [asyncio.create_task(writer.submit(add(name))) for name in "abc"]
    await asyncio.sleep(0)
    tasks[1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[1]
    memory.gate.set()
    assert (await tasks[0], await tasks[2]) == ("A", "C")
    await writer.aclose()
    assert memory.notes() == ["a", "b", "c"]


async def test_aclose_finishes_what_waits_and_refuses_more(memory: MemoryDatabase) -> None:
    memory.gate.clear()
    writer = GroupCommit(memory.commit, probe)
    waiting = [asyncio.create_task(writer.submit(add(str(number)))) for number in range(100)]
    await asyncio.sleep(0)
    closing = asyncio.create_task(writer.aclose())
    await asyncio.sleep(0)
    with pytest.raises(StorageError):
        await writer.submit(add("late"))
    memory.gate.set()
    await closing
    await writer.aclose()
    assert len(await asyncio.gather(*waiting)) == 100
    assert len(memory.notes()) == 100


async def test_submit_to_a_full_queue_is_refused_as_busy(memory: MemoryDatabase) -> None:
    memory.gate.clear()
    writer = GroupCommit(memory.commit, probe)
    taken = [asyncio.create_task(writer.submit(add("taken")))]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting = [asyncio.create_task(writer.submit(add(str(number)))) for number in range(QUEUED_JOBS)]
    await asyncio.sleep(0)
    with pytest.raises(StorageError) as caught:
        await writer.submit(add("one too many"))
    assert (caught.value.code, caught.value.retry_after_seconds) == ("storage_busy", 1)
    memory.gate.set()
    assert len(await asyncio.gather(*taken, *waiting)) == QUEUED_JOBS + 1
    await writer.aclose()
