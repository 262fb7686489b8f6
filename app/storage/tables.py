"""The tables of the books. Changing one takes an Alembic revision, too; a test compares the two.

They are append-only: triggers made by the migrations refuse UPDATE and DELETE, and refuse a trade whose balances do not
follow from the ones before it. Only an order moves on, until it has reached its end.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    text,
)

from app.storage.account_tables import metadata
from app.storage.column_types import ExactNumber, Money, PackedText, RowNumber, UtcDateTime
from app.storage.research_tables import backtest_trials

# `number` counts cycles in the order they were booked, which no clock can turn round.
# `duplicate_of` names the cycle whose fill of the same candle stood in the way of this one's.
cycles = Table(
    "cycles",
    metadata,
    Column("number", RowNumber, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("account_id", RowNumber, ForeignKey("accounts.id"), nullable=False),
    Column("symbol", String(20), nullable=False),
    Column("interval", String(3), nullable=False),
    Column("status", String(16), nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime, nullable=False),
    Column("candle_open_time", UtcDateTime),
    Column("market", JSON(none_as_null=True)),
    Column("execution_status", String(16)),
    Column("execution_reason_code", String(64)),
    Column("execution_reason", Text),
    Column("duplicate_of", String(64), ForeignKey("cycles.id")),
    Column("reason_code", String(64)),
    Column("reason", Text),
    Column("logs", JSON, nullable=False),
    Column("checks", PackedText),
    Column("orders", PackedText),
    CheckConstraint(
        "(status = 'COMPLETED' AND execution_status IS NOT NULL AND execution_reason_code IS NOT NULL"
        " AND execution_reason IS NOT NULL AND market IS NOT NULL AND candle_open_time IS NOT NULL"
        " AND reason_code IS NULL)"
        " OR (status = 'REFUSED' AND execution_status IS NULL AND duplicate_of IS NULL"
        " AND reason_code IS NOT NULL AND reason IS NOT NULL)",
        name="status",
    ),
    CheckConstraint("execution_status IN ('FILLED', 'SKIPPED')", name="execution_status"),
    CheckConstraint("duplicate_of IS NULL OR execution_status = 'SKIPPED'", name="duplicate_of"),
    Index(None, "account_id", "number"),
    Index(None, "symbol", "number"),
    Index(None, "account_id", "interval", "candle_open_time", "symbol"),
    sqlite_autoincrement=True,
)

decisions = Table(
    "decisions",
    metadata,
    Column("cycle_id", String(64), ForeignKey("cycles.id"), primary_key=True),
    Column("action", String(4), nullable=False),
    Column("confidence", Double, nullable=False),
    Column("p_buy", Double, nullable=False),
    Column("p_sell", Double, nullable=False),
    Column("p_hold", Double, nullable=False),
    Column("reason_code", String(64), nullable=False),
    Column("reason", Text, nullable=False),
    Column("model_id", String(128), nullable=False),
    Column("expected_return", Double),
    Column("edge", String(16)),
    Column("drift", Double),
    CheckConstraint("action IN ('BUY', 'SELL', 'HOLD')", name="action"),
    CheckConstraint("confidence BETWEEN 0 AND 1", name="confidence"),
    CheckConstraint(
        "p_buy BETWEEN 0 AND 1 AND p_sell BETWEEN 0 AND 1 AND p_hold BETWEEN 0 AND 1", name="probabilities"
    ),
    sqlite_with_rowid=False,
)

# Each row carries the balances after it, as a bank statement does: the last row tells what is held (dust
# included), and all of them can be added up again. Only the fill of a decision has a confidence: a candle has one of
# these at most.
trades = Table(
    "trades",
    metadata,
    Column("id", RowNumber, primary_key=True),
    Column("cycle_id", String(64), ForeignKey("decisions.cycle_id")),
    Column("order_id", String(80), ForeignKey("orders.id")),
    Column("account_id", RowNumber, ForeignKey("accounts.id"), nullable=False),
    Column("symbol", String(20), nullable=False),
    Column("interval", String(3)),
    Column("origin", String(16), nullable=False),
    Column("side", String(4), nullable=False),
    Column("quantity", Money, nullable=False),
    Column("price", Money, nullable=False),
    Column("notional", Money, nullable=False),
    Column("fee", Money, nullable=False),
    Column("slippage_bps", Double, nullable=False),
    Column("confidence", Double),
    Column("model_id", String(128)),
    Column("candle_open_time", UtcDateTime),
    Column("executed_at", UtcDateTime, nullable=False),
    Column("reason", Text, nullable=False),
    Column("cash_after", Money, nullable=False),
    Column("position_after", Money, nullable=False),
    CheckConstraint("side IN ('BUY', 'SELL')", name="side"),
    CheckConstraint("origin IN ('signal', 'protection', 'person', 'liquidation')", name="origin"),
    CheckConstraint("quantity > 0", name="quantity"),
    CheckConstraint("price > 0", name="price"),
    CheckConstraint("notional > 0", name="notional"),
    CheckConstraint("fee >= 0", name="fee"),
    CheckConstraint("confidence BETWEEN 0 AND 1", name="confidence"),
    CheckConstraint(
        "(confidence IS NULL) = (origin <> 'signal') AND (confidence IS NULL OR (cycle_id IS NOT NULL"
        ' AND model_id IS NOT NULL AND "interval" IS NOT NULL AND candle_open_time IS NOT NULL))',
        name="decided",
    ),
    CheckConstraint("cash_after >= 0", name="cash_after"),
    Index(
        "uq_trades_decided",
        "account_id",
        "symbol",
        "interval",
        "candle_open_time",
        unique=True,
        sqlite_where=text("confidence IS NOT NULL"),
        postgresql_where=text("confidence IS NOT NULL"),
    ),
    Index(None, "cycle_id"),
    Index(None, "account_id", "id"),
    Index(None, "account_id", "symbol", "id"),
    Index(None, "symbol", "id"),
    sqlite_autoincrement=True,
)

# What came of a decision once the candle at its horizon had closed. A row without a label says that candles are
# missing up to there, so that it can never be known and need not be asked for again.
outcomes = Table(
    "outcomes",
    metadata,
    Column("cycle_id", String(64), ForeignKey("decisions.cycle_id"), primary_key=True),
    Column("label", String(4)),
    Column("forward_return", Double),
    Column("log_loss", Double),
    Column("settled_at", UtcDateTime, nullable=False),
    Column("scored_at", UtcDateTime, nullable=False),
    CheckConstraint("label IN ('BUY', 'SELL', 'HOLD')", name="label"),
    CheckConstraint("log_loss >= 0", name="log_loss"),
    CheckConstraint(
        "(label IS NULL) = (forward_return IS NULL) AND (label IS NULL) = (log_loss IS NULL)", name="whole"
    ),
    Index(None, "settled_at"),
    sqlite_with_rowid=False,
)

jobs = Table(
    "jobs",
    metadata,
    Column("number", RowNumber, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("kind", String(32), nullable=False),
    Column("status", String(16), nullable=False),
    Column("progress", Double, nullable=False),
    Column("message", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Column("error_code", String(64)),
    Column("error_message", Text),
    Column("result", JSON(none_as_null=True)),
    CheckConstraint("status IN ('QUEUED', 'RUNNING', 'SUCCEEDED', 'FAILED', 'INTERRUPTED', 'CANCELED')", name="status"),
    CheckConstraint("progress BETWEEN 0 AND 1", name="progress"),
    sqlite_autoincrement=True,
)

# One name space for every endpoint, so that a key cannot be used up twice by different kinds of requests.
idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("key", String(255), primary_key=True),
    Column("fingerprint", String(128), nullable=False),
    Column("cycle_id", String(64), ForeignKey("cycles.id")),
    Column("job_id", String(64), ForeignKey("jobs.id")),
    Column("record_number", RowNumber, ForeignKey("records.number")),
    Column("created_at", UtcDateTime, nullable=False),
    CheckConstraint(
        "(cycle_id IS NOT NULL AND job_id IS NULL AND record_number IS NULL)"
        " OR (cycle_id IS NULL AND job_id IS NOT NULL AND record_number IS NULL)"
        " OR (cycle_id IS NULL AND job_id IS NULL AND record_number IS NOT NULL)",
        name="one_result",
    ),
    sqlite_with_rowid=False,
)

upstream_waits = Table(
    "upstream_waits",
    metadata,
    Column("host", String(255), primary_key=True),
    Column("until", UtcDateTime, nullable=False),
    sqlite_with_rowid=False,
)

# A cache of closed candles, a row each; an exchange that restates one has the last word. `open_time_ms` counts
# milliseconds since the epoch: gaps are found by arithmetic, and a million rows are read without parsing times.
candles = Table(
    "candles",
    metadata,
    Column("source", String(32), primary_key=True),
    Column("symbol", String(20), primary_key=True),
    Column("interval", String(3), primary_key=True),
    Column("open_time_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("open", ExactNumber, nullable=False),
    Column("high", ExactNumber, nullable=False),
    Column("low", ExactNumber, nullable=False),
    Column("close", ExactNumber, nullable=False),
    Column("volume", ExactNumber, nullable=False),
    sqlite_with_rowid=False,
)

# Every model that was trained or found here. `recipe` is a hash of what it was asked to be: how many of them there
# are is how many candidates were tried on a market.
models = Table(
    "models",
    metadata,
    Column("number", RowNumber, primary_key=True),
    Column("id", String(128), nullable=False, unique=True),
    Column("source", String(32), nullable=False),
    Column("interval", String(3), nullable=False),
    Column("recipe", String(64), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("card", JSON, nullable=False),
    Column("registered_at", UtcDateTime, nullable=False),
    Index(None, "source", "interval", "number"),
    sqlite_autoincrement=True,
)

# The newest row of a market names its model in use; the one before it is what a rollback goes back to.
model_activations = Table(
    "model_activations",
    metadata,
    Column("number", RowNumber, primary_key=True),
    Column("model_id", String(128), ForeignKey("models.id"), nullable=False),
    Column("reason", String(16), nullable=False),
    Column("activated_at", UtcDateTime, nullable=False),
    CheckConstraint("reason IN ('found', 'trained', 'challenge', 'request', 'rollback')", name="reason"),
    Index(None, "model_id"),
    sqlite_autoincrement=True,
)

# What cycles looked at, each candle kept once; one that an exchange restated is there again, as the next version.
cycle_candles = Table(
    "cycle_candles",
    metadata,
    Column("source", String(32), primary_key=True),
    Column("symbol", String(20), primary_key=True),
    Column("interval", String(3), primary_key=True),
    Column("open_time_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("digest", LargeBinary(16), nullable=False),
    Column("close_time_ms", BigInteger, nullable=False),
    Column("open", ExactNumber, nullable=False),
    Column("high", ExactNumber, nullable=False),
    Column("low", ExactNumber, nullable=False),
    Column("close", ExactNumber, nullable=False),
    Column("volume", ExactNumber, nullable=False),
    sqlite_with_rowid=False,
)

# The settings that a cycle ran with, by their digest.
settings_documents = Table(
    "settings_documents",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("document", JSON, nullable=False),
    sqlite_with_rowid=False,
)

# A link for each booking of an account: what went into it, as canonical JSON, and a hash of that, of what came out,
# and of the link before.
records = Table(
    "records",
    metadata,
    Column("number", RowNumber, primary_key=True),
    Column("account_id", RowNumber, ForeignKey("accounts.id"), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("cycle_id", String(64), ForeignKey("cycles.id"), unique=True),
    Column("document", PackedText, nullable=False),
    Column("hash", String(64), nullable=False),
    CheckConstraint("(kind = 'cycle') = (cycle_id IS NOT NULL)", name="cycle_id"),
    Index(None, "account_id", "number"),
    sqlite_autoincrement=True,
)

# What happened, in the order in which it was committed. No reference to cycles: the log also tells of what has none,
# and outlives changes to what it tells of.
event_log = Table(
    "event_log",
    metadata,
    Column("number", RowNumber, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("type", String(32), nullable=False),
    Column("tags", JSON, nullable=False),
    Column("symbol", String(20)),
    Column("action", String(16)),
    Column("cycle_id", String(64)),
    Column("account_id", BigInteger),
    Column("message", Text, nullable=False),
    Column("data", JSON(none_as_null=True)),
    Index(None, "type", "number"),
    Index(None, "symbol", "number"),
    Index(None, "at", "number"),
    sqlite_autoincrement=True,
)

APPEND_ONLY = (
    backtest_trials.name,
    "accounts",
    "closed_trades",
    "cycle_candles",
    "dust_transfers",
    "halts",
    "records",
    "settings_documents",
    "snapshots",
    "cycles",
    "decisions",
    "trades",
    "outcomes",
    "idempotency_keys",
    "models",
    "model_activations",
    "event_log",
)
"""The tables whose rows are never changed or removed."""
