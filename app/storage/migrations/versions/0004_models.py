"""The models and which of them was in use when, and what a decision knew of its model."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from app.storage.column_types import RowNumber, UtcDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

NEW_TABLES = ("models", "model_activations")


def upgrade() -> None:
    for name, kind in (("expected_return", sa.Double()), ("edge", sa.String(16)), ("drift", sa.Double())):
        op.add_column("decisions", sa.Column(name, kind, nullable=True))
    create_models()
    create_model_activations()
    if op.get_bind().dialect.name == "sqlite":
        create_sqlite_triggers()
    else:
        create_postgres_triggers()


def downgrade() -> None:
    raise NotImplementedError("Books are not thrown away; to start new ones, use another database.")


def create_models() -> None:
    op.create_table(
        "models",
        sa.Column("number", RowNumber, nullable=False),
        sa.Column("id", sa.String(128), nullable=False),
        sa.Column("source", sa.String(32), nullable=False),
        sa.Column("interval", sa.String(3), nullable=False),
        sa.Column("recipe", sa.String(64), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("card", sa.JSON(), nullable=False),
        sa.Column("registered_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_models")),
        sa.UniqueConstraint("id", name=op.f("uq_models_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_models_source_interval_number"), "models", ["source", "interval", "number"])


def create_model_activations() -> None:
    op.create_table(
        "model_activations",
        sa.Column("number", RowNumber, nullable=False),
        sa.Column("model_id", sa.String(128), nullable=False),
        sa.Column("reason", sa.String(16), nullable=False),
        sa.Column("activated_at", UtcDateTime(), nullable=False),
        sa.CheckConstraint(
            "reason IN ('found', 'trained', 'challenge', 'request', 'rollback')",
            name=op.f("ck_model_activations_reason"),
        ),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_model_activations_model_id")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_model_activations")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_model_activations_model_id"), "model_activations", ["model_id"])


def create_sqlite_triggers() -> None:
    for table in NEW_TABLES:
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )


def create_postgres_triggers() -> None:
    for table in NEW_TABLES:
        op.execute(
            f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
