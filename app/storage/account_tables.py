"""The tables of an account: its runs, orders, standings, and what follows from its fills.

They are append-only, as the other books are; only an order moves on, until it has reached its end.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from app.storage.column_types import Money, RowNumber, UtcDateTime

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

# A row is a run: from the opening of an account to its reset, which opens the next generation. The row of the first
# generation is what is locked to book on any of them.
accounts = Table(
    "accounts",
    metadata,
    Column("id", RowNumber, primary_key=True),
    Column("source", String(32), nullable=False),
    Column("strategy", String(32), nullable=False),
    Column("name", String(32), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("initial_cash", Money, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    UniqueConstraint("source", "strategy", "name", "generation"),
    CheckConstraint("initial_cash > 0", name="initial_cash"),
    CheckConstraint("generation > 0", name="generation"),
    sqlite_autoincrement=True,
)

# What was asked for stays as it is; status, what was filled, and a trailing stop's price move on while it is NEW.
orders = Table(
    "orders",
    metadata,
    Column("number", RowNumber, primary_key=True),
    Column("id", String(80), nullable=False, unique=True),
    Column("account_id", RowNumber, ForeignKey("accounts.id"), nullable=False),
    Column("cycle_id", String(64), ForeignKey("cycles.id")),
    Column("symbol", String(20), nullable=False),
    Column("side", String(4), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("origin", String(16), nullable=False),
    Column("quantity", Money, nullable=False),
    Column("price", Money),
    Column("trail_fraction", Money),
    Column("reduce_only", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("active_from", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("status", String(16), nullable=False),
    Column("reason_code", String(64)),
    Column("reason", Text),
    Column("filled_quantity", Money, nullable=False),
    Column("closed_at", UtcDateTime),
    CheckConstraint("side IN ('BUY', 'SELL')", name="side"),
    CheckConstraint("kind IN ('MARKET', 'LIMIT', 'STOP_LOSS', 'TAKE_PROFIT', 'TRAILING_STOP')", name="kind"),
    CheckConstraint("origin IN ('signal', 'protection', 'person', 'liquidation')", name="origin"),
    CheckConstraint("status IN ('NEW', 'FILLED', 'REJECTED', 'CANCELED', 'EXPIRED')", name="status"),
    CheckConstraint("quantity >= 0", name="quantity"),
    CheckConstraint("filled_quantity >= 0 AND filled_quantity <= quantity", name="filled_quantity"),
    CheckConstraint("(status = 'NEW') = (closed_at IS NULL)", name="closed_at"),
    CheckConstraint("closed_at IS NULL OR closed_at >= created_at", name="in_order"),
    Index(None, "account_id", "number"),
    Index(None, "symbol", "number"),
    Index(
        "ix_orders_resting", "account_id", sqlite_where=text("status = 'NEW'"), postgresql_where=text("status = 'NEW'")
    ),
    sqlite_autoincrement=True,
)

# The part of a position that a fill closed. What the fill itself says is not said again.
closed_trades = Table(
    "closed_trades",
    metadata,
    Column("trade_id", RowNumber, ForeignKey("trades.id"), primary_key=True, autoincrement=False),
    Column("is_long", Boolean, nullable=False),
    Column("cost", Money, nullable=False),
    Column("entry_fees", Money, nullable=False),
    Column("profit", Money, nullable=False),
    Column("opened_at", UtcDateTime, nullable=False),
    CheckConstraint("entry_fees >= 0", name="entry_fees"),
    sqlite_with_rowid=False,
)

# Quantity and cost that went from a position to the symbol's dust after a fill, or (negative) came back to be sold.
dust_transfers = Table(
    "dust_transfers",
    metadata,
    Column("id", RowNumber, primary_key=True),
    Column("account_id", RowNumber, ForeignKey("accounts.id"), nullable=False),
    Column("after_trade_id", RowNumber, ForeignKey("trades.id"), nullable=False),
    Column("symbol", String(20), nullable=False),
    Column("quantity", Money, nullable=False),
    Column("cost", Money, nullable=False),
    Column("entry_fees", Money, nullable=False),
    Column("transferred_at", UtcDateTime, nullable=False),
    Index(None, "account_id", "id"),
    sqlite_autoincrement=True,
)

# The account after each booking, as a bank statement has it: the newest row tells where it stands, and all of them
# can be computed again from the fills. `price` is the quote of the booking, `holdings` the positions, dust and marks.
snapshots = Table(
    "snapshots",
    metadata,
    Column("number", RowNumber, primary_key=True),
    Column("account_id", RowNumber, ForeignKey("accounts.id"), nullable=False),
    Column("cycle_id", String(64), ForeignKey("cycles.id")),
    Column("symbol", String(20)),
    Column("price", Money),
    Column("side_cost_ppm", Integer),
    Column("taken_at", UtcDateTime, nullable=False),
    Column("last_trade_id", RowNumber, ForeignKey("trades.id")),
    Column("cash", Money, nullable=False),
    Column("equity", Money, nullable=False),
    Column("peak_equity", Money, nullable=False),
    Column("day_equity", Money, nullable=False),
    Column("realised", Money, nullable=False),
    Column("fees", Money, nullable=False),
    Column("trades_today", Integer, nullable=False),
    Column("losses_in_a_row", Integer, nullable=False),
    Column("last_loss_at", UtcDateTime),
    Column("holdings", JSON, nullable=False),
    CheckConstraint("cash >= 0", name="cash"),
    CheckConstraint("fees >= 0", name="fees"),
    Index(None, "account_id", "number"),
    sqlite_autoincrement=True,
)

# The newest row of the runs of a key says whether decisions are traded.
halts = Table(
    "halts",
    metadata,
    Column("number", RowNumber, primary_key=True),
    Column("account_id", RowNumber, ForeignKey("accounts.id"), nullable=False),
    Column("is_halted", Boolean, nullable=False),
    Column("reason_code", String(64), nullable=False),
    Column("reason", Text, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
    Index(None, "account_id", "number"),
    sqlite_autoincrement=True,
)
