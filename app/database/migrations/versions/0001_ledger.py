"""The ledger's event log, its projections and the tokens that may write.

Revision ID: 0001
Revises:
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables and make the event log append-only."""
    _create_event()
    _create_runs()
    _create_releases()
    op.create_table(
        "token",
        sa.Column("hash", _ordered_text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("scopes", _document(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("hash", name="pk_token"),
    )
    if op.get_context().dialect.name == "postgresql":
        _append_only_postgresql()
    else:
        _append_only_sqlite()


def downgrade() -> None:
    """Drop everything of the ledger, the event log included."""
    for name in ("token", "deployment", "artifact", "task_run", "pipeline_run", "event"):
        op.drop_table(name)
    if op.get_context().dialect.name == "postgresql":
        op.execute("DROP FUNCTION event_is_append_only()")


def _document() -> sa.JSON[Any]:
    return sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def _ordered_text() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _create_event() -> None:
    op.create_table(
        "event",
        sa.Column(
            "sequence",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("subject", sa.Text()),
        sa.Column("data", _document()),
        sa.Column("extensions", _document(), nullable=False),
        sa.Column("recorded", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_event"),
        sa.UniqueConstraint("source", "id", name="uq_event_source_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_event_type_sequence", "event", ["type", "sequence"])


def _create_runs() -> None:
    op.create_table(
        "pipeline_run",
        sa.Column("run", _ordered_text(), nullable=False),
        sa.Column("command", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text()),
        sa.Column("result", sa.Text()),
        sa.Column("commit", sa.Text()),
        sa.Column("dirty", sa.Boolean(), nullable=False),
        sa.Column("started", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished", sa.DateTime(timezone=True)),
        sa.Column("seconds", sa.Float()),
        sa.Column("digest", sa.Text()),
        sa.Column("version", _ordered_text(), nullable=False),
        sa.PrimaryKeyConstraint("run", name="pk_pipeline_run"),
    )
    op.create_index("ix_pipeline_run_started_run", "pipeline_run", ["started", "run"])
    op.create_table(
        "task_run",
        sa.Column("run", _ordered_text(), nullable=False),
        sa.Column("name", _ordered_text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("result", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("proof", sa.Text()),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("started", sa.DateTime(timezone=True)),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("figures", _document(), nullable=False),
        sa.Column("version", _ordered_text(), nullable=False),
        sa.PrimaryKeyConstraint("run", "name", name="pk_task_run"),
    )


def _create_releases() -> None:
    op.create_table(
        "artifact",
        sa.Column("digest", _ordered_text(), nullable=False),
        sa.Column("image", sa.Text()),
        sa.Column("bytes", sa.BigInteger()),
        sa.Column("bytes_compressed", sa.BigInteger()),
        sa.Column("commit", sa.Text()),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("built", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", _ordered_text(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_artifact"),
    )
    op.create_index("ix_artifact_built_digest", "artifact", ["built", "digest"])
    op.create_table(
        "deployment",
        sa.Column("run", _ordered_text(), nullable=False),
        sa.Column("environment", _ordered_text(), nullable=False),
        sa.Column("result", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text()),
        sa.Column("previous", sa.Text()),
        sa.Column("commit", sa.Text()),
        sa.Column("actor", sa.Text()),
        sa.Column("url", sa.Text()),
        sa.Column("started", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seconds", sa.Float()),
        sa.Column("version", _ordered_text(), nullable=False),
        sa.PrimaryKeyConstraint("run", "environment", name="pk_deployment"),
    )
    op.create_index(
        "ix_deployment_finished_run_environment", "deployment", ["finished", "run", "environment"]
    )
    op.create_index(
        "ix_deployment_environment_result_finished", "deployment", ["environment", "result", "finished"]
    )


def _append_only_sqlite() -> None:
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER event_no_{verb.lower()} BEFORE {verb} ON event"
            " BEGIN SELECT RAISE(ABORT, 'the event log is append-only'); END"
        )


def _append_only_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION event_is_append_only() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'the event log is append-only'; END $$"
    )
    op.execute(
        "CREATE TRIGGER event_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON event"
        " FOR EACH STATEMENT EXECUTE FUNCTION event_is_append_only()"
    )
