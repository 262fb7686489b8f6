"""The performance of an account on the real books: the numbers, and that they stay the same however they are got."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

import numpy as np
import pytest

from app.domain.standing import RunKey
from app.errors import NotFoundError, StorageError
from app.research.performance import Answer, PerformanceKeeper, PerformanceReport
from app.risk.comparison import compare_returns
from app.risk.metrics import AccountHistory, compute_performance
from app.risk.shadow_books import ShadowBooks, ShadowCurves
from app.storage import performance_rows
from app.storage.database import Database
from app.storage.performance_rows import FillRow, SnapshotRow, SqlPerformanceRows
from app.storage.standings import Account
from tests.support.account_days import CASH, KEY, OPENED, AccountDays, make_steps, worth

pytest_plugins = ("tests.support.databases",)
pytestmark = pytest.mark.anyio

DAYS = 12
EPOCH_MS = int(OPENED.timestamp()) * 1_000


class CountedRows(SqlPerformanceRows):
    """Counts the snapshots and fills that were read; `failures` times reading fills fails."""

    def __init__(self, database: Database, failures: int = 0) -> None:
        super().__init__(database)
        self.read = 0
        self.failures = failures

    async def load_snapshots(self, account: Account, after: int, through: int) -> list[SnapshotRow]:
        found = await super().load_snapshots(account, after, through)
        self.read += len(found)
        return found

    async def load_fills(self, account: Account, after: int, through: int) -> list[FillRow]:
        if self.failures:
            self.failures -= 1
            raise StorageError("The database does not answer in time.")
        found = await super().load_fills(account, after, through)
        self.read += len(found)
        return found


def make_keeper(database: Database) -> PerformanceKeeper:
    return PerformanceKeeper(SqlPerformanceRows(database), lambda: KEY)


async def open_days(database: Database) -> AccountDays:
    days = AccountDays(database)
    await days.open()
    return days


def history_of(days: AccountDays) -> AccountHistory:
    """The account by what its bookings were told to be, without the database."""
    fills = [(step.price, settlement.fills[place].fill) for step, settlement, place in days.fills()]
    exits = [(fill.exit, fill.fill.fee) for _, settlement in days.settled for fill in settlement.fills if fill.exit]
    return AccountHistory(
        initial_cash=float(CASH),
        times_ms=np.array(
            [EPOCH_MS, *(EPOCH_MS + step.after // timedelta(milliseconds=1) for step, _ in days.settled)]
        ),
        equity=np.array([float(CASH), *(worth(settlement.snapshot.equity) for _, settlement in days.settled)]),
        held=np.array([False, *(bool(settlement.snapshot.portfolio.positions) for _, settlement in days.settled)]),
        notionals=np.array([float(fill.notional) for _, fill in fills]),
        fees=np.array([float(fill.fee) for _, fill in fills]),
        slippages=np.array([float(abs(fill.price - quote) * fill.quantity) for quote, fill in fills]),
        profits=np.array([worth(exit_.profit - exit_.entry_fees) - float(fee) for exit_, fee in exits]),
    )


def shadows_of(days: AccountDays, seed: int) -> ShadowCurves:
    books = ShadowBooks(float(CASH), seed)
    for step, settlement in days.settled:
        if not step.by_person:
            at = EPOCH_MS + step.after // timedelta(milliseconds=1)
            books.add_cycle(at, step.symbol, float(step.price), settlement.side_cost_ppm / 1e6)
        for fill in settlement.fills:
            books.add_fill(step.symbol, float(fill.fill.notional) / worth(settlement.snapshot.equity))
    return books.curves()


def numbers_in(report: PerformanceReport) -> dict[str, float | None]:
    return {name: getattr(report.numbers, name) for name in report.numbers.__dataclass_fields__}


def daily_returns(times_ms: Iterator[int], equity: Iterator[float]) -> list[float]:
    """What the account was worth at the end of each day against the day before, in plain Python."""
    last: dict[int, float] = {}
    for at, worth_then in zip(times_ms, equity, strict=True):
        last[at // 86_400_000] = worth_then
    closes, known = [float(CASH)], float(CASH)
    for day in range(min(last), max(last) + 1):
        known = last.get(day, known)
        closes.append(known)
    return [after / before - 1 for before, after in itertools.pairwise(closes)]


async def test_numbers_are_those_of_the_bookings(database: Database) -> None:
    days = await open_days(database)
    await days.book(make_steps(DAYS))

    report = await make_keeper(database).measure()

    history = history_of(days)
    assert (report.fills, report.closed_trades) == (len(history.notionals), len(history.profits))
    assert min(report.fills, report.closed_trades) > 10
    assert report.run.id == "binance.forest.main.1"
    assert report.equity == Decimal(days.settled[-1][1].snapshot.equity).scaleb(-8)
    assert report.as_of == OPENED + days.settled[-1][0].after
    curves = shadows_of(days, int.from_bytes(hashlib.sha256(b"binance.forest.main.1").digest()[:8]))
    expected = compute_performance(history, curves.times_ms, curves.buy_and_hold)
    assert numbers_in(report) == pytest.approx(
        {name: getattr(expected, name) for name in expected.__dataclass_fields__}, rel=1e-6
    )
    returns = daily_returns(iter(history.times_ms.tolist()), iter(history.equity.tolist()))
    for book, equity in zip(report.shadow_books, (curves.always_flat, curves.buy_and_hold, curves.random), strict=True):
        # The first snapshot of a shadow book is its first cycle; at the opening it is worth its cash.
        theirs = daily_returns(iter([EPOCH_MS, *curves.times_ms.tolist()]), iter([float(CASH), *equity.tolist()]))
        assert book.equity == pytest.approx(equity[-1])
        found = compare_returns(np.array(returns), np.array(theirs))
        assert found is not None
        assert book.comparison is not None
        assert book.comparison.difference == pytest.approx(np.mean(returns) - np.mean(theirs), abs=1e-12)
        assert (book.comparison.low, book.comparison.high) == pytest.approx((found.low, found.high))


async def test_bit_by_bit_and_after_a_restart_the_numbers_are_the_same(database: Database) -> None:
    days = await open_days(database)
    keeper = make_keeper(database)
    steps = make_steps(4)
    for start in range(0, len(steps), 7):
        await days.book(steps[start : start + 7])
        report = await keeper.measure()

    assert report == await make_keeper(database).measure()


async def test_rows_are_read_in_parts_without_a_seam(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = await open_days(sqlite_database)
    await days.book(make_steps(3))
    whole = await make_keeper(sqlite_database).measure()

    monkeypatch.setattr(performance_rows, "CHUNK", 2)

    assert await make_keeper(sqlite_database).measure() == whole


async def test_nothing_is_read_twice(sqlite_database: Database) -> None:
    days = await open_days(sqlite_database)
    rows = CountedRows(sqlite_database)
    keeper = PerformanceKeeper(rows, lambda: KEY)
    steps = make_steps(2)
    await days.book(steps[:-1])

    first = await asyncio.gather(*(keeper.measure() for _ in range(3)))
    read = rows.read
    await days.book(steps[-1:])
    await keeper.measure()

    assert first[0] is first[1] is first[2]
    assert read == len(steps) + len(history_of(days).notionals) - len(days.settled[-1][1].fills)
    assert rows.read == read + 1 + len(days.settled[-1][1].fills)


async def test_reading_that_fails_half_way_is_begun_anew(sqlite_database: Database) -> None:
    days = await open_days(sqlite_database)
    await days.book(make_steps(2))
    keeper = PerformanceKeeper(CountedRows(sqlite_database, failures=1), lambda: KEY)

    with pytest.raises(StorageError):
        await keeper.measure()

    assert await keeper.measure() == await make_keeper(sqlite_database).measure()


async def test_warming_says_what_is_wrong_and_goes_on(sqlite_database: Database) -> None:
    keeper = PerformanceKeeper(SqlPerformanceRows(sqlite_database), lambda: RunKey("nowhere"))

    await keeper.warm()

    with pytest.raises(StorageError):
        await keeper.measure()


async def test_account_that_never_traded_is_not_known(sqlite_database: Database) -> None:
    days = await open_days(sqlite_database)
    await days.book(make_steps(DAYS, trades=False))

    report = await make_keeper(sqlite_database).measure()

    numbers = report.numbers
    assert report.verdict.answer is Answer.UNKNOWN
    assert (numbers.days, numbers.total_return, numbers.volatility, numbers.maximum_drawdown) == (13, 0.0, 0.0, 0.0)
    assert (numbers.costs_paid, numbers.turnover, numbers.exposure, numbers.beta) == (0.0, 0.0, 0.0, 0.0)
    assert {numbers.win_rate, numbers.profit_factor, numbers.expectancy, numbers.sharpe, numbers.calmar} == {None}
    assert report.verdict.reason == "Not known yet: nothing was traded so far."
    flat, held, by_chance = report.shadow_books
    assert (flat.equity, by_chance.equity) == (10_000.0, 10_000.0)
    assert held.equity != 10_000.0


async def test_account_that_was_just_opened_has_a_day(sqlite_database: Database) -> None:
    await open_days(sqlite_database)

    report = await make_keeper(sqlite_database).measure()

    assert (report.numbers.days, report.numbers.total_return, report.numbers.exposure) == (1, 0.0, None)
    assert [book.equity for book in report.shadow_books] == [10_000.0] * 3


async def test_reset_starts_anew_and_the_old_run_stays_readable(database: Database) -> None:
    days = await open_days(database)
    await days.book(make_steps(2))
    keeper = make_keeper(database)
    before = await keeper.measure()

    await days.actions.reset(KEY, "reset-1", Decimal(500), None)
    fresh = await keeper.measure()

    assert (fresh.run.id, fresh.equity, fresh.fills) == ("binance.forest.main.2", Decimal(500), 0)
    assert await keeper.measure("binance.forest.main.1") == before
    assert await keeper.measure() is fresh


async def test_only_a_handful_of_runs_is_kept(sqlite_database: Database) -> None:
    days = await open_days(sqlite_database)
    for number in range(5):
        await days.actions.reset(KEY, f"reset-{number}", Decimal(500), None)
    keeper = make_keeper(sqlite_database)

    found = [await keeper.measure(f"binance.forest.main.{number}") for number in range(1, 7)]

    assert await keeper.measure("binance.forest.main.6") is found[5]
    assert await keeper.measure("binance.forest.main.1") is not found[0]


@pytest.mark.parametrize("run", ["binance.forest.main.2", "nonsense", "\N{SNOWMAN}", "a.b.c.0"])
async def test_run_that_does_not_exist_is_not_found(sqlite_database: Database, run: str) -> None:
    await open_days(sqlite_database)

    with pytest.raises(NotFoundError) as caught:
        await make_keeper(sqlite_database).measure(run)
    assert caught.value.code == "run_not_found"
