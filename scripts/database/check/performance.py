"""What makes the database slow or will: bloat, missing indexes, long transactions, full connections."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.database.check.findings import Finding, Level
from scripts.database.check.limits import Limits

if TYPE_CHECKING:
    from app.database import Transaction

AREA = "performance"

CONNECTIONS = """
SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS used,
       current_setting('max_connections')::int
       - current_setting('superuser_reserved_connections')::int AS most
"""
TRANSACTIONS = """
SELECT pid, coalesce(nullif(application_name, ''), 'a program without a name') AS program, state,
       extract(epoch FROM clock_timestamp() - xact_start)::float8 AS seconds
FROM pg_stat_activity
WHERE xact_start IS NOT NULL AND pid <> pg_backend_pid() AND backend_type = 'client backend'
  AND datname = current_database() AND clock_timestamp() - xact_start > make_interval(secs => :seconds)
ORDER BY xact_start
"""
BLOAT = """
SELECT relid::regclass::text AS name, n_dead_tup AS dead, n_live_tup AS live
FROM pg_stat_user_tables
WHERE n_dead_tup >= :rows AND n_dead_tup >= :share * (n_dead_tup + n_live_tup) ORDER BY n_dead_tup DESC
"""
SCANS = """
SELECT relid::regclass::text AS name, seq_scan AS scans, n_live_tup AS rows
FROM pg_stat_user_tables
WHERE n_live_tup >= :rows AND seq_scan >= :scans AND seq_scan > coalesce(idx_scan, 0)
ORDER BY seq_tup_read DESC
"""
FOREIGN_KEYS = """
SELECT conrelid::regclass::text AS place, conname AS name,
       (SELECT string_agg(attname, ', ' ORDER BY position.ordinality)
        FROM unnest(conkey) WITH ORDINALITY AS position(number, ordinality)
        JOIN pg_attribute ON attrelid = conrelid AND attnum = position.number) AS columns
FROM pg_constraint AS key
WHERE contype = 'f' AND NOT EXISTS (
    SELECT 1 FROM pg_index
    WHERE indrelid = key.conrelid AND indpred IS NULL
      AND (indkey::int2[])[0:cardinality(key.conkey) - 1] @> key.conkey)
ORDER BY 1, 2
"""
UNUSED = """
SELECT indexrelid::regclass::text AS name, pg_relation_size(indexrelid) AS bytes
FROM pg_stat_user_indexes JOIN pg_index USING (indexrelid)
WHERE idx_scan = 0 AND NOT indisunique AND pg_relation_size(indexrelid) >= :bytes ORDER BY 2 DESC
"""
AGE = "SELECT age(datfrozenxid) FROM pg_database WHERE datname = current_database()"


def check(tx: "Transaction", limits: Limits) -> Iterator[Finding]:
    """Yield what makes this database slow."""
    yield from (check_sqlite if tx.dialect == "sqlite" else check_postgresql)(tx, limits)


def check_postgresql(tx: "Transaction", limits: Limits) -> Iterator[Finding]:
    """Yield what PostgreSQL's own figures show."""
    yield from connections(tx, limits)
    for row in tx.all(TRANSACTIONS, seconds=limits.transaction_warning):
        critical = row["seconds"] >= limits.transaction_critical
        yield finding(
            Level.CRITICAL if critical else Level.WARNING,
            f"a transaction has been open for {row['seconds']:,.0f} s ({row['state']}) and keeps dead rows",
            where=f"{row['program']}, server process {row['pid']}",
            next_step=f"end it: SELECT pg_terminate_backend({row['pid']})",
        )
    for row in tx.all(BLOAT, rows=limits.dead_rows, share=limits.dead_share):
        yield finding(
            Level.WARNING,
            f"{row['name']} holds {row['dead']:,} dead rows beside {row['live']:,} live ones",
            where=row["name"],
            next_step=f"VACUUM (ANALYZE) {row['name']}, and look for long transactions",
        )
    for row in tx.all(SCANS, rows=limits.scanned_rows, scans=limits.scans):
        yield finding(
            Level.WARNING,
            f"{row['name']} ({row['rows']:,} rows) was read from end to end {row['scans']:,} times",
            where=row["name"],
            next_step="find the query in the slow-query log and give it an index in a migration",
        )
    for row in tx.all(FOREIGN_KEYS):
        yield finding(
            Level.WARNING,
            f"the foreign key {row['name']} has no index on {row['columns']}: deletes read the whole table",
            where=row["place"],
            next_step=f"create an index on {row['place']} ({row['columns']}) in a migration",
        )
    for row in tx.all(UNUSED, bytes=limits.unused_index):
        yield finding(
            Level.NOTICE,
            f"the index {row['name']} ({row['bytes'] >> 20:,} MiB) was never used since statistics began",
            where=row["name"],
            next_step="drop it in a migration if every replica agrees",
        )
    age = tx.scalar(AGE)
    if age >= limits.transaction_age:
        yield finding(
            Level.CRITICAL,
            f"the oldest rows are {age:,} transactions old: writes stop at about 2,100,000,000",
            where="vacuum",
            next_step="VACUUM (FREEZE), and find out what keeps autovacuum from it",
        )


