"""The books, jobs and waits, and the triggers that keep the books append-only and adding up."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from app.storage.column_types import Money, RowNumber, UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

APPEND_ONLY = ("accounts", "cycles", "decisions", "trades", "idempotency_keys")

# What the account holds after a trade follows from what it held before. Both expressions refer to the row NEW.
CASH_FOLLOWS = """
    NEW.cash_after = COALESCE(
        (SELECT cash_after FROM trades WHERE account_id = NEW.account_id ORDER BY id DESC LIMIT 1),
        (SELECT initial_cash FROM accounts WHERE id = NEW.account_id)
    ) + CASE NEW.side WHEN 'BUY' THEN -NEW.notional ELSE NEW.notional END - NEW.fee
"""
POSITION_FOLLOWS = """
    NEW.position_after = COALESCE(
        (SELECT position_after FROM trades
         WHERE account_id = NEW.account_id AND symbol = NEW.symbol ORDER BY id DESC LIMIT 1),
        0
    ) + CASE NEW.side WHEN 'BUY' THEN NEW.quantity ELSE -NEW.quantity END
"""
CYCLE_FITS = """
    EXISTS (
        SELECT 1 FROM cycles
        WHERE id = NEW.cycle_id AND execution_status = 'FILLED' AND account_id = NEW.account_id
        AND symbol = NEW.symbol AND "interval" = NEW.interval AND candle_open_time = NEW.candle_open_time
    )
