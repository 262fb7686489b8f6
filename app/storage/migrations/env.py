"""What Alembic runs: within the service on the connection it is given, on the command line on the URL of alembic.ini.

A batch operation on SQLite copies the table and drops its triggers: a revision that changes an append-only table
must create them again (a test counts them).
"""

from __future__ import annotations

import asyncio

from alembic import context
from sqlalchemy import Connection

from app.storage.account_tables import metadata
from app.storage.database import open_engine
from app.storage.tables import trades  # noqa: F401 - so that the other tables are known, too


def run_migrations(connection: Connection) -> None:
    """Run the revisions asked for, in the open transaction of `connection`."""
    context.configure(
        connection=connection, target_metadata=metadata, render_as_batch=True, compare_type=True, transactional_ddl=True
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run_migrations(given)
else:
    url = context.get_x_argument(as_dictionary=True).get("url") or context.config.get_main_option("sqlalchemy.url", "")
    asyncio.run(open_engine(url).run_exclusively(run_migrations))
