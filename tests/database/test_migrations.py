"""Migrations: all or nothing, one migrator at a time, and never on a schema that this code does not know."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy.exc import IntegrityError

from app.database import ConnectionManager
from app.database.migrations import chain, lock, runner, schema
from app.database.migrations.errors import (
    BrokenHistoryError,
    MigrationChangedError,
    MigrationFailedError,
    MigrationLockedError,
    MigrationRefusedError,
    SchemaAheadError,
    UnknownRevisionError,
)
from scripts.database.check.schema import differences
from tests.database.migration_files import ADD, CREATE, two, write
from tests.postgres import Database, Settings, wait_until

BOX = "SELECT count(*) FROM box"


@pytest.fixture
def versions(tmp_path: Path) -> Path:
    return two(tmp_path / "versions")


def tables(manager: ConnectionManager) -> set[str]:
    with manager.transaction(read_only=True) as tx:
        return {name for name in ("box", "lid", "event") if schema.has_table(tx, name)}


def test_an_empty_database_comes_to_head_once(manager: ConnectionManager, versions: Path) -> None:
    before = runner.status(manager, versions=versions)
    assert (before.current, before.head, before.pending) == (None, "0002", ("0001", "0002"))
    moved = runner.upgrade(manager, versions=versions)
    assert (moved.before, moved.after, moved.steps) == (None, "0002", ("0001", "0002"))
    assert runner.status(manager, versions=versions).at_head
    again = runner.upgrade(manager, versions=versions)
    assert (again.before, again.after, again.steps) == ("0002", "0002", ())


def test_steps_are_taken_one_by_one_when_asked(manager: ConnectionManager, versions: Path) -> None:
    assert runner.upgrade(manager, "+1", versions=versions).after == "0001"
    assert runner.upgrade(manager, "0002", versions=versions).steps == ("0002",)
    assert runner.downgrade(manager, "-1", versions=versions).steps == ("0002",)
    assert runner.status(manager, versions=versions).pending == ("0002",)
    assert runner.upgrade(manager, "0001", versions=versions).steps == ()
    assert runner.downgrade(manager, "base", versions=versions).after is None
    assert tables(manager) == set()


def test_a_failing_migration_leaves_nothing_of_the_whole_command(
    manager: ConnectionManager, tmp_path: Path
) -> None:
    folder = tmp_path / "versions"
    write(folder, "0001", None, CREATE)
    write(folder, "0002", "0001", "op.execute('INSERT INTO nowhere VALUES (1)')")
    with pytest.raises(MigrationFailedError, match="nowhere") as caught:
        runner.upgrade(manager, versions=folder)
    assert "after 0001" in caught.value.where
    assert tables(manager) == set()
    assert runner.status(manager, versions=folder).current is None
    write(folder, "0002", "0001", ADD)
    assert runner.upgrade(manager, versions=folder).after == "0002"


def test_going_back_refuses_to_lose_rows_unless_told(manager: ConnectionManager, versions: Path) -> None:
    runner.upgrade(manager, versions=versions)
    with manager.transaction() as tx:
        tx.execute("INSERT INTO box (id, label) VALUES (1, 'a')")
    with pytest.raises(MigrationRefusedError, match=r"drops the column box\.weight with 1 rows"):
        runner.downgrade(manager, "0001", versions=versions)
    assert runner.status(manager, versions=versions).current == "0002"
    assert runner.downgrade(manager, "base", accept_loss=True, versions=versions).steps == ("0002", "0001")
    assert tables(manager) == set()


def test_going_back_counts_rows_that_a_statement_deletes(manager: ConnectionManager, tmp_path: Path) -> None:
    folder = tmp_path / "versions"
    write(folder, "0001", None, CREATE, 'op.drop_table("box")')
    write(folder, "0002", "0001", "op.execute('SELECT 1')", "op.execute('DELETE FROM box')")
    runner.upgrade(manager, versions=folder)
    with manager.transaction() as tx:
        tx.execute("INSERT INTO box (id, label) VALUES (1, 'a')")
    with pytest.raises(MigrationRefusedError, match="deletes rows of box"):
        runner.downgrade(manager, "0001", versions=folder)


def test_going_back_counts_rows_of_a_table_that_was_there_before_it_is_made_when_missing(
    manager: ConnectionManager, tmp_path: Path
) -> None:
    folder = tmp_path / "versions"
    down = 'op.execute("CREATE TABLE IF NOT EXISTS Box (id int)"); op.execute("DROP TABLE BOX")'
    write(folder, "0001", None, CREATE, down)
    runner.upgrade(manager, versions=folder)
    with manager.transaction() as tx:
        tx.execute("INSERT INTO box (id, label) VALUES (1, 'a')")
    with pytest.raises(MigrationRefusedError, match="drops the table box with 1 rows"):
        runner.downgrade(manager, "base", versions=folder)


def test_going_back_counts_the_rows_of_the_schema_that_is_named(database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "versions"
    up = """op.execute('CREATE SCHEMA "S"; CREATE TABLE "S".box AS SELECT 1; CREATE TABLE box (id int)')"""
    write(folder, "0001", None, up, """op.execute('CREATE TABLE box (id int); DROP TABLE "S".box')""")
    with database.manager() as manager:
        runner.upgrade(manager, versions=folder)
        with pytest.raises(MigrationRefusedError, match=r"drops the table S\.box with 1 rows"):
            runner.downgrade(manager, "base", versions=folder)


def test_a_schema_ahead_of_this_code_is_refused_by_every_command(
    manager: ConnectionManager, versions: Path
) -> None:
    runner.upgrade(manager, versions=versions)
    (versions / "0002_step.py").unlink()
    found = runner.status(manager, versions=versions)
    assert found.ahead
    assert found.pending == ()
    for refused in (runner.upgrade, runner.sql):
        with pytest.raises(SchemaAheadError, match="0002, which this code does not know"):
            refused(manager, versions=versions)
    with pytest.raises(SchemaAheadError):
        runner.downgrade(manager, "base", versions=versions)


def test_a_migration_changed_after_it_was_applied_is_refused_until_it_is_stamped(
    manager: ConnectionManager, versions: Path
) -> None:
    runner.upgrade(manager, versions=versions)
    path = versions / "0001_step.py"
    path.write_text(path.read_text().replace("label", "title"))
    assert runner.status(manager, versions=versions).changed == ("0001",)
    write(versions, "0003", "0002", "op.execute('SELECT 1')")
    with pytest.raises(MigrationChangedError, match=r"0001_step\.py"):
        runner.upgrade(manager, versions=versions)
    runner.stamp(manager, "0002", versions=versions)
    assert runner.upgrade(manager, versions=versions).steps == ("0003",)


def test_line_ends_and_trailing_blanks_are_no_change(manager: ConnectionManager, versions: Path) -> None:
    runner.upgrade(manager, versions=versions)
    path = versions / "0001_step.py"
    path.write_bytes(path.read_bytes().replace(b"\n", b"  \r\n"))
    assert runner.status(manager, versions=versions).at_head


def test_stamp_writes_down_a_revision_and_runs_nothing(manager: ConnectionManager, versions: Path) -> None:
    runner.stamp(manager, "head", versions=versions)
    assert runner.status(manager, versions=versions).at_head
    assert tables(manager) == set()
    runner.stamp(manager, "base", versions=versions)
    assert runner.status(manager, versions=versions).current is None


def test_stamp_brings_a_schema_that_is_ahead_back_under_control(
    manager: ConnectionManager, versions: Path
) -> None:
    runner.upgrade(manager, versions=versions)
    (versions / "0002_step.py").unlink()
    runner.stamp(manager, "0001", versions=versions)
    assert runner.status(manager, versions=versions).at_head


def test_the_previewed_sql_run_by_hand_is_as_good_as_the_upgrade(
    manager: ConnectionManager, versions: Path
) -> None:
    up = runner.sql(manager, versions=versions)
    assert tables(manager) == set()
    by_hand(manager, up)
    assert runner.status(manager, versions=versions).at_head
    assert tables(manager) == {"box"}
    assert runner.sql(manager, versions=versions) == ""
    by_hand(manager, runner.sql(manager, "0001", versions=versions))
    assert runner.status(manager, versions=versions).pending == ("0002",)
    by_hand(manager, runner.sql(manager, "head", versions=versions))
    assert runner.status(manager, versions=versions).at_head


def by_hand(manager: ConnectionManager, script: str) -> None:
    """Run a script as psql or sqlite3 would: it brings its own transaction."""
    with manager.transaction(read_only=True) as tx:
        adapter = manager.router.current.adapter
        assert tx.dialect == adapter.dialect
    with closing(adapter.open(5.0)) as raw:
        if adapter.dialect == "sqlite":
            raw.executescript(script)
        else:
            raw.autocommit = True
            with raw.cursor() as cursor:
                cursor.execute(script)


def test_sql_that_needs_a_database_to_render_cannot_be_shown(
    manager: ConnectionManager, tmp_path: Path
) -> None:
    folder = tmp_path / "versions"
    asks = "op.get_bind().execute(sa.text('SELECT 1')).scalar_one()"
    write(folder, "0001", None, asks)
    for refused in (runner.upgrade, runner.sql):
        with pytest.raises(MigrationRefusedError, match="cannot be rendered"):
            refused(manager, versions=folder)
    write(folder, "0001", None, asks, extra='contract = True\ncontract_reason = "not judged"')
    with pytest.raises(MigrationFailedError, match="cannot be shown"):
        runner.sql(manager, versions=folder)


def test_a_migration_that_breaks_the_running_release_is_refused_and_changes_nothing(
    manager: ConnectionManager, versions: Path
) -> None:
    write(versions, "0003", "0002", 'op.drop_column("box", "label")')
    for refused in (runner.upgrade, runner.sql):
        with pytest.raises(MigrationRefusedError, match=r"drops the column box\.label"):
            refused(manager, versions=versions)
    assert tables(manager) == set()
    marked = 'contract = True\ncontract_reason = "nothing reads it since 1.2"'
    write(versions, "0003", "0002", 'op.drop_column("box", "label")', extra=marked)
    assert runner.upgrade(manager, versions=versions).after == "0003"


def test_many_migrators_at_once_apply_every_step_once(manager: ConnectionManager, versions: Path) -> None:
    barrier = threading.Barrier(4)
    done: list[tuple[str, ...]] = []

    def migrate() -> None:
        barrier.wait()
        done.append(runner.upgrade(manager, versions=versions).steps)

    threads = [threading.Thread(target=migrate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [(), (), (), ("0001", "0002")]


def test_a_migrator_that_waited_sees_what_the_one_before_it_did(database: Database, versions: Path) -> None:
    """Under REPEATABLE READ the question for the lock would fix the view to the time before the lock."""
    database.execute(f"ALTER DATABASE {database.name} SET default_transaction_isolation = 'repeatable read'")
    done: list[tuple[str, ...]] = []
    with database.manager() as manager, database.manager() as late:
        with runner.exclusive(manager, 1.0, "first") as tx:
            other = threading.Thread(
                target=lambda: done.append(runner.upgrade(late, versions=versions).steps)
            )
            other.start()
            wait_until(lambda: waits_for_the_lock(database), 10, "the second migrator")
            runner.apply(tx, chain.read(versions), versions, command.upgrade, "0002")
        other.join()
    assert done == [()]


def waits_for_the_lock(database: Database) -> bool:
    query = "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL"
    return any(text.startswith("SELECT pg_try_advisory_xact_lock") for (text,) in database.execute(query))


def test_postgresql_names_who_holds_the_lock_and_goes_on_when_it_is_free(
    database: Database, versions: Path
) -> None:
    with database.manager() as manager, closing(database.connect()) as other:
        other.autocommit = False
        with other.cursor() as cursor:
            cursor.execute("SET application_name = 'a slow migrator'")
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (lock.KEY,))
        with pytest.raises(MigrationLockedError) as caught:
            runner.upgrade(manager, wait=0.3, versions=versions)
        assert "a slow migrator" in caught.value.where
        assert str(other.info.backend_pid) in caught.value.where
        assert caught.value.exit_code == 1
        other.rollback()
        assert runner.upgrade(manager, wait=0.3, versions=versions).after == "0002"


def test_a_lock_whose_holder_has_just_gone_is_said_so(database: Database) -> None:
    with database.manager() as manager, manager.transaction() as tx:
        assert "has just ended" in lock.postgresql_holder(tx)


@contextmanager
def other_process(path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Run a process that holds the lock of a database file until it is ended."""
    code = (
        "import sys; from pathlib import Path; from app.database.migrations.lock import lock_file\n"
        "with lock_file(Path(sys.argv[1]), 5): print('held', flush=True); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_sqlite_names_the_process_that_holds_the_lock_and_its_death_frees_it(
    tmp_path: Path, versions: Path
) -> None:
    path = tmp_path / "ledger.sqlite3"
    with ConnectionManager.from_settings(Settings(sqlite_path=path)) as manager:
        runner.status(manager, versions=versions)
        with other_process(path) as process:
            with pytest.raises(MigrationLockedError) as caught:
                runner.upgrade(manager, wait=0.2, versions=versions)
            assert f"process {process.pid}" in caught.value.where
            process.kill()
            process.wait()
            assert runner.upgrade(manager, wait=5, versions=versions).after == "0002"
    assert not path.with_name("ledger.sqlite3.migrating").exists()


def test_a_lock_file_without_a_name_in_it_is_no_crash(tmp_path: Path) -> None:
    assert "did not say its name" in lock.file_holder(tmp_path / "none")


def test_sqlite_refuses_a_migration_that_leaves_references_to_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "versions"
    write(
        folder,
        "0001",
        None,
        """
        op.execute("CREATE TABLE box (id INTEGER PRIMARY KEY)")
        op.execute("CREATE TABLE lid (box INTEGER REFERENCES box (id) DEFERRABLE INITIALLY DEFERRED)")
        op.execute("INSERT INTO lid VALUES (7)")
        """,
    )
    with ConnectionManager.from_settings(Settings(sqlite_path=tmp_path / "a.sqlite3")) as manager:
        with pytest.raises(MigrationFailedError, match="1 rows that refer to nothing"):
            runner.upgrade(manager, versions=folder)
        assert tables(manager) == set()


PARENT_AND_CHILD = """
op.create_table("crate", sa.Column("id", sa.Integer, primary_key=True), sa.Column("label", sa.Text))
op.create_table(
    "box",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("crate", sa.Integer, sa.ForeignKey("crate.id", ondelete="CASCADE")),
)
"""
REBUILT = """
with op.batch_alter_table("crate") as crate:
    crate.alter_column("label", existing_type=sa.Text(), nullable=False)
"""