def connections(tx: "Transaction", limits: Limits) -> Iterator[Finding]:
    """Yield a finding when the server's connections run out."""
    row = tx.one(CONNECTIONS)
    share = row["used"] / max(1, row["most"])
    if share >= limits.connections_warning:
        yield finding(
            Level.CRITICAL if share >= limits.connections_critical else Level.WARNING,
            f"{row['used']} of the server's {row['most']} connections are in use",
            where="pg_stat_activity",
            next_step="lower DB_POOL_SIZE or the number of replicas, or put a pooler in front",
        )


def check_sqlite(tx: "Transaction", limits: Limits) -> Iterator[Finding]:
    """Yield what SQLite's file shows."""
    pages, free = tx.scalar("PRAGMA page_count"), tx.scalar("PRAGMA freelist_count")
    if free >= limits.free_pages and free >= limits.free_share * pages:
        yield finding(
            Level.WARNING,
            f"{free:,} of the file's {pages:,} pages are empty",
            where="the database file",
            next_step="VACUUM while nobody writes",
        )
    mode = tx.scalar("PRAGMA journal_mode")
    if mode != "wal":
        yield finding(
            Level.WARNING,
            f"the journal mode is {mode}: readers and the writer wait for each other",
            where="the database file",
            next_step="put the file on a local disk; this code turns WAL on when it opens it",
        )
    log = log_of(tx)
    size = log.stat().st_size if log.exists() else 0
    if size >= limits.write_ahead_log:
        yield finding(
            Level.WARNING,
            f"the write-ahead log has grown to {size >> 20:,} MiB: a reader keeps it from being emptied",
            where=log.name,
            next_step="end the longest read, then PRAGMA wal_checkpoint(TRUNCATE)",
        )
    for row in tx.all("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"):
        yield from foreign_keys(tx, row["name"])


def log_of(tx: "Transaction") -> Path:
    """Return the path of the write-ahead log."""
    file = tx.scalar("SELECT file FROM pragma_database_list WHERE name = 'main'")
    return Path(f"{file}-wal")


def foreign_keys(tx: "Transaction", table: str) -> Iterator[Finding]:
    """Yield each foreign key of `table` that no index begins with."""
    leading = {
        tx.scalar("SELECT name FROM pragma_index_info(:name) WHERE seqno = 0", name=row["name"])
        for row in tx.all("SELECT name FROM pragma_index_list(:name)", name=table)
    }
    for row in tx.all('SELECT "from" AS column FROM pragma_foreign_key_list(:name)', name=table):
        if row["column"] not in leading:
            yield finding(
                Level.WARNING,
                f"a foreign key has no index on {row['column']}: deletes read the whole table",
                where=table,
                next_step=f"create an index on {table} ({row['column']}) in a migration",
            )


def finding(level: Level, what: str, **more: Any) -> Finding:
    """Return a finding of this area."""
    return Finding(level=level, area=AREA, what=what, **more)
