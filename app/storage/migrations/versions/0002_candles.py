"""Closed candles, kept so that training and backtests read local data."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from app.storage.column_types import ExactNumber

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "candles",
        sa.Column("source", sa.String(32), nullable=False),
        sa.Column("symbol", sa.String(20), nullable=False),
        sa.Column("interval", sa.String(3), nullable=False),
        sa.Column("open_time_ms", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("open", ExactNumber(), nullable=False),
        sa.Column("high", ExactNumber(), nullable=False),
        sa.Column("low", ExactNumber(), nullable=False),
        sa.Column("close", ExactNumber(), nullable=False),
        sa.Column("volume", ExactNumber(), nullable=False),
        sa.PrimaryKeyConstraint("source", "symbol", "interval", "open_time_ms", name=op.f("pk_candles")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("candles")
