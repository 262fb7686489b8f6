"""The database of the service, whichever it is: open it, read from it, write to it, ask whether it works."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, Self, TypeVar

import structlog
from sqlalchemy import Connection, make_url, text
from sqlalchemy.exc import ArgumentError

from app.errors import ConfigurationError, ServiceError, StorageError
from app.storage.group_commit import GroupCommit, Job, Outcome
from app.storage.sqlite import SqliteEngine

log = structlog.get_logger()

T = TypeVar("T")

CHECK_SECONDS = 3.0


class DatabaseEngine(Protocol):
    """What a kind of database must be able to do."""

    @property
    def description(self) -> str:
        """Where the database is, for people; no secrets."""
        ...

    async def open(self) -> None:
        """Check it and bring its schema up to date."""
        ...

    async def commit(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Run `jobs` in one durable transaction; raises StorageError when nothing was recorded."""
        ...

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run `query`; each of its statements sees the state of its own start."""
        ...

    async def run_exclusively(self, work: Callable[[Connection], None]) -> None:
        """Run `work`, which changes the schema, in a transaction of its own."""
        ...

    async def aclose(self) -> None:
        """Let go of it."""
        ...

    def probe(self, connection: Connection) -> None:
        """Write something that does not matter."""
        ...


def open_engine(url: str) -> DatabaseEngine:
    """The engine for `url`; nothing is touched yet.

    Raises:
        ConfigurationError: The URL is of no known form.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        parsed = make_url("unknown://")
    if (
        parsed.drivername == "sqlite"
        and (parsed.database or ":memory:") != ":memory:"
        and not (parsed.host or parsed.query)
    ):
        return SqliteEngine(Path(str(parsed.database)))
    if parsed.drivername == "postgresql" and parsed.host and parsed.database and set(parsed.query) <= {"sslmode"}:
        from app.storage.postgres import PostgresEngine  # noqa: PLC0415 - a start on SQLite need not load asyncpg

        return PostgresEngine(parsed)
    raise ConfigurationError(
        "DATABASE_URL: must be sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME.", code="database_url_invalid"
    )


class Database:
    """One database, opened once for the life of the process and shared by all who store something.

    Work is handed over as plain functions of an SQLAlchemy connection. They run on a thread of the database
    (SQLite) or within its driver (PostgreSQL), so they must not wait for anything else, and may be called again
    when their transaction must be run again.

    Args:
        url: sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME.

    Raises:
        ConfigurationError: The URL is of no known form.
    """

    def __init__(self, url: str) -> None:
        self._engine = open_engine(url)
        self._writer: GroupCommit | None = None

    @property
    def description(self) -> str:
        """Where the database is, for people; no secrets."""
        return self._engine.description

    async def open(self) -> None:
        """Check the database, bring its schema up to date and start the writer.

        Raises:
            ConfigurationError: There is no database of ours to be had there; the message says why.
            StorageError: It cannot be reached, is damaged, locked or cannot be written to.
        """
        try:
            await self._engine.open()
        except ServiceError as error:
            await self._engine.aclose()
            sentence = f"Database {self.description}: {error.message[:1].lower()}{error.message[1:]}"
            raise type(error)(sentence, code=error.code, retry_after_seconds=error.retry_after_seconds) from error
        except BaseException:
            await self._engine.aclose()
            raise
        self._writer = GroupCommit(self._engine.commit, self._engine.probe)

    async def __aenter__(self) -> Self:
        """Open it."""
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self.aclose()

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run `query`, which only reads; each of its statements sees the state of its own start.

        Raises:
            StorageError: The database could not be read.
        """
        return await self._engine.read(query)

    async def write(self, job: Callable[[Connection], T]) -> T:
        """Run `job` in a transaction, together with others that wait, and return once it is on the disk.

        What `job` raises undoes its own work and comes back to the caller. A caller who is cancelled stops
        waiting; the job is done all the same.

        Raises:
            StorageError: Nothing was recorded.
        """
        if self._writer is None:
            raise StorageError("The database is not open.")
        return await self._writer.submit(job)

    async def check(self) -> None:
        """Return when the database can be written to, within `CHECK_SECONDS`.

        While all is well this locks and writes nothing; after a failed write it takes a real one to convince.

        Raises:
            StorageError: It cannot.
        """
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await self.write(_look)
        except TimeoutError:
            raise StorageError(
                "The database does not answer in time.", code="storage_busy", retry_after_seconds=1
            ) from None

    async def aclose(self) -> None:
        """Finish what waits and close; a second call does nothing."""
        writer, self._writer = self._writer, None
        if writer is not None:
            await writer.aclose()
            await self._engine.aclose()


def _look(connection: Connection) -> None:
    connection.execute(text("SELECT 1"))
