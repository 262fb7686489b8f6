"""Orders, standings, records: what an account with resting orders and a chain of records keeps beside its fills."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from app.storage.column_types import ExactNumber, Money, PackedText, RowNumber, UtcDateTime

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

NEW_BOOKS = (
    "closed_trades",
    "cycle_candles",
    "dust_transfers",
    "halts",
    "records",
    "settings_documents",
    "snapshots",
)

ORDER_CHECKS = {
    "side": "side IN ('BUY', 'SELL')",
    "kind": "kind IN ('MARKET', 'LIMIT', 'STOP_LOSS', 'TAKE_PROFIT', 'TRAILING_STOP')",
    "origin": "origin IN ('signal', 'protection', 'person', 'liquidation')",
    "status": "status IN ('NEW', 'FILLED', 'REJECTED', 'CANCELED', 'EXPIRED')",
    "quantity": "quantity >= 0",
    "filled_quantity": "filled_quantity >= 0 AND filled_quantity <= quantity",
    "closed_at": "(status = 'NEW') = (closed_at IS NULL)",
    "in_order": "closed_at IS NULL OR closed_at >= created_at",
}

# An order that has reached its end stays; until then what was asked for stays. Only a trailing stop's price moves.
ORDER_MOVES_ON = """
    OLD.status = 'NEW' AND NEW.filled_quantity >= OLD.filled_quantity AND NEW.id = OLD.id
    AND NEW.account_id = OLD.account_id AND NEW.symbol = OLD.symbol AND NEW.side = OLD.side AND NEW.kind = OLD.kind
    AND NEW.origin = OLD.origin AND NEW.quantity = OLD.quantity AND NEW.created_at = OLD.created_at
    AND NEW.number = OLD.number AND NEW.reduce_only = OLD.reduce_only AND NEW.active_from >= OLD.active_from
    AND (NEW.kind = 'TRAILING_STOP' OR COALESCE(NEW.price, -1) = COALESCE(OLD.price, -1))
    AND COALESCE(NEW.trail_fraction, -1) = COALESCE(OLD.trail_fraction, -1)
    AND COALESCE(NEW.expires_at, NEW.created_at) = COALESCE(OLD.expires_at, OLD.created_at)
    AND COALESCE(NEW.cycle_id, '') = COALESCE(OLD.cycle_id, '')
