"""Jobs and waits, on each database."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from app.domain.job import Job, JobStatus
from app.domain.ports import IdempotencyKey
from app.errors import ConflictError, InvalidInputError, NotFoundError
from app.storage.database import Database
from app.storage.jobs import SqlJobs
from app.storage.ledger import SqlLedger
from app.storage.waits import SqlWaits
from tests.support.books import CASH, START, SteppingClock, book, buy, make_draft
from tests.support.books import KEY as RUN

pytest_plugins = ("tests.support.databases",)
pytestmark = pytest.mark.anyio

KEY = IdempotencyKey("key-1", "train")


def at(ticks: int) -> datetime:
    return START + timedelta(microseconds=ticks)


@pytest.fixture
async def jobs(database: Database) -> SqlJobs:
    return SqlJobs(database, SteppingClock())


async def test_job_that_succeeds_tells_its_story(jobs: SqlJobs) -> None:
    created = await jobs.create("job-1", "train")
    assert created == Job("job-1", "train", JobStatus.QUEUED, 0.0, "Waiting to start.", at(1))
    started = await jobs.start("job-1", "Fetching candles.")
    assert (started.status, started.started_at) == (JobStatus.RUNNING, at(2))
    halfway = await jobs.report("job-1", 0.5, "Growing trees.")
    assert (halfway.status, halfway.progress, halfway.message) == (JobStatus.RUNNING, 0.5, "Growing trees.")
    done = await jobs.succeed("job-1", "Trained.", {"model_id": "forest-2", "metrics": {"log_loss": 0.1}})
    assert done == Job(
        id="job-1",
        kind="train",
        status=JobStatus.SUCCEEDED,
        progress=1.0,
        message="Trained.",
        created_at=at(1),
        started_at=at(2),
        finished_at=at(3),
        result={"model_id": "forest-2", "metrics": {"log_loss": 0.1}},
    )
    assert await jobs.get("job-1") == done
    assert done.status.is_final


async def test_job_that_fails_says_why(jobs: SqlJobs) -> None:
    await jobs.create("job-1", "train")
    await jobs.start("job-1", "Fetching candles.")
    failed = await jobs.fail("job-1", "upstream_timeout", "The exchange did not answer.")
    assert (failed.status, failed.error_code) == (JobStatus.FAILED, "upstream_timeout")
    assert failed.error_message == "The exchange did not answer."
    assert (await jobs.get("job-1")).finished_at == at(3)


async def test_job_that_is_over_does_not_change(jobs: SqlJobs) -> None:
    await jobs.create("job-1", "train")
    await jobs.cancel("job-1", "Not wanted any more.")
    for change in (jobs.start("job-1", "x"), jobs.report("job-1", 0.1, "x"), jobs.fail("job-1", "x", "x")):
        with pytest.raises(ConflictError) as caught:
            await change
        assert caught.value.code == "job_finished"
    assert (await jobs.get("job-1")).message == "Not wanted any more."


async def test_job_progress_stays_within_its_range(jobs: SqlJobs) -> None:
    await jobs.create("job-1", "train")
    assert (await jobs.report("job-1", 1.7, "x")).progress == 1.0
    assert (await jobs.report("job-1", -1, "x")).progress == 0.0


async def test_interrupt_running_marks_what_was_left_and_nothing_else(jobs: SqlJobs) -> None:
    for number in range(3):
        await jobs.create(f"job-{number}", "train")
    await jobs.start("job-1", "x")
    done = await jobs.cancel("job-2", "x")
    assert await jobs.interrupt_running() == 2
    assert await jobs.interrupt_running() == 0
    found = await jobs.list(10)
    assert [job.status for job in found] == [JobStatus.CANCELED, JobStatus.INTERRUPTED, JobStatus.INTERRUPTED]
    assert found[0] == done
    assert found[1].finished_at is not None


async def test_interrupted_job_whose_process_lives_can_still_finish(jobs: SqlJobs) -> None:
    await jobs.create("job-1", "train")
    await jobs.interrupt_running()
    with pytest.raises(ConflictError):
        await jobs.report("job-1", 0.5, "x")
    assert (await jobs.succeed("job-1", "Trained.", {})).status is JobStatus.SUCCEEDED


async def test_list_is_newest_first_and_limited(jobs: SqlJobs) -> None:
    for number in range(4):
        await jobs.create(f"job-{number}", "train")
    assert [job.id for job in await jobs.list(3)] == ["job-3", "job-2", "job-1"]
    for limit in (0, 1_001):
        with pytest.raises(InvalidInputError):
            await jobs.list(limit)


async def test_unknown_job_is_not_found(jobs: SqlJobs) -> None:
    for job_id in ("unknown", "", "\x00", "\ud800", "x" * 99):
        with pytest.raises(NotFoundError) as caught:
            await jobs.get(job_id)
        assert caught.value.code == "job_not_found"
    with pytest.raises(NotFoundError):
        await jobs.start("unknown", "x")


async def test_create_same_key_again_gives_the_first_job(jobs: SqlJobs) -> None:
    created = await asyncio.gather(*(jobs.create(f"job-{number}", "train", KEY) for number in range(10)))
    assert len({job.id for job in created}) == 1
    assert await jobs.find_replay(KEY) == created[0]
    assert len(await jobs.list(100)) == 1
    assert await jobs.find_replay(IdempotencyKey("unknown", "train")) is None


async def test_create_key_of_another_request_is_refused(jobs: SqlJobs) -> None:
    await jobs.create("job-1", "train", KEY)
    with pytest.raises(InvalidInputError) as caught:
        await jobs.create("job-2", "train", IdempotencyKey(KEY.key, "other"))
    assert caught.value.code == "idempotency_key_reused"
    assert [job.id for job in await jobs.list(9)] == ["job-1"]


async def test_key_serves_either_cycles_or_jobs(database: Database, jobs: SqlJobs) -> None:
    ledger = SqlLedger(database, SteppingClock())
    await ledger.open_account(RUN, CASH)
    await jobs.create("job-1", "train", KEY)
    other = IdempotencyKey("key-2", "train")
    await book(ledger, make_draft(1), buy(), SteppingClock(), other)
    for misuse in (
        book(ledger, make_draft(2), buy(), SteppingClock(), KEY),
        ledger.find_replay(KEY),
        jobs.create("job-2", "train", other),
        jobs.find_replay(other),
    ):
        with pytest.raises(InvalidInputError) as caught:
            await misuse
        assert caught.value.code == "idempotency_key_reused"


async def test_waits_outlive_the_process(database_url: str) -> None:
    until = datetime(2026, 11, 24, 5, 0, 0, 7, tzinfo=UTC)
    async with Database(database_url) as database:
        waits = SqlWaits(database)
        assert await waits.load_waits() == {}
        await asyncio.gather(*(waits.save_wait("api.binance.com", until) for _ in range(5)))
        await waits.save_wait("data-api.binance.vision", START)
        await waits.save_wait("data-api.binance.vision", START + timedelta(hours=1))
    async with Database(database_url) as database:
        assert await SqlWaits(database).load_waits() == {
            "api.binance.com": until,
            "data-api.binance.vision": START + timedelta(hours=1),
        }
