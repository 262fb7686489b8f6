"""Runs long work beside the cycles, one job at a time, and keeps how far it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from uuid import uuid4

import structlog

from app.domain.job import Job
from app.domain.ports import IdempotencyKey
from app.errors import ConflictError, ServiceError
from app.research.child import OnProgress
from app.storage.jobs import SqlJobs

log = structlog.get_logger()

Work = Callable[[OnProgress], Awaitable[Mapping[str, object]]]
"""What a job does; returns what it came to, as JSON can hold it."""

_REPORT_SECONDS = 1.0
_STOPPED = "The service was stopped."


class JobRunner:
    """Starts jobs and keeps their records up to date.

    Args:
        jobs: Where the records are.
    """

    def __init__(self, jobs: SqlJobs) -> None:
        self._jobs = jobs
        self._task: asyncio.Task[None] | None = None
        self._job_id: str | None = None
        self._why_stopped = _STOPPED

    async def start(self, kind: str, work: Work, key: IdempotencyKey | None) -> tuple[Job, bool]:
        """Queue `work`; returns its job, and whether that is the one an earlier call with `key` started.

        Raises:
            ConflictError: `job_in_progress`, another job is under way.
        """
        if key is not None and (earlier := await self._jobs.find_replay(key)) is not None:
            return earlier, True
        if self._task is not None and not self._task.done():
            raise ConflictError(
                "Another job is under way; wait for it to end.", code="job_in_progress", retry_after_seconds=10
            )
        self._job_id = job_id = uuid4().hex
        self._why_stopped = _STOPPED
        turn = asyncio.Event()
        self._task = asyncio.create_task(self._run(job_id, work, turn))
        try:
            job = await self._jobs.create(job_id, kind, key)
        except BaseException:
            self._task.cancel()
            raise
        if job.id != job_id:
            self._task.cancel()
            return job, True
        turn.set()
        return job, False

    async def cancel(self, job_id: str) -> Job:
        """End a job before its time; returns once it has ended.

        Raises:
            NotFoundError: `job_not_found`.
            ConflictError: `job_ended`, it is not under way.
        """
        job = await self._jobs.get(job_id)
        if self._task is None or self._task.done() or self._job_id != job_id:
            raise ConflictError(f"The job is not under way here; it is {job.status}.", code="job_ended")
        self._why_stopped = "It was cancelled on request."
        await self.stop()
        return await self._jobs.get(job_id)

    async def stop(self) -> None:
        """Cancel the job under way, if any, and say so in its record."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, job_id: str, work: Work, turn: asyncio.Event) -> None:
        try:
            await turn.wait()
        except asyncio.CancelledError:
            if turn.is_set():  # its record is there, and nobody else would end it
                await self._jobs.cancel(job_id, self._why_stopped)
            raise
        latest: list[tuple[float, str]] = [(0.0, "Starting.")]
        reporter = asyncio.create_task(self._report(job_id, latest))
        try:
            await self._jobs.start(job_id, "Running.")
            result = await work(lambda progress, message: latest.append((progress, message)))
            await _end(reporter)
            await self._jobs.succeed(job_id, "Done.", result)
        except asyncio.CancelledError:
            await _end(reporter)
            await self._jobs.cancel(job_id, self._why_stopped)
            raise
        except ServiceError as error:
            await _end(reporter)
            await self._fail(job_id, error.code, error.message)
        except Exception:
            await _end(reporter)
            log.exception("job.failed", job_id=job_id)
            await self._fail(job_id, "internal_error", "A fault in the service; its log tells more.")
            raise

    async def _fail(self, job_id: str, code: str, message: str) -> None:
        try:
            await self._jobs.fail(job_id, code, message)
        except ServiceError as error:
            log.warning("job.unrecorded", job_id=job_id, code=code, detail=error.message)

    async def _report(self, job_id: str, latest: list[tuple[float, str]]) -> None:
        """Keep the newest word on progress, at most once a second: each write waits for the disk."""
        while True:
            await asyncio.sleep(_REPORT_SECONDS)
            progress, message = latest[-1]
            del latest[:-1]
            try:
                await self._jobs.report(job_id, progress, message)
            except ServiceError as error:
                log.warning("job.unrecorded", job_id=job_id, code=error.code)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
