"""Keys that callers use once, for one request; a second request under the same key gets the first one's result."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, insert, select

from app.domain.ports import IdempotencyKey
from app.errors import InvalidInputError
from app.storage.tables import idempotency_keys as keys


@dataclass(frozen=True, slots=True)
class KeyedResult:
    """What a key was used for: a cycle, a job, or the record of what a person did."""

    cycle_id: str | None = None
    job_id: str | None = None
    record_number: int | None = None


_SELECT_KEY = select(keys.c.fingerprint, keys.c.cycle_id, keys.c.job_id, keys.c.record_number).where(
    keys.c.key == bindparam("wanted")
)


def find_result(connection: Connection, key: IdempotencyKey) -> KeyedResult | None:
    """What `key` was used for, or None.

    Raises:
        InvalidInputError: `idempotency_key_reused`, it came with another request.
    """
    row = connection.execute(_SELECT_KEY, {"wanted": key.key}).first()
    if row is None:
        return None
    if row.fingerprint != key.fingerprint:
        raise reused()
    return KeyedResult(row.cycle_id, row.job_id, row.record_number)


def keep_result(connection: Connection, key: IdempotencyKey, result: KeyedResult, at: datetime) -> None:
    """Remember what `key` was used for, for ever."""
    connection.execute(
        insert(keys),
        {
            "key": key.key,
            "fingerprint": key.fingerprint,
            "cycle_id": result.cycle_id,
            "job_id": result.job_id,
            "record_number": result.record_number,
            "created_at": at,
        },
    )


def reused() -> InvalidInputError:
    """The error for a key that came with another request before."""
    return InvalidInputError(
        "This Idempotency-Key was used for another request before; take a new one.", code="idempotency_key_reused"
    )
