"""What an account has done so far, beside its shadow books, and whether that is any good."""

from __future__ import annotations

import asyncio
import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final

import numpy as np
import structlog

from app.domain.money import UNITS, from_units, to_units
from app.domain.record import from_microseconds
from app.domain.standing import Run, RunKey
from app.errors import ServiceError
from app.risk.comparison import LEAST_DAYS, Comparison, compare_returns
from app.risk.curves import compute_daily_curve, compute_daily_returns, find_utc_days
from app.risk.metrics import AccountHistory, Performance, compute_performance
from app.risk.shadow_books import ShadowBooks
from app.storage.performance_rows import FillRow, SnapshotRow, SqlPerformanceRows
from app.storage.standings import Account
from ml.bars import FloatArray, IntegerArray

log = structlog.get_logger()

_KEPT_RUNS: Final = 4
"""How many runs are remembered; an older one that is asked for again is read again."""

_MAXIMUM_SIDE_COST: Final = 0.999_999
"""What a trade of a coin whose price is hardly above its tick costs at most: books that pay more than all go under."""

_SIMULATED: Final = " The market was simulated, so it says nothing about a real one."


class Answer(StrEnum):
    """Whether the account is any good."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to "is it any good?", and the sentence that says why."""

    answer: Answer
    reason: str


@dataclass(frozen=True, slots=True)
class ShadowResult:
    """How a shadow book stands beside the account.

    Attributes:
        name: The book, as in `app.risk.shadow_books`.
        equity: What it is worth now, quote units.
        total_return: That over the initial cash, less 1, as a fraction.
        comparison: How much better than it the account did; None below `LEAST_DAYS`, and where either was worth
            nothing at the end of a day.
    """

    name: str
    equity: float
    total_return: float
    comparison: Comparison | None


@dataclass(frozen=True, slots=True)
class PerformanceReport:
    """Everything that is known of how a run did, up to its newest snapshot.

    Attributes:
        run: Whose numbers they are.
        as_of: When the newest snapshot was taken.
        equity: What the account was worth then, quote units, exact.
        fills: How many there were.
        closed_trades: How many of these closed a position or a part of one.
        numbers: The numbers of `app.risk.metrics`.
        shadow_books: Always flat, buy-and-hold and random.
        verdict: Whether it is any good.
    """

    run: Run
    as_of: datetime
    equity: Decimal
    fills: int
    closed_trades: int
    numbers: Performance
    shadow_books: tuple[ShadowResult, ...]
    verdict: Verdict


class PerformanceKeeper:
    """Computes the performance of runs, each time from what is new since the last.

    Args:
        rows: Where bookings are read.
        key: Gives whose newest run is meant where none is named; asked at each call.
    """

    def __init__(self, rows: SqlPerformanceRows, key: Callable[[], RunKey]) -> None:
        self._rows = rows
        self._key = key
        self._kept: OrderedDict[str, _RunSoFar] = OrderedDict()
        self._working = asyncio.Lock()

    async def warm(self) -> None:
        """Read the newest run, so that the first who asks need not wait for it; says what is wrong in the log."""
        try:
            await self.measure()
        except ServiceError as error:
            log.warning("performance.not_computed", code=error.code, detail=error.message)

    async def measure(self, run_id: str | None = None) -> PerformanceReport:
        """How a run did, by default the newest of the service's own account.

        Raises:
            NotFoundError: `run_not_found`.
            StorageError: The books could not be read.
        """
        async with self._working:
            account = await self._rows.find_run(self._key(), run_id)
            newest = await self._rows.find_newest(account)
            # Taken out while it is worked on: what fails or is cancelled half-way is begun anew the next time.
            known = self._kept.pop(account.run.id, None) or _RunSoFar(account.run)
            if known.report is None or known.last_snapshot < newest:
                await self._read_on(known, account, newest)
                known.report = await asyncio.to_thread(known.summarize)
            self._kept[account.run.id] = known
            if len(self._kept) > _KEPT_RUNS:
                self._kept.popitem(last=False)
            return known.report

    async def _read_on(self, known: _RunSoFar, account: Account, newest: int) -> None:
        while known.last_snapshot < newest:
            snapshots = await self._rows.load_snapshots(account, known.last_snapshot, newest)
            fills: list[FillRow] = []
            while (last := fills[-1].number if fills else known.last_fill) < snapshots[-1].last_fill:
                fills += await self._rows.load_fills(account, last, snapshots[-1].last_fill)
            await asyncio.to_thread(known.add, snapshots, fills)


