"""Runs long work beside the cycles, one job of each kind at a time, and keeps how far it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
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


@dataclass(slots=True)
class _Running:
    """A job under way."""

    job_id: str
    task: asyncio.Task[None]
    why_stopped: str = _STOPPED


class JobRunner:
    """Starts jobs and keeps their records up to date. Jobs of different kinds run beside each other.

    Args:
        jobs: Where the records are.
    """

    def __init__(self, jobs: SqlJobs) -> None:
        self._jobs = jobs
        self._running: dict[str, _Running] = {}

    async def start(self, kind: str, work: Work, key: IdempotencyKey | None) -> tuple[Job, bool]:
        """Queue `work`; returns its job, and whether that is the one an earlier call with `key` started.

        Raises:
            ConflictError: `job_in_progress`, another job of this kind is under way.
        """
        if key is not None and (earlier := await self._jobs.find_replay(key)) is not None:
            return earlier, True
        if kind in self._running and not self._running[kind].task.done():
            raise ConflictError(
                f"Another {kind} is under way, job {self._running[kind].job_id}: wait for it to end, or cancel it.",
                code="job_in_progress",
                retry_after_seconds=10,
            )
        job_id, turn = uuid4().hex, asyncio.Event()
        task = asyncio.create_task(self._run(kind, job_id, work, turn))
        self._running[kind] = _Running(job_id, task)
        try:
            job = await self._jobs.create(job_id, kind, key)
        except BaseException:
            task.cancel()
            raise
        if job.id != job_id:
            task.cancel()
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
        running = next((one for one in self._running.values() if one.job_id == job_id and not one.task.done()), None)
        if running is None:
            raise ConflictError(f"The job is not under way here; it is {job.status}.", code="job_ended")
        running.why_stopped = "It was cancelled on request."
        await _end(running.task)
        return await self._jobs.get(job_id)

    async def stop(self) -> None:
        """Cancel the jobs under way, if any, and say so in their records."""
        await asyncio.gather(*(_end(one.task) for one in self._running.values()))

    async def _run(self, kind: str, job_id: str, work: Work, turn: asyncio.Event) -> None:
        try:
            await turn.wait()
        except asyncio.CancelledError:
            if turn.is_set():  # its record is there, and nobody else would end it
                await self._jobs.cancel(job_id, self._running[kind].why_stopped)
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
            await self._jobs.cancel(job_id, self._running[kind].why_stopped)
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
