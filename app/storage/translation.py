"""The one place where what the databases raise becomes a StorageError."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.errors import ServiceError, StorageError

_SENTENCES = {
    "storage_busy": "The database is busy with another writer; ask again in a second.",
    "storage_full": "The disk of the database is full; free some space, the service goes on by itself.",
    "storage_read_only": "The database cannot be written to; check its permissions and that its disk is not mounted "
    "read-only.",
    "storage_corrupt": "The database file is damaged or is no database; stop the service and restore a copy. Nothing "
    "was changed or deleted.",
    "storage_unavailable": "The database cannot be reached or read; check that it is there and that its disk works.",
    "storage_constraint": "The books refused an entry that breaks their rules; nothing was recorded.",
    "storage_failed": "The database refused a statement; the log has the details.",
}
_RETRY_AFTER_SECONDS = {"storage_busy": 1.0, "storage_full": 30.0, "storage_unavailable": 5.0}

# https://www.sqlite.org/rescode.html, primary codes
_SQLITE_CODES = {
    sqlite3.SQLITE_BUSY: "storage_busy",
    sqlite3.SQLITE_LOCKED: "storage_busy",
    sqlite3.SQLITE_READONLY: "storage_read_only",
    sqlite3.SQLITE_PERM: "storage_read_only",
    sqlite3.SQLITE_IOERR: "storage_unavailable",
    sqlite3.SQLITE_NOMEM: "storage_unavailable",
    sqlite3.SQLITE_INTERRUPT: "storage_unavailable",
    sqlite3.SQLITE_CANTOPEN: "storage_unavailable",
    sqlite3.SQLITE_CORRUPT: "storage_corrupt",
    sqlite3.SQLITE_NOTADB: "storage_corrupt",
    sqlite3.SQLITE_FULL: "storage_full",
    sqlite3.SQLITE_CONSTRAINT: "storage_constraint",
}

# https://www.postgresql.org/docs/current/errcodes-appendix.html, the longest prefix that fits wins
_SQLSTATES = {
    "08": "storage_unavailable",
    "23": "storage_constraint",
    "25006": "storage_read_only",
    "28": "storage_unavailable",
    "3D": "storage_unavailable",
    "40": "storage_busy",
    "53": "storage_unavailable",
    "53100": "storage_full",
    "55P03": "storage_busy",
    "57": "storage_unavailable",
    "57014": "storage_busy",
    "58": "storage_unavailable",
    "58030": "storage_unavailable",
    "XX001": "storage_corrupt",
    "XX002": "storage_corrupt",
}
_RUN_AGAIN = {"40001", "40P01"}


@contextmanager
def translated() -> Iterator[None]:
    """Turn what a database raises inside into a StorageError; let everything else pass."""
    try:
        yield
    except Exception as error:
        if not is_foreign(error):
            raise
        raise translate(error) from error


def is_foreign(error: BaseException) -> bool:
    """Whether `error` comes from a database, its driver or the way there."""
    return (
        isinstance(error, SQLAlchemyError | sqlite3.Error | OSError)
        or type(error).__module__.partition(".")[0] == "asyncpg"
    )


def translate(error: BaseException) -> ServiceError:
    """The StorageError for what a database raised; a ServiceError wrapped on its way through SQLAlchemy comes back."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, StatementError) and isinstance(error.orig, ServiceError):
        return error.orig
    code = storage_code(error)
    translation = StorageError(_SENTENCES[code], code=code, retry_after_seconds=_RETRY_AFTER_SECONDS.get(code))
    translation.__cause__ = error
    return translation


def storage_code(error: BaseException) -> str:
    """The `StorageError` code for what a database raised."""
    for cause in _causes(error):
        if isinstance(cause, sqlite3.Error):
            return _sqlite_code(cause)
        if sqlstate := _sqlstate(cause):
            return _sqlstate_code(sqlstate)
    if isinstance(error, PoolTimeoutError):
        return "storage_busy"
    if isinstance(error, StatementError) and not isinstance(error, DBAPIError):
        return "storage_failed"
    return "storage_unavailable"


def must_run_again(error: BaseException) -> bool:
    """Whether PostgreSQL asks for the whole transaction to be run again (serialization failure, deadlock)."""
    return any(_sqlstate(cause) in _RUN_AGAIN for cause in _causes(error))


def lost_connection(error: BaseException) -> bool:
    """Whether the connection turned out to be dead."""
    return isinstance(error, DBAPIError) and error.connection_invalidated


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = getattr(cause, "orig", None) or cause.__cause__


def _sqlstate(error: BaseException) -> str | None:
    return getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)


def _sqlite_code(error: sqlite3.Error) -> str:
    primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return _SQLITE_CODES.get(primary, "storage_failed")


def _sqlstate_code(sqlstate: str) -> str:
    for length in (5, 2):
        if code := _SQLSTATES.get(sqlstate[:length]):
            return code
    return "storage_failed"
