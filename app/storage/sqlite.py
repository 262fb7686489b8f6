"""The SQLite side of the database: one thread writes, a few read, and every commit is on the disk.

SQLAlchemy runs on threads of ours rather than through aiosqlite: a whole batch is one hop to the writer's thread
instead of three or four for each statement (measured: 1.1 ms a cycle against 3.8).
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TypeVar

import stamina
import structlog
from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.pool import QueuePool

from app.errors import ConfigurationError, StorageError
from app.storage import schema
from app.storage.group_commit import Job, Outcome, run_jobs
from app.storage.json_text import to_json
from app.storage.translation import translated

log = structlog.get_logger()

T = TypeVar("T")

BUSY_TIMEOUT_SECONDS = 5.0
READERS = 4
CHECKED_BYTES = 256 * 2**20
"""Up to this size the file is checked at every start, above it only after an unclean end."""

_WAL_PAGES = 2_000  # 8 MB between checkpoints
_WAL_BYTES = 64 * 2**20


class SqliteEngine:
    """Reads and writes one SQLite file.

    Args:
        path: The file; it is created, readable for its owner only, where there is none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self._opened = False
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="sqlite-writer")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="sqlite-reader")
        self._write_engine = _new_engine(self._path, connections=1)
        self._read_engine = _new_engine(self._path, connections=READERS, read_only=True)

    @property
    def description(self) -> str:
        """Where the database is."""
        return str(self._path)

    async def open(self) -> None:
        """Check the file and bring its schema up to date.

        Raises:
            ConfigurationError: There cannot be a database of ours at the path.
            StorageError: There is one, and it is damaged, locked or cannot be written to.
        """
        await self._on_writer(self._open)

    async def commit(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Run `jobs` in one transaction and make it durable; raises StorageError when nothing was recorded."""
        return await self._on_writer(partial(self._commit, jobs))

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run `query` on a connection that cannot write; each statement sees the state of its own start."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, query)

    async def run_exclusively(self, work: Callable[[Connection], None]) -> None:
        """Run `work`, which changes the schema, in a transaction of its own."""
        await self._on_writer(partial(self._run_exclusively, work))

    async def aclose(self) -> None:
        """Finish reads, move the write-ahead log into the file and close it."""
        await self._on_writer(self._close)
        self._writer.shutdown(wait=False)

    def probe(self, connection: Connection) -> None:
        """Write one page that does not matter."""
        connection.exec_driver_sql("PRAGMA user_version = 0")

    async def _on_writer(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, work)

    def _open(self) -> None:
        _prepare_file(self._path)
        unclean = _size(self._path.with_name(self._path.name + "-wal")) > 0
        with translated():
            with closing(self._write_engine.raw_connection()) as connection:
                cursor = connection.cursor()
                _use_write_ahead_log(cursor)
                if unclean or _size(self._path) <= CHECKED_BYTES:
                    _check_pages(cursor)
            with self._read_engine.connect() as connection:
                current = schema.is_current(connection)
            if not current:
                schema.import_alembic()  # takes its time, which no other process should wait for
                self._run_exclusively(schema.migrate)
            self._commit([])  # shows whether it can be locked and written to
        self._opened = True

    def _commit(self, jobs: Sequence[Job]) -> list[Outcome]:
        with translated(), self._write_engine.begin() as connection:
            return run_jobs(connection, jobs)

    def _read(self, query: Callable[[Connection], T]) -> T:
        with translated(), self._read_engine.connect() as connection:
            return query(connection)

    def _run_exclusively(self, work: Callable[[Connection], None]) -> None:
        # https://www.sqlite.org/lang_altertable.html, section 7: a table is rebuilt without enforcement of foreign
        # keys, which cannot be switched within a transaction, and they are checked before the commit.
        engine = _new_engine(self._path, connections=1, foreign_keys=False)
        try:
            with engine.begin() as connection:
                work(connection)
                if connection.execute(text("PRAGMA foreign_key_check")).first() is not None:
                    raise StorageError("A migration broke a reference between tables; nothing was changed.")
        finally:
            engine.dispose()

    def _close(self) -> None:
        self._readers.shutdown(wait=True)
        self._read_engine.dispose()
        try:
            if self._opened:
                self._checkpoint()
        except StorageError as error:
            log.warning("storage.checkpoint_failed", code=error.code)
        finally:
            self._write_engine.dispose()

    def _checkpoint(self) -> None:
        with translated(), closing(self._write_engine.raw_connection()) as connection:
            cursor = connection.cursor()
            cursor.execute("PRAGMA busy_timeout = 1000")  # whoever still reads may hold it up that long
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _new_engine(path: Path, *, connections: int, read_only: bool = False, foreign_keys: bool = True) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        connect_args={"isolation_level": None, "timeout": BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=BUSY_TIMEOUT_SECONDS,
        json_serializer=to_json,
        hide_parameters=True,
    )
    pragmas = [
        "synchronous = FULL",
        "fullfsync = ON",  # macOS only, where a plain fsync leaves data in the drive's cache
        f"foreign_keys = {'ON' if foreign_keys else 'OFF'}",
        "recursive_triggers = ON",  # else INSERT OR REPLACE removes rows behind the triggers' back
        "trusted_schema = OFF",
        f"wal_autocheckpoint = {_WAL_PAGES}",
        f"journal_size_limit = {_WAL_BYTES}",
    ]
    if read_only:
        pragmas.append("query_only = ON")

    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    event.listen(engine, "connect", prepare)
    if not read_only:
        event.listen(engine, "begin", _begin_immediate)
    return engine


def _begin_immediate(connection: Connection) -> None:
    # A transaction that reads first and writes later fails at once when another one wrote in between.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _prepare_file(path: Path) -> None:
    """Create the file for its owner only, where there is none; SQLite gives its companions the same permissions."""
    if path.is_dir():
        raise ConfigurationError("it is a folder; set DATABASE_URL to a file.", code="database_unusable")
    if not path.parent.is_dir():
        raise ConfigurationError(
            f"the folder {path.parent} does not exist; create it or change DATABASE_URL.", code="database_unusable"
        )
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise ConfigurationError(
            f"it cannot be written to ({error.strerror}); change its permissions or DATABASE_URL.",
            code="database_unusable",
        ) from error


def _use_write_ahead_log(cursor: DBAPICursor) -> None:
    # SQLite answers "locked" to this at once, busy timeout or not, while another process opens the same new file.
    for attempt in stamina.retry_context(_is_locked, attempts=None, timeout=BUSY_TIMEOUT_SECONDS, wait_max=0.5):
        with attempt:
            cursor.execute("PRAGMA journal_mode = WAL")
    if cursor.fetchall()[0][0] != "wal":
        raise StorageError("its disk does not support a write-ahead log; put the database on a local disk.")


def _is_locked(error: Exception) -> bool:
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)


def _check_pages(cursor: DBAPICursor) -> None:
    cursor.execute("PRAGMA quick_check(1)")
    finding = cursor.fetchall()[0][0]
    if finding != "ok":
        raise StorageError(
            f"it is damaged ({finding.splitlines()[-1][:120]}); stop the service and restore a copy. Nothing was "
            "changed or deleted.",
            code="storage_corrupt",
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
