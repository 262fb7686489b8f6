"""Until when a host must not be called, kept over restarts."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from app.storage.database import Database
from app.storage.tables import upstream_waits


class SqlWaits:
    """The wait store port on SQLite or PostgreSQL.

    Args:
        database: An open database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load_waits(self) -> dict[str, datetime]:
        """Host to the moment (aware UTC) it may be called again; past ones are among them."""
        statement = select(upstream_waits.c.host, upstream_waits.c.until)
        rows = await self._database.read(lambda connection: connection.execute(statement).all())
        return dict(rows)

    async def save_wait(self, host: str, until: datetime) -> None:
        """Remember that `host` must not be called before `until`; a later word replaces an earlier one."""

        def job(connection: Connection) -> None:
            known = update(upstream_waits).where(upstream_waits.c.host == host).values(until=until)
            if connection.execute(known).rowcount == 0:
                connection.execute(insert(upstream_waits), {"host": host, "until": until})

        await self._database.write(job)
