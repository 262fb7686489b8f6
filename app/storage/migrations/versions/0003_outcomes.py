"""What came of each decision, append-only as the other books are, and the index that finds those not scored yet."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from app.storage.column_types import UtcDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "outcomes",
        sa.Column("cycle_id", sa.String(64), nullable=False),
        sa.Column("label", sa.String(4), nullable=True),
        sa.Column("forward_return", sa.Double(), nullable=True),
        sa.Column("log_loss", sa.Double(), nullable=True),
        sa.Column("settled_at", UtcDateTime(), nullable=False),
        sa.Column("scored_at", UtcDateTime(), nullable=False),
        sa.CheckConstraint("label IN ('BUY', 'SELL', 'HOLD')", name=op.f("ck_outcomes_label")),
        sa.CheckConstraint("log_loss >= 0", name=op.f("ck_outcomes_log_loss")),
        sa.CheckConstraint(
            "(label IS NULL) = (forward_return IS NULL) AND (label IS NULL) = (log_loss IS NULL)",
            name=op.f("ck_outcomes_whole"),
        ),
        sa.ForeignKeyConstraint(["cycle_id"], ["decisions.cycle_id"], name=op.f("fk_outcomes_cycle_id")),
        sa.PrimaryKeyConstraint("cycle_id", name=op.f("pk_outcomes")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_outcomes_settled_at"), "outcomes", ["settled_at"])
    op.create_index(
        op.f("ix_cycles_account_id_interval_candle_open_time_symbol"),
        "cycles",
        ["account_id", "interval", "candle_open_time", "symbol"],
    )
    if op.get_bind().dialect.name == "sqlite":
        create_sqlite_triggers()
    else:
        create_postgres_triggers()


def downgrade() -> None:
    raise NotImplementedError("Books are not thrown away; to start new ones, use another database.")


def create_sqlite_triggers() -> None:
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER outcomes_no_{verb.lower()} BEFORE {verb} ON outcomes "
            "BEGIN SELECT RAISE(ABORT, 'outcomes is append-only'); END"
        )


def create_postgres_triggers() -> None:
    op.execute(
        "CREATE TRIGGER outcomes_no_change BEFORE UPDATE OR DELETE ON outcomes "
        "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
    )
    op.execute(
        "CREATE TRIGGER outcomes_no_truncate BEFORE TRUNCATE ON outcomes "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )
