"""Databases for tests: a SQLite file or a PostgreSQL database of its own for each test, both migrated for real.

Use it with `pytest_plugins = ("tests.support.databases",)` in a test module.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from app.storage import tables
from app.storage.database import Database

POSTGRES_SERVER = "postgresql://postgres@127.0.0.1:5432"
KINDS = ("sqlite", "postgresql")


async def _migrate(url: str) -> None:
    async with Database(url):
        pass


async def _run(statement: str, name: str = "postgres") -> None:
    connection = await asyncpg.connect(f"{POSTGRES_SERVER}/{name}", timeout=2)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


# Making a database takes 0.3 s, emptying one a few milliseconds; "replica" switches off the triggers that forbid it.
_EMPTY = "; ".join(
    [
        "SET session_replication_role = replica",
        *(str(table.delete()) for table in tables.trades.metadata.tables.values()),
        "ALTER SEQUENCE event_log_number_seq RESTART",
    ]
)


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the tables and nothing in them; to be copied."""
    path = tmp_path_factory.mktemp("storage") / "template.db"
    asyncio.run(_migrate(f"sqlite:///{path}"))
    return path


@pytest.fixture(scope="session")
def migrated_name() -> Iterator[str]:
    """The name of a PostgreSQL database with the tables, which the tests of this process take turns in."""
    name = f"papertape_test_{os.getpid()}_{secrets.token_hex(3)}"
    try:
        asyncio.run(_run(f"CREATE DATABASE {name}"))
    except (OSError, asyncpg.PostgresError) as error:
        pytest.skip(f"no PostgreSQL server answers at {POSTGRES_SERVER}: {error!r}")
    asyncio.run(_migrate(f"{POSTGRES_SERVER}/{name}"))
    yield name
    asyncio.run(_run(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def sqlite_url(migrated_file: Path, tmp_path: Path) -> str:
    """A fresh SQLite database."""
    path = tmp_path / "papertape.db"
    shutil.copyfile(migrated_file, path)
    return f"sqlite:///{path}"


@pytest.fixture
def postgres_url(migrated_name: str) -> str:
    """A PostgreSQL database with empty tables."""
    asyncio.run(_run(_EMPTY, migrated_name))
    return f"{POSTGRES_SERVER}/{migrated_name}"


@pytest.fixture
def bare_postgres_url(migrated_name: str) -> Iterator[str]:
    """A PostgreSQL database without tables."""
    name = f"{migrated_name}_{secrets.token_hex(3)}"
    asyncio.run(_run(f"CREATE DATABASE {name}"))
    yield f"{POSTGRES_SERVER}/{name}"
    asyncio.run(_run(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(params=KINDS)
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh database of each kind."""
    name = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]
    url: str = request.getfixturevalue(name)
    return url


@pytest.fixture(params=KINDS)
def bare_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place of each kind where there are no tables yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'new.db'}"
    url: str = request.getfixturevalue("bare_postgres_url")
    return url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An open, fresh database of each kind."""
    async with Database(database_url) as opened:
        yield opened


@pytest.fixture
async def sqlite_database(sqlite_url: str) -> AsyncIterator[Database]:
    """An open, fresh SQLite database."""
    async with Database(sqlite_url) as opened:
        yield opened
