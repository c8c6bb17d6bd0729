"""The check finds each fault that it knows, made for real, and says nothing of a healthy database."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from app.database import ConnectionManager
from app.database.errors import DatabaseError
from app.database.migrations import runner
from app.ledger.recorder import record
from scripts.database.check import findings, job, schema
from scripts.database.check.findings import Finding, Level, Report
from scripts.database.check.limits import Limits
from scripts.database.errors import UsageError
from tests.postgres import Database, Settings


@pytest.fixture
def ledger(manager: ConnectionManager) -> ConnectionManager:
    """A migrated database, on SQLite and on PostgreSQL."""
    runner.upgrade(manager)
    return manager


@pytest.fixture
def file(tmp_path: Path) -> Iterator[tuple[ConnectionManager, Path]]:
    """A migrated SQLite database and its path."""
    path = tmp_path / "ledger.sqlite3"
    with ConnectionManager.from_settings(Settings(sqlite_path=path)) as manager:
        runner.upgrade(manager)
        yield manager, path


@pytest.fixture
def server(database: Database) -> Iterator[tuple[ConnectionManager, Database]]:
    """A migrated PostgreSQL database and the way to it."""
    with database.manager() as manager:
        runner.upgrade(manager)
        yield manager, database


def told(manager: ConnectionManager, *areas: str, **limits: Any) -> dict[str, Level]:
    report = job.check(manager, areas or findings.AREAS, Limits(**limits))
    return {finding.what: finding.level for finding in report.findings}


def one(manager: ConnectionManager, words: str, *areas: str, **limits: Any) -> Finding:
    """Return the only finding that says `words`."""
    report = job.check(manager, areas or findings.AREAS, Limits(**limits))
    found = [finding for finding in report.findings if words in finding.what]
    assert len(found) == 1, [finding.what for finding in report.findings]
    assert found[0].next_step
    return found[0]


def run_event(number: int) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"e{number}",
        "source": "/test",
        "type": "dev.slipway.run.finished",
        "time": "2026-01-31T12:00:00Z",
        "data": {"run": f"r{number}", "command": "ship", "result": "success"},
    }


def test_a_healthy_database_has_nothing_to_report(ledger: ConnectionManager) -> None:
    with ledger.transaction() as tx:
        record(tx, [run_event(number) for number in range(20)])
    report = job.check(ledger)
    assert report.findings == ()
    assert report.areas == findings.AREAS
    assert report.worst is Level.OK
    assert "ledger.sqlite3" in report.database or "slipway@" in report.database


def test_no_schema_pending_ahead_and_changed_are_told(
    manager: ConnectionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert told(manager, "schema") == {"there is no schema": Level.CRITICAL}
    runner.stamp(manager, "base")
    assert told(manager, "schema") == {"there is no schema": Level.CRITICAL}
    runner.upgrade(manager)
    with manager.transaction() as tx:
        tx.execute("UPDATE schema_migration SET checksum = 'other'")
    assert one(manager, "was changed after", "schema").level is Level.CRITICAL
    with manager.transaction() as tx:
        tx.execute("UPDATE alembic_version SET version_num = '9999'")
    assert one(manager, "9999, which this code does not know", "schema").level is Level.CRITICAL


def test_a_pending_migration_is_a_warning(ledger: ConnectionManager, monkeypatch: pytest.MonkeyPatch) -> None:
    from app.database.migrations import schema as state

    real = state.read
    monkeypatch.setattr(
        state, "read", lambda tx: state.SchemaStatus(**{**real(tx).__dict__, "pending": ("0042",)})
    )
    assert one(ledger, "to come: 0042", "schema").level is Level.WARNING


@pytest.mark.parametrize(
    ("statement", "words", "level"),
    [
        ("DROP TABLE token", "the table token is missing", Level.CRITICAL),
        ("ALTER TABLE artifact DROP COLUMN image", "the column artifact.image is missing", Level.CRITICAL),
        (
            "DROP INDEX ix_artifact_built_digest",
            "the index ix_artifact_built_digest is missing",
            Level.WARNING,
        ),
    ],
)
def test_what_somebody_took_away_by_hand_is_told(
    ledger: ConnectionManager, statement: str, words: str, level: Level
) -> None:
    with ledger.transaction() as tx:
        tx.execute(statement)
    assert one(ledger, words, "schema").level is level


def test_a_lost_constraint_and_a_loosened_column_are_told(server: tuple[ConnectionManager, Database]) -> None:
    manager, database = server
    database.execute("ALTER TABLE event DROP CONSTRAINT uq_event_source_id")
    database.execute("ALTER TABLE artifact ALTER COLUMN run DROP NOT NULL")
    assert told(manager, "schema") == {
        "the constraint uq_event_source_id is missing": Level.CRITICAL,
        "the column artifact.run allows NULL where the code does not": Level.WARNING,
    }


def test_a_difference_that_the_code_need_not_know_is_no_finding() -> None:
    assert schema.describe(("remove_table", None)) is None


def test_orphans_and_projections_behind_the_log_are_told(ledger: ConnectionManager) -> None:
    with ledger.transaction() as tx:
        record(tx, [run_event(1), run_event(2)])
        tx.execute("DELETE FROM pipeline_run WHERE run = 'r2'")
        tx.execute(
            "INSERT INTO task_run (run, name, kind, result, position, seconds, figures, version)"
            " VALUES ('gone', 'test', 'check', 'success', 0, 1, '{}', '1')"
        )
        tx.execute(
            "INSERT INTO deployment (run, environment, result, digest, started, finished, version)"
            " VALUES ('r1', 'staging', 'succeeded', 'sha256:1', '2026-01-31', '2026-01-31', '1')"
        )
    assert told(ledger, "integrity") == {
        "1 stages whose run is not in the ledger": Level.NOTICE,
        "1 deployments of an image that is not in the ledger": Level.NOTICE,
        "1 runs are in the event log and not in the projections": Level.CRITICAL,
    }


def test_a_damaged_file_is_critical(file: tuple[ConnectionManager, Path]) -> None:
    _, path = file
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("PRAGMA writable_schema = ON")
        raw.execute("CREATE INDEX odd ON token (name)")
        raw.execute("INSERT INTO token (hash, name, scopes, created) VALUES ('h', 'n', '[]', '2026-01-31')")
        raw.execute("UPDATE sqlite_master SET sql = replace(sql, '(name)', '(hash)') WHERE name = 'odd'")
    with ConnectionManager.from_settings(Settings(sqlite_path=path)) as again:
        assert one(again, "the file is damaged", "integrity").level is Level.CRITICAL


def test_a_file_with_damaged_pages_gives_a_report_with_what_is_damaged(
    file: tuple[ConnectionManager, Path],
) -> None:
    manager, path = file
    with manager.transaction() as tx:
        record(tx, [run_event(number) for number in range(500)])
    manager.close()
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    pages = path.stat().st_size // 4096
    with path.open("r+b") as raw:
        raw.seek(pages // 2 * 4096)
        raw.write(b"\xff" * ((pages - pages // 2) * 4096))
    with ConnectionManager.from_settings(Settings(sqlite_path=path)) as again:
        for areas in ([], ["integrity"]):
            report = job.check(again, areas or findings.AREAS)
            assert "damaged" in report.of("integrity")[0].what
            assert not report.unreachable
            assert report.exit_code(Level.CRITICAL) == 1
            assert json.loads(findings.to_json(report))["level"] == "critical"


def test_an_error_that_is_no_damage_is_none_of_the_report(file: tuple[ConnectionManager, Path]) -> None:
    manager, path = file
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("DROP TABLE alembic_version")
        raw.execute("CREATE TABLE alembic_version (other TEXT)")
    with pytest.raises(DatabaseError, match="no such column"):
        job.check(manager, ["schema"])


def test_rows_that_refer_to_nothing_are_critical(file: tuple[ConnectionManager, Path]) -> None:
    manager, path = file
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("CREATE TABLE box (id INTEGER PRIMARY KEY)")
        raw.execute("CREATE TABLE lid (box INTEGER REFERENCES box (id))")
        raw.execute("INSERT INTO lid VALUES (1), (2)")
    found = told(manager, "integrity", "performance")
    assert found["2 rows of lid refer to rows of box that do not exist"] is Level.CRITICAL
    assert found["a foreign key has no index on box: deletes read the whole table"] is Level.WARNING
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("CREATE INDEX ix_lid_box ON lid (box)")
    assert told(manager, "performance") == {}


def test_an_invalid_index_and_an_unproven_constraint_are_told(
    server: tuple[ConnectionManager, Database],
) -> None:
    manager, database = server
    database.execute("CREATE TABLE box (id int, lid int)")
    database.execute("INSERT INTO box VALUES (1, 1), (1, 2)")
    with pytest.raises(psycopg2.errors.UniqueViolation):
        database.execute("CREATE UNIQUE INDEX CONCURRENTLY twice ON box (id)")
    database.execute("ALTER TABLE box ADD CONSTRAINT positive CHECK (id > 0) NOT VALID")
    assert one(manager, "the index twice is invalid", "integrity").level is Level.CRITICAL
    assert one(manager, "the constraint positive was never checked", "integrity").level is Level.WARNING


def test_a_sequence_behind_its_table_is_critical(server: tuple[ConnectionManager, Database]) -> None:
    manager, database = server
    with manager.transaction() as tx:
        record(tx, [run_event(number) for number in range(5)])
    database.execute("SELECT setval(pg_get_serial_sequence('event', 'sequence'), 2)")
    finding = one(manager, "event.sequence counts on from 2 although 5 is taken", "integrity")
    assert finding.level is Level.CRITICAL
    database.execute(finding.next_step)
    assert told(manager, "integrity") == {}


def test_a_long_transaction_is_told_with_its_owner(server: tuple[ConnectionManager, Database]) -> None:
    manager, database = server
    with closing(database.connect()) as other:
        other.autocommit = False
        with other.cursor() as cursor:
            cursor.execute("SET application_name = 'a forgotten console'")
            cursor.execute("SELECT 1")
            finding = one(manager, "has been open for", "performance", transaction_warning=0.0)
            assert finding.level is Level.WARNING
            assert "a forgotten console" in finding.where
            assert str(other.info.backend_pid) in finding.next_step
            worse = one(
                manager,
                "(idle in transaction)",
                "performance",
                transaction_warning=0.0,
                transaction_critical=0.0,
            )
            assert worse.level is Level.CRITICAL
    assert told(manager, "performance") == {}


def test_full_connections_and_old_rows_are_told(server: tuple[ConnectionManager, Database]) -> None:
    manager, _ = server
    full = one(manager, "connections are in use", "performance", connections_warning=0.0)
    assert full.level is Level.WARNING
    limits = {"connections_warning": 0.0, "connections_critical": 0.0}
    assert one(manager, "connections are in use", "performance", **limits).level is Level.CRITICAL
    assert one(manager, "transactions old", "performance", transaction_age=0).level is Level.CRITICAL


def test_bloat_scans_missing_and_unused_indexes_are_told(server: tuple[ConnectionManager, Database]) -> None:
    manager, database = server
    with closing(database.connect()) as raw, raw.cursor() as cursor:
        cursor.execute("CREATE TABLE box (id int PRIMARY KEY, lid int)")
        cursor.execute("ALTER TABLE box SET (autovacuum_enabled = off)")
        cursor.execute("CREATE TABLE lid (box int REFERENCES box (id))")
        cursor.execute("CREATE INDEX ix_box_lid ON box (lid)")
        cursor.execute("INSERT INTO box SELECT n, n FROM generate_series(1, 500) AS n")
        cursor.execute("DELETE FROM box WHERE id <= 250")
        cursor.execute("CREATE TABLE crate AS SELECT n AS id FROM generate_series(1, 300) AS n")
        for _ in range(5):
            cursor.execute("SELECT sum(id) FROM crate")
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT 1")
    limits = {"dead_rows": 200, "scanned_rows": 200, "scans": 5, "unused_index": 1}
    bloat = one(manager, "box holds 250 dead rows beside 250 live ones", "performance", **limits)
    assert bloat.level is Level.WARNING
    database.execute("VACUUM (ANALYZE) box")
    found = told(manager, "performance", **limits)
    assert not any("dead rows" in what for what in found)
    assert any("crate (300 rows) was read from end to end" in what for what in found)
    assert any("ix_box_lid" in what and level is Level.NOTICE for what, level in found.items())
    key = one(manager, "lid_box_fkey has no index on box", "performance", **limits)
    assert key.level is Level.WARNING
    database.execute("CREATE INDEX ix_lid_box ON lid (box)")
    assert not any("has no index" in what for what in told(manager, "performance", **limits))


def test_empty_pages_and_a_grown_log_are_told(file: tuple[ConnectionManager, Path]) -> None:
    manager, path = file
    assert told(manager, "performance") == {}
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("CREATE TABLE box (label TEXT)")
        raw.executemany("INSERT INTO box VALUES (?)", [("x" * 3000,)] * 200)
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("DELETE FROM box")
    found = told(manager, "performance", free_pages=50, write_ahead_log=100_000)
    assert any("pages are empty" in what for what in found)
    assert any("the write-ahead log has grown" in what for what in found)
    assert set(found.values()) == {Level.WARNING}


def test_a_journal_that_makes_readers_wait_is_told(file: tuple[ConnectionManager, Path]) -> None:
    manager, _ = file

    class Other:
        """The same transaction on a file whose journal mode somebody changed."""

        def __init__(self, tx: Any) -> None:
            self._tx = tx

        def __getattr__(self, name: str) -> Any:
            return getattr(self._tx, name)

        def scalar(self, statement: str, **parameters: Any) -> Any:
            if "journal_mode" in statement:
                return "delete"
            return self._tx.scalar(statement, **parameters)

    from scripts.database.check import performance

    with manager.transaction(read_only=True) as tx:
        found = list(performance.check(Other(tx), Limits()))  # type: ignore[arg-type]
    assert [finding.what for finding in found] == [
        "the journal mode is delete: readers and the writer wait for each other"
    ]


def test_a_route_that_is_down_beside_one_that_serves_is_a_warning(database: Database) -> None:
    with database.manager(adapter_order=("direct", "local"), port=1) as manager:
        runner.upgrade(manager)
        finding = one(manager, "the route direct is down", "routes")
        assert finding.level is Level.WARNING


def test_a_database_that_does_not_answer_is_the_only_finding(database: Database) -> None:
    with database.manager(local_port=1, budget_seconds=1.0) as manager:
        report = job.check(manager)
        assert report.unreachable
        assert [(finding.area, finding.level) for finding in report.findings] == [("routes", Level.CRITICAL)]
        assert "local" in report.findings[0].where


def test_an_unknown_area_is_refused(ledger: ConnectionManager) -> None:
    with pytest.raises(UsageError, match="no area colour"):
        job.check(ledger, ["schema", "colour"])


@pytest.fixture
def report(ledger: ConnectionManager) -> Report:
    with ledger.transaction() as tx:
        tx.execute("DROP INDEX ix_artifact_built_digest")
    return job.check(ledger)


def test_the_report_is_text_json_markdown_and_a_page(report: Report) -> None:
    text = findings.to_text(report)
    assert "warning: the index ix_artifact_built_digest is missing" in text
    assert "  routes: ok" in text
    document = json.loads(findings.to_json(report))
    assert document["level"] == "warning"
    assert document["areas"]["schema"][0]["level"] == "warning"
    assert document["areas"]["integrity"] == []
    assert "| schema | warning | the index" in findings.to_markdown(report)
    assert "| routes | ok | nothing to report |" in findings.to_markdown(report)
    page = findings.to_html(report)
    assert '<tr class="warning"><td>schema</td>' in page


def test_what_a_database_says_is_escaped(report: Report) -> None:
    odd = Finding(level=Level.NOTICE, area="schema", what="<b>|", where="<i>")
    changed = Report(**{**report.__dict__, "findings": (odd,)})
    assert "<b>" not in findings.to_html(changed)
    assert "&lt;b&gt;|" in findings.to_html(changed)
    assert "<b>\\|" in findings.to_markdown(changed)
    assert "(<i>)" in findings.to_text(changed)


@pytest.mark.parametrize(
    ("fail_on", "code"), [(Level.OK, 0), (Level.NOTICE, 1), (Level.WARNING, 1), (Level.CRITICAL, 0)]
)
def test_the_exit_code_follows_the_level_asked_for(report: Report, fail_on: Level, code: int) -> None:
    assert report.exit_code(fail_on) == code
