"""The ledger's tables: an append-only event log, projections derived from it, and the tokens that may write.

`event` is the only truth; every projection can be dropped and rebuilt from it. A projection row carries the
`version` of the event that it comes from, and a row only ever gives way to a better version, so neither order
nor repetition of delivery matters. The migrations own the schema of a live database; code names it by this.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """Hold an aware time in UTC on every back end; refuse a naive one."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn an aware time into UTC; SQLite keeps it without the zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time without a zone cannot be stored: {value!r}")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Give the stored time back as aware UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _document() -> Any:
    return JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def _ordered_text() -> Any:
    """Return a text type that compares by code point on both back ends, whatever the server's locale."""
    return Text().with_variant(Text(collation="C"), "postgresql")


metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

event = Table(
    "event",
    metadata,
    Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("source", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("time", UtcDateTime, nullable=False),
    Column("subject", Text),
    Column("data", _document()),
    Column("extensions", _document(), nullable=False),
    Column("recorded", UtcDateTime, nullable=False),
    UniqueConstraint("source", "id"),
    Index(None, "type", "sequence"),
    sqlite_autoincrement=True,
)

pipeline_run = Table(
    "pipeline_run",
    metadata,
    Column("run", _ordered_text(), primary_key=True),
    Column("command", Text, nullable=False),
    Column("environment", Text),
    Column("result", Text),
    Column("commit", Text),
    Column("dirty", Boolean, nullable=False),
    Column("started", UtcDateTime, nullable=False),
    Column("finished", UtcDateTime),
    Column("seconds", Float),
    Column("digest", Text),
    Column("version", _ordered_text(), nullable=False),
    Index(None, "started", "run"),
)

task_run = Table(
    "task_run",
    metadata,
    Column("run", _ordered_text(), primary_key=True),
    Column("name", _ordered_text(), primary_key=True),
    Column("kind", Text, nullable=False),
    Column("result", Text, nullable=False),
    Column("reason", Text),
    Column("proof", Text),
    Column("position", Integer, nullable=False),
    Column("started", UtcDateTime),
    Column("seconds", Float, nullable=False),
    Column("figures", _document(), nullable=False),
    Column("version", _ordered_text(), nullable=False),
)

artifact = Table(
    "artifact",
    metadata,
    Column("digest", _ordered_text(), primary_key=True),
    Column("image", Text),
    Column("bytes", BigInteger),
    Column("bytes_compressed", BigInteger),
    Column("commit", Text),
    Column("run", Text, nullable=False),
    Column("built", UtcDateTime, nullable=False),
    Column("version", _ordered_text(), nullable=False),
    Index(None, "built", "digest"),
)

deployment = Table(
    "deployment",
    metadata,
    Column("run", _ordered_text(), primary_key=True),
    Column("environment", _ordered_text(), primary_key=True),
    Column("result", Text, nullable=False),
    Column("digest", Text),
    Column("previous", Text),
    Column("commit", Text),
    Column("actor", Text),
    Column("url", Text),
    Column("started", UtcDateTime, nullable=False),
    Column("finished", UtcDateTime, nullable=False),
    Column("seconds", Float),
    Column("version", _ordered_text(), nullable=False),
    Index(None, "finished", "run", "environment"),
    Index(None, "environment", "result", "finished"),
)

token = Table(
    "token",
    metadata,
    Column("hash", _ordered_text(), primary_key=True),
    Column("name", Text, nullable=False),
    Column("scopes", _document(), nullable=False),
    Column("created", UtcDateTime, nullable=False),
    Column("revoked", UtcDateTime),
)

PROJECTIONS = (pipeline_run, task_run, artifact, deployment)
