"""The migrations make the tables that the code expects, once, whole, and only where they belong."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from alembic import config
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from app.domain.candle import Interval
from app.domain.money import UNITS, to_units
from app.domain.order import Origin
from app.errors import ConfigurationError
from app.storage import schema
from app.storage.account_tables import metadata
from app.storage.candle_store import CandleStore
from app.storage.database import Database, open_engine
from app.storage.ledger import SqlLedger
from app.storage.tables import APPEND_ONLY
from tests.support.books import CASH, KEY, SteppingClock, book, make_draft, make_old_books, turn_over
from tests.support.candles import made_candles
from tests.support.exchange_client import NOW

pytest_plugins = ("tests.support.databases",)
pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
RULES = ["trades_cash_follows", "trades_cycle_fits", "trades_position_follows"]

_ADDED = re.compile(r", (\w+ [A-Z]+(?:\(\d+\))?)(?=[,)])")
_SQLITE_OBJECTS = (
    "SELECT sql FROM sqlite_master WHERE sql NOT NULL AND type <> 'trigger' AND tbl_name <> 'alembic_version'"
)
_POSTGRES_OBJECTS = """
    SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace AND conrelid <> 0
    UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL SELECT table_name || ' ' || column_name || ' ' || data_type || ' ' || is_nullable || ' '
        || COALESCE(character_maximum_length, numeric_precision, 0) || ' ' || COALESCE(numeric_scale, 0) || ' '
        || COALESCE(column_default, '')
    FROM information_schema.columns WHERE table_schema = 'public'
