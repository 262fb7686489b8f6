"""The event log: what happened, append-only, in the order in which it was committed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from app.storage.column_types import RowNumber, UtcDateTime

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "event_log",
        sa.Column("number", RowNumber, nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("type", sa.String(32), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("symbol", sa.String(20), nullable=True),
        sa.Column("action", sa.String(16), nullable=True),
        sa.Column("cycle_id", sa.String(64), nullable=True),
        sa.Column("account_id", sa.BigInteger(), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("data", sa.JSON(none_as_null=True), nullable=True),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_event_log")),
        sqlite_autoincrement=True,
    )
    for column in ("type", "symbol", "at"):
        op.create_index(op.f(f"ix_event_log_{column}_number"), "event_log", [column, "number"])
    if op.get_bind().dialect.name == "sqlite":
        create_sqlite_triggers()
    else:
        create_postgres_triggers()


def downgrade() -> None:
    raise NotImplementedError("Books are not thrown away; to start new ones, use another database.")


def create_sqlite_triggers() -> None:
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER event_log_no_{verb.lower()} BEFORE {verb} ON event_log "
            "BEGIN SELECT RAISE(ABORT, 'event_log is append-only'); END"
        )


def create_postgres_triggers() -> None:
    op.execute(
        "CREATE TRIGGER event_log_no_change BEFORE UPDATE OR DELETE ON event_log "
        "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
    )
    op.execute(
        "CREATE TRIGGER event_log_no_truncate BEFORE TRUNCATE ON event_log "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )
