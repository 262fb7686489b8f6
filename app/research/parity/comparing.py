"""Runs the recorded cycles of an account by the backtest's engine, at their quotes, and names what differs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Final

from app import __version__
from app.domain.action import ActionReport
from app.domain.cycle import CycleReport, Trade
from app.domain.order import Origin
from app.domain.record import find_difference, to_plain
from app.domain.standing import RunKey, Standing
from app.engine.memory_ledger import MemoryLedger
from app.errors import ServiceError
from app.research.backtest.engine_driver import seat_engine
from app.research.backtest.plan import Plan
from app.research.parity.live_stage import Joined, LiveStage, SeriesName, name_series, write_live_script
from app.research.parity.report import Cause, Difference, TradeFacts, TradeParity
from app.research.replay import RecordedCycle
from ml.bundle import Bundle

_Decided = dict[SeriesName, Trade]

_WORDS: Final[Mapping[str, Callable[[CycleReport], object]]] = {
    "decision": lambda report: report.decision and replace(report.decision, reason=""),
    "execution": lambda report: report.execution and report.execution.reason_code,
    "checks": lambda report: report.checks,
    "orders": lambda report: report.orders,
}


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A record that cannot be run again, and why; `report` is None where not even that can be read."""

    cycle_id: str | None
    report: CycleReport | None
    why: str


@dataclass(frozen=True, slots=True)
class _Ran:
    """A cycle that was run again, before the next record told what the account was afterwards.

    `found` is None where the engine refused it, and `refusal` says why.
    """

    recorded: RecordedCycle
    found: CycleReport | None
    refusal: str | None
    after: Standing
    is_restated: bool
    has_model: bool


class AccountComparer:
    """Compares the cycles of one account, in their order.

    The account is the backtest's own, from cycle to cycle; it is the recorded one at the beginning, after a person's
    doing, and after a difference, so that each difference is told once.

    Args:
        run: The account.
    """

    def __init__(self, run: str) -> None:
        self.run = run
        self.rows: list[TradeParity] = []
        self.differences: list[Difference] = []
        self.cycles = 0
        self._standing: Standing | None = None
        self._decided: _Decided = {}
        self._waiting: _Ran | None = None

    @property
    def standing(self) -> Standing | None:
        """Where the backtest's account stands; None where it is to be taken from the next record."""
        return self._standing

    def run_cycles(
        self, plan: Plan, cycles: Sequence[RecordedCycle], joined: Mapping[SeriesName, Joined], bundle: Bundle | None
    ) -> None:
        """Run cycles that follow each other under one plan and one model; without the model by what it said."""
        asyncio.run(self._run_cycles(plan, cycles, joined, bundle))

    def note_person(self, done: ActionReport) -> None:
        """Tell of what a person did; the account goes on from the next record."""
        self._settle(None)
        self._standing = None
        what = f"{done.kind} by a person: {done.reason}"
        symbols = [order.symbol for order in done.orders] + [fill.symbol for fill in done.fills]
        self.differences.append(
            Difference(self.run, None, done.at, next(iter(symbols), None), Cause.PERSON_ACTED, what)
        )
        self.rows += [_make_row(self.run, trade, None, Cause.PERSON_ACTED) for trade in done.fills]

    def note_unreadable(self, one: Unreadable) -> None:
        """Tell of a cycle that cannot be run again; the account goes on from the next record."""
        self._settle(None)
        self._standing = None
        report = one.report
        at, symbol = (report.finished_at, report.symbol) if report else (None, None)
        self.differences.append(Difference(self.run, one.cycle_id, at, symbol, Cause.RECORD_UNREADABLE, one.why))
        if report is not None:
            self._note_decided(report)
            self.rows += [_make_row(self.run, trade, None, Cause.RECORD_UNREADABLE) for trade in report.fills]

    def finish(self) -> None:
        """Judge the last cycle, too."""
        self._settle(None)

    async def _run_cycles(
        self, plan: Plan, cycles: Sequence[RecordedCycle], joined: Mapping[SeriesName, Joined], bundle: Bundle | None
    ) -> None:
        stage = LiveStage(plan, write_live_script(plan, cycles, joined, bundle), cycles)
        ledger = _LiveLedger(stage)
        key = cycles[0].inputs.standing.run.key
        engine = seat_engine(
            key, plan, stage, ledger, lambda: stage.live.report.id, lambda: stage.live.inputs.circumstances
        )
        for place, recorded in enumerate(cycles):
            self._settle(recorded.inputs.standing)
            if place == 0 or self._standing is None:
                ledger.resume(self._standing or recorded.inputs.standing, self._find_earlier(recorded))
            stage.enter(place)
            found, refusal = None, None
            try:
                found, _ = await engine.run_cycle(stage.symbol, stage.interval)
            except ServiceError as error:
                refusal = error.message
            self._standing = ledger.standing
            seen = joined[name_series(recorded)].window(recorded)
            is_restated = tuple(seen) != recorded.candles
            self._waiting = _Ran(recorded, found, refusal, ledger.standing, is_restated, bundle is not None)
            self._note_decided(recorded.report)
            self.cycles += 1

    def _find_earlier(self, recorded: RecordedCycle) -> tuple[Trade, ...]:
        """The decided trades that the engine must know of, as a candle is traded once."""
        execution = recorded.report.execution
        own = execution.trade if execution and execution.duplicate else None
        return (*self._decided.values(), *(() if own is None else (own,)))

    def _note_decided(self, report: CycleReport) -> None:
        for trade in report.fills:
            if trade.confidence is not None:
                self._decided[report.symbol, report.interval] = trade

    def _settle(self, next_standing: Standing | None) -> None:
        """Judge the cycle that waits, now that it is known (or is not) where the account stood after it."""
        ran, self._waiting = self._waiting, None
        if ran is None:
            return
        trades = _compare_trades(ran)
        moved = None if next_standing is None else _compare_standings(next_standing, ran.after)
        what = trades or _compare_words(ran) or (moved and f"the account after it: {moved}")
        cause = None
        if what is not None:
            is_taken_back = trades is not None and moved is None and next_standing is not None
            cause, what = _explain(ran, what, is_taken_back=is_taken_back)
            report = ran.recorded.report
            self.differences.append(Difference(self.run, report.id, report.finished_at, report.symbol, cause, what))
            self._standing = None
        self._note_rows(ran, cause)

    def _note_rows(self, ran: _Ran, cause: Cause | None) -> None:
        for live, other in zip_longest(ran.recorded.report.fills, ran.found.fills if ran.found else ()):
            row = _make_row(self.run, live, other, cause)
            if row.live == row.backtest:
                is_borrowed = not ran.has_model and row.origin is Origin.SIGNAL
                row = replace(row, cause=Cause.MODEL_MISSING if is_borrowed else None)
            self.rows.append(row)