def test_a_table_that_is_rebuilt_keeps_the_rows_that_refer_to_it(
    manager: ConnectionManager, tmp_path: Path
) -> None:
    """SQLite changes a column by DROP TABLE and a copy; ON DELETE CASCADE must not see a deletion in it."""
    folder = tmp_path / "versions"
    write(folder, "0001", None, PARENT_AND_CHILD, 'op.drop_table("box")\nop.drop_table("crate")')
    runner.upgrade(manager, versions=folder)
    with manager.transaction() as tx:
        tx.execute("INSERT INTO crate (id, label) VALUES (1, 'a')")
        tx.execute("INSERT INTO box (id, crate) VALUES (7, 1)")
    marked = 'contract = True\ncontract_reason = "every release fills it"'
    write(folder, "0002", "0001", REBUILT, REBUILT.replace("False", "True"), extra=marked)
    runner.upgrade(manager, versions=folder)
    runner.downgrade(manager, "0001", accept_loss=True, versions=folder)
    with manager.transaction() as tx:
        assert tx.scalar(BOX) == 1
        # What a migration may do, a program may not: references are looked after again on every connection.
        with pytest.raises(IntegrityError), tx.savepoint():
            tx.execute("INSERT INTO box (id, crate) VALUES (8, 2)")
        tx.execute("DELETE FROM crate")
        assert tx.scalar(BOX) == 0


