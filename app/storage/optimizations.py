"""Optimisations in SQL."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from importlib import import_module

from sqlalchemy import Connection, delete, select

from app.domain.ports import EVERYTHING, Page, Selection
from app.errors import NotFoundError
from app.storage.backtests import enclose, narrow_runs
from app.storage.database import Database
from app.storage.pages import PageRequest, is_plain
from app.storage.research_tables import optimization_runs

_RUNS = optimization_runs.c


@dataclass(frozen=True, slots=True)
class StoredOptimization:
    """An optimisation as it is kept.

    Attributes:
        id: Its name, which tells it from every other that may come out differently.
        created_at: When it was computed.
        symbols: What it traded.
        strategy: What it looked for parameters of.
        document: What it has to say, as JSON.
    """

    id: str
    created_at: datetime
    symbols: tuple[str, ...]
    strategy: str
    document: str


class SqlOptimizations:
    """Keeps optimisations.

    Args:
        database: An open database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, run: StoredOptimization) -> None:
        """Keep an optimisation, unless it is there already."""
        row = {name: getattr(run, name) for name in StoredOptimization.__dataclass_fields__}
        row |= {"symbols": enclose(run.symbols)}

        def work(connection: Connection) -> None:
            insert = import_module(f"sqlalchemy.dialects.{connection.dialect.name}").insert(optimization_runs)
            connection.execute(insert.on_conflict_do_nothing(), row)

        await self._database.write(work)

    async def find_document(self, run_id: str) -> str | None:
        """What one optimisation has to say; None where there is none of this name."""
        if not is_plain(run_id):
            return None
        statement = select(_RUNS.document).where(_RUNS.id == run_id)
        found: str | None = await self._database.read(lambda connection: connection.execute(statement).scalar())
        return found

    async def list(
        self, limit: int, cursor: str | None = None, wanted: Selection = EVERYTHING, strategy: str | None = None
    ) -> Page[str]:
        """The documents of the newest optimisations, newest first, as `SqlBacktests.list`."""
        page = PageRequest.parse("optimization", limit, cursor)
        statement = narrow_runs(select(_RUNS.number, _RUNS.document), _RUNS, wanted, strategy)
        return await self._database.read(
            lambda connection: page.fetch(connection, statement, _RUNS.number, lambda row: str(row[1]))
        )

    async def delete(self, run_id: str) -> None:
        """Throw an optimisation away, not what it has tried; raises `NotFoundError` (`optimization_not_found`)."""
        statement = delete(optimization_runs).where(_RUNS.id == (run_id if is_plain(run_id) else ""))
        if not await self._database.write(lambda connection: connection.execute(statement).rowcount):
            raise not_found()


def not_found() -> NotFoundError:
    """There is none of this name."""
    return NotFoundError(
        "There is no optimisation with this id; it may have been deleted.", code="optimization_not_found"
    )
