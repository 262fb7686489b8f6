"""Optimisations that were run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from app.storage.column_types import PackedText, RowNumber, UtcDateTime

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "optimization_runs",
        sa.Column("number", RowNumber, nullable=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("symbols", sa.String(255), nullable=False),
        sa.Column("strategy", sa.String(64), nullable=False),
        sa.Column("document", PackedText(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_optimization_runs")),
        sa.UniqueConstraint("id", name=op.f("uq_optimization_runs_id")),
        sqlite_autoincrement=True,
    )
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            "CREATE TRIGGER optimization_runs_no_update BEFORE UPDATE ON optimization_runs "
            "BEGIN SELECT RAISE(ABORT, 'optimization_runs is append-only'); END"
        )
    else:
        op.execute(
            "CREATE TRIGGER optimization_runs_no_update BEFORE UPDATE ON optimization_runs "
            "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
        )


def downgrade() -> None:
    raise NotImplementedError("Books are not thrown away; to start new ones, use another database.")