"""
TRADE_RULES = {
    "cash_follows": CASH_FOLLOWS,
    "position_follows": POSITION_FOLLOWS,
    "cycle_fits": CYCLE_FITS,
}


def upgrade() -> None:
    create_accounts()
    create_cycles()
    create_decisions()
    create_trades()
    create_jobs()
    create_idempotency_keys()
    create_upstream_waits()
    if op.get_bind().dialect.name == "sqlite":
        create_sqlite_triggers()
    else:
        create_postgres_triggers()


def downgrade() -> None:
    raise NotImplementedError("Books are not thrown away; to start new ones, use another database.")


def create_accounts() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", RowNumber, nullable=False),
        sa.Column("source", sa.String(32), nullable=False),
        sa.Column("initial_cash", Money(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.CheckConstraint("initial_cash > 0", name=op.f("ck_accounts_initial_cash")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
        sa.UniqueConstraint("source", name=op.f("uq_accounts_source")),
        sqlite_autoincrement=True,
    )


def create_cycles() -> None:
    op.create_table(
        "cycles",
        sa.Column("number", RowNumber, nullable=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("account_id", RowNumber, nullable=False),
        sa.Column("symbol", sa.String(20), nullable=False),
        sa.Column("interval", sa.String(3), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=False),
        sa.Column("finished_at", UtcDateTime(), nullable=False),
        sa.Column("candle_open_time", UtcDateTime(), nullable=True),
        sa.Column("market", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("execution_status", sa.String(16), nullable=True),
        sa.Column("execution_reason_code", sa.String(64), nullable=True),
        sa.Column("execution_reason", sa.Text(), nullable=True),
        sa.Column("duplicate_of", sa.String(64), nullable=True),
        sa.Column("reason_code", sa.String(64), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("logs", sa.JSON(), nullable=False),
        sa.CheckConstraint(
            "(status = 'COMPLETED' AND execution_status IS NOT NULL AND execution_reason_code IS NOT NULL"
            " AND execution_reason IS NOT NULL AND market IS NOT NULL AND candle_open_time IS NOT NULL"
            " AND reason_code IS NULL)"
            " OR (status = 'REFUSED' AND execution_status IS NULL AND duplicate_of IS NULL"
            " AND reason_code IS NOT NULL AND reason IS NOT NULL)",
            name=op.f("ck_cycles_status"),
        ),
        sa.CheckConstraint("execution_status IN ('FILLED', 'SKIPPED')", name=op.f("ck_cycles_execution_status")),
        sa.CheckConstraint("duplicate_of IS NULL OR execution_status = 'SKIPPED'", name=op.f("ck_cycles_duplicate_of")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_cycles_account_id")),
        sa.ForeignKeyConstraint(["duplicate_of"], ["cycles.id"], name=op.f("fk_cycles_duplicate_of")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_cycles")),
        sa.UniqueConstraint("id", name=op.f("uq_cycles_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_cycles_account_id_number"), "cycles", ["account_id", "number"])
    op.create_index(op.f("ix_cycles_symbol_number"), "cycles", ["symbol", "number"])


def create_decisions() -> None:
    op.create_table(
        "decisions",
        sa.Column("cycle_id", sa.String(64), nullable=False),
        sa.Column("action", sa.String(4), nullable=False),
        sa.Column("confidence", sa.Double(), nullable=False),
        sa.Column("p_buy", sa.Double(), nullable=False),
        sa.Column("p_sell", sa.Double(), nullable=False),
        sa.Column("p_hold", sa.Double(), nullable=False),
        sa.Column("reason_code", sa.String(64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("model_id", sa.String(128), nullable=False),
        sa.CheckConstraint("action IN ('BUY', 'SELL', 'HOLD')", name=op.f("ck_decisions_action")),
        sa.CheckConstraint("confidence BETWEEN 0 AND 1", name=op.f("ck_decisions_confidence")),
        sa.CheckConstraint(
            "p_buy BETWEEN 0 AND 1 AND p_sell BETWEEN 0 AND 1 AND p_hold BETWEEN 0 AND 1",
            name=op.f("ck_decisions_probabilities"),
        ),
        sa.ForeignKeyConstraint(["cycle_id"], ["cycles.id"], name=op.f("fk_decisions_cycle_id")),
        sa.PrimaryKeyConstraint("cycle_id", name=op.f("pk_decisions")),
        sqlite_with_rowid=False,
    )


def create_trades() -> None:
    op.create_table(
        "trades",
        sa.Column("id", RowNumber, nullable=False),
        sa.Column("cycle_id", sa.String(64), nullable=False),
        sa.Column("account_id", RowNumber, nullable=False),
        sa.Column("symbol", sa.String(20), nullable=False),
        sa.Column("interval", sa.String(3), nullable=False),
        sa.Column("side", sa.String(4), nullable=False),
        sa.Column("quantity", Money(), nullable=False),
        sa.Column("price", Money(), nullable=False),
        sa.Column("notional", Money(), nullable=False),
        sa.Column("fee", Money(), nullable=False),
        sa.Column("slippage_bps", sa.Double(), nullable=False),
        sa.Column("confidence", sa.Double(), nullable=False),
        sa.Column("model_id", sa.String(128), nullable=False),
        sa.Column("candle_open_time", UtcDateTime(), nullable=False),
        sa.Column("executed_at", UtcDateTime(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("cash_after", Money(), nullable=False),
        sa.Column("position_after", Money(), nullable=False),
        sa.CheckConstraint("side IN ('BUY', 'SELL')", name=op.f("ck_trades_side")),
        sa.CheckConstraint("quantity > 0", name=op.f("ck_trades_quantity")),
        sa.CheckConstraint("price > 0", name=op.f("ck_trades_price")),
        sa.CheckConstraint("notional > 0", name=op.f("ck_trades_notional")),
        sa.CheckConstraint("fee >= 0", name=op.f("ck_trades_fee")),
        sa.CheckConstraint("confidence BETWEEN 0 AND 1", name=op.f("ck_trades_confidence")),
        sa.CheckConstraint("cash_after >= 0", name=op.f("ck_trades_cash_after")),
        sa.CheckConstraint("position_after >= 0", name=op.f("ck_trades_position_after")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_trades_account_id")),
        sa.ForeignKeyConstraint(["cycle_id"], ["decisions.cycle_id"], name=op.f("fk_trades_cycle_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trades")),
        sa.UniqueConstraint(
            "account_id",
            "symbol",
            "interval",
            "candle_open_time",
            name=op.f("uq_trades_account_id_symbol_interval_candle_open_time"),
        ),
        sa.UniqueConstraint("cycle_id", name=op.f("uq_trades_cycle_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_trades_account_id_id"), "trades", ["account_id", "id"])
    op.create_index(op.f("ix_trades_account_id_symbol_id"), "trades", ["account_id", "symbol", "id"])
    op.create_index(op.f("ix_trades_symbol_id"), "trades", ["symbol", "id"])


def create_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("number", RowNumber, nullable=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("progress", sa.Double(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=True),
        sa.Column("finished_at", UtcDateTime(), nullable=True),
        sa.Column("error_code", sa.String(64), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("result", sa.JSON(none_as_null=True), nullable=True),
        sa.CheckConstraint(
            "status IN ('QUEUED', 'RUNNING', 'SUCCEEDED', 'FAILED', 'INTERRUPTED', 'CANCELED')",
            name=op.f("ck_jobs_status"),
        ),
        sa.CheckConstraint("progress BETWEEN 0 AND 1", name=op.f("ck_jobs_progress")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_jobs")),
        sa.UniqueConstraint("id", name=op.f("uq_jobs_id")),
        sqlite_autoincrement=True,
    )


def create_idempotency_keys() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("fingerprint", sa.String(128), nullable=False),
        sa.Column("cycle_id", sa.String(64), nullable=True),
        sa.Column("job_id", sa.String(64), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.CheckConstraint("(cycle_id IS NULL) <> (job_id IS NULL)", name=op.f("ck_idempotency_keys_one_result")),
        sa.ForeignKeyConstraint(["cycle_id"], ["cycles.id"], name=op.f("fk_idempotency_keys_cycle_id")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_idempotency_keys_job_id")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_idempotency_keys")),
        sqlite_with_rowid=False,
    )


def create_upstream_waits() -> None:
    op.create_table(
        "upstream_waits",
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("until", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("host", name=op.f("pk_upstream_waits")),
        sqlite_with_rowid=False,
    )


def create_sqlite_triggers() -> None:
    for table in APPEND_ONLY:
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
    for name, rule in TRADE_RULES.items():
        op.execute(
            f"CREATE TRIGGER trades_{name} BEFORE INSERT ON trades WHEN NOT ({rule}) "
            f"BEGIN SELECT RAISE(ABORT, 'trades_{name}'); END"
        )


def create_postgres_triggers() -> None:
    op.execute(
        "CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation'; END $$"
    )
    for table in APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
    for name, rule in TRADE_RULES.items():
        op.execute(
            f"CREATE FUNCTION trades_{name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"IF NOT ({rule}) THEN RAISE EXCEPTION 'trades_{name}' USING ERRCODE = 'check_violation'; END IF; "
            "RETURN NEW; END $$"
        )
        op.execute(
            f"CREATE TRIGGER trades_{name} BEFORE INSERT ON trades FOR EACH ROW EXECUTE FUNCTION trades_{name}()"
        )