"""


def upgrade() -> None:
    create_cycle_candles()
    create_settings_documents()
    create_halts()
    create_orders()
    create_records()
    create_closed_trades()
    create_dust_transfers()
    create_snapshots()
    if op.get_bind().dialect.name == "sqlite":
        create_sqlite_triggers()
    else:
        create_postgres_triggers()


def downgrade() -> None:
    raise NotImplementedError("Books are not thrown away; to start new ones, use another database.")


def create_cycle_candles() -> None:
    op.create_table(
        "cycle_candles",
        sa.Column("source", sa.String(32), nullable=False),
        sa.Column("symbol", sa.String(20), nullable=False),
        sa.Column("interval", sa.String(3), nullable=False),
        sa.Column("open_time_ms", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.LargeBinary(16), nullable=False),
        sa.Column("close_time_ms", sa.BigInteger(), nullable=False),
        sa.Column("open", ExactNumber(), nullable=False),
        sa.Column("high", ExactNumber(), nullable=False),
        sa.Column("low", ExactNumber(), nullable=False),
        sa.Column("close", ExactNumber(), nullable=False),
        sa.Column("volume", ExactNumber(), nullable=False),
        sa.PrimaryKeyConstraint(
            "source", "symbol", "interval", "open_time_ms", "version", name=op.f("pk_cycle_candles")
        ),
        sqlite_with_rowid=False,
    )


def create_settings_documents() -> None:
    op.create_table(
        "settings_documents",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_settings_documents")),
        sqlite_with_rowid=False,
    )


def create_halts() -> None:
    op.create_table(
        "halts",
        sa.Column("number", RowNumber, nullable=False),
        sa.Column("account_id", RowNumber, nullable=False),
        sa.Column("is_halted", sa.Boolean(), nullable=False),
        sa.Column("reason_code", sa.String(64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("changed_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_halts_account_id")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_halts")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_halts_account_id_number"), "halts", ["account_id", "number"])


def create_orders() -> None:
    op.create_table(
        "orders",
        sa.Column("number", RowNumber, nullable=False),
        sa.Column("id", sa.String(80), nullable=False),
        sa.Column("account_id", RowNumber, nullable=False),
        sa.Column("cycle_id", sa.String(64), nullable=True),
        sa.Column("symbol", sa.String(20), nullable=False),
        sa.Column("side", sa.String(4), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("origin", sa.String(16), nullable=False),
        sa.Column("quantity", Money(), nullable=False),
        sa.Column("price", Money(), nullable=True),
        sa.Column("trail_fraction", Money(), nullable=True),
        sa.Column("reduce_only", sa.Boolean(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("active_from", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=True),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("reason_code", sa.String(64), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("filled_quantity", Money(), nullable=False),
        sa.Column("closed_at", UtcDateTime(), nullable=True),
        *(sa.CheckConstraint(rule, name=op.f(f"ck_orders_{name}")) for name, rule in ORDER_CHECKS.items()),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_orders_account_id")),
        sa.ForeignKeyConstraint(["cycle_id"], ["cycles.id"], name=op.f("fk_orders_cycle_id")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_orders")),
        sa.UniqueConstraint("id", name=op.f("uq_orders_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_orders_account_id_number"), "orders", ["account_id", "number"])
    op.create_index(
        "ix_orders_resting",
        "orders",
        ["account_id"],
        sqlite_where=sa.text("status = 'NEW'"),
        postgresql_where=sa.text("status = 'NEW'"),
    )
    op.create_index(op.f("ix_orders_symbol_number"), "orders", ["symbol", "number"])


def create_records() -> None:
    op.create_table(
        "records",
        sa.Column("number", RowNumber, nullable=False),
        sa.Column("account_id", RowNumber, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("cycle_id", sa.String(64), nullable=True),
        sa.Column("document", PackedText(), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.CheckConstraint("(kind = 'cycle') = (cycle_id IS NOT NULL)", name=op.f("ck_records_cycle_id")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_records_account_id")),
        sa.ForeignKeyConstraint(["cycle_id"], ["cycles.id"], name=op.f("fk_records_cycle_id")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_records")),
        sa.UniqueConstraint("cycle_id", name=op.f("uq_records_cycle_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_records_account_id_number"), "records", ["account_id", "number"])


def create_closed_trades() -> None:
    op.create_table(
        "closed_trades",
        sa.Column("trade_id", RowNumber, autoincrement=False, nullable=False),
        sa.Column("is_long", sa.Boolean(), nullable=False),
        sa.Column("cost", Money(), nullable=False),
        sa.Column("entry_fees", Money(), nullable=False),
        sa.Column("profit", Money(), nullable=False),
        sa.Column("opened_at", UtcDateTime(), nullable=False),
        sa.CheckConstraint("entry_fees >= 0", name=op.f("ck_closed_trades_entry_fees")),
        sa.ForeignKeyConstraint(["trade_id"], ["trades.id"], name=op.f("fk_closed_trades_trade_id")),
        sa.PrimaryKeyConstraint("trade_id", name=op.f("pk_closed_trades")),
        sqlite_with_rowid=False,
    )


def create_dust_transfers() -> None:
    op.create_table(
        "dust_transfers",
        sa.Column("id", RowNumber, nullable=False),
        sa.Column("account_id", RowNumber, nullable=False),
        sa.Column("after_trade_id", RowNumber, nullable=False),
        sa.Column("symbol", sa.String(20), nullable=False),
        sa.Column("quantity", Money(), nullable=False),
        sa.Column("cost", Money(), nullable=False),
        sa.Column("entry_fees", Money(), nullable=False),
        sa.Column("transferred_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_dust_transfers_account_id")),
        sa.ForeignKeyConstraint(["after_trade_id"], ["trades.id"], name=op.f("fk_dust_transfers_after_trade_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dust_transfers")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_dust_transfers_account_id_id"), "dust_transfers", ["account_id", "id"])


def create_snapshots() -> None:
    op.create_table(
        "snapshots",
        sa.Column("number", RowNumber, nullable=False),
        sa.Column("account_id", RowNumber, nullable=False),
        sa.Column("cycle_id", sa.String(64), nullable=True),
        sa.Column("symbol", sa.String(20), nullable=True),
        sa.Column("price", Money(), nullable=True),
        sa.Column("side_cost_ppm", sa.Integer(), nullable=True),
        sa.Column("taken_at", UtcDateTime(), nullable=False),
        sa.Column("last_trade_id", RowNumber, nullable=True),
        sa.Column("cash", Money(), nullable=False),
        sa.Column("equity", Money(), nullable=False),
        sa.Column("peak_equity", Money(), nullable=False),
        sa.Column("day_equity", Money(), nullable=False),
        sa.Column("realised", Money(), nullable=False),
        sa.Column("fees", Money(), nullable=False),
        sa.Column("trades_today", sa.Integer(), nullable=False),
        sa.Column("losses_in_a_row", sa.Integer(), nullable=False),
        sa.Column("last_loss_at", UtcDateTime(), nullable=True),
        sa.Column("holdings", sa.JSON(), nullable=False),
        sa.CheckConstraint("cash >= 0", name=op.f("ck_snapshots_cash")),
        sa.CheckConstraint("fees >= 0", name=op.f("ck_snapshots_fees")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_snapshots_account_id")),
        sa.ForeignKeyConstraint(["cycle_id"], ["cycles.id"], name=op.f("fk_snapshots_cycle_id")),
        sa.ForeignKeyConstraint(["last_trade_id"], ["trades.id"], name=op.f("fk_snapshots_last_trade_id")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_snapshots")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_snapshots_account_id_number"), "snapshots", ["account_id", "number"])


def create_sqlite_triggers() -> None:
    for table in NEW_BOOKS:
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
    op.execute(
        "CREATE TRIGGER orders_no_delete BEFORE DELETE ON orders BEGIN SELECT RAISE(ABORT, 'orders are kept'); END"
    )
    op.execute(
        f"CREATE TRIGGER orders_move_on BEFORE UPDATE ON orders WHEN NOT ({ORDER_MOVES_ON}) "
        "BEGIN SELECT RAISE(ABORT, 'orders_move_on'); END"
    )


def create_postgres_triggers() -> None:
    for table in NEW_BOOKS:
        op.execute(
            f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
    op.execute(
        "CREATE FUNCTION orders_move_on() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF NOT ({ORDER_MOVES_ON}) THEN RAISE EXCEPTION 'orders_move_on' USING ERRCODE = 'check_violation'; END IF; "
        "RETURN NEW; END $$"
    )
    op.execute("CREATE TRIGGER orders_move_on BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION orders_move_on()")
    op.execute("CREATE TRIGGER orders_no_delete BEFORE DELETE ON orders FOR EACH ROW EXECUTE FUNCTION refuse_change()")
    op.execute(
        "CREATE TRIGGER orders_no_truncate BEFORE TRUNCATE ON orders "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )
