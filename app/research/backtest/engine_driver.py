"""The engine backtest: the live TradingEngine, its agents and its desk over recorded candles, on a memory ledger.

Every cycle that may do anything is run by the engine. One that cannot (nothing was decided that may be traded, and no
order of its symbol rests) leaves the account as it was, at a new price: those are passed by with the rules of
`Snapshot`, as so many of them would take most of the time. `every_cycle` has the engine run all of them; the parity
suite compares both.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Final

import numpy as np

from app import __version__
from app.agents.decision_making import DecisionMakingAgent
from app.agents.execution import ExecutionAgent
from app.agents.risk import RiskAgent
from app.domain.booking import make_report
from app.domain.cycle import BookedFill, Circumstances, CycleDraft, CycleReport, Settlement
from app.domain.money import to_units
from app.domain.order import Side
from app.domain.portfolio import worth
from app.domain.ports import Clock, IdempotencyKey, Ledger, Settle
from app.domain.standing import Run, RunKey, Snapshot, Standing
from app.engine.memory_ledger import MemoryLedger
from app.engine.trading_engine import Seats, TradingEngine
from app.errors import InvalidInputError, ServiceError
from app.research.backtest.books import FIRST_REFUSAL, ORIGINS, OUTCOMES, Books, Fills
from app.research.backtest.kernel.layout import CONFIDENT
from app.research.backtest.plan import Plan, Series
from app.research.backtest.stage import SOURCE, Script, Stage, write_script
from app.risk.limit_rules import loss_ppm
from app.risk.sizing import to_ppm

OnProgress = Callable[[float, str], None]
"""Hears how far work is, from 0 to 1, and what it does."""

_KEY: Final = RunKey(SOURCE)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_DAY_MS: Final = 86_400_000
_CODES: Final = {code: place for place, code in enumerate(OUTCOMES)}
_BY_ORIGIN: Final = {origin: place for place, origin in enumerate(ORIGINS)}
_ALREADY_IN_POSITION: Final = _CODES["already_in_position"]
_NO_POSITION: Final = _CODES["no_position"]
_TELL_EVERY: Final = 10_000


def run_engine(
    plan: Plan,
    series: Sequence[Series],
    on_progress: OnProgress | None = None,
    *,
    every_cycle: bool = False,
    standing: Standing | None = None,
) -> Books:
    """Run a backtest by the live engine; its books equal those of `compiled.run_compiled`.

    Args:
        plan: How it is traded.
        series: The markets, and what is said of them.
        on_progress: Hears how far it is.
        every_cycle: Have the engine run the cycles, too, that cannot change anything.
        standing: Where an account stood that the backtest goes on with; a new one is opened without it.

    Raises:
        InvalidInputError: `beyond_64_bits` or `candle_not_positive`, as `checked_bars.check_bars`.
    """
    run = _Run(plan, write_script(plan, series), every_cycle=every_cycle, standing=standing)
    asyncio.run(run.run(on_progress))
    return run.close()  # not what `asyncio.run` returns: in giving the signals back it writes that out as text


def seat_engine(
    key: RunKey,
    plan: Plan,
    stage: Stage,
    ledger: Ledger,
    new_id: Callable[[], str],
    circumstances: Callable[[], Circumstances],
) -> TradingEngine:
    """The live engine with its agents, on a stage instead of a market."""
    risk = RiskAgent(plan.sizing, plan.limits, plan.protection, allow_short=plan.terms.allow_short)
    seats = Seats(stage, DecisionMakingAgent(stage, plan.gate), ExecutionAgent(ledger, plan.terms, risk, stage))
    return TradingEngine(key, seats, ledger, stage, new_id, circumstances)


class _Run:
    """One backtest under way."""

    def __init__(self, plan: Plan, script: Script, *, every_cycle: bool, standing: Standing | None) -> None:
        self._plan = plan
        self._script = script
        self._every_cycle = every_cycle
        self._symbols = [series.symbol for series in script.prepared.ground.series]
        self._deepest_ppm = to_ppm(plan.limits.max_drawdown)
        self._stage = stage = Stage(plan, script)
        self._ledger = ledger = _Ledger(stage)
        if standing is not None:
            ledger.resume(standing)
        numbers = count()
        key = _KEY if standing is None else standing.run.key
        self._engine = seat_engine(key, plan, stage, ledger, lambda: str(next(numbers)), self._circumstances)
        self._outcomes: list[int] = []
        self._equity: list[int] = []
        self._held: list[bool] = []
        self._halted_cycle = -1

    async def run(self, on_progress: OnProgress | None) -> None:
        """Run every cycle."""
        cycle, told, total = 0, 0, len(self._script)
        if total:
            self._stage.enter(0)
            await self._ledger.open_account(_KEY, self._plan.initial_cash)
        while cycle < total:
            if not self._every_cycle:
                cycle = self._pass_by(cycle, min(cycle + _TELL_EVERY, total))
            if cycle < total:
                await self._run_cycle(cycle)
                cycle += 1
            if on_progress is not None and cycle - told >= _TELL_EVERY:
                on_progress(cycle / total, f"Cycle {cycle:,} of {total:,}.")
                told = cycle

    async def _run_cycle(self, cycle: int) -> None:
        self._stage.enter(cycle)
        self._ledger.cycle = cycle
        was_halted = self._ledger.standing.halt is not None
        try:
            report, _ = await self._engine.run_cycle(self._stage.symbol, self._stage.interval)
        except ServiceError as error:
            outcome = _CODES[error.code]
        else:
            outcome = _CODES[report.execution.reason_code] if report.execution else _NO_POSITION
        standing = self._ledger.standing
        if standing.halt is not None and not was_halted:
            self._halted_cycle = cycle
        self._outcomes.append(outcome)
        self._equity.append(standing.snapshot.equity)
        self._held.append(bool(standing.portfolio.positions))

    def _pass_by(self, start: int, end: int) -> int:
        """Pass the cycles by that change nothing; the first that the engine has to run, or `end`."""
        script, standing = self._script, self._ledger.standing
        quiet = _QuietAccount(script, self._symbols, standing, self._deepest_ppm)
        resting = {order.symbol for order in standing.orders}
        cycle = start
        while cycle < end:
            busy = script.busy[bisect_left(script.busy, cycle)] if not resting else cycle
            stop = quiet.pass_by(cycle, min(busy, end), self._equity)
            self._outcomes += script.verdicts[cycle:stop]
            cycle = stop
            if cycle < min(busy, end) or cycle == end:
                break
            symbol = self._symbols[script.series[cycle]]
            outcome = None if symbol in resting else self._find_outcome(cycle, standing.portfolio.quantity(symbol))
            if outcome is None or quiet.pass_by(cycle, cycle + 1, self._equity) == cycle:
                break
            self._outcomes.append(outcome)
            cycle += 1
        self._held += [bool(standing.portfolio.positions)] * (cycle - start)
        self._ledger.standing = quiet.leave(standing)
        return cycle

    def _find_outcome(self, cycle: int, held: int) -> int | None:
        """What comes of a cycle that changes nothing; None where it may change something."""
        verdict, side = self._script.verdicts[cycle], self._script.sides[cycle]
        if verdict != CONFIDENT:
            return verdict
        if held:
            return _ALREADY_IN_POSITION if (held > 0) == (side > 0) else None
        return _NO_POSITION if side < 0 and not self._plan.terms.allow_short else None

    def _circumstances(self) -> Circumstances:
        return Circumstances("", "", __version__, 0, self._stage.model_age)

    def close(self) -> Books:
        """The books of the cycles that were run; raises as `run_engine`."""
        ground = self._script.prepared.ground
        try:
            fills, equity = np.array(self._ledger.fills, dtype=np.int64), np.array(self._equity, dtype=np.int64)
        except OverflowError as error:
            words = "The account grew beyond the 92 billion whole units that books hold: take less cash."
            raise InvalidInputError(words, code="beyond_64_bits") from error
        return Books(
            times_ms=ground.times_ms,
            series=ground.cycle_series,
            first_bars=np.zeros(len(ground.series), dtype=np.int64),
            outcomes=np.array(self._outcomes, dtype=np.int8),
            equity=equity,
            held=np.array(self._held, dtype=np.bool_),
            fills=Fills(*np.ascontiguousarray(fills.reshape(-1, 12).T)),
            halted_cycle=self._halted_cycle,
        )


class _QuietAccount:
    """An account that nothing happens to but new prices, with the rules of `Snapshot`."""

    def __init__(self, script: Script, symbols: Sequence[str], standing: Standing, deepest_ppm: int) -> None:
        snapshot = standing.snapshot
        self._script = script
        self._symbols = symbols
        held = ((symbol, snapshot.portfolio.holding(symbol)) for symbol in snapshot.portfolio.symbols())
        self._holdings = {symbol: holding for symbol, holding in held if holding}
        self._worths = {symbol: worth(holding, snapshot.marks[symbol]) for symbol, holding in self._holdings.items()}
        self._snapshot = snapshot
        self._marks = dict(snapshot.marks)
        self._peak = snapshot.peak_equity
        self._deepest_ppm = deepest_ppm if standing.halt is None else 0
        self._day_ends = (_milliseconds(snapshot.at) // _DAY_MS + 1) * _DAY_MS
        self._day_equity: int | None = None
        self._last_ms: int | None = None
        self._now_equity = snapshot.equity

    def pass_by(self, start: int, stop: int, equities: list[int]) -> int:
        """Let cycles pass, and note the equity after each; the first that the account is due a halt in, or `stop`."""
        if self._is_due_halt(self._now_equity):  # by what the last fill lost: the next cycle that is not refused halts
            verdicts = self._script.verdicts
            stop = next((cycle for cycle in range(start, stop) if verdicts[cycle] < FIRST_REFUSAL), stop)
        if not self._holdings:
            self._pass_time(start, stop)
            equities += [self._now_equity] * (stop - start)
            return stop
        return self._hold(start, stop, equities)

    def _hold(self, start: int, stop: int, equities: list[int]) -> int:
        """Let cycles pass in which something is held: `pass_by` once it is known that no halt is due before them."""
        script, rows = self._script, slice(start, stop)
        holdings, worths, marks, symbols = self._holdings, self._worths, self._marks, self._symbols
        equity, last_ms, may_halt = self._now_equity, self._last_ms, self._deepest_ppm > 0
        columns = (script.verdicts[rows], script.series[rows], script.quotes[rows], script.times_ms[rows])
        for cycle, verdict, place, quote, now_ms in zip(range(start, stop), *columns, strict=True):
            if verdict < FIRST_REFUSAL:
                symbol, before = symbols[place], equity
                if symbol in holdings:
                    value = worth(holdings[symbol], quote)
                    equity += value - worths[symbol]
                    if equity > self._peak:
                        self._peak = equity
                    elif may_halt and self._is_due_halt(equity):
                        stop, equity = cycle, before
                        break
                    worths[symbol], marks[symbol] = value, quote
                if now_ms >= self._day_ends:
                    self._end_day(before, now_ms)
                last_ms = now_ms
            equities.append(equity)
        self._last_ms, self._now_equity = last_ms, equity
        return stop

    def _pass_time(self, start: int, stop: int) -> None:
        """Let cycles pass in which nothing is held: all that changes is the day."""
        script = self._script
        seen = (cycle for cycle in range(stop - 1, start - 1, -1) if script.verdicts[cycle] < FIRST_REFUSAL)
        last = next(seen, None)
        if last is None:
            return
        self._last_ms = script.times_ms[last]
        if self._last_ms >= self._day_ends:
            self._end_day(self._now_equity, self._last_ms)

    def _is_due_halt(self, equity: int) -> bool:
        deepest = self._deepest_ppm
        return deepest > 0 and equity < self._peak and loss_ppm(self._peak, equity) >= deepest

    def _end_day(self, equity: int, now_ms: int) -> None:
        self._day_equity = equity
        self._day_ends = (now_ms // _DAY_MS + 1) * _DAY_MS

    def leave(self, standing: Standing) -> Standing:
        """Where the account stands after the cycles that passed."""
        if self._last_ms is None:
            return standing
        before, has_day_ended = self._snapshot, self._day_equity is not None
        return Standing(
            standing.run,
            Snapshot(
                at=_EPOCH + self._last_ms * _MILLISECOND,
                portfolio=before.portfolio,
                equity=self._now_equity,
                peak_equity=self._peak,
                day_equity=before.day_equity if self._day_equity is None else self._day_equity,
                marks=self._marks,
                trades_today=0 if has_day_ended else before.trades_today,
                losses_in_a_row=before.losses_in_a_row,
                last_loss_at=before.last_loss_at,
            ),
            standing.orders,
            standing.halt,
        )


class _Ledger(MemoryLedger):
    """A ledger that keeps fills as rows of `Fills`, and no reports."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.cycle = 0
        self.fills: list[tuple[int, ...]] = []

    async def record_cycle(
        self, draft: CycleDraft, settle: Settle, clock: Clock, key: IdempotencyKey | None = None
    ) -> CycleReport:
        """Book a cycle, as `MemoryLedger`, and note its fills."""

        def settle_and_note(standing: Standing, now: datetime) -> Settlement:
            settlement = settle(standing, now)
            self.fills += [self._note(entry) for entry in settlement.fills]
            return settlement

        return await super().record_cycle(draft, settle_and_note, clock, key)

    async def record_refusal(self, report: CycleReport, key: RunKey) -> None:
        """Leave a refused cycle alone."""

    def _report(self, run: Run, draft: CycleDraft, settlement: Settlement, now: datetime) -> CycleReport:
        """The report that the engine is answered with; it has no trades, as nobody will ask for them."""
        return make_report(run, draft, settlement, [], now)

    def _keep(self, report: CycleReport) -> None:
        pass

    def _note(self, entry: BookedFill) -> tuple[int, ...]:
        fill, exit_ = entry.fill, entry.exit
        return (
            self.cycle,
            1 if fill.side is Side.BUY else -1,
            _BY_ORIGIN[entry.origin],
            to_units(fill.quantity),
            to_units(fill.price),
            entry.reference,
            to_units(fill.notional),
            to_units(fill.fee),
            exit_.profit if exit_ else 0,
            exit_.entry_fees if exit_ else 0,
            entry.cash_after,
            entry.position_after,
        )


def _milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MILLISECOND
