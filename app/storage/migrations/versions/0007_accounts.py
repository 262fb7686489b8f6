"""Accounts of several runs, fills of more than decisions, keys of more than cycles and jobs.

Accounts, trades and keys change their shape. SQLite cannot change a table, so that their rows are put aside and taken
into a new one of the same name; that drops their triggers, which are made again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from app.storage.column_types import Money, PackedText, RowNumber, UtcDateTime

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

REBUILT = ("accounts", "trades", "idempotency_keys")
ORIGINS = "origin IN ('signal', 'protection', 'person', 'liquidation')"
DECIDED = (
    "(confidence IS NULL) = (origin <> 'signal') AND (confidence IS NULL OR (cycle_id IS NOT NULL"
    ' AND model_id IS NOT NULL AND "interval" IS NOT NULL AND candle_open_time IS NOT NULL))'
)
ONE_RESULT = (
    "(cycle_id IS NOT NULL AND job_id IS NULL AND record_number IS NULL)"
    " OR (cycle_id IS NULL AND job_id IS NOT NULL AND record_number IS NULL)"
    " OR (cycle_id IS NULL AND job_id IS NULL AND record_number IS NOT NULL)"
)

# What the account holds after a trade follows from what it held before. All refer to the row NEW.
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
    NEW.confidence IS NULL OR EXISTS (
        SELECT 1 FROM cycles
        WHERE id = NEW.cycle_id AND execution_status = 'FILLED' AND account_id = NEW.account_id
        AND symbol = NEW.symbol AND "interval" = NEW.interval AND candle_open_time = NEW.candle_open_time
    )
"""
TRADE_RULES = {"cash_follows": CASH_FOLLOWS, "position_follows": POSITION_FOLLOWS, "cycle_fits": CYCLE_FITS}


def upgrade() -> None:
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    if is_sqlite:
        rebuild_on_sqlite()
    else:
        change_on_postgres()
    op.add_column("cycles", sa.Column("checks", PackedText(), nullable=True))
    op.add_column("cycles", sa.Column("orders", PackedText(), nullable=True))
    op.create_index(op.f("ix_trades_cycle_id"), "trades", ["cycle_id"])
    op.create_index(
        "uq_trades_decided",
        "trades",
        ["account_id", "symbol", "interval", "candle_open_time"],
        unique=True,
        sqlite_where=sa.text("confidence IS NOT NULL"),
        postgresql_where=sa.text("confidence IS NOT NULL"),
    )
    if is_sqlite:
        create_sqlite_triggers()
    else:
        op.execute(
            "CREATE OR REPLACE FUNCTION trades_cycle_fits() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"IF NOT ({CYCLE_FITS}) THEN "
            "RAISE EXCEPTION 'trades_cycle_fits' USING ERRCODE = 'check_violation'; END IF; RETURN NEW; END $$"
        )


def downgrade() -> None:
    raise NotImplementedError("Books are not thrown away; to start new ones, use another database.")


def rebuild_on_sqlite() -> None:
    for name, create, columns in (
        ("trades", create_trades, TRADE_COLUMNS),
        ("idempotency_keys", create_idempotency_keys, KEY_COLUMNS),
        ("accounts", create_accounts, ACCOUNT_COLUMNS),
    ):
        op.execute(f"CREATE TEMPORARY TABLE put_aside AS SELECT * FROM {name}")  # noqa: S608 - a name of this file
        op.drop_table(name)
        create()
        kept = ", ".join(f'"{column}"' for column in columns)
        values = ", ".join(f"'{NEW_VALUES[column]}'" if column in NEW_VALUES else f'"{column}"' for column in columns)
        op.execute(f"INSERT INTO {name} ({kept}) SELECT {values} FROM put_aside")  # noqa: S608 - the same
        op.execute("DROP TABLE put_aside")


NEW_VALUES = {"origin": "signal", "strategy": "forest", "name": "main", "generation": 1}
ACCOUNT_COLUMNS = ("id", "source", "strategy", "name", "generation", "initial_cash", "created_at")
KEY_COLUMNS = ("key", "fingerprint", "cycle_id", "job_id", "created_at")
TRADE_COLUMNS = (
    "id",
    "cycle_id",
    "account_id",
    "symbol",
    "interval",
    "origin",
    "side",
    "quantity",
    "price",
    "notional",
    "fee",
    "slippage_bps",
    "confidence",
    "model_id",
    "candle_open_time",
    "executed_at",
    "reason",
    "cash_after",
    "position_after",
)


def change_on_postgres() -> None:
    for column, kind in (("strategy", sa.String(32)), ("name", sa.String(32)), ("generation", sa.Integer())):
        op.add_column("accounts", sa.Column(column, kind, nullable=False, server_default=str(NEW_VALUES[column])))
        op.alter_column("accounts", column, server_default=None)
    op.drop_constraint(op.f("uq_accounts_source"), "accounts", type_="unique")
    op.create_unique_constraint(
        op.f("uq_accounts_source_strategy_name_generation"), "accounts", ["source", "strategy", "name", "generation"]
    )
    op.create_check_constraint(op.f("ck_accounts_generation"), "accounts", "generation > 0")
    op.add_column("idempotency_keys", sa.Column("record_number", RowNumber, nullable=True))
    op.create_foreign_key(
        op.f("fk_idempotency_keys_record_number"), "idempotency_keys", "records", ["record_number"], ["number"]
    )
    op.drop_constraint(op.f("ck_idempotency_keys_one_result"), "idempotency_keys", type_="check")
    op.create_check_constraint(op.f("ck_idempotency_keys_one_result"), "idempotency_keys", ONE_RESULT)
    op.add_column("trades", sa.Column("order_id", sa.String(80), nullable=True))
    op.add_column("trades", sa.Column("origin", sa.String(16), nullable=False, server_default="signal"))
    op.alter_column("trades", "origin", server_default=None)
    for column in ("cycle_id", "interval", "confidence", "model_id", "candle_open_time"):
        op.alter_column("trades", column, nullable=True)
    op.drop_constraint(op.f("uq_trades_account_id_symbol_interval_candle_open_time"), "trades", type_="unique")
    op.drop_constraint(op.f("uq_trades_cycle_id"), "trades", type_="unique")
    op.drop_constraint(op.f("ck_trades_position_after"), "trades", type_="check")
    op.create_check_constraint(op.f("ck_trades_origin"), "trades", ORIGINS)
    op.create_check_constraint(op.f("ck_trades_decided"), "trades", DECIDED)
    op.create_foreign_key(op.f("fk_trades_order_id"), "trades", "orders", ["order_id"], ["id"])


def create_accounts() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", RowNumber, nullable=False),
        sa.Column("source", sa.String(32), nullable=False),
        sa.Column("strategy", sa.String(32), nullable=False),
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("initial_cash", Money(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.CheckConstraint("initial_cash > 0", name=op.f("ck_accounts_initial_cash")),
        sa.CheckConstraint("generation > 0", name=op.f("ck_accounts_generation")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
        sa.UniqueConstraint(
            "source", "strategy", "name", "generation", name=op.f("uq_accounts_source_strategy_name_generation")
        ),
        sqlite_autoincrement=True,
    )


def create_idempotency_keys() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("fingerprint", sa.String(128), nullable=False),
        sa.Column("cycle_id", sa.String(64), nullable=True),
        sa.Column("job_id", sa.String(64), nullable=True),
        sa.Column("record_number", RowNumber, nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.CheckConstraint(ONE_RESULT, name=op.f("ck_idempotency_keys_one_result")),
        sa.ForeignKeyConstraint(["cycle_id"], ["cycles.id"], name=op.f("fk_idempotency_keys_cycle_id")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_idempotency_keys_job_id")),
        sa.ForeignKeyConstraint(["record_number"], ["records.number"], name=op.f("fk_idempotency_keys_record_number")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_idempotency_keys")),
        sqlite_with_rowid=False,
    )


def create_trades() -> None:
    op.create_table(
        "trades",
        sa.Column("id", RowNumber, nullable=False),
        sa.Column("cycle_id", sa.String(64), nullable=True),
        sa.Column("order_id", sa.String(80), nullable=True),
        sa.Column("account_id", RowNumber, nullable=False),
        sa.Column("symbol", sa.String(20), nullable=False),
        sa.Column("interval", sa.String(3), nullable=True),
        sa.Column("origin", sa.String(16), nullable=False),
        sa.Column("side", sa.String(4), nullable=False),
        sa.Column("quantity", Money(), nullable=False),
        sa.Column("price", Money(), nullable=False),
        sa.Column("notional", Money(), nullable=False),
        sa.Column("fee", Money(), nullable=False),
        sa.Column("slippage_bps", sa.Double(), nullable=False),
        sa.Column("confidence", sa.Double(), nullable=True),
        sa.Column("model_id", sa.String(128), nullable=True),
        sa.Column("candle_open_time", UtcDateTime(), nullable=True),
        sa.Column("executed_at", UtcDateTime(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("cash_after", Money(), nullable=False),
        sa.Column("position_after", Money(), nullable=False),
        sa.CheckConstraint("side IN ('BUY', 'SELL')", name=op.f("ck_trades_side")),
        sa.CheckConstraint(ORIGINS, name=op.f("ck_trades_origin")),
        sa.CheckConstraint("quantity > 0", name=op.f("ck_trades_quantity")),
        sa.CheckConstraint("price > 0", name=op.f("ck_trades_price")),
        sa.CheckConstraint("notional > 0", name=op.f("ck_trades_notional")),
        sa.CheckConstraint("fee >= 0", name=op.f("ck_trades_fee")),
        sa.CheckConstraint("confidence BETWEEN 0 AND 1", name=op.f("ck_trades_confidence")),
        sa.CheckConstraint(DECIDED, name=op.f("ck_trades_decided")),
        sa.CheckConstraint("cash_after >= 0", name=op.f("ck_trades_cash_after")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_trades_account_id")),
        sa.ForeignKeyConstraint(["cycle_id"], ["decisions.cycle_id"], name=op.f("fk_trades_cycle_id")),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("fk_trades_order_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trades")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_trades_account_id_id"), "trades", ["account_id", "id"])
    op.create_index(op.f("ix_trades_account_id_symbol_id"), "trades", ["account_id", "symbol", "id"])
    op.create_index(op.f("ix_trades_symbol_id"), "trades", ["symbol", "id"])


def create_sqlite_triggers() -> None:
    for table in REBUILT:
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
