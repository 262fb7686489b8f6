"""The tables of what is computed of the past: backtests, optimisations, all that was ever tried, parity with life."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Double, LargeBinary, String, Table, UniqueConstraint

from app.storage.account_tables import metadata
from app.storage.column_types import PackedText, RowNumber, UtcDateTime

# Backtests, whole or not at all: a small document and the arrays of its books. A run may be deleted, never changed.
# `id` is made of the request, its candles and the code's version, so that each is computed once.
backtest_runs = Table(
    "backtest_runs",
    metadata,
    Column("number", RowNumber, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("symbols", String(255), nullable=False),
    Column("strategy", String(64), nullable=False),
    Column("document", PackedText, nullable=False),
    Column("arrays", LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)

# Optimisations, in the same way; the backtest of what each found best is among the backtests.
optimization_runs = Table(
    "optimization_runs",
    metadata,
    Column("number", RowNumber, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("symbols", String(255), nullable=False),
    Column("strategy", String(64), nullable=False),
    Column("document", PackedText, nullable=False),
    sqlite_autoincrement=True,
)

# Everything that was ever tried on some candles, whoever tried it and whatever became of its run: the more was tried,
# the better the best of it looks by luck alone. `symbols` are sorted and enclosed in commas.
backtest_trials = Table(
    "backtest_trials",
    metadata,
    Column("number", RowNumber, primary_key=True),
    Column("source", String(32), nullable=False),
    Column("symbols", String(255), nullable=False),
    Column("since", UtcDateTime, nullable=False),
    Column("until", UtcDateTime, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("daily_sharpe", Double),
    Column("observed_at", UtcDateTime, nullable=False),
    UniqueConstraint("source", "symbols", "digest", "since", "until"),
    CheckConstraint("since < until", name="span"),
    sqlite_autoincrement=True,
)

# The newest comparison of life with the backtest, as a document; an older one goes when it comes.
parity_reports = Table(
    "parity_reports",
    metadata,
    Column("number", RowNumber, primary_key=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("document", PackedText, nullable=False),
    sqlite_autoincrement=True,
)