class _LiveLedger(MemoryLedger):
    """A ledger that keeps trades, and no reports."""

    def _keep(self, report: CycleReport) -> None:
        self._keep_trades(report.fills)

    async def record_refusal(self, report: CycleReport, key: RunKey) -> None:
        """Leave a refused cycle alone."""


def _explain(ran: _Ran, what: str, *, is_taken_back: bool) -> tuple[Cause, str]:
    """Why a cycle came out another; `is_taken_back` where the next record has the account as the backtest has it."""
    version = ran.recorded.inputs.circumstances.code_version
    if is_taken_back:
        return Cause.UNEXPLAINED, f"{what} (the next record agrees with the backtest: see python -m app verify)"
    if ran.is_restated:
        return Cause.CANDLES_RESTATED, what
    if not ran.has_model:
        return Cause.MODEL_MISSING, what
    if version != __version__:
        return Cause.VERSION_CHANGED, f"{what} (run by version {version})"
    return Cause.UNEXPLAINED, what


def _compare_trades(ran: _Ran) -> str | None:
    """The first thing in which the trades of a cycle differ."""
    if ran.found is None:
        return f"the backtest refused the cycle: {ran.refusal}"
    live, found = ([tell_facts(one) for one in report.fills] for report in (ran.recorded.report, ran.found))
    if len(live) != len(found):
        return f"trades: {len(live)} and {len(found)}"
    return find_difference(to_plain(live), to_plain(found), "trades")


def _compare_words(ran: _Ran) -> str | None:
    """The first other thing in which a cycle came out another: what was decided, what came of it, the orders."""
    live, found = ran.recorded.report, ran.found
    if found is None:
        return None
    for name, of in _WORDS.items():
        difference = find_difference(to_plain(of(live)), to_plain(of(found)), name)
        if difference is not None:
            return difference
    return None


def _compare_standings(recorded: Standing, found: Standing) -> str | None:
    if recorded == found:
        return None
    return find_difference(_order(recorded), _order(found))


def _order(standing: Standing) -> object:
    """An account as plain JSON, its orders in an order of their own."""
    return to_plain(replace(standing, orders=tuple(sorted(standing.orders, key=lambda order: order.id))))


def tell_facts(trade: Trade) -> TradeFacts:
    """What must be equal of a trade."""
    return TradeFacts(trade.side, trade.quantity, trade.price, trade.fee, trade.cash_after, trade.position_after)


def _make_row(run: str, live: Trade | None, backtest: Trade | None, cause: Cause | None) -> TradeParity:
    told = live or backtest
    if told is None:
        raise ValueError("a row needs a trade")
    return TradeParity(
        run=run,
        trade_id=live.id if live else None,
        cycle_id=told.cycle_id,
        at=told.executed_at,
        symbol=told.symbol,
        interval=told.interval,
        candle_open_time=told.candle_open_time,
        origin=told.origin,
        live=tell_facts(live) if live else None,
        backtest=tell_facts(backtest) if backtest else None,
        cause=cause,
    )
