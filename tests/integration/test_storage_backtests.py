"""Backtests and trials, on each database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from app.domain.ports import Selection
from app.errors import InvalidInputError, NotFoundError, StorageError
from app.storage.backtests import DataSet, SqlBacktests, StoredRun, Trial, TrialCount
from app.storage.database import Database
from tests.support.books import SteppingClock

pytest_plugins = ("tests.support.databases",)
pytestmark = pytest.mark.anyio

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
BTC = DataSet("binance", ("BTCUSDT",), START, START + 30 * DAY)
RUN = StoredRun("run-1", START, ("BTCUSDT", "ETHUSDT"), "forest", '{"number": 1}', b"\x00\x01")


@pytest.fixture
async def backtests(database: Database) -> SqlBacktests:
    return SqlBacktests(database, SteppingClock())


def trial(name: str, data_set: DataSet = BTC, sharpe: float | None = 0.1) -> Trial:
    return Trial(data_set, name, sharpe)


async def test_run_is_kept_once_and_read_back_whole(backtests: SqlBacktests) -> None:
    assert not await backtests.exists("run-1")
    await backtests.save(RUN)
    await backtests.save(replace(RUN, document="another"))
    assert await backtests.exists("run-1")
    assert await backtests.load("run-1") == RUN


@pytest.mark.parametrize(
    ("wanted", "strategy", "found"),
    [
        (Selection(symbol="ETHUSDT"), None, ["2", "0"]),
        (Selection(symbol="THUSDT"), None, []),
        (Selection(symbol="%"), None, []),
        (Selection(), "forest", ["1", "0"]),
        (Selection(), "fore%", []),
        (Selection(since=START + DAY), None, ["2", "1"]),
        (Selection(since=START, until=START + DAY), None, ["0"]),
        (Selection(symbol="ETHUSDT"), "moving-average-cross", ["2"]),
    ],
    ids=str,
)
async def test_runs_are_listed_by_what_is_wanted(
    backtests: SqlBacktests, wanted: Selection, strategy: str | None, found: list[str]
) -> None:
    given = (
        (("BTCUSDT", "ETHUSDT"), "forest"),
        (("BTCUSDT",), "forest"),
        (("ETHUSDT",), "moving-average-cross"),
    )
    for number, (symbols, name) in enumerate(given):
        await backtests.save(StoredRun(f"run-{number}", START + number * DAY, symbols, name, str(number), b""))
    assert (await backtests.list(5, wanted=wanted, strategy=strategy)).items == tuple(
        (f"run-{number}", number) for number in found
    )


async def test_runs_are_listed_newest_first_a_page_at_a_time(backtests: SqlBacktests) -> None:
    for number in range(3):
        await backtests.save(StoredRun(f"run-{number}", START, ("BTCUSDT",), "forest", f'{{"number": {number}}}', b""))
    first = await backtests.list(2)
    assert first.items == (("run-2", '{"number": 2}'), ("run-1", '{"number": 1}'))
    assert (await backtests.list(2, first.next_cursor)).items == (("run-0", '{"number": 0}'),)
    with pytest.raises(InvalidInputError) as caught:
        await backtests.list(2, "x")
    assert caught.value.code == "invalid_cursor"


@pytest.mark.parametrize("run_id", ["run-2", "", "run\x00", "ü", "x" * 1_000, "' OR 1=1 --"])
async def test_run_that_is_not_there_is_neither_read_nor_deleted(backtests: SqlBacktests, run_id: str) -> None:
    await backtests.save(RUN)
    for call in (backtests.load, backtests.delete):
        with pytest.raises(NotFoundError) as caught:
            await call(run_id)
        assert caught.value.code == "backtest_not_found"
    assert await backtests.exists("run-1")


async def test_run_may_be_deleted_but_never_changed(database: Database, backtests: SqlBacktests) -> None:
    await backtests.save(RUN)
    with pytest.raises((DatabaseError, StorageError)):
        await database.write(lambda connection: connection.execute(text("UPDATE backtest_runs SET document = ''")))
    await backtests.delete("run-1")
    assert not await backtests.exists("run-1")


@pytest.mark.parametrize("statement", ["UPDATE backtest_trials SET daily_sharpe = 0", "DELETE FROM backtest_trials"])
async def test_trial_is_never_changed_or_removed(database: Database, backtests: SqlBacktests, statement: str) -> None:
    await backtests.record_trials([trial("a")])
    with pytest.raises((DatabaseError, StorageError)):
        await database.write(lambda connection: connection.execute(text(statement)))
    assert (await backtests.count_trials(BTC)).trials == 1


async def test_trials_are_counted_once_each_with_the_variance_of_their_ratios(backtests: SqlBacktests) -> None:
    assert await backtests.count_trials(BTC) == TrialCount(0, None)
    await backtests.record_trials([])
    await backtests.record_trials([trial("a", sharpe=0.25), trial("a", sharpe=0.25)])
    assert await backtests.count_trials(BTC) == TrialCount(1, None)
    await backtests.record_trials([trial("a", sharpe=0.25), trial("b", sharpe=-0.25), trial("c", sharpe=None)])
    assert await backtests.count_trials(BTC) == TrialCount(3, 0.125)


async def test_what_is_tried_again_on_another_span_is_one_trial_with_its_newest_ratio(backtests: SqlBacktests) -> None:
    moved = replace(BTC, since=START + DAY, until=START + 31 * DAY)
    await backtests.record_trials([trial("a", sharpe=0.5), trial("b", sharpe=0.0), trial("a", moved, sharpe=1.0)])
    assert await backtests.count_trials(BTC) == TrialCount(2, 0.5)


@pytest.mark.parametrize(
    ("data_set", "counted"),
    [
        (replace(BTC, since=START + DAY), 1),
        (replace(BTC, until=START + DAY), 1),
        (replace(BTC, since=START - 9 * DAY, until=START + timedelta(microseconds=1)), 1),
        (replace(BTC, since=START + 30 * DAY, until=START + 60 * DAY), 0),
        (replace(BTC, since=START - 9 * DAY, until=START), 0),
        (replace(BTC, symbols=("ETHUSDT", "BTCUSDT", "ADAUSDT")), 1),
        (replace(BTC, symbols=("ETHUSDT",)), 0),
        (replace(BTC, symbols=("TCUSD",)), 0),
        (replace(BTC, symbols=("BTCUSD_",)), 0),
        (replace(BTC, source="file"), 0),
    ],
)
async def test_trial_counts_where_it_shares_any_candle(
    backtests: SqlBacktests, data_set: DataSet, counted: int
) -> None:
    await backtests.record_trials([trial("a")])
    assert (await backtests.count_trials(data_set)).trials == counted


async def test_thousands_of_trials_are_recorded_at_once(backtests: SqlBacktests) -> None:
    await backtests.record_trials([trial(f"{number:064}", sharpe=number % 2) for number in range(5_000)])
    found = await backtests.count_trials(BTC)
    assert found.trials == 5_000
    assert found.variance == pytest.approx(0.25, rel=1e-3)
