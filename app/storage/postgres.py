"""The PostgreSQL side of the database, through asyncpg; the same plain jobs and queries run on it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.errors import StorageError
from app.storage import schema
from app.storage.group_commit import Job, Outcome, run_jobs
from app.storage.json_text import to_json
from app.storage.translation import lost_connection, must_run_again, translated

T = TypeVar("T")

ATTEMPTS = 3
READERS = 4

_TIMEOUT_SECONDS = 5.0
_STATEMENT_SECONDS = 30.0
_SCHEMA_LOCK = 5_082_731_377
_SESSION = {
    "application_name": "papertape",
    "jit": "off",  # compiling asyncpg's look-up of types takes longer than anything else of a connection
    "lock_timeout": "5s",
    "synchronous_commit": "on",  # an acknowledged commit is on the disk, whatever the server's default
    "timezone": "UTC",
}


class PostgresEngine:
    """Reads and writes one PostgreSQL database.

    Args:
        url: postgresql://USER:PASSWORD@HOST:PORT/NAME; libpq's `sslmode` is understood.
    """

    def __init__(self, url: URL) -> None:
        self._url = url
        self._write_engine = _new_engine(url, connections=1)
        self._read_engine = _new_engine(url, connections=READERS).execution_options(isolation_level="AUTOCOMMIT")
        self._readings: set[asyncio.Task[Any]] = set()

    @property
    def description(self) -> str:
        """Where the database is; without the password."""
        return f"PostgreSQL database {self._url.database} at {self._url.host}:{self._url.port or 5432}"

    async def open(self) -> None:
        """Reach the server and bring the schema up to date.

        Raises:
            ConfigurationError: The database is not ours, or newer.
            StorageError: The server cannot be reached or does not let us in.
        """
        if not await self.read(schema.is_current):
            await asyncio.to_thread(schema.import_alembic)
            await self.run_exclusively(schema.migrate)

    async def commit(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Run `jobs` in one transaction and make it durable, again where the server asks for that.

        Raises:
            StorageError: Nothing was recorded; with `storage_commit_unknown` it is not known whether.
        """
        try:
            with translated():
                return await _repeated(lambda: self._commit(jobs))
        except StorageError as error:
            if error.code == "storage_read_only":
                await self._write_engine.dispose()  # a new connection may find the server that can be written to
            raise

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run `query`; each statement sees the state of its own start."""
        # To cancel asyncpg costs the connection, so a caller who leaves does not take his query with him.
        reading = asyncio.create_task(self._read_repeatedly(query))
        self._readings.add(reading)
        reading.add_done_callback(self._readings.discard)
        return await asyncio.shield(reading)

    async def run_exclusively(self, work: Callable[[Connection], None]) -> None:
        """Run `work`, which changes the schema, in a transaction of its own."""
        with translated():
            async with self._write_engine.begin() as connection:
                await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _SCHEMA_LOCK})
                await connection.run_sync(work)

    async def aclose(self) -> None:
        """Finish reads and close the connections."""
        await asyncio.gather(*self._readings, return_exceptions=True)
        await self._read_engine.dispose()
        await self._write_engine.dispose()

    def probe(self, connection: Connection) -> None:
        """Write something that does not matter: a row lock, which a read-only server refuses."""
        connection.exec_driver_sql("SELECT id FROM accounts ORDER BY id LIMIT 1 FOR UPDATE")

    async def _commit(self, jobs: Sequence[Job]) -> list[Outcome]:
        async with self._write_engine.connect() as connection:
            transaction = await connection.begin()
            outcomes = await connection.run_sync(run_jobs, jobs)
            try:
                await transaction.commit()
            except Exception as error:
                if must_run_again(error):
                    raise
                raise StorageError(
                    "The connection to the database failed during a commit; ask again, with the same Idempotency-Key, "
                    "to learn whether it was recorded.",
                    code="storage_commit_unknown",
                    retry_after_seconds=1,
                ) from error
            return outcomes

    async def _read_repeatedly(self, query: Callable[[Connection], T]) -> T:
        with translated():
            return await _repeated(lambda: self._read(query))

    async def _read(self, query: Callable[[Connection], T]) -> T:
        async with self._read_engine.connect() as connection:
            return await connection.run_sync(query)


async def _repeated(work: Callable[[], Awaitable[T]]) -> T:
    """Run `work` again, up to `ATTEMPTS` times in all, where the server asks for it or the connection was stale."""
    for _ in range(ATTEMPTS - 1):
        try:
            return await work()
        except Exception as error:
            if not (must_run_again(error) or lost_connection(error)):
                raise
    return await work()


def _new_engine(url: URL, *, connections: int) -> AsyncEngine:
    query = dict(url.query)
    if "sslmode" in query:
        query["ssl"] = query.pop("sslmode")
    return create_async_engine(
        url.set(drivername="postgresql+asyncpg", query=query),
        pool_size=connections,
        max_overflow=0,
        pool_timeout=_TIMEOUT_SECONDS,
        connect_args={"timeout": _TIMEOUT_SECONDS, "command_timeout": _STATEMENT_SECONDS, "server_settings": _SESSION},
        json_serializer=to_json,
        hide_parameters=True,
    )
