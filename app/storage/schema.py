"""Keeps the schema at the revision this version of the service knows.

Alembic is imported only when there is something to migrate: it would cost every start 0.2 s.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from app.errors import ConfigurationError

HEAD_REVISION = "0010"
"""The newest revision in `migrations/versions`; a test keeps the two equal."""

MIGRATIONS = Path(__file__).parent / "migrations"


def import_alembic() -> None:
    """Load Alembic, for those who must not be held up by that later."""
    import_module("alembic.command")


def is_current(connection: Connection) -> bool:
    """Whether the schema is at the newest revision."""
    return _find_revision(connection) == HEAD_REVISION


def migrate(connection: Connection) -> None:
    """Bring the schema to the newest revision, in the open transaction of `connection`, which holds off other writers.

    Raises:
        ConfigurationError: The database belongs to a newer version of the service (`database_newer`) or to
            something else (`database_foreign`).
    """
    from alembic import command, config  # noqa: PLC0415 - see the module's docstring
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    revision = _find_revision(connection)
    if revision == HEAD_REVISION:
        return  # another process was quicker
    settings = config.Config()
    settings.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(settings).walk_revisions()}
    _refuse_unknown(connection, revision, known)
    settings.attributes["connection"] = connection
    command.upgrade(settings, "head")


def _find_revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def _refuse_unknown(connection: Connection, revision: str | None, known: set[str]) -> None:
    if revision is not None and revision not in known:
        raise ConfigurationError(
            f"its schema has revision {revision}, which this version of Papertape does not know; install the newer "
            "version that made it, or set DATABASE_URL to another database.",
            code="database_newer",
        )
    if revision is None and inspect(connection).get_table_names():
        raise ConfigurationError(
            "it holds tables that are not Papertape's; set DATABASE_URL to a database of its own.",
            code="database_foreign",
        )
