"""Are the rows whole: the file or the indexes, references, and the projections against the event log."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from scripts.database.check.findings import Finding, Level
from scripts.database.check.limits import Limits

if TYPE_CHECKING:
    from app.database import Transaction

AREA = "integrity"
REBUILD = "derive the projections again from the log: `invoke db.rebuild`"

INVALID_INDEXES = "SELECT indexrelid::regclass::text AS name FROM pg_index WHERE NOT indisvalid ORDER BY 1"
UNPROVEN = """
SELECT conname AS name, conrelid::regclass::text AS place FROM pg_constraint WHERE NOT convalidated ORDER BY 1
"""
SEQUENCE = """
SELECT coalesce(max(sequence), 0) AS highest,
       coalesce((SELECT last_value FROM pg_sequences
                 WHERE format('%I.%I', schemaname, sequencename)
                       = pg_get_serial_sequence('event', 'sequence')), 0) AS reached
FROM event
"""
ORPHANS = {
    "stages whose run is not in the ledger": """
        SELECT count(*) FROM task_run WHERE NOT EXISTS
        (SELECT 1 FROM pipeline_run WHERE pipeline_run.run = task_run.run)""",
    "deployments of an image that is not in the ledger": """
        SELECT count(*) FROM deployment WHERE digest IS NOT NULL AND NOT EXISTS
        (SELECT 1 FROM artifact WHERE artifact.digest = deployment.digest)""",
}
LOST_RUNS = {
    "postgresql": """
        SELECT count(DISTINCT data ->> 'run') FROM event WHERE type LIKE 'dev.slipway.run.%'
        AND NOT EXISTS (SELECT 1 FROM pipeline_run WHERE pipeline_run.run = event.data ->> 'run')""",
    "sqlite": """
        SELECT count(DISTINCT data ->> '$.run') FROM event WHERE type LIKE 'dev.slipway.run.%'
        AND NOT EXISTS (SELECT 1 FROM pipeline_run WHERE pipeline_run.run = event.data ->> '$.run')""",
}


def check(tx: "Transaction", _limits: Limits) -> Iterator[Finding]:
    """Yield what is not whole; of the ledger's own tables only where they are."""
    from app.database.migrations.schema import has_table

    yield from (check_sqlite if tx.dialect == "sqlite" else check_postgresql)(tx)
    if all(has_table(tx, name) for name in ("event", "pipeline_run", "task_run", "artifact", "deployment")):
        yield from check_ledger(tx)


def check_sqlite(tx: "Transaction") -> Iterator[Finding]:
    """Yield what SQLite finds wrong with its own file."""
    for row in tx.all("PRAGMA integrity_check(20)"):
        if row["integrity_check"] != "ok":
            yield Finding(
                level=Level.CRITICAL,
                area=AREA,
                what=f"the file is damaged: {row['integrity_check']}",
                next_step="restore the last good backup: `invoke db.restore FILE --to=PLACE`",
            )
    broken: dict[tuple[str, str], int] = {}
    for row in tx.all("PRAGMA foreign_key_check"):
        place = (row["table"], row["parent"])
        broken[place] = broken.get(place, 0) + 1
    for (table, parent), count in broken.items():
        yield Finding(
            level=Level.CRITICAL,
            area=AREA,
            what=f"{count:,} rows of {table} refer to rows of {parent} that do not exist",
            next_step="delete them or add what they refer to; foreign keys were off when they were written",
        )


def check_postgresql(tx: "Transaction") -> Iterator[Finding]:
    """Yield what PostgreSQL knows to be wrong."""
    for row in tx.all(INVALID_INDEXES):
        yield Finding(
            level=Level.CRITICAL,
            area=AREA,
            what=f"the index {row['name']} is invalid: building it was interrupted",
            next_step=f"REINDEX INDEX CONCURRENTLY {row['name']}",
        )
    for row in tx.all(UNPROVEN):
        yield Finding(
            level=Level.WARNING,
            area=AREA,
            what=f"the constraint {row['name']} was never checked against the rows that were there",
            where=row["place"],
            next_step=f"ALTER TABLE {row['place']} VALIDATE CONSTRAINT {row['name']}",
        )


def check_ledger(tx: "Transaction") -> Iterator[Finding]:
    """Yield where the ledger's tables disagree with each other."""
    for what, query in ORPHANS.items():
        count = tx.scalar(query)
        if count:
            yield Finding(
                level=Level.NOTICE,
                area=AREA,
                what=f"{count:,} {what}",
                next_step="their events are late or were never sent: look for a spool in `.slipway/`",
            )
    lost = tx.scalar(LOST_RUNS[tx.dialect])
    if lost:
        yield Finding(
            level=Level.CRITICAL,
            area=AREA,
            what=f"{lost:,} runs are in the event log and not in the projections",
            where="pipeline_run",
            next_step=REBUILD,
        )
    if tx.dialect == "postgresql":
        row = tx.one(SEQUENCE)
        if row["reached"] < row["highest"]:
            yield Finding(
                level=Level.CRITICAL,
                area=AREA,
                what=f"event.sequence counts on from {row['reached']:,} although {row['highest']:,} is taken",
                where="event",
                next_step="SELECT setval(pg_get_serial_sequence('event', 'sequence'), max(sequence))"
                " FROM event",
            )
