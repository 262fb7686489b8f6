"""Jobs in SQL: what runs beside the cycles can be asked for by anyone, also after a restart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from app.domain.job import Job, JobStatus
from app.domain.ports import Clock, IdempotencyKey
from app.errors import ConflictError, NotFoundError
from app.storage import idempotency
from app.storage.database import Database
from app.storage.idempotency import KeyedResult
from app.storage.pages import PageRequest, is_plain
from app.storage.tables import jobs

# In the order of the fields of Job, after the number.
_SELECT_JOBS = select(
    jobs.c.number,
    jobs.c.id,
    jobs.c.kind,
    jobs.c.status,
    jobs.c.progress,
    jobs.c.message,
    jobs.c.created_at,
    jobs.c.started_at,
    jobs.c.finished_at,
    jobs.c.error_code,
    jobs.c.error_message,
    jobs.c.result,
)
_SELECT_JOB = _SELECT_JOBS.where(jobs.c.id == bindparam("job_id"))
_UNFINISHED = (JobStatus.QUEUED.value, JobStatus.RUNNING.value)


class SqlJobs:
    """Keeps jobs.

    Args:
        database: An open database.
        clock: Stamps what happens to a job.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def create(self, job_id: str, kind: str, key: IdempotencyKey | None = None) -> Job:
        """A new QUEUED job or, where `key` was used before, the job it was used for (its id tells).

        Raises:
            InvalidInputError: `idempotency_key_reused`, the key came with another request before.
        """

        def work(connection: Connection) -> Job:
            if key is not None and (earlier := _find_replay(connection, key)) is not None:
                return earlier
            job = Job(job_id, kind, JobStatus.QUEUED, 0.0, "Waiting to start.", self._clock.now())
            connection.execute(
                insert(jobs),
                {
                    "id": job.id,
                    "kind": job.kind,
                    "status": job.status.value,
                    "progress": job.progress,
                    "message": job.message,
                    "created_at": job.created_at,
                },
            )
            if key is not None:
                idempotency.keep_result(connection, key, KeyedResult(job_id=job.id), job.created_at)
            return job

        return await self._database.write(work)

    async def find_replay(self, key: IdempotencyKey) -> Job | None:
        """The job created under `key`, or None; raises as `create` for another request's key."""
        return await self._database.read(lambda connection: _find_replay(connection, key))

    async def start(self, job_id: str, message: str) -> Job:
        """Mark a job RUNNING; raises `NotFoundError`, or `ConflictError` (`job_finished`)."""
        return await self._change(
            job_id, {"status": JobStatus.RUNNING.value, "message": message, "started_at": self._clock.now()}
        )

    async def report(self, job_id: str, progress: float, message: str) -> Job:
        """Say how far a job is, from 0 to 1, and what it does; raises as `start`."""
        return await self._change(job_id, {"progress": min(max(progress, 0.0), 1.0), "message": message})

    async def succeed(self, job_id: str, message: str, result: Mapping[str, object]) -> Job:
        """Mark a job SUCCEEDED with what it came to, which must be JSON; raises as `start`."""
        return await self._finish(
            job_id, JobStatus.SUCCEEDED, {"progress": 1.0, "message": message, "result": dict(result)}
        )

    async def fail(self, job_id: str, code: str, message: str) -> Job:
        """Mark a job FAILED and say why; raises as `start`."""
        return await self._finish(
            job_id, JobStatus.FAILED, {"message": message, "error_code": code, "error_message": message}
        )

    async def cancel(self, job_id: str, message: str) -> Job:
        """Mark a job CANCELED; raises as `start`."""
        return await self._finish(job_id, JobStatus.CANCELED, {"message": message})

    async def interrupt_running(self) -> int:
        """Mark what an earlier process left unfinished INTERRUPTED; returns how many jobs that were.

        Where that process is alive after all, it may still finish its job.
        """
        values = {
            "status": JobStatus.INTERRUPTED.value,
            "message": "The process that ran it ended.",
            "finished_at": self._clock.now(),
        }
        statement = update(jobs).where(jobs.c.status.in_(_UNFINISHED)).values(values)
        return await self._database.write(lambda connection: connection.execute(statement).rowcount)

    async def get(self, job_id: str) -> Job:
        """One job; raises `NotFoundError` (`job_not_found`)."""
        row = None
        if is_plain(job_id):
            row = await self._database.read(
                lambda connection: connection.execute(_SELECT_JOB, {"job_id": job_id}).first()
            )
        if row is None:
            raise _not_found()
        return _job_from_row(row)

    async def list(self, limit: int) -> tuple[Job, ...]:
        """The newest `limit` jobs (1 to 1000), newest first; raises `InvalidInputError` (`invalid_limit`)."""
        page = PageRequest.parse("job", limit, None)
        found = await self._database.read(
            lambda connection: page.fetch(connection, _SELECT_JOBS, jobs.c.number, _job_from_row)
        )
        return found.items

    async def _finish(self, job_id: str, status: JobStatus, values: dict[str, Any]) -> Job:
        final = {**values, "status": status.value, "finished_at": self._clock.now()}
        return await self._change(job_id, final, also=JobStatus.INTERRUPTED)

    async def _change(self, job_id: str, values: dict[str, Any], also: JobStatus | None = None) -> Job:
        allowed = [*_UNFINISHED, *([also.value] if also else [])]
        statement = update(jobs).where(jobs.c.id == job_id, jobs.c.status.in_(allowed)).values(values)

        def work(connection: Connection) -> Job:
            changed = connection.execute(statement).rowcount
            row = connection.execute(_SELECT_JOB, {"job_id": job_id}).first()
            if row is None:
                raise _not_found()
            job = _job_from_row(row)
            if not changed:
                raise ConflictError(f"The job has ended as {job.status}; it cannot change.", code="job_finished")
            return job

        return await self._database.write(work)


def _find_replay(connection: Connection, key: IdempotencyKey) -> Job | None:
    result = idempotency.find_result(connection, key)
    if result is None:
        return None
    if result.job_id is None:
        raise idempotency.reused()
    return _job_from_row(connection.execute(_SELECT_JOB, {"job_id": result.job_id}).one())


def _job_from_row(row: Sequence[Any]) -> Job:
    _, job_id, kind, status, *rest = row
    return Job(job_id, kind, JobStatus(status), *rest)


def _not_found() -> NotFoundError:
    return NotFoundError("There is no job with this id.", code="job_not_found")
