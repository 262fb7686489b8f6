"""Books cycles as fast as it can in a process of its own, and reports each one that was acknowledged."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable, Iterator
from itertools import count, islice
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess

from app.storage.database import Database
from app.storage.ledger import SqlLedger
from tests.support.books import CASH, KEY, SteppingClock, book, make_draft, turn_over

CALLERS = 4

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload([__name__, "app.storage.postgres", "asyncpg", "alembic.command"])


async def write_books(
    url: str, name: str, report: Callable[[str], None], cycles: int | None = None, symbol: str = "BTCUSDT"
) -> None:
    """Book `cycles` cycles (without end when None) with a few callers at once, after those `name` booked before."""
    async with Database(url) as database:
        ledger = SqlLedger(database, SteppingClock())
        await ledger.open_account(KEY, CASH)
        booked = [
            cycle.id for cycle in (await ledger.list_cycles(limit=1_000)).items if cycle.id.startswith(f"{name}-")
        ]
        first = max((int(cycle_id.rpartition("-")[2]) + 1 for cycle_id in booked), default=0)
        report("ready")
        indices = islice(count(first), cycles)

        async def call() -> None:
            for index in indices:
                draft = make_draft(index, symbol=symbol, cycle_id=f"{name}-{index}")
                report((await book(ledger, draft, turn_over, SteppingClock())).id)

        await asyncio.gather(*(call() for _ in range(CALLERS)))


class BookWriter:
    """A process that runs `write_books`; what it reports comes out of `lines`."""

    def __init__(self, url: str, name: str, cycles: int | None = None, symbol: str = "BTCUSDT") -> None:
        self._pipe, theirs = _PROCESSES.Pipe(duplex=False)
        self.process: ForkServerProcess = _PROCESSES.Process(target=_run, args=(theirs, url, name, cycles, symbol))
        self.process.start()
        theirs.close()

    def lines(self) -> Iterator[str]:
        """What the process reports, until it ends; a word that was cut off is left out."""
        try:
            while True:
                yield self._pipe.recv()
        except (EOFError, OSError):
            return

    def kill(self) -> None:
        """End the process at once, wherever it is."""
        self.process.kill()

    def finish(self) -> list[str]:
        """Wait for the process to end well; returns what it reported."""
        found = list(self.lines())
        self.process.join(30)
        assert self.process.exitcode == 0
        self.close()
        return found

    def close(self) -> None:
        """Clean up after an end of any kind."""
        self.process.join(30)
        self.process.close()
        self._pipe.close()


def _run(pipe: Connection, url: str, name: str, cycles: int | None, symbol: str) -> None:
    asyncio.run(write_books(url, name, pipe.send, cycles, symbol))
