"""Long work that runs beside the cycles, such as a training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class JobStatus(StrEnum):
    """How far a job has come; INTERRUPTED means that its process ended before it did."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    INTERRUPTED = "INTERRUPTED"
    CANCELED = "CANCELED"

    @property
    def is_final(self) -> bool:
        """Whether nothing more is going to happen."""
        return self not in (JobStatus.QUEUED, JobStatus.RUNNING)


@dataclass(frozen=True, slots=True)
class Job:
    """One piece of work.

    `progress` runs from 0 to 1, `message` says what is being done, `result` is what a SUCCEEDED job came to;
    a FAILED one has `error_code` and `error_message`. Times are aware UTC.
    """

    id: str
    kind: str
    status: JobStatus
    progress: float
    message: str
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error_code: str | None = None
    error_message: str | None = None
    result: Mapping[str, object] | None = None
