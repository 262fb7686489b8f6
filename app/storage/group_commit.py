"""One writer for the process: what is asked for at the same time is committed together, with one fsync."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from app.errors import StorageError
from app.storage.translation import must_run_again, storage_code, translate

log = structlog.get_logger()

T = TypeVar("T")

Job = Callable[[Connection], Any]
"""Plain code that reads and writes through a connection; it may be called again if its transaction must be."""

BATCH_JOBS = 64
QUEUED_JOBS = 1_024

_OWN_FAULTS = {"storage_constraint", "storage_failed"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job returned or, where `error` is set, raised."""

    value: Any = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class _Request:
    job: Job
    future: asyncio.Future[Any]


def run_jobs(connection: Connection, jobs: Sequence[Job]) -> list[Outcome]:
    """Run each job in a savepoint of the open transaction, so that a failing one takes back only its own work.

    Raises:
        SQLAlchemyError: The database failed, not the job: the whole transaction is lost.
    """
    return [_run_job(connection, job) for job in jobs]


def _run_job(connection: Connection, job: Job) -> Outcome:
    outcome = _attempt(connection, job)
    if _is_refused(outcome):
        # Perhaps another process was quicker with a unique row; a second look finds it.
        outcome = _attempt(connection, job)
    if _is_refused(outcome):
        log.warning("storage.statement_refused", cause=str(getattr(outcome.error, "__cause__", ""))[:300])
    return outcome


def _is_refused(outcome: Outcome) -> bool:
    return isinstance(outcome.error, StorageError) and outcome.error.code in _OWN_FAULTS


def _attempt(connection: Connection, job: Job) -> Outcome:
    savepoint = connection.begin_nested()
    try:
        value = job(connection)
    except SQLAlchemyError as error:
        if must_run_again(error) or storage_code(error) not in _OWN_FAULTS:
            raise  # SQLite may have rolled back everything by now, the savepoint included
        savepoint.rollback()
        return Outcome(error=translate(error))
    except Exception as error:  # noqa: BLE001 - it belongs to the caller who waits for this job, not to the batch
        savepoint.rollback()
        return Outcome(error=error)
    savepoint.commit()
    return Outcome(value)


class GroupCommit:
    """Collects jobs and hands them to `commit` in batches.

    Args:
        commit: Runs jobs in one transaction, makes it durable and returns an outcome for each; raises
            StorageError when none of them was recorded.
        probe: Writes something that does not matter. It goes ahead of each batch after a failed one, so that a
            success always means that writing works again.
    """

    def __init__(self, commit: Callable[[Sequence[Job]], Awaitable[list[Outcome]]], probe: Job) -> None:
        self._commit = commit
        self._probe = probe
        self._queue: asyncio.Queue[_Request | None] = asyncio.Queue(QUEUED_JOBS)
        self._closed = False
        self._task = asyncio.create_task(self._run(), name="group-commit")
        self._failing = False

    async def submit(self, job: Callable[[Connection], T]) -> T:
        """Run `job` in the next transaction; returns once it is durable.

        A caller who is cancelled stops waiting; the job is done all the same.

        Raises:
            StorageError: Nothing was recorded, or the queue is full (`storage_busy`).
        """
        if self._closed:
            raise StorageError("The database is closed; the service is stopping.")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        try:
            self._queue.put_nowait(_Request(job, future))
        except asyncio.QueueFull:
            raise StorageError(
                "Too many writes are waiting for the database; ask again in a second.",
                code="storage_busy",
                retry_after_seconds=1,
            ) from None
        return await future

    async def aclose(self) -> None:
        """Refuse new jobs and finish those that wait."""
        if not self._closed:
            self._closed = True
            await self._queue.put(None)
        await self._task

    async def _run(self) -> None:
        try:
            while batch := await self._next_batch():
                await self._commit_batch(batch)
        finally:
            self._closed = True

    async def _next_batch(self) -> list[_Request]:
        """Whatever waits, as soon as anything does; empty at the end."""
        batch: list[_Request] = []
        request = await self._queue.get()
        while request is not None:
            batch.append(request)
            if len(batch) == BATCH_JOBS or self._queue.empty():
                return batch
            request = self._queue.get_nowait()
        if batch:
            self._queue.put_nowait(None)
        return batch

    async def _commit_batch(self, batch: list[_Request]) -> None:
        jobs = [request.job for request in batch]
        try:
            if self._failing:
                outcomes = (await self._commit([self._probe, *jobs]))[1:]
            else:
                outcomes = await self._commit(jobs)
        except StorageError as error:
            self._failing = True
            log.warning("storage.commit_failed", code=error.code, jobs=len(batch), cause=str(error.__cause__)[:200])
            outcomes = [Outcome(error=_copy(error)) for _ in batch]
        except Exception as error:
            self._failing = True
            log.exception("storage.writer_failed", jobs=len(batch))
            outcomes = [Outcome(error=error) for _ in batch]
        else:
            self._note_success()
        for request, outcome in zip(batch, outcomes, strict=True):
            _resolve(request.future, outcome)

    def _note_success(self) -> None:
        if self._failing:
            self._failing = False
            log.info("storage.recovered")


def _copy(error: StorageError) -> StorageError:
    """An error of one's own for each caller: the engine writes the cycle's id into it."""
    copy = StorageError(
        error.message, code=error.code, retry_after_seconds=error.retry_after_seconds, context=error.context
    )
    copy.__cause__ = error.__cause__
    return copy


def _resolve(future: asyncio.Future[Any], outcome: Outcome) -> None:
    if future.done():
        return  # its caller was cancelled and no longer waits
    if outcome.error is None:
        future.set_result(outcome.value)
    else:
        future.set_exception(outcome.error)
