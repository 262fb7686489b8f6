"""What databases raise, and what becomes of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.errors import NotFoundError, StorageError
from app.storage.translation import must_run_again, translate, translated


def _unique_twice(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "a.db")) as connection:
        connection.execute("CREATE TABLE t (a UNIQUE)")
        connection.executemany("INSERT INTO t VALUES (?)", [(1,), (1,)])


def _read_only(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "a.db")) as connection:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("CREATE TABLE t (a)")


def _no_database(folder: Path) -> None:
    (folder / "a.db").write_bytes(b"This is no database, however long it may be. " * 100)
    with closing(sqlite3.connect(folder / "a.db")) as connection:
        connection.execute("SELECT * FROM sqlite_master")


def _cannot_open(folder: Path) -> None:
    with closing(sqlite3.connect(folder)):
        pass


def _full(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "a.db")) as connection:
        connection.execute("PRAGMA max_page_count = 2")
        connection.execute("CREATE TABLE t (a)")
        connection.execute("INSERT INTO t VALUES (zeroblob(100000))")


def _locked(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "a.db")) as one, closing(sqlite3.connect(folder / "a.db", timeout=0)) as two:
        one.execute("BEGIN IMMEDIATE")
        two.execute("BEGIN IMMEDIATE")


def _nonsense(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "a.db")) as connection:
        connection.execute("SELECT nonsense")


@pytest.mark.parametrize(
    ("cause", "code", "wait"),
    [
        (_unique_twice, "storage_constraint", None),
        (_read_only, "storage_read_only", None),
        (_no_database, "storage_corrupt", None),
        (_cannot_open, "storage_unavailable", 5),
        (_full, "storage_full", 30),
        (_locked, "storage_busy", 1),
        (_nonsense, "storage_failed", None),
    ],
)
def test_translated_real_sqlite_error_gets_its_code(
    tmp_path: Path, cause: Callable[[Path], None], code: str, wait: float | None
) -> None:
    with pytest.raises(StorageError) as caught, translated():
        cause(tmp_path)
    assert (caught.value.code, caught.value.retry_after_seconds) == (code, wait)
    assert isinstance(caught.value.__cause__, sqlite3.Error)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (asyncpg.UniqueViolationError("x"), "storage_constraint"),
        (asyncpg.RestrictViolationError("x"), "storage_constraint"),
        (asyncpg.DiskFullError("x"), "storage_full"),
        (asyncpg.ReadOnlySQLTransactionError("x"), "storage_read_only"),
        (asyncpg.SerializationError("x"), "storage_busy"),
        (asyncpg.DeadlockDetectedError("x"), "storage_busy"),
        (asyncpg.LockNotAvailableError("x"), "storage_busy"),
        (asyncpg.TooManyConnectionsError("x"), "storage_unavailable"),
        (asyncpg.AdminShutdownError("x"), "storage_unavailable"),
        (asyncpg.InvalidPasswordError("x"), "storage_unavailable"),
        (asyncpg.InvalidCatalogNameError("x"), "storage_unavailable"),
        (asyncpg.ConnectionDoesNotExistError("x"), "storage_unavailable"),
        (asyncpg.DataCorruptedError("x"), "storage_corrupt"),
        (asyncpg.UndefinedTableError("x"), "storage_failed"),
        (asyncpg.InterfaceError("connection is closed"), "storage_unavailable"),
        (ConnectionRefusedError(111, "refused"), "storage_unavailable"),
        (TimeoutError(), "storage_unavailable"),
        (PoolTimeoutError("no connection"), "storage_busy"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
def test_translated_postgres_error_gets_its_code(error: Exception, code: str) -> None:
    with pytest.raises(StorageError) as caught, translated():
        raise error
    assert caught.value.code == code
    assert caught.value.__cause__ is error


def test_translated_wrapped_error_is_looked_into() -> None:
    wrapped = IntegrityError("INSERT", {}, asyncpg.UniqueViolationError("x"))
    assert translate(wrapped).code == "storage_constraint"


def test_translated_own_error_inside_a_statement_comes_back() -> None:
    own = StorageError("finer than kept", code="amount_not_storable")
    assert translate(StatementError("(app) finer", "INSERT", {}, own)) is own


@pytest.mark.parametrize("error", [NotFoundError("nothing"), ZeroDivisionError(), KeyError("a bug")])
def test_translated_error_that_is_no_databases_passes(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, translated():
        raise error
    assert caught.value is error


def test_must_run_again_only_where_the_server_asks_for_it() -> None:
    def wrap(error: Exception) -> DBAPIError:
        return DBAPIError("UPDATE", {}, error)

    assert must_run_again(wrap(asyncpg.SerializationError("x")))
    assert must_run_again(wrap(asyncpg.DeadlockDetectedError("x")))
    assert not must_run_again(wrap(asyncpg.LockNotAvailableError("x")))
    assert not must_run_again(wrap(sqlite3.OperationalError("x")))
