"""A machine that does to an account whatever can be done to it, with an exact account beside it, and lets it crash."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Connection, func, select

from app.agents.execution import ExecutionAgent
from app.domain.candle import Interval
from app.domain.market import MarketSnapshot
from app.domain.money import from_units, to_units
from app.domain.order import OrderKind, Side
from app.domain.portfolio import find_contradictions
from app.domain.ports import IdempotencyKey
from app.domain.signal import Signal
from app.domain.standing import RunKey
from app.engine.portfolio_desk import OrderRequest, PortfolioDesk
from app.errors import ConflictError, InvalidInputError, NotFoundError
from app.storage import rebuild, standings
from app.storage.account_tables import dust_transfers, orders, snapshots
from app.storage.actions import SqlActions
from app.storage.ledger import SqlLedger
from app.storage.records import SELECT_TRADES, trade_from_row
from app.storage.tables import cycles, event_log, records, trades
from tests.support.fire import DirectDatabase, PowerCut, audit
from tests.support.fire_market import INSTRUMENTS, FireMarket, draft_of, make_risk, make_terms
from tests.support.fire_model import Model, check_standing

pytest_plugins = ("tests.support.databases",)

_NUMBERS = (cycles.c.number, trades.c.id, orders.c.number, records.c.number, event_log.c.number, snapshots.c.number)
_NEWEST = select(*(select(func.max(column)).scalar_subquery() for column in _NUMBERS))
_HAPPENINGS = [
    *["a_cycle_runs"] * 12,
    *["a_person_orders"] * 10,
    *["time_passes", "a_person_closes", "a_person_cancels", "the_power_goes", "the_clock_is_set_back"],
    *["a_person_halts_or_resumes", "a_person_resets"],
]
_SEEDS = st.integers(0, 2**32 - 1)


class AccountMachine(RuleBasedStateMachine):
    """Drives one account; each rule is a thing that happens."""

    database: ClassVar[DirectDatabase]
    accounts: ClassVar[int] = 0
    steps: ClassVar[int] = 0
    crashes: ClassVar[int] = 0
    fills: ClassVar[int] = 0

    @initialize(seed=_SEEDS)
    def begin(self, seed: int) -> None:
        self.random = Random(seed)
        type(self).accounts += 1
        self.key = RunKey("simulated", name=f"a{self.accounts}")
        self.market = FireMarket(self.random, self.random.sample(sorted(INSTRUMENTS), 2))
        self.terms = make_terms(self.random)
        self.risk = make_risk(self.random, allow_short=self.terms.allow_short)
        self.cash = Decimal(self.random.choice(("10000", "50", "1000000")))
        self.number = 0
        self.open()
        self.start_model()

    def open(self) -> None:
        """Build everything that lives in memory, as a start does; refuses books that do not add up."""
        self.database.reopen()
        database, clock = self.database.as_database(), self.market.clock
        self.ledger, self.actions = SqlLedger(database, clock), SqlActions(database, clock)
        self.agent = ExecutionAgent(self.ledger, self.terms, self.risk, clock)
        self.desk = PortfolioDesk(
            self.key,
            self.market.as_monitoring(),
            self.ledger,
            self.actions,
            self.terms,
            Interval.M1,
            self.new_id,
        )
        self.database.run(self.ledger.open_account(self.key, self.cash))

    def start_model(self) -> None:
        self.model = Model(Fraction(self.cash), self.terms)
        self.last_trade = self.last_dust = 0
        self.before = self.load(self.everything)
        self.standing = self.before[1]
        self.lots = {symbol: to_units(one.instrument.lot_step) for symbol, one in self.market.symbols.items()}

    def new_id(self) -> str:
        self.number += 1
        return f"{self.key.name}-{self.number}"

    def load(self, query: Callable[[Connection], Any]) -> Any:
        return self.database.run(self.database.read(query))

    def account(self, connection: Connection) -> standings.Account:
        return standings.get_account(connection, self.key)

    def symbol(self) -> str:
        return self.random.choice(sorted(self.market.symbols))

    @rule(seed=_SEEDS, what=st.sampled_from(_HAPPENINGS))
    def happens(self, seed: int, what: str) -> None:
        self.random.seed(seed)
        getattr(self, what)()

    def time_passes(self) -> None:
        wildness = self.random.choice((0.0, 0.002, 0.002, 0.02, 0.02, 0.5))
        gap = 0 if self.random.random() < 0.97 else self.random.choice((5, 1500))
        self.market.advance(self.random.randint(1, 3), wildness, gap)

    def a_cycle_runs(self) -> None:
        if self.random.random() < 0.9:
            self.time_passes()
        self.do(self.cycle())

    def a_person_orders(self) -> None:
        self.do(self.order())

    def a_person_closes(self) -> None:
        self.do(self.closing())

    def a_person_cancels(self) -> None:
        chosen = self.random.choice([*(order.id for order in self.standing.orders), "unknown", f"{self.key.name}-1-1"])
        self.do(lambda: self.desk.cancel(chosen))

    def a_person_halts_or_resumes(self) -> None:
        halted = self.random.random() < 0.2
        self.do(lambda: self.desk.set_halt(is_halted=halted, reason="As I like it."))

    def a_person_resets(self) -> None:
        if self.random.random() < 0.3:
            self.cash = Decimal(self.random.choice(("10000", "3", "1000000")))
            self.database.run(self.desk.reset(self.cash, None))
            self.start_model()

    def the_clock_is_set_back(self) -> None:
        self.market.clock.moment -= timedelta(seconds=self.random.uniform(0, 45))

    def the_power_goes(self) -> None:
        done = self.random.choice((self.cycle, self.order, self.closing))()
        self.database.cut_after = self.random.randrange(25)
        try:
            self.do(done)
        except PowerCut:
            type(self).crashes += 1
            assert self.load(self.everything) == self.before
        self.database.cut_after = None
        self.open()

    def everything(self, connection: Connection) -> Any:
        """What a booking that fails must leave as it was."""
        newest = connection.execute(_NEWEST).one()
        return tuple(newest), standings.load_standing(connection, self.account(connection))

    def do(self, done: Callable[[], Any]) -> None:
        """Do something; what the account does not allow leaves nothing."""
        try:
            self.database.run(done())
        except (ConflictError, InvalidInputError, NotFoundError):
            assert self.load(self.everything) == self.before

    def cycle(self) -> Callable[[], Any]:
        snapshot = self.snapshot(self.symbol(), stray=self.random.choice((0.0, 0.001, 0.1)))
        signal = self.random.choice(list(Signal))
        draft = draft_of(snapshot, self.key, self.new_id(), signal, self.random.uniform(0.4, 0.95))
        if self.random.random() < 0.1:
            self.market.advance(2, 0.02)  # the database was busy for so long
        key = self.random.choice((None, None, IdempotencyKey(f"{self.key.name}-{self.random.randrange(9)}", "f")))
        return lambda: self.agent.execute(draft, key)

    def snapshot(self, symbol: str, stray: float) -> MarketSnapshot:
        return self.market.snapshot(symbol, stray)

    def order(self) -> Callable[[], Any]:
        kind = self.random.choice([*OrderKind, OrderKind.MARKET, OrderKind.LIMIT])
        symbol = self.symbol()
        side = self.side(kind, self.standing.portfolio.quantity(symbol))
        one = self.market.symbols[symbol]
        last = to_units(one.candles[-1].close)
        available = max(self.standing.portfolio.available, 0)
        held = abs(self.standing.portfolio.quantity(symbol))
        wanted = self.random.choice(
            (
                held,
                held // 3,
                2 * held,
                self.lots[symbol],
                *[int(available * 10**8 * self.random.random()) // last] * 3,
            )
        )
        quantity = max(wanted // self.lots[symbol], 1) * self.lots[symbol]
        price = trail = expires = None
        if kind is OrderKind.TRAILING_STOP:
            trail = Decimal(self.random.choice(("0.0001", "0.02", "0.9")))
        elif kind is not OrderKind.MARKET:
            price = from_units(one.on_tick(last * self.random.lognormvariate(0, 0.02)))
            if self.random.random() < 0.3:
                expires = self.market.clock.moment + timedelta(minutes=self.random.choice((1, 5)))
        request = OrderRequest(
            symbol, side, kind, from_units(quantity), price, trail, expires, reduce_only=self.random.random() < 0.3
        )
        return lambda: self.desk.place(request, None)

    def side(self, kind: OrderKind, held: int) -> Side:
        """Most often one that makes sense."""
        if self.random.random() < 0.2:
            return self.random.choice(list(Side))
        if kind in (OrderKind.MARKET, OrderKind.LIMIT) and (held == 0 or self.random.random() < 0.3):
            return Side.SELL if self.terms.allow_short and self.random.random() < 0.5 else Side.BUY
        return Side.SELL if held > 0 else Side.BUY

    def closing(self) -> Callable[[], Any]:
        symbol = self.random.choice((None, self.symbol()))
        return lambda: self.desk.close(symbol, None)

    @invariant()
    def everything_adds_up(self) -> None:
        type(self).steps += 1
        self.load(self._follow)
        standing = self.standing
        check_standing(standing, self.lots)
        assert find_contradictions(standing.portfolio, to_units(standing.run.initial_cash)) == []
        self.model.check(standing)

    def _follow(self, connection: Connection) -> None:
        if tuple(connection.execute(_NEWEST).one()) == self.before[0]:
            return  # nothing was booked
        account = self.account(connection)
        self.before = self.everything(connection)
        self.standing = self.before[1]
        moves = connection.execute(
            select(
                dust_transfers.c.id, dust_transfers.c.after_trade_id, dust_transfers.c.symbol, dust_transfers.c.quantity
            )
            .where(dust_transfers.c.account_id == account.id, dust_transfers.c.id > self.last_dust)
            .order_by(dust_transfers.c.id)
        ).all()
        fresh = connection.execute(
            SELECT_TRADES.where(trades.c.account_id == account.id, trades.c.id > self.last_trade).order_by(trades.c.id)
        ).all()
        self._move_dust([move for move in moves if move.after_trade_id <= self.last_trade])
        for row in fresh:
            trade = trade_from_row(row)
            order = standings.find_order(connection, self.key, str(trade.order_id))
            assert order is not None
            self.model.fill(trade, order, self.market.seen[trade.symbol])
            self._move_dust([move for move in moves if move.after_trade_id == trade.id])
            self.last_trade = trade.id
            type(self).fills += 1
        if fresh or moves:
            followed, wrong = rebuild.rebuild(connection, account)
            assert wrong == []
            assert rebuild.compare(self.standing.portfolio, followed) == []

    def _move_dust(self, moves: Any) -> None:
        for number, _, symbol, quantity in moves:
            self.model.move_dust(symbol, quantity)
            self.last_dust = number


def drive(path: Path, examples: int, steps: int) -> None:
    """Let accounts live in one database, one after the other."""
    machine, database = AccountMachine, DirectDatabase(path)
    machine.database = database
    machine.accounts = machine.steps = machine.crashes = machine.fills = 0
    try:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                derandomize=True,
                database=None,
                deadline=None,
                phases=[Phase.generate],  # what is drawn are seeds, which do not get simpler
                suppress_health_check=list(HealthCheck),
            ),
        )
        assert database.run(database.read(audit)) == []
    finally:
        database.drop()


def test_account_whatever_happens_adds_up(sqlite_url: str) -> None:
    drive(path_of(sqlite_url), 42, 50)
    assert AccountMachine.steps >= 2_000
    assert AccountMachine.crashes >= 5
    assert AccountMachine.fills >= 100


@pytest.mark.slow
def test_account_whatever_happens_a_hundred_thousand_times_adds_up(sqlite_url: str) -> None:
    drive(path_of(sqlite_url), 1_000, 110)
    path_of(sqlite_url).unlink()
    assert AccountMachine.steps >= 100_000


def path_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))