class _RunSoFar:
    """A run as arrays that grow, and its shadow books."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.last_snapshot = 0
        self.last_fill = 0
        self.report: PerformanceReport | None = None
        self._newest_equity = to_units(run.initial_cash)
        self._books = ShadowBooks(float(run.initial_cash), _seed(run.id))
        self._times_ms = array("q")
        self._equity = array("d")
        self._held = array("b")
        self._notionals = array("d")
        self._fees = array("d")
        self._slippages = array("d")
        self._profits = array("d")

    def add(self, snapshots: Sequence[SnapshotRow], fills: Sequence[FillRow]) -> None:
        """Take in what came after what is known: snapshots in their order, and all fills up to the last of them."""
        waiting = iter(fills)
        fill = next(waiting, None)
        for row in snapshots:
            # A machine's clock may be set back; what was booked later still came later.
            time_ms = max(row.time_ms, self._times_ms[-1]) if self._times_ms else row.time_ms
            self._times_ms.append(time_ms)
            self._equity.append(row.equity / UNITS)
            self._held.append(row.held)
            if row.is_cycle and row.symbol is not None:
                self._books.add_cycle(time_ms, row.symbol, row.price, min(row.side_cost, _MAXIMUM_SIDE_COST))
            while fill is not None and fill.number <= row.last_fill:
                self._add_fill(fill, row.equity / UNITS)
                fill = next(waiting, None)
            self._newest_equity, self.last_snapshot = row.equity, row.number

    def _add_fill(self, fill: FillRow, equity: float) -> None:
        self._notionals.append(fill.notional)
        self._fees.append(fill.fee)
        self._slippages.append(fill.slippage)
        if fill.profit is not None:
            self._profits.append(fill.profit)
        if equity > 0:
            self._books.add_fill(fill.symbol, fill.notional / equity)
        self.last_fill = fill.number

    def summarize(self) -> PerformanceReport:
        """Everything at once."""
        history = AccountHistory(
            initial_cash=float(self.run.initial_cash),
            times_ms=np.array(self._times_ms, dtype=np.int64),
            equity=np.array(self._equity),
            held=np.array(self._held, dtype=np.bool_),
            notionals=np.array(self._notionals),
            fees=np.array(self._fees),
            slippages=np.array(self._slippages),
            profits=np.array(self._profits),
        )
        curves = self._books.curves()
        numbers = compute_performance(history, curves.times_ms, curves.buy_and_hold)
        shadow_books = _compare(
            history,
            curves.times_ms,
            {"always_flat": curves.always_flat, "buy_and_hold": curves.buy_and_hold, "random": curves.random},
        )
        return PerformanceReport(
            run=self.run,
            as_of=from_microseconds(self._times_ms[-1] * 1_000) if self._times_ms else self.run.opened_at,
            equity=from_units(self._newest_equity),
            fills=len(self._notionals),
            closed_trades=len(self._profits),
            numbers=numbers,
            shadow_books=shadow_books,
            verdict=judge(self.run, numbers.days, len(self._notionals), shadow_books),
        )


def judge(run: Run, days: int, fills: int, shadow_books: Sequence[ShadowResult]) -> Verdict:
    """Whether an account is any good: yes where it beat every shadow book, no where one of them beat it.

    A book is beaten, or beats, where the whole 95 % interval of the difference lies on one side of 0.
    """
    told = {book.name: book.comparison for book in shadow_books if book.comparison is not None}
    if fills == 0:
        answer, reason = Answer.UNKNOWN, "Not known yet: nothing was traded so far."
    elif days < LEAST_DAYS:
        answer, reason = Answer.UNKNOWN, f"Not known yet: {days} of at least {LEAST_DAYS} days."
    elif len(told) < len(shadow_books):
        answer, reason = Answer.NO, "No: it was worth nothing at the end of a day."
    elif worse := [name for name, found in told.items() if found.better is False]:
        worst = min(worse, key=lambda name: told[name].high)
        answer, reason = Answer.NO, f"No: by {_in_words(told[worst])} a day against {_spaced(worst)}, in {days} days."
    elif all(found.better for found in told.values()):
        answer, reason = (
            Answer.YES,
            f"Yes, by {_in_words(told['buy_and_hold'])} a day over buy-and-hold, in {days} days.",
        )
    else:
        close = [name for name, found in told.items() if found.better is None]
        least = min(close, key=lambda name: told[name].difference)
        answer = Answer.UNKNOWN
        reason = (
            f"Not known yet: {_in_words(told[least])} a day against {_spaced(least)} in {days} days may be luck alone."
        )
    return Verdict(answer, reason + (_SIMULATED if run.key.source == "simulated" else ""))


def _in_words(found: Comparison) -> str:
    return f"{found.difference:+.3%} [{found.low:+.3%}, {found.high:+.3%}]"


def _spaced(name: str) -> str:
    return {"always_flat": "always flat", "buy_and_hold": "buy-and-hold", "random": "random trades"}[name]


def _compare(
    account: AccountHistory, times_ms: IntegerArray, books: Mapping[str, FloatArray]
) -> tuple[ShadowResult, ...]:
    """Each book against the account, over the account's days."""
    days = find_utc_days(account.times_ms)

    def returns_of(times_ms: IntegerArray, equity: FloatArray) -> FloatArray:
        return compute_daily_returns(compute_daily_curve(times_ms, equity, account.initial_cash, days))

    returns = returns_of(account.times_ms, account.equity)
    results = []
    for name, equity in books.items():
        newest = float(equity[-1]) if equity.size else account.initial_cash
        comparison = compare_returns(returns, returns_of(times_ms, equity))
        results.append(ShadowResult(name, newest, newest / account.initial_cash - 1.0, comparison))
    return tuple(results)


def _seed(run_id: str) -> int:
    """A number of its own for each run, the same in every process."""
    return int.from_bytes(hashlib.sha256(run_id.encode()).digest()[:8])
