"""Backtests that were run, and everything that was ever tried on some candles."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from app.storage.column_types import PackedText, RowNumber, UtcDateTime

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "backtest_runs",
        sa.Column("number", RowNumber, nullable=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("symbols", sa.String(255), nullable=False),
        sa.Column("strategy", sa.String(64), nullable=False),
        sa.Column("document", PackedText(), nullable=False),
        sa.Column("arrays", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_backtest_runs")),
        sa.UniqueConstraint("id", name=op.f("uq_backtest_runs_id")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "backtest_trials",
        sa.Column("number", RowNumber, nullable=False),
        sa.Column("source", sa.String(32), nullable=False),
        sa.Column("symbols", sa.String(255), nullable=False),
        sa.Column("since", UtcDateTime(), nullable=False),
        sa.Column("until", UtcDateTime(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("daily_sharpe", sa.Double(), nullable=True),
        sa.Column("observed_at", UtcDateTime(), nullable=False),
        sa.CheckConstraint("since < until", name=op.f("ck_backtest_trials_span")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_backtest_trials")),
        sa.UniqueConstraint(
            "source",
            "symbols",
            "digest",
            "since",
            "until",
            name=op.f("uq_backtest_trials_source_symbols_digest_since_until"),
        ),
        sqlite_autoincrement=True,
    )
    if op.get_bind().dialect.name == "sqlite":
        create_sqlite_triggers()
    else:
        create_postgres_triggers()


def downgrade() -> None:
    raise NotImplementedError("Books are not thrown away; to start new ones, use another database.")


def create_sqlite_triggers() -> None:
    for table, verb in (("backtest_runs", "UPDATE"), ("backtest_trials", "UPDATE"), ("backtest_trials", "DELETE")):
        op.execute(
            f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        )


def create_postgres_triggers() -> None:
    for name, event, each in (
        ("backtest_runs_no_update", "UPDATE ON backtest_runs", "ROW"),
        ("backtest_trials_no_change", "UPDATE OR DELETE ON backtest_trials", "ROW"),
        ("backtest_trials_no_truncate", "TRUNCATE ON backtest_trials", "STATEMENT"),
    ):
        op.execute(f"CREATE TRIGGER {name} BEFORE {event} FOR EACH {each} EXECUTE FUNCTION refuse_change()")
