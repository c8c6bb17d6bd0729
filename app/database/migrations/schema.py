"""Where a database stands in the schema's history. Imports no Alembic: readiness asks this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app.database.migrations import chain

if TYPE_CHECKING:
    from app.database.transactions import Transaction

VERSION_TABLE = "alembic_version"
HISTORY_TABLE = "schema_migration"


@dataclass(frozen=True, kw_only=True)
class SchemaStatus:
    """Where a database stands.

    `current` is None for a database with no schema, `pending` what an upgrade would apply, oldest first.
    `ahead` is true when this code does not know `current`, and `changed` names applied migrations whose file
    differs from the one that was applied.
    """

    current: str | None
    head: str | None
    pending: tuple[str, ...]
    ahead: bool
    changed: tuple[str, ...] = ()

    @property
    def at_head(self) -> bool:
        """Tell whether this code and this database fit."""
        return not (self.pending or self.ahead or self.changed)


def read(tx: Transaction, versions: Path = chain.VERSIONS) -> SchemaStatus:
    """Return where the database of `tx` stands against the migrations in `versions`."""
    return compare(chain.read(versions), current(tx), applied(tx))


def compare(line: chain.Chain, at: str | None, checksums: Mapping[str, str]) -> SchemaStatus:
    """Return the status of a database at revision `at` that recorded `checksums` by revision."""
    ahead = at is not None and not line.knows(at)
    return SchemaStatus(
        current=at,
        head=line.head,
        pending=() if ahead else tuple(migration.revision for migration in line.after(at)),
        ahead=ahead,
        changed=tuple(
            migration.revision
            for migration in line.migrations
            if checksums.get(migration.revision, migration.checksum) != migration.checksum
        ),
    )


def current(tx: Transaction) -> str | None:
    """Return the revision that the database says it is at, None for no schema."""
    if not has_table(tx, VERSION_TABLE):
        return None
    revision = tx.scalar(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608 - a constant
    return None if revision is None else str(revision)


def applied(tx: Transaction) -> dict[str, str]:
    """Return the checksum of each migration when it was applied, by revision."""
    if not has_table(tx, HISTORY_TABLE):
        return {}
    rows = tx.all(f"SELECT revision, checksum FROM {HISTORY_TABLE}")  # noqa: S608 - a constant
    return {str(row["revision"]): str(row["checksum"]) for row in rows}


def has_table(tx: Transaction, name: str) -> bool:
    """Tell whether the table `name` exists where unqualified names are looked up."""
    if tx.dialect == "sqlite":
        found = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = :name COLLATE NOCASE"
        return bool(tx.scalar(found, name=name))
    return bool(tx.scalar("SELECT to_regclass(:name) IS NOT NULL", name=name))
