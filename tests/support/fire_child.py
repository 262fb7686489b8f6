"""A process that books cycles and orders with several callers at once, and kills itself at a given statement."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from dataclasses import dataclass, replace
from decimal import Decimal
from multiprocessing.connection import Connection
from random import Random
from typing import cast

from sqlalchemy import event

from app.agents.execution import ExecutionAgent
from app.agents.risk import RiskAgent
from app.broker.desk import Terms
from app.domain.candle import Interval
from app.domain.order import OrderKind, Side
from app.domain.ports import IdempotencyKey
from app.domain.risk import StopRule
from app.domain.signal import Signal
from app.domain.standing import RunKey
from app.engine.portfolio_desk import OrderRequest, PortfolioDesk
from app.errors import ConflictError
from app.risk.limits import LimitRules
from app.risk.protection import ProtectionRule
from app.risk.sizing import SizingRule
from app.storage.actions import SqlActions
from app.storage.database import Database
from app.storage.ledger import SqlLedger
from app.storage.sqlite import SqliteEngine
from tests.support.fire_market import FireMarket, draft_of

KEY = RunKey("simulated")
CASH = Decimal(10_000)
TERMS = Terms(Decimal(2), Decimal(3), Decimal(0), allow_short=True)
CALLERS = 4

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload([__name__, "app.storage.postgres", "asyncpg", "alembic.command"])


@dataclass
class Desks:
    """What a process books with; each request has a number, and is the same whenever that is asked again."""

    database: Database
    name: str
    keys: str = "request"

    def __post_init__(self) -> None:
        self.market = FireMarket(Random(11), ["60000", "100"])
        self.seen = 0
        self.booked = 0
        clock = self.market.clock
        self.ledger, self.actions = SqlLedger(self.database, clock), SqlActions(self.database, clock)
        limits = LimitRules(max_volume_share=Decimal(0), cooldown_losses=0, max_drawdown=Decimal(0))
        risk = RiskAgent(
            SizingRule(),
            replace(limits, max_daily_loss=Decimal(0)),
            ProtectionRule(StopRule.STOP_LOSS),
            allow_short=True,
        )
        self.agent = ExecutionAgent(self.ledger, TERMS, risk, clock)
        self.desk = PortfolioDesk(
            KEY,
            self.market,
            self.ledger,
            self.actions,
            TERMS,
            Interval.M1,
            self.new_id,  # type: ignore[arg-type]
        )

    def new_id(self) -> str:
        self.booked += 1
        return f"{self.name}-{self.booked}"

    async def ask(self, number: int) -> str | None:
        """Make the request of a number; returns the id of what was booked, None where the account does not allow it."""
        while self.seen <= number:
            self.market.advance(1, 0.01)
            self.seen += 1
        key, symbol = IdempotencyKey(f"{self.keys}-{number}", "f"), sorted(self.market.symbols)[number % 2]
        try:
            if number % 5 == 3:
                asked = OrderRequest(symbol, list(Side)[number % 2], OrderKind.MARKET, Decimal("0.01"))
                return (await self.desk.place(asked, key))[0].id
            if number % 7 == 6:
                return (await self.desk.close(None, key))[0].id
            draft = draft_of(self.market.snapshot(symbol), KEY, self.new_id(), list(Signal)[number % 3], 0.6)
            return (await self.agent.execute(draft, key)).id
        except ConflictError:
            return None


@dataclass(frozen=True)
class Task:
    """What a process does: it asks from request `first` on, up to before `until`, or is gone at statement `kill_at`."""

    url: str
    name: str
    first: int = 0
    until: int = 10**6
    kill_at: int | None = None
    keys: str = "request"


class AskingProcess:
    """A process at its task; what it was told comes out of `finish`: number of the request to id of what was booked."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._pipe, theirs = _PROCESSES.Pipe(duplex=False)
        self.process = _PROCESSES.Process(target=_run, args=(theirs, task))
        self.process.start()
        theirs.close()

    def finish(self) -> dict[int, str]:
        """Wait for its end, which must be the one that it was given."""
        told: dict[int, str] = {}
        try:
            while True:
                number, booked = self._pipe.recv()
                told[number] = booked
        except (EOFError, OSError):
            pass
        self.process.join(60)
        assert self.process.exitcode == (0 if self._task.kill_at is None else -signal.SIGKILL)
        self.process.close()
        self._pipe.close()
        return told


def _run(pipe: Connection, task: Task) -> None:
    asyncio.run(_ask(pipe, task))


async def _ask(pipe: Connection, task: Task) -> None:
    async with Database(task.url) as database:
        desks = Desks(database, task.name, task.keys)
        await desks.ledger.open_account(KEY, CASH)
        numbers = iter(range(task.first, task.until))
        if task.kill_at is not None:
            _kill_at(database, task.kill_at)

        async def call() -> None:
            for number in numbers:
                booked = await desks.ask(number)
                if booked is not None:
                    pipe.send((number, booked))

        await asyncio.gather(*(call() for _ in range(CALLERS)))


def _kill_at(database: Database, statement: int) -> None:
    """Kill this process before its `statement`th statement from now on; a COMMIT counts as one."""
    left = statement

    def count(*_: object) -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    engine = cast("SqliteEngine", database._engine)._write_engine
    event.listen(engine, "before_cursor_execute", count)
    event.listen(engine, "commit", count)
