"""The newest comparison of life with the backtest."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from app.storage.column_types import PackedText, RowNumber, UtcDateTime

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "parity_reports",
        sa.Column("number", RowNumber, nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("document", PackedText(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_parity_reports")),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    raise NotImplementedError("Books are not thrown away; to start new ones, use another database.")