"""


def describe(connection: Connection) -> list[str]:
    """Every table, column, constraint and index, a line each, in an order of their own."""
    if connection.dialect.name == "sqlite":
        statements = connection.execute(text(_SQLITE_OBJECTS)).scalars()
        # SQLite writes columns that were added later at the end, all on one line.
        whole = "\n".join(_ADDED.sub(r"\n\1\n", statement) for statement in statements)
        return sorted(line.strip(" ,\t") for line in whole.splitlines() if line.strip(" ,\t"))
    lines = connection.execute(text(_POSTGRES_OBJECTS)).scalars()
    return sorted(line for line in lines if "alembic_version" not in line)


def triggers(connection: Connection) -> list[str]:
    statement = {
        "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger' ORDER BY name",
        "postgresql": "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal ORDER BY tgname",
    }[connection.dialect.name]
    return list(connection.execute(text(statement)).scalars())


def test_head_revision_is_the_newest_of_the_migrations() -> None:
    settings = config.Config()
    settings.set_main_option("script_location", str(schema.MIGRATIONS))
    assert ScriptDirectory.from_config(settings).get_heads() == [schema.HEAD_REVISION]


async def test_migrations_leave_nothing_to_generate(database: Database) -> None:
    def differences(connection: Connection) -> list[object]:
        options = {"compare_type": True, "compare_server_default": True}
        found: list[object] = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
        return found

    assert await database.read(differences) == []


async def test_migrations_make_what_the_tables_say_to_the_last_constraint(bare_database_url: str) -> None:
    engine = open_engine(bare_database_url)
    await engine.run_exclusively(metadata.create_all)
    expected = await engine.read(describe)
    await engine.run_exclusively(metadata.drop_all)
    await engine.run_exclusively(schema.migrate)
    assert await engine.read(describe) == expected
    assert len(expected) > 80
    await engine.aclose()


async def test_migrations_make_the_triggers(database: Database) -> None:
    found = await database.read(triggers)
    kinds = ("no_change", "no_truncate") if "PostgreSQL" in database.description else ("no_delete", "no_update")
    of_orders = ["orders_move_on", "orders_no_delete"]
    if "PostgreSQL" in database.description:
        of_orders.append("orders_no_truncate")
    of_tables = [f"{table}_{kind}" for table in APPEND_ONLY for kind in kinds]
    assert found == sorted([*of_tables, *RULES, *of_orders, "backtest_runs_no_update", "optimization_runs_no_update"])


async def test_migration_that_breaks_off_leaves_nothing_and_can_be_run_again(bare_database_url: str) -> None:
    def broken(connection: Connection) -> None:
        schema.migrate(connection)
        raise KeyboardInterrupt

    engine = open_engine(bare_database_url)
    with pytest.raises(KeyboardInterrupt):
        await engine.run_exclusively(broken)
    assert await engine.read(describe) == []
    await engine.aclose()
    async with Database(bare_database_url) as database:
        await SqlLedger(database, SteppingClock()).open_account(KEY, CASH)


async def test_database_of_the_first_revision_keeps_its_books_and_goes_on(bare_database_url: str) -> None:
    engine = open_engine(bare_database_url)
    await engine.run_exclusively(lambda connection: make_old_books(connection, "0001", "cycle-old"))
    await engine.aclose()

    async with Database(bare_database_url) as database:
        ledger = SqlLedger(database, SteppingClock())
        opened = await ledger.open_account(KEY, CASH)
        assert opened.run.id == "simulated.forest.main.1"
        assert opened.portfolio.cash == to_units(Decimal("9749.98"))
        (held,) = opened.portfolio.positions.values()
        assert (held.quantity, held.cost, held.entry_fees) == (500_000, 325 * UNITS, 500_000)
        assert opened.portfolio.realised == 75 * UNITS
        report = await ledger.get_cycle("cycle-old")
        assert report.decision == replace(make_draft(1).decision, expected_return=None, edge=None, drift=None)
        assert report.market == make_draft(1).market
        await book(ledger, make_draft(4), turn_over, SteppingClock())
        trades = (await ledger.list_trades(limit=9)).items
        assert [trade.realised_profit for trade in trades] == [Decimal(0), Decimal(75), None]
        assert [(trade.origin, trade.run) for trade in trades] == [(Origin.SIGNAL, opened.run.id)] * 3
        assert (await ledger.open_account(KEY, CASH)).portfolio.positions == {}
        candles = made_candles("BTCUSDT", Interval.M1, end=NOW, bars=2)
        await CandleStore(database).save("binance", "BTCUSDT", Interval.M1, candles)
        assert (await CandleStore(database).coverage("binance", "BTCUSDT", Interval.M1)).candles == 2


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("UPDATE alembic_version SET version_num = '9999'", "database_newer"),
        ("DROP TABLE alembic_version", "database_foreign"),
    ],
)
async def test_open_database_that_is_not_ours_is_refused_and_left_alone(
    bare_database_url: str, change: str, code: str
) -> None:
    async with Database(bare_database_url) as database:
        await database.write(lambda connection: connection.execute(text(change)))
        before = await database.read(describe)
    with pytest.raises(ConfigurationError) as caught:
        await Database(bare_database_url).open()
    assert caught.value.code == code
    assert caught.value.message.startswith(f"Database {database.description}: it")
    engine = open_engine(bare_database_url)
    assert await engine.read(describe) == before
    await engine.aclose()


async def test_open_somebody_elses_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "places.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    with pytest.raises(ConfigurationError) as caught:
        await Database(f"sqlite:///{path}").open()
    assert caught.value.code == "database_foreign"
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("bookmarks",)]


def test_open_current_database_loads_neither_alembic_nor_the_other_driver(sqlite_url: str) -> None:
    code = (
        "import asyncio, sys; from app.storage.database import Database; database = Database(sys.argv[1]); "
        "asyncio.run(database.open()); print([name for name in ('alembic', 'asyncpg', 'sqlalchemy.orm') "
        "if name in sys.modules])"
    )
    assert run(sys.executable, "-c", code, sqlite_url) == "[]\n"


def test_command_line_of_alembic_works_on_the_project(sqlite_url: str) -> None:
    shown = run(sys.executable, "-m", "alembic", "-x", f"url={sqlite_url}", "check")
    assert "No new upgrade operations detected." in shown


def run(*arguments: str) -> str:
    return subprocess.run(arguments, cwd=ROOT, check=True, capture_output=True, text=True).stdout
