"""The newest comparison of life with the backtest, in SQL."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from app.errors import NotFoundError
from app.storage.database import Database
from app.storage.research_tables import parity_reports

_SELECT_NEWEST = select(parity_reports.c.document).order_by(parity_reports.c.number.desc()).limit(1)


class SqlParity:
    """Keeps one report, the newest.

    Args:
        database: An open database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, created_at: datetime, document: str) -> None:
        """Keep a report instead of the one before it."""

        def work(connection: Connection) -> None:
            connection.execute(delete(parity_reports))
            connection.execute(insert(parity_reports), {"created_at": created_at, "document": document})

        await self._database.write(work)

    async def load(self) -> str:
        """The report; raises `NotFoundError` (`parity_not_found`) where there is none yet."""
        document: str | None = await self._database.read(lambda connection: connection.execute(_SELECT_NEWEST).scalar())
        if document is None:
            raise NotFoundError(
                "Life was not compared with the backtest yet: POST /parity/run, or `python -m app parity`.",
                code="parity_not_found",
            )
        return document
