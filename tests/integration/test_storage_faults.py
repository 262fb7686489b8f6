"""What happens when the disk, the file or the server fails: a clear error, nothing lost, and a way back."""

from __future__ import annotations

import asyncio
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import Connection, text

from app.domain.money import to_units
from app.domain.portfolio import Portfolio
from app.errors import ConfigurationError, StorageError
from app.storage import sqlite
from app.storage.database import Database
from app.storage.ledger import SqlLedger
from tests.support.books import CASH, KEY, SteppingClock, book, make_draft, turn_over

pytest_plugins = ("tests.support.databases",)
pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if mounted.returncode != 0:
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


async def write_cycles(ledger: SqlLedger, first: int, count: int) -> None:
    for index in range(first, first + count):
        await book(ledger, make_draft(index), turn_over, SteppingClock())


def fill_disk(folder: Path) -> Path:
    junk = folder / "junk"
    with junk.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4_096))
        except OSError:
            return junk


def path_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


async def test_disk_full_refuses_writes_keeps_reads_and_recovers_by_itself(
    small_disk: Path, migrated_file: Path
) -> None:
    shutil.copyfile(migrated_file, small_disk / "a.db")
    async with Database(f"sqlite:///{small_disk}/a.db") as database:
        ledger = SqlLedger(database, SteppingClock())
        await ledger.open_account(KEY, CASH)
        await write_cycles(ledger, 0, 2)
        before = await ledger.load_standing(KEY)
        junk = fill_disk(small_disk)
        for _ in range(2):
            with pytest.raises(StorageError) as caught:
                await write_cycles(ledger, 2, 50)
            assert (caught.value.code, caught.value.retry_after_seconds) == ("storage_full", 30)
            with pytest.raises(StorageError) as caught:
                await database.check()
            assert caught.value.code == "storage_full"
            booked = len((await ledger.list_cycles(limit=1_000)).items)
        assert (await ledger.load_standing(KEY)).run == before.run
        junk.unlink()
        await database.check()
        await write_cycles(ledger, booked, 3)
        await database.check()
    async with Database(f"sqlite:///{small_disk}/a.db") as database:
        ledger = SqlLedger(database, SteppingClock())
        await ledger.open_account(KEY, CASH)
        assert len((await ledger.list_cycles(limit=1_000)).items) == booked + 3


async def test_read_only_disk_stops_the_start_and_names_the_file(small_disk: Path, migrated_file: Path) -> None:
    shutil.copyfile(migrated_file, small_disk / "a.db")
    remount_read_only(small_disk)
    for name in ("a.db", "new.db"):
        with pytest.raises(ConfigurationError) as caught:
            await Database(f"sqlite:///{small_disk}/{name}").open()
        assert caught.value.message.startswith(f"Database {small_disk}/{name}: it cannot be written to")
        assert "\n" not in caught.value.message


def remount_read_only(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)


async def test_read_only_while_running_refuses_writes_and_keeps_reads(sqlite_database: Database) -> None:
    ledger = SqlLedger(sqlite_database, SteppingClock())
    await ledger.open_account(KEY, CASH)
    await sqlite_database.write(forbid_writes)
    with pytest.raises(StorageError) as caught:
        await write_cycles(ledger, 0, 1)
    assert caught.value.code == "storage_read_only"
    assert (await ledger.load_standing(KEY)).portfolio == Portfolio(to_units(CASH))
    with pytest.raises(StorageError) as caught:
        await sqlite_database.check()
    assert caught.value.code == "storage_read_only"


def forbid_writes(connection: Connection) -> None:
    connection.exec_driver_sql("PRAGMA query_only = ON")


