"""Whatever is changed behind the service's back, verification names it; what follows from the fills is repaired."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import zlib
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from app.domain.standing import open_snapshot
from app.storage import standings, verification
from app.storage.database import Database
from app.storage.verification import Verification
from tests.support.recorded import START, recorded_service

pytest_plugins = ("tests.support.databases",)

RUN = "simulated.forest.main.1"


async def make_books(folder: Path, url: str) -> None:
    async with recorded_service(folder, url) as recorded:
        await recorded.live()


async def look(database: Database) -> tuple[Verification, Verification]:
    """What is found of the only run, and of what all runs share."""
    (account,) = await database.read(verification.list_accounts)
    found = await database.read(lambda connection: verification.verify_account(connection, account, lambda *_: None))
    return found, await database.read(lambda connection: verification.verify_shared(connection, lambda *_: None))


def verify(file: Path) -> tuple[Verification, Verification]:
    async def work() -> tuple[Verification, Verification]:
        async with Database(f"sqlite:///{file}") as database:
            return await look(database)

    return asyncio.run(work())


@pytest.fixture(scope="module")
def template(migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Books with every kind of booking in them."""
    folder = tmp_path_factory.mktemp("books")
    file = folder / "trading.db"
    shutil.copyfile(migrated_file, file)
    asyncio.run(make_books(folder, f"sqlite:///{file}"))
    return file


@pytest.fixture
def books(template: Path, tmp_path: Path) -> Path:
    """A copy of these books."""
    file = tmp_path / "trading.db"
    shutil.copyfile(template, file)
    return file


def tamper(file: Path, *statements: str) -> None:
    """Change books as somebody with the file could, past the triggers."""
    with sqlite3.connect(file) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            assert connection.execute(statement).rowcount > 0, statement
    connection.close()


def test_books_with_every_kind_of_booking_are_sound(database_url: str, tmp_path: Path) -> None:
    async def work() -> tuple[Verification, Verification]:
        await make_books(tmp_path, database_url)
        async with Database(database_url) as database:
            return await look(database)

    of_run, shared = asyncio.run(work())

    assert of_run.wrong == shared.wrong == {}
    assert of_run.notes == []
    assert (of_run.is_sound, of_run.can_be_repaired) == (True, False)
    assert of_run.run == RUN
    assert of_run.counted["records"] == of_run.counted["cycles"] + 10  # what a person did
    assert of_run.counted["fills"] > 20
    assert (shared.counted["settings"], shared.counted["candles"] > 140) == (1, True)


# What somebody changes, and what is said of it; those of a list go together.
FILLS = [
    ("UPDATE trades SET price = price + 100000000 WHERE id = 3", "fills", "trade 3: a notional of"),
    ("UPDATE trades SET cash_after = cash_after + 1 WHERE id = 5", "fills", "trade 5: cash of"),
    ("UPDATE trades SET position_after = 7 WHERE id = 6", "fills", "trade 6: cash of"),
    ("UPDATE closed_trades SET profit = profit + 1 WHERE trade_id = 2", "fills", "trade 2: what it closed is not what"),
    ("UPDATE dust_transfers SET cost = cost + 1 WHERE id = 1", "fills", "the dust of BTCUSDT that was moved after it"),
    (
        "UPDATE trades SET executed_at = '2026-03-01T00:00:00.000000+00:00' WHERE id = 7",
        "dates",
        "trade 7: it is dated",
    ),
    ("UPDATE trades SET reason = 'Because.' WHERE cycle_id IS NULL", "fills", "differ in reason: 'SELL 0"),
    (
        "UPDATE orders SET filled_quantity = 0 WHERE id = 'booking-4-1'",
        "orders",
        "what is recorded as filled is not the",
    ),
    ("UPDATE orders SET price = price + 1 WHERE kind = 'LIMIT'", "orders", "and what is stored differ in price: "),
    ("UPDATE orders SET created_at = closed_at WHERE kind = 'TAKE_PROFIT'", "orders", "differ in created_at: "),
]
SNAPSHOTS = [
    ("UPDATE snapshots SET cash = cash - 1 WHERE number = 4", "snapshots", "snapshot 4: cash is recorded as"),
    ("UPDATE snapshots SET equity = equity + 1 WHERE number = 5", "snapshots", "snapshot 5: its equity is"),
    ("UPDATE snapshots SET peak_equity = peak_equity + 1 WHERE number = 6", "snapshots", "snapshot 6: peak_equity is"),
    ("UPDATE snapshots SET day_equity = 1 WHERE number = 7", "snapshots", "snapshot 7: day_equity is recorded as"),
    (
        "UPDATE snapshots SET trades_today = 9 WHERE number = 8",
        "snapshots",
        "snapshot 8: trades_today is recorded as 9",
    ),
    ("UPDATE snapshots SET holdings = '[]' WHERE number = 9", "snapshots", "snapshot 9: it cannot be read"),
    ("UPDATE snapshots SET last_loss_at = taken_at WHERE number = 10", "snapshots", "snapshot 10: last_loss_at is"),
]
RECORDS = [
    (
        "UPDATE decisions SET p_buy = p_buy + 0.01 WHERE cycle_id = 'booking-3'",
        "records",
        "(cycle booking-3 of BTCUSDT",
    ),
    ("UPDATE cycles SET reason = 'Whatever.' WHERE status = 'REFUSED'", "records", "Whatever.): the chain breaks here"),
    ("UPDATE cycles SET market = '{}' WHERE number = 4", "records", "(cycle booking-4): the cycle cannot be read"),
    ("UPDATE records SET document = x'00' WHERE number = 7", "records", "its document is damaged"),
    ("UPDATE trades SET reason = 'Because.' WHERE id = 3", "records", "the chain breaks here: the record, what is"),
]


@pytest.mark.parametrize("changes", [FILLS, SNAPSHOTS, RECORDS], ids=["fills", "snapshots", "records"])
def test_verify_names_what_was_changed(books: Path, changes: list[tuple[str, str, str]]) -> None:
    tamper(books, *(statement for statement, _, _ in changes))

    found, _ = verify(books)

    unnamed = [words for _, kind, words in changes if not any(words in line for line in found.wrong.get(kind, ()))]
    assert unnamed == [], found.wrong


def test_verify_names_the_first_broken_link_and_what_it_holds(books: Path) -> None:
    tamper(books, "UPDATE decisions SET p_hold = p_hold - 0.01 WHERE cycle_id IN ('booking-5', 'booking-9')")

    found, _ = verify(books)

    assert [line.split(":")[0] for line in found.wrong["records"]] == [
        "record 5 (cycle booking-5 of BTCUSDT at 2026-03-02T00",
        "record 9 (cycle booking-9 of BTCUSDT at 2026-03-02T00",
    ]
    assert found.wrong["records"][0].endswith("or the record before it was changed")


def test_verify_names_a_record_that_is_gone_and_where_the_chain_breaks(books: Path) -> None:
    tamper(books, "DELETE FROM records WHERE number = 6")

    found, _ = verify(books)

    assert found.found["records"] == 2
    assert found.wrong["records"][0].startswith("record 7 (cycle booking-7 of")
    assert found.wrong["records"][1] == "cycle booking-6: its record is missing"


def test_verify_names_the_newest_record_that_is_gone(books: Path) -> None:
    tamper(books, "DELETE FROM records WHERE number = (SELECT max(number) FROM records WHERE kind = 'cycle')")

    assert verify(books)[0].wrong["records"][-1].endswith(": its record is missing")


def test_verify_names_records_that_were_swapped(books: Path) -> None:
    tamper(
        books,
        "UPDATE records SET number = -8 WHERE number = 8",
        "UPDATE records SET number = 8 WHERE number = 9",
        "UPDATE records SET number = 9 WHERE number = -8",
    )

    assert [line[:9] for line in verify(books)[0].wrong["records"]] == ["record 8 ", "record 9 ", "record 10"]


def test_verify_names_a_document_that_tells_something_else(books: Path) -> None:
    with sqlite3.connect(books) as connection:
        (packed,) = connection.execute("SELECT document FROM records WHERE number = 3").fetchone()
    document = zlib.decompress(packed).decode().replace('"clock_skew_seconds":0.0', '"clock_skew_seconds":0.5')
    tamper(books, f"UPDATE records SET document = x'{zlib.compress(document.encode()).hex()}' WHERE number = 3")

    assert verify(books)[0].wrong["records"][0].startswith("record 3 (cycle booking-3 ")


def test_verify_names_what_all_runs_share(books: Path) -> None:
    tamper(
        books,
        "UPDATE cycle_candles SET volume = '1' WHERE open_time_ms = (SELECT min(open_time_ms) FROM cycle_candles)",
        "UPDATE settings_documents SET document = '{}'",
    )

    of_run, shared = verify(books)

    assert [len(lines) for lines in shared.wrong.values()] == [1, 1]
    assert "is not the one that was kept" in shared.wrong["candles"][0]
    assert "are not those that were kept" in shared.wrong["settings"][0]
    assert of_run.wrong["candles"][0].startswith("cycle booking-1: A candle of the record")


def repaired(file: Path) -> bool:
    async def work() -> bool:
        async with Database(f"sqlite:///{file}") as database:
            (account,) = await database.read(verification.list_accounts)
            found, _ = await look(database)
            now = START + timedelta(days=1)
            return await database.write(lambda connection: verification.repair(connection, account, now, found))

    return asyncio.run(work())


@pytest.mark.parametrize("columns", ["cash = cash - 1", "peak_equity = peak_equity * 2", "realised = realised + 1"])
def test_repair_writes_a_snapshot_that_follows_from_the_fills(books: Path, columns: str) -> None:
    tamper(books, f"UPDATE snapshots SET {columns} WHERE number = (SELECT max(number) FROM snapshots)")
    before, _ = verify(books)
    assert (before.can_be_repaired, set(before.found)) == (True, {"snapshots"})

    assert repaired(books)

    after, _ = verify(books)
    assert after.is_sound, after.wrong
    assert after.notes[0].endswith("were set right by a later one.")
    assert not after.can_be_repaired


def test_repair_leaves_books_that_went_on_since(books: Path) -> None:
    async def work() -> bool:
        async with Database(f"sqlite:///{books}") as database:
            (account,) = await database.read(verification.list_accounts)
            found, _ = await look(database)
            snapshot = replace(found.followed or open_snapshot(1, START), at=START + timedelta(days=1))
            await database.write(lambda connection: standings.save_snapshot(connection, account, snapshot))
            return await database.write(lambda connection: verification.repair(connection, account, START, found))

    assert not asyncio.run(work())


def test_changed_fills_cannot_be_repaired(books: Path) -> None:
    tamper(books, "UPDATE trades SET fee = fee + 1 WHERE id = 3")

    found, _ = verify(books)

    assert found.followed is None
    assert not found.can_be_repaired
