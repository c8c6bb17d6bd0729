"""Does the schema fit this code: its revision, and every table, column and index that the code names."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from scripts.database.check.findings import Finding, Level
from scripts.database.check.limits import Limits

if TYPE_CHECKING:
    from app.database import Transaction

AREA = "schema"


def check(tx: "Transaction", _limits: Limits) -> Iterator[Finding]:
    """Yield what is wrong with the schema."""
    from app.database.migrations import schema

    found = schema.read(tx)
    if found.ahead:
        yield finding(
            Level.CRITICAL,
            f"the schema is at {found.current}, which this code does not know",
            next_step="run the newer release that made it",
        )
        return
    if found.current is None:
        yield finding(Level.CRITICAL, "there is no schema", next_step="`invoke db.upgrade`")
        return
    if found.pending:
        yield finding(
            Level.WARNING,
            f"the schema is at {found.current}; to come: {', '.join(found.pending)}",
            next_step="`invoke db.upgrade`",
        )
    for revision in found.changed:
        yield finding(
            Level.CRITICAL,
            f"migration {revision} was changed after it had been applied",
            next_step="put the file back as it was and write a new migration",
        )
    if not found.pending:
        yield from differences(tx)


def differences(tx: "Transaction") -> Iterator[Finding]:
    """Yield where the tables differ from what the code names."""
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    from app.ledger.models import metadata

    context = MigrationContext.configure(tx.connection, opts={"compare_type": False})
    for difference in compare_metadata(context, metadata):
        # A changed column comes as a list of changes, everything else as one tuple.
        for one in difference if isinstance(difference, list) else [difference]:
            described = describe(one)
            if described is not None:
                yield described


def describe(difference: tuple[Any, ...]) -> Finding | None:
    """Return the finding for one difference as Alembic words it; None for what the code need not know."""
    kind, *what = difference
    if kind == "add_table":
        return missing(Level.CRITICAL, f"the table {what[0].name} is missing")
    if kind == "add_column":
        return missing(Level.CRITICAL, f"the column {what[1]}.{what[2].name} is missing")
    if kind == "add_index":
        return missing(Level.WARNING, f"the index {what[0].name} is missing: reads will be slow")
    if kind == "add_constraint":
        return missing(Level.CRITICAL, f"the constraint {what[0].name} is missing")
    if kind == "modify_nullable":
        return missing(Level.WARNING, f"the column {what[1]}.{what[2]} allows NULL where the code does not")
    return None


def missing(level: Level, what: str) -> Finding:
    """Return the finding for something that the code names and the database has not."""
    told = "somebody changed the schema by hand: make it again as app/database/migrations/versions has it"
    return finding(level, what, next_step=told)


def finding(level: Level, what: str, *, next_step: str) -> Finding:
    """Return a finding of this area."""
    return Finding(level=level, area=AREA, what=what, next_step=next_step)