def test_references_are_looked_after_again_after_a_migration_that_failed(tmp_path: Path) -> None:
    folder = tmp_path / "versions"
    write(folder, "0001", None, PARENT_AND_CHILD)
    with ConnectionManager.from_settings(Settings(sqlite_path=tmp_path / "a.sqlite3")) as manager:
        runner.upgrade(manager, versions=folder)
        write(folder, "0002", "0001", "op.execute('INSERT INTO nowhere VALUES (1)')")
        with pytest.raises(MigrationFailedError):
            runner.upgrade(manager, versions=folder)
        with manager.transaction() as tx:
            assert tx.scalar("PRAGMA foreign_keys") == 1


def test_the_shipped_migrations_make_what_the_code_names_and_undo_it(manager: ConnectionManager) -> None:
    for _ in range(2):
        runner.upgrade(manager)
        with manager.transaction(read_only=True) as tx:
            assert list(differences(tx)) == []
        runner.downgrade(manager, "base")
        assert tables(manager) == set()


def test_readiness_can_ask_for_the_revision_without_loading_alembic() -> None:
    code = "import sys; import app.database.migrations.schema; sys.exit('alembic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestChain:
    """The history as data."""

    def test_it_is_read_in_order_with_titles_and_reasons(self, versions: Path) -> None:
        write(versions, "0003", "0002", "pass", extra='contract: bool = True\ncontract_reason = " gone "')
        line = chain.read(versions)
        assert [step.revision for step in line.migrations] == ["0001", "0002", "0003"]
        assert line.migrations[0].title == "Step 0001"
        assert [step.contract for step in line.migrations] == [None, None, "gone"]
        assert line.head == "0003"

    def test_a_mark_without_a_reason_is_no_mark(self, tmp_path: Path) -> None:
        path = write(tmp_path, "0001", None, "pass", extra="contract = True")
        assert chain.parse(path).contract is None

    def test_no_files_are_an_empty_history(self, tmp_path: Path) -> None:
        assert chain.read(tmp_path).head is None

    def test_a_fork_is_refused_naming_both_files(self, versions: Path) -> None:
        write(versions, "0002b", "0001", "pass")
        with pytest.raises(BrokenHistoryError, match="Two migrations follow 0001") as caught:
            chain.read(versions)
        assert "0002_step.py" in caught.value.where
        assert "0002b_step.py" in caught.value.where

    def test_a_gap_is_refused(self, versions: Path) -> None:
        write(versions, "0009", "0008", "pass")
        with pytest.raises(BrokenHistoryError, match="does not exist") as caught:
            chain.read(versions)
        assert "0009_step.py" in caught.value.where

    def test_a_ring_is_refused(self, tmp_path: Path) -> None:
        write(tmp_path, "a", "b", "pass")
        write(tmp_path, "b", "a", "pass")
        with pytest.raises(BrokenHistoryError):
            chain.read(tmp_path)

    @pytest.mark.parametrize("text", ["x = 1\n", "revision = '1'\n", "revision = '1'\ndown_revision = ''\n"])
    def test_a_file_that_is_no_migration_is_refused(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "stray.py").write_text(text)
        with pytest.raises(BrokenHistoryError, match="is not one"):
            chain.read(tmp_path)

    @pytest.mark.parametrize(
        ("wanted", "current", "meant"),
        [
            ("head", None, "0002"),
            ("base", "0002", None),
            ("+1", None, "0001"),
            ("+2", None, "0002"),
            ("-1", "0002", "0001"),
            ("-1", "0001", None),
            ("0002", None, "0002"),
        ],
    )
    def test_words_for_revisions(
        self, versions: Path, wanted: str, current: str | None, meant: str | None
    ) -> None:
        assert chain.read(versions).resolve(wanted, current) == meant

    def test_the_start_of_a_name_is_enough_when_it_is_the_only_one(self, tmp_path: Path) -> None:
        write(tmp_path, "abcdef", None, "pass")
        write(tmp_path, "abxyz", "abcdef", "pass")
        assert chain.read(tmp_path).resolve("abc", None) == "abcdef"
        with pytest.raises(UnknownRevisionError):
            chain.read(tmp_path).resolve("ab", None)

    @pytest.mark.parametrize(("wanted", "current"), [("+3", None), ("-1", None), ("+1", "0002")])
    def test_a_step_out_of_the_history_is_refused(
        self, versions: Path, wanted: str, current: str | None
    ) -> None:
        with pytest.raises(UnknownRevisionError, match="leads out of the history"):
            chain.read(versions).resolve(wanted, current)

    def test_an_unknown_revision_names_the_known_ones_and_exits_with_2(self, versions: Path) -> None:
        with pytest.raises(UnknownRevisionError) as caught:
            chain.read(versions).resolve("9", None)
        assert "0001, 0002" in str(caught.value)
        assert caught.value.exit_code == 2


def test_an_account_without_a_name_still_migrates(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 4_000_000)
    assert runner.person() == "unknown"