async def test_locked_by_another_process_is_busy_and_works_again(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_SECONDS", 0.1)
    async with Database(sqlite_url) as database:
        ledger = SqlLedger(database, SteppingClock())
        await ledger.open_account(KEY, CASH)
        with closing(sqlite3.connect(path_of(sqlite_url))) as other:
            other.execute("BEGIN IMMEDIATE")
            for _ in range(2):
                with pytest.raises(StorageError) as caught:
                    await write_cycles(ledger, 0, 1)
                assert (caught.value.code, caught.value.retry_after_seconds) == ("storage_busy", 1)
            assert (await ledger.load_standing(KEY)).portfolio == Portfolio(to_units(CASH))
            other.rollback()
        await write_cycles(ledger, 0, 1)


async def test_locked_at_start_is_busy(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_SECONDS", 0.1)
    with closing(sqlite3.connect(path_of(sqlite_url))) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError) as caught:
            await Database(sqlite_url).open()
    assert caught.value.code == "storage_busy"
    assert str(path_of(sqlite_url)) in caught.value.message


async def test_damaged_file_stops_the_start_and_is_left_as_it_is(sqlite_url: str) -> None:
    damage(path_of(sqlite_url))
    before = path_of(sqlite_url).read_bytes()
    with pytest.raises(StorageError) as caught:
        await Database(sqlite_url).open()
    assert caught.value.code == "storage_corrupt"
    assert caught.value.message.startswith(f"Database {path_of(sqlite_url)}: it is damaged (")
    assert path_of(sqlite_url).read_bytes() == before


async def test_file_that_is_no_database_stops_the_start_and_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "letter.db"
    path.write_text("Dear Sir or Madam, " * 1_000)
    with pytest.raises(StorageError) as caught:
        await Database(f"sqlite:///{path}").open()
    assert caught.value.code == "storage_corrupt"
    assert str(path) in caught.value.message
    assert path.read_text() == "Dear Sir or Madam, " * 1_000


async def test_big_file_is_checked_only_after_an_unclean_end(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "CHECKED_BYTES", 0)
    damage(path_of(sqlite_url))
    async with Database(sqlite_url):
        pass
    shutil.copyfile(path_of(sqlite_url), path_of(sqlite_url).with_name("crashed.db"))
    path_of(sqlite_url).with_name("crashed.db-wal").write_bytes(bytes(64))
    with pytest.raises(StorageError) as caught:
        await Database(sqlite_url.replace("papertape.db", "crashed.db")).open()
    assert caught.value.code == "storage_corrupt"


def damage(path: Path) -> None:
    """Overwrite a page that holds an index, as a failing disk may."""
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'ix_trades_symbol_id'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)


@pytest.mark.parametrize("name", ["missing/a.db", "."])
async def test_place_where_no_file_can_be_stops_the_start(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        await Database(f"sqlite:///{tmp_path}/{name}").open()
    assert caught.value.code == "database_unusable"
    assert str(tmp_path) in caught.value.message
    assert "\n" not in caught.value.message


async def test_new_file_is_for_its_owner_only(tmp_path: Path) -> None:
    async with Database(f"sqlite:///{tmp_path}/a.db") as database:
        await SqlLedger(database, SteppingClock()).open_account(KEY, CASH)
        assert modes(tmp_path) == {"a.db": "-rw-------", "a.db-wal": "-rw-------", "a.db-shm": "-rw-------"}
    assert modes(tmp_path) == {"a.db": "-rw-------"}


def modes(folder: Path) -> dict[str, str]:
    return {path.name: stat.filemode(path.stat().st_mode) for path in folder.iterdir()}


async def test_sqlite_runs_with_the_durable_settings(sqlite_database: Database) -> None:
    def look(connection: Connection) -> dict[str, object]:
        names = ("synchronous", "journal_mode", "foreign_keys", "busy_timeout", "recursive_triggers", "query_only")
        return {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in names}

    expected = {"synchronous": 2, "journal_mode": "wal", "foreign_keys": 1, "busy_timeout": 5_000}
    assert await sqlite_database.write(look) == {**expected, "recursive_triggers": 1, "query_only": 0}
    assert await sqlite_database.read(look) == {**expected, "recursive_triggers": 1, "query_only": 1}


def test_commit_reaches_the_disk_before_the_answer(sqlite_url: str, tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("there is no strace")
    trace = tmp_path / "trace"
    code = (
        "import asyncio, os; from tests.support.book_writer import write_books; "
        f"asyncio.run(write_books({sqlite_url!r}, 'sync', lambda line: os.write(1, line.encode()), 3))"
    )
    command = ["strace", "-f", "-y", "-qq", "-e", "trace=fdatasync,fsync,write", "-o", str(trace), sys.executable, "-c"]
    ended = subprocess.run([*command, code], cwd=ROOT, check=False, capture_output=True, text=True)
    if "ptrace" in ended.stderr:
        pytest.skip("this user may not trace processes")
    steps = re.findall(r'(?:fdatasync|fsync)\(\d+<[^>]*(-wal)>|write\(1<[^>]*>, "(ready|sync-\d)', trace.read_text())
    words = [wal or word for wal, word in steps]
    assert [word for word in words if word != "-wal"] == ["ready", "sync-0", "sync-1", "sync-2"]
    assert words[words.index("ready") + 1] == "-wal"


async def test_server_that_does_not_answer_stops_the_start() -> None:
    with pytest.raises(StorageError) as caught:
        await Database("postgresql://me:s3cret@127.0.0.1:1/books").open()
    assert caught.value.code == "storage_unavailable"
    assert caught.value.message.startswith("Database PostgreSQL database books at 127.0.0.1:1: ")
    assert "s3cret" not in caught.value.message


async def test_server_without_the_database_stops_the_start(postgres_url: str) -> None:
    with pytest.raises(StorageError) as caught:
        await Database(f"{postgres_url}_missing").open()
    assert caught.value.code == "storage_unavailable"


async def test_connection_cut_between_writes_is_made_again(postgres_url: str) -> None:
    async with Database(postgres_url) as database:
        ledger = SqlLedger(database, SteppingClock())
        await ledger.open_account(KEY, CASH)
        await write_cycles(ledger, 0, 1)
        before = await ledger.load_standing(KEY)
        await cut_connections(postgres_url)
        assert await ledger.load_standing(KEY) == before
        await write_cycles(ledger, 1, 1)
        await database.check()
        assert len((await ledger.list_cycles(limit=9)).items) == 2


async def cut_connections(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("trouble", "code"),
    [
        ("SELECT pg_terminate_backend(pg_backend_pid())", "storage_unavailable"),
        ("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = 'serialization_failure'; END $$", "storage_busy"),
        ("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = 'deadlock_detected'; END $$", "storage_busy"),
    ],
    ids=["cut", "serialization", "deadlock"],
)
async def test_transaction_that_must_be_run_again_is_run_three_times_at_most(
    postgres_url: str, trouble: str, code: str
) -> None:
    attempts: list[int] = []

    def job(connection: Connection, until: int) -> str:
        attempts.append(1)
        if len(attempts) < until:
            connection.execute(text(trouble))
        return "done"

    async with Database(postgres_url) as database:
        ledger = SqlLedger(database, SteppingClock())
        await ledger.open_account(KEY, CASH)
        beside = book(ledger, make_draft(1), turn_over, SteppingClock())
        results = await asyncio.gather(beside, database.write(lambda connection: job(connection, 3)))
        assert results[1] == "done"
        assert len(attempts) == 3
        assert len((await ledger.list_cycles(limit=9)).items) == 1
        attempts.clear()
        with pytest.raises(StorageError) as caught:
            await database.write(lambda connection: job(connection, 9))
        assert (caught.value.code, len(attempts)) == (code, 3)


async def test_read_only_server_refuses_writes_and_recovers(postgres_url: str) -> None:
    name = postgres_url.rpartition("/")[2]
    async with Database(postgres_url) as database:
        ledger = SqlLedger(database, SteppingClock())
        await ledger.open_account(KEY, CASH)
        await alter(postgres_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        try:
            await cut_connections(postgres_url)
            with pytest.raises(StorageError) as caught:
                await write_cycles(ledger, 0, 1)
            assert caught.value.code == "storage_read_only"
            with pytest.raises(StorageError) as caught:
                await database.check()
            assert caught.value.code == "storage_read_only"
            assert (await ledger.load_standing(KEY)).portfolio == Portfolio(to_units(CASH))
        finally:
            await alter(postgres_url, f"ALTER DATABASE {name} RESET default_transaction_read_only")
        await database.check()
        await write_cycles(ledger, 0, 1)


async def alter(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("SET default_transaction_read_only = off")
        await connection.execute(statement)
    finally:
        await connection.close()
