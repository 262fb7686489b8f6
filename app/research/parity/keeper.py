"""Compares life with the backtest, account by account, and keeps the newest report."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import groupby
from typing import Final

from sqlalchemy import Connection

from app.domain.action import ActionReport
from app.domain.ports import Clock, Selection
from app.domain.record import canonical, from_plain, to_plain
from app.errors import ConflictError, NotFoundError
from app.research.backtest.plan import Plan
from app.research.child import OnProgress
from app.research.parity.comparing import AccountComparer, Unreadable
from app.research.parity.live_stage import Joined, SeriesName, name_series
from app.research.parity.next_open import Assumed, LiveStretch, Look, ModelName, assume_next_open
from app.research.parity.reading import Step, name_group, read_steps
from app.research.parity.report import ParityReport, StretchStart, shorten
from app.research.parity.summing import Compared, sum_up
from app.research.replay import RecordedCycle, Replayer
from app.storage.cycle_candles import load_newest
from app.storage.database import Database
from app.storage.parity import SqlParity
from app.storage.standings import Account, find_equity
from app.storage.verification import list_accounts
from app.strategies.forest import ForestStrategy
from ml.bundle import Bundle

KEPT_ROWS: Final = 1_000
"""A kept report has so many trades, those that are not equal first."""

_AT_QUOTES: Final = 0.7
"""How far an account is once all its cycles are compared at their own quotes."""

_Hears = Callable[[float], None]


@dataclass(slots=True)
class _Course:
    """An account under way: its stretches so far, and why the next cycle begins another, None where it does not."""

    comparer: AccountComparer
    stretches: list[LiveStretch] = field(default_factory=list)
    next_start: StretchStart | None = StretchStart.BEGINNING
    settings: str = ""


class ParityKeeper:
    """Runs every recorded cycle again by the backtest: at its own quote, and at the next open as backtests assume.

    Args:
        database: An open database.
        replayer: Reads rules and models of recorded cycles.
        clock: Stamps reports.
    """

    def __init__(self, database: Database, replayer: Replayer, clock: Clock) -> None:
        self._database = database
        self._replayer = replayer
        self._clock = clock
        self._reports = SqlParity(database)

    async def run(self, on_progress: OnProgress, since: datetime | None = None, run: str | None = None) -> ParityReport:
        """Compare, and keep the report.

        Args:
            on_progress: Hears how far it is.
            since: Only cycles that ended then or later; all of them without it.
            run: Only this account; all of them without it.

        Raises:
            NotFoundError: `run_not_found`.
        """
        accounts = await self._database.read(lambda connection: list_accounts(connection, run))
        if run is not None and not accounts:
            raise NotFoundError(f"There is no run {run[:80]!r}.", code="run_not_found")
        compared = []
        for place, account in enumerate(accounts):

            def tell(share: float, place: int = place, account: Account = account) -> None:
                on_progress((place + share) / len(accounts), account.run.id)

            compared.append(await _Comparison(self._database, self._replayer, account).run(since, tell))
        report = await asyncio.to_thread(sum_up, self._clock.now(), since, compared)
        await self._reports.save(report.created_at, canonical(to_plain(shorten(report, KEPT_ROWS))))
        return report

    async def summarize(self, wanted: Selection, on_progress: OnProgress) -> dict[str, object]:
        """The totals of `run`, of the run and since the time that are wanted; raises as `run`."""
        report = await self.run(on_progress, wanted.since, wanted.run)
        return {"trades": report.trades, "equal": report.equal, "unexplained": report.unexplained}

    async def latest(self) -> ParityReport:
        """The newest report with at most `KEPT_ROWS` trades; raises NotFoundError `parity_not_found`."""
        report: ParityReport = from_plain(ParityReport, json.loads(await self._reports.load()))
        return report


class _Comparison:
    """The comparison of one account."""

    def __init__(self, database: Database, replayer: Replayer, account: Account) -> None:
        self._database = database
        self._replayer = replayer
        self._account = account
        self._bundles: dict[ModelName, Bundle | None] = {}

    async def run(self, since: datetime | None, tell: _Hears) -> Compared:
        course = _Course(AccountComparer(self._account.run.id))
        async for share, steps in read_steps(self._database, self._account, since):
            for _, group in groupby(steps, name_group):
                await self._take(course, list(group))
            tell(share * _AT_QUOTES)
        course.comparer.finish()
        assumed, equities = [], []
        for place, stretch in enumerate(course.stretches, start=1):
            equities.append(
                await self._database.read(partial(find_equity, account=self._account, at=stretch.looks[-1].at))
            )
            assumed.append(await self._assume(stretch))
            tell(_AT_QUOTES + place / len(course.stretches) * (1 - _AT_QUOTES))
        return Compared(course.comparer, course.stretches, assumed, equities)

    async def _take(self, course: _Course, steps: Sequence[Step]) -> None:
        """Take the next steps of one kind: cycles under the same settings and model, or what is none."""
        cycles = [step for step in steps if isinstance(step, RecordedCycle)]
        if cycles:
            try:
                plan = self._make_plan(cycles)
            except ConflictError as error:
                steps = [Unreadable(one.report.id, one.report, error.message) for one in cycles]
            else:
                await self._run_cycles(course, plan, cycles)
        for step in steps:
            if isinstance(step, ActionReport):
                course.next_start = StretchStart.PERSON_ACTED
                course.comparer.note_person(step)
            elif isinstance(step, Unreadable):
                course.next_start = StretchStart.RECORD_UNREADABLE
                course.comparer.note_unreadable(step)

    def _make_plan(self, cycles: Sequence[RecordedCycle]) -> Plan:
        """How the cycles traded; raises ConflictError `settings_missing` or `settings_unreadable`."""
        rules = self._replayer.get_rules(cycles[0])
        return Plan(
            self._account.run.initial_cash,
            rules.gate,
            rules.terms,
            rules.sizing,
            rules.limits,
            rules.protection,
            window_bars=max(len(cycle.candles) for cycle in cycles),
            minimum_bars=ForestStrategy.lookback_bars,
        )

    async def _run_cycles(self, course: _Course, plan: Plan, cycles: Sequence[RecordedCycle]) -> None:
        bundle = await self._find_bundle(cycles[0])
        looks = [_look(cycle) for cycle in cycles]
        joined = await self._join(looks)
        _note_looks(course, plan, cycles[0], looks)
        await asyncio.to_thread(course.comparer.run_cycles, plan, cycles, joined, bundle)

    async def _assume(self, stretch: LiveStretch) -> Assumed:
        joined = await self._join(stretch.looks, more=1)
        return await asyncio.to_thread(assume_next_open, stretch, joined, self._bundles)

    async def _join(self, looks: Sequence[Look], more: int = 0) -> Mapping[SeriesName, Joined]:
        """The candles that cycles looked at, and so many `more` after them as there are."""
        source = self._account.run.key.source
        spans: dict[SeriesName, tuple[datetime, datetime]] = {}
        for look in looks:
            least, most = spans.get(look.series, (look.first, look.newest))
            spans[look.series] = (min(least, look.first), max(most, look.newest))

        def load(connection: Connection) -> dict[SeriesName, Joined]:
            return {
                name: Joined.of(load_newest(connection, source, *name, first, last + more * name[1].duration))
                for name, (first, last) in spans.items()
            }

        return await self._database.read(load)

    async def _find_bundle(self, cycle: RecordedCycle) -> Bundle | None:
        """The model that decided a cycle, None where it is missing or another."""
        if cycle.model not in self._bundles:
            try:
                self._bundles[cycle.model] = await self._replayer.load_model(cycle)
            except ConflictError:
                self._bundles[cycle.model] = None
        return self._bundles[cycle.model]


def _note_looks(course: _Course, plan: Plan, first: RecordedCycle, looks: Sequence[Look]) -> None:
    """Note cycles for the backtest at the next open."""
    start, digest = course.next_start, first.inputs.circumstances.settings_digest
    if start is None and digest != course.settings:
        start = StretchStart.SETTINGS_CHANGED
    if start is not None:
        course.stretches.append(LiveStretch(start, plan, first.inputs.standing))
    course.stretches[-1].looks += looks
    course.settings, course.next_start = digest, None


def _look(cycle: RecordedCycle) -> Look:
    return Look(
        cycle_id=cycle.report.id,
        at=cycle.report.finished_at,
        series=name_series(cycle),
        first=cycle.candles[0].open_time,
        newest=cycle.candles[-1].open_time,
        model=cycle.model,
        is_doubted=cycle.inputs.doubt is not None,
        quote=float(cycle.inputs.quote.price),
        instrument=cycle.inputs.instrument,
        decision=cycle.report.decision,
    )
