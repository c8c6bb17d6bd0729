"""What a program does with the database: transactions, retries, bulk loads, health."""

from __future__ import annotations

import datetime
import decimal
import logging
import math
import threading
import tracemalloc
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.database import (
    ConnectionManager,
    ConstraintBroken,
    DatabaseError,
    Limits,
    RolledBack,
    Transaction,
    Upsert,
    bulk,
    health,
)
from app.database.adapters.sqlite import Sqlite
from tests.postgres import Database, wait_until


@pytest.fixture
def notes(manager: ConnectionManager) -> ConnectionManager:
    """A manager on a database with one table."""
    with manager.transaction() as tx:
        tx.execute("CREATE TABLE note (id integer PRIMARY KEY, text varchar(80) NOT NULL, number integer)")
    return manager


def ids(manager: ConnectionManager) -> list[int]:
    with manager.transaction(read_only=True) as tx:
        return [row["id"] for row in tx.all("SELECT id FROM note ORDER BY id")]


# Transactions


def test_a_write_with_returning_is_there_after_the_block(notes: ConnectionManager) -> None:
    with notes.transaction() as tx:
        assert tx.scalar("INSERT INTO note (id, text) VALUES (1, 'kept') RETURNING id") == 1
    assert ids(notes) == [1]


def test_an_exception_undoes_the_block_and_passes_unchanged(notes: ConnectionManager) -> None:
    with pytest.raises(ZeroDivisionError), notes.transaction() as tx:
        tx.execute("INSERT INTO note (id, text) VALUES (1, 'lost')")
        _ = 1 / 0
    assert ids(notes) == []


def test_rows_come_as_mappings(notes: ConnectionManager) -> None:
    with notes.transaction() as tx:
        tx.execute(
            "INSERT INTO note VALUES (:id, :text, NULL)", [{"id": 1, "text": "a"}, {"id": 2, "text": "b"}]
        )
        assert [dict(row) for row in tx.all("SELECT id, text FROM note WHERE id > :least", least=0)] == [
            {"id": 1, "text": "a"},
            {"id": 2, "text": "b"},
        ]
        assert tx.one("SELECT text FROM note WHERE id = 2")["text"] == "b"
        assert tx.first("SELECT text FROM note WHERE id = 3") is None
        assert tx.scalar("SELECT number FROM note WHERE id = 1") is None
        with pytest.raises(sa.exc.NoResultFound):
            tx.one("SELECT 1 FROM note WHERE id = 3")


def test_core_statements_work_as_well_as_text(notes: ConnectionManager) -> None:
    note = sa.table("note", sa.column("id"), sa.column("text"))
    with notes.transaction() as tx:
        tx.execute(sa.insert(note), [{"id": 1, "text": "a"}])
        assert tx.scalar(sa.select(note.c.text)) == "a"


def test_a_savepoint_undoes_only_its_own_block(notes: ConnectionManager) -> None:
    with notes.transaction() as tx:
        tx.execute("INSERT INTO note (id, text) VALUES (1, 'kept')")
        with pytest.raises(sa.exc.IntegrityError), tx.savepoint():
            tx.execute("INSERT INTO note (id, text) VALUES (2, 'lost')")
            tx.execute("INSERT INTO note (id, text) VALUES (1, 'twice')")
        tx.execute("INSERT INTO note (id, text) VALUES (3, 'kept')")
    assert ids(notes) == [1, 3]


def test_a_broken_constraint_is_rolled_back_and_named(notes: ConnectionManager) -> None:
    with pytest.raises(ConstraintBroken) as caught, notes.transaction() as tx:
        tx.execute("INSERT INTO note (id, text) VALUES (1, 'a')")
        tx.execute("INSERT INTO note (id, text) VALUES (1, 'secret of a row')")
    assert ids(notes) == []
    assert not caught.value.transient
    assert "secret" not in str(caught.value)
    if notes.dialect == "postgresql":
        assert caught.value.sqlstate == "23505"
        assert caught.value.constraint == "note_pkey"


def test_a_caught_error_does_not_turn_commit_into_a_silent_rollback(database: Database) -> None:
    with database.manager() as manager:
        with pytest.raises(RolledBack, match="its error was caught") as caught, manager.transaction() as tx:
            tx.execute("CREATE TABLE t (id integer)")
            with pytest.raises(sa.exc.ProgrammingError):
                tx.execute("SELECT * FROM missing")
        assert "savepoint" in str(caught.value)
        with manager.transaction() as tx:
            assert tx.scalar("SELECT to_regclass('t')") is None


def test_an_error_shows_no_parameters(notes: ConnectionManager) -> None:
    with pytest.raises(RolledBack) as caught, notes.transaction() as tx:
        tx.execute("INSERT INTO missing VALUES (:value)", {"value": "hunter2"})
    assert "hunter2" not in str(caught.value)
    assert "missing" in str(caught.value)


def test_a_deferred_constraint_that_fails_at_commit_is_rolled_back(database: Database) -> None:
    with database.manager() as manager:
        with manager.transaction() as tx:
            tx.execute("CREATE TABLE t (id integer UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        with pytest.raises(ConstraintBroken), manager.transaction() as tx:
            tx.execute("INSERT INTO t VALUES (1), (1)")
        with manager.transaction() as tx:
            assert tx.scalar("SELECT count(*) FROM t") == 0


def test_foreign_keys_hold_on_both(manager: ConnectionManager) -> None:
    with manager.transaction() as tx:
        tx.execute("CREATE TABLE parent (id integer PRIMARY KEY)")
        tx.execute("CREATE TABLE child (id integer PRIMARY KEY, parent integer REFERENCES parent)")
    with pytest.raises(ConstraintBroken), manager.transaction() as tx:
        tx.execute("INSERT INTO child VALUES (1, 99)")


def test_a_transaction_is_used_once_and_inside_its_block(manager: ConnectionManager) -> None:
    tx = manager.transaction()
    with pytest.raises(RuntimeError, match="not open"):
        tx.execute("SELECT 1")
    with tx, pytest.raises(RuntimeError, match="begun already"):
        tx.__enter__()
    with pytest.raises(RuntimeError, match="not open"):
        _ = tx.connection


def test_an_empty_transaction_commits(manager: ConnectionManager) -> None:
    with manager.transaction():
        pass
    with manager.transaction(read_only=True) as tx:
        assert tx.scalar("SELECT 1") == 1
        assert tx.facts.role == "primary"


def test_a_read_only_transaction_refuses_to_write(notes: ConnectionManager) -> None:
    with pytest.raises(RolledBack) as caught, notes.transaction(read_only=True) as tx:
        tx.execute("INSERT INTO note (id, text) VALUES (1, 'no')")
    assert not caught.value.transient
    with notes.transaction() as tx:
        tx.execute("INSERT INTO note (id, text) VALUES (1, 'yes')")


def test_a_slow_statement_is_logged_without_its_parameters(
    manager: ConnectionManager, caplog: pytest.LogCaptureFixture
) -> None:
    object.__setattr__(manager.limits, "slow_query", 0.0)
    with caplog.at_level(logging.WARNING, "app.database.slow"), manager.transaction(label="report") as tx:
        tx.scalar("SELECT  :value", value="hunter2")
    (message,) = [record.getMessage() for record in caplog.records]
    assert "SELECT :value" in message
    assert "in report" in message
    assert "hunter2" not in message


# Retries


def test_a_serialization_failure_runs_the_whole_transaction_again(database: Database) -> None:
    database.execute("CREATE TABLE counter (id integer PRIMARY KEY, value integer)")
    database.execute("INSERT INTO counter VALUES (1, 0)")
    both_have_read = threading.Barrier(2, timeout=10)
    with database.manager() as manager:
        attempts: list[int] = []

        def add_one(tx: Transaction) -> None:
            tx.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
            value = tx.scalar("SELECT value FROM counter WHERE id = 1")
            attempts.append(value)
            if len(attempts) <= 2:
                both_have_read.wait()
            tx.execute("UPDATE counter SET value = :value WHERE id = 1", {"value": value + 1})

        threads = [threading.Thread(target=manager.run, args=(add_one,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert database.execute("SELECT value FROM counter") == [(2,)]
        assert len(attempts) == 3
        assert manager.statistics().retries == 1


def test_a_deadlock_is_resolved_by_a_retry(database: Database) -> None:
    database.execute("CREATE TABLE account (id integer PRIMARY KEY, value integer)")
    database.execute("INSERT INTO account VALUES (1, 0), (2, 0)")
    database.execute(f"ALTER DATABASE {database.name} SET deadlock_timeout = '50ms'")
    first_locks = threading.Barrier(2, timeout=10)
    with database.manager() as manager:

        def transfer(first: int, second: int) -> None:
            tries: list[int] = []

            def work(tx: Transaction) -> None:
                tries.append(1)
                tx.execute("UPDATE account SET value = value + 1 WHERE id = :id", {"id": first})
                if len(tries) == 1:
                    first_locks.wait()
                tx.execute("UPDATE account SET value = value + 1 WHERE id = :id", {"id": second})

            manager.run(work)

        threads = [threading.Thread(target=transfer, args=pair) for pair in ((1, 2), (2, 1))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert database.execute("SELECT sum(value) FROM account") == [(4,)]


def test_an_error_that_would_come_again_is_not_retried(notes: ConnectionManager) -> None:
    calls: list[int] = []

    def work(tx: Transaction) -> None:
        calls.append(1)
        tx.execute("INSERT INTO missing VALUES (1)")

    with pytest.raises(RolledBack):
        notes.run(work)
    assert calls == [1]
    calls.clear()

    def mistake(tx: Transaction) -> None:
        calls.append(1)
        raise ValueError("not the database's fault")

    with pytest.raises(ValueError, match="fault"):
        notes.run(mistake)
    assert calls == [1]


def test_retries_end_with_the_budget(database: Database) -> None:
    with database.manager() as manager:
        calls: list[int] = []

        def work(tx: Transaction) -> None:
            calls.append(1)
            tx.execute("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$")

        with pytest.raises(RolledBack) as caught:
            manager.run(work, budget=0.5)
        assert caught.value.sqlstate == "40001"
        assert len(calls) > 1


def test_the_decorator_gives_the_transaction_first(notes: ConnectionManager) -> None:
    @notes.transactional(label="add")
    def add(tx: Transaction, number: int, *, text: str) -> int:
        """Add a note."""
        return int(
            tx.scalar("INSERT INTO note (id, text) VALUES (:id, :text) RETURNING id", id=number, text=text)
        )

    assert add(7, text="seven") == 7
    assert add.__doc__ == "Add a note."
    assert ids(notes) == [7]


# Bulk loads

EVERY_TYPE = sa.MetaData()
things = sa.Table(
    "thing",
    EVERY_TYPE,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("text", sa.String),
    sa.Column("amount", sa.Float),
    sa.Column("exact", sa.Numeric(30, 6)),
    sa.Column("flag", sa.Boolean),
    sa.Column("moment", sa.DateTime),
    sa.Column("day", sa.Date),
    sa.Column("key", sa.Uuid),
    sa.Column("blob", sa.LargeBinary),
    sa.Column("data", sa.JSON),
)


@pytest.fixture
def things_manager(manager: ConnectionManager) -> ConnectionManager:
    with manager.transaction() as tx:
        EVERY_TYPE.create_all(tx.connection)
    return manager


def stored(manager: ConnectionManager) -> list[dict[str, Any]]:
    with manager.transaction(read_only=True) as tx:
        return [dict(row) for row in tx.all(sa.select(things).order_by(things.c.id))]


ROW = {
    "id": 1,
    "text": 'a "quoted", \\N\nline',
    "amount": 0.1,
    "exact": decimal.Decimal("12345678901234567890.123456"),
    "flag": True,
    "moment": datetime.datetime(2026, 11, 23, 12, 0, 0, 123456),  # noqa: DTZ001
    "day": datetime.date(2026, 11, 23),
    "key": uuid.UUID(int=7),
    "blob": b"\x00\xff\\",
    "data": {"list": [1, "two", None]},
}
EMPTY = {**dict.fromkeys(ROW), "id": 2}
BLANK = {**EMPTY, "id": 3, "text": ""}


def test_a_loaded_row_reads_back_as_it_was_written_one_by_one(things_manager: ConnectionManager) -> None:
    one_by_one = [{**row, "id": row["id"] + 100} for row in (ROW, EMPTY, BLANK)]
    with things_manager.transaction() as tx:
        tx.execute(sa.insert(things), one_by_one)
    loaded = things_manager.load(things, [ROW, EMPTY, BLANK])
    assert (loaded.read, loaded.written) == (3, 3)
    rows = stored(things_manager)
    assert rows[:3] == [{**row, "id": row["id"] - 100} for row in rows[3:]]
    assert rows[0]["text"] == ROW["text"]
    assert rows[1]["text"] is None
    assert rows[2]["text"] == ""


@pytest.mark.parametrize("conflict", ["ignore", Upsert(keys=("id",))])
def test_loading_twice_gives_the_same_table(things_manager: ConnectionManager, conflict: Any) -> None:
    rows = [{**ROW, "id": number, "text": f"row {number}"} for number in range(bulk.BATCH + 1)]
    things_manager.load(things, rows, on_conflict=conflict)
    before = stored(things_manager)
    things_manager.load(things, rows, on_conflict=conflict)
    assert stored(things_manager) == before
    assert len(before) == bulk.BATCH + 1


def test_an_upsert_replaces_and_the_last_of_two_counts(notes: ConnectionManager) -> None:
    notes.load("note", [(1, "old", 1), (2, "kept", 2)], columns=("id", "text", "number"))
    notes.load(
        "note",
        [(1, "newer", 5), (3, "x", 3), (1, "newest", 6)],
        columns=("id", "text", "number"),
        on_conflict=Upsert(keys=("id",), update=("text",)),
    )
    with notes.transaction() as tx:
        rows = [tuple(row.values()) for row in tx.all("SELECT * FROM note ORDER BY id")]
    assert rows == [(1, "newest", 1), (2, "kept", 2), (3, "x", 3)]


def test_ignore_keeps_the_first(notes: ConnectionManager) -> None:
    notes.load("note", [{"id": 1, "text": "first"}, {"id": 1, "text": "second"}], on_conflict="ignore")
    notes.load("note", [{"id": 1, "text": "third"}], on_conflict="ignore")
    with notes.transaction() as tx:
        assert tx.scalar("SELECT text FROM note") == "first"


def test_a_conflict_under_error_leaves_nothing(notes: ConnectionManager) -> None:
    with pytest.raises(ConstraintBroken):
        notes.load("note", ({"id": number % 10, "text": "x"} for number in range(20)))
    assert ids(notes) == []


def test_a_line_that_would_end_the_data_is_a_line_like_others(manager: ConnectionManager) -> None:
    texts = ["before", "\\.", "\\N", "", "after"]
    with manager.transaction() as tx:
        tx.execute("CREATE TABLE line (text varchar)")
    manager.load("line", ((text,) for text in texts), columns=("text",))
    with manager.transaction() as tx:
        assert [row["text"] for row in tx.all("SELECT text FROM line")] == texts


def test_keys_alone_can_be_upserted(manager: ConnectionManager) -> None:
    with manager.transaction() as tx:
        tx.execute("CREATE TABLE tag (name varchar PRIMARY KEY)")
    for _ in range(2):
        manager.load("tag", [{"name": "a"}, {"name": "b"}], on_conflict=Upsert(keys=("name",)))
    with manager.transaction() as tx:
        assert tx.scalar("SELECT count(*) FROM tag") == 2


def test_an_error_in_the_rows_themselves_comes_through(notes: ConnectionManager) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield {"id": 1, "text": "x"}
        raise LookupError("the source ended early")

    for conflict in ("error", "ignore"):
        with pytest.raises(LookupError, match="ended early"):
            notes.load("note", rows(), on_conflict=conflict)  # type: ignore[arg-type]
    assert ids(notes) == []


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([(1, "x"), (2,)], {"columns": ("id", "text")}, "does not have 2 values"),
        ([(1, "x", 3)], {"columns": ("id", "text")}, "does not have 2 values"),
        ([{"id": 1, "text": "x"}, {"id": 2}], {}, "no column 'text'"),
        ([{"id": 1}, {"text": 2}], {}, "no column 'id'"),
        ([(1, "x")], {}, "need `columns`"),
        ([{"id": 1, "text": "x"}], {"on_conflict": Upsert(keys=("other",))}, "no column other"),
        ([{"id": 1, "text": "x"}], {"on_conflict": Upsert(keys=())}, "that is a key"),
    ],
)
def test_rows_that_do_not_fit_are_refused(
    notes: ConnectionManager, rows: Any, options: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        notes.load("note", rows, **options)
    assert ids(notes) == []


def test_a_table_says_which_columns_it_has(things_manager: ConnectionManager) -> None:
    with pytest.raises(ValueError, match="no column colour"):
        things_manager.load(things, [{"id": 1, "colour": "red"}])
    assert things_manager.load(things, [tuple(ROW.values())]).written == 1


def test_no_rows_are_no_work(notes: ConnectionManager) -> None:
    assert notes.load("note", []).read == 0


def test_two_loads_may_share_a_transaction(notes: ConnectionManager) -> None:
    with notes.transaction() as tx:
        for start in (0, 10):
            bulk.load(tx, "note", [{"id": start, "text": "x"}], on_conflict="ignore")
    assert ids(notes) == [0, 10]


def test_values_without_a_table_are_stored_by_their_own_type(manager: ConnectionManager) -> None:
    values = {
        "moment": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
        "day": datetime.date(2026, 1, 2),
        "hour": datetime.time(3, 4),
        "exact": decimal.Decimal("1.50"),
        "key": uuid.UUID(int=1),
        "blob": bytearray(b"ab"),
        "view": memoryview(b"cd"),
        "json": {"a": [1]},
        "list": [1, 2],
        "kind": Kind.GOOD,
        "number": Number(3),
        "other": pytest,
    }
    with manager.transaction() as tx:
        tx.execute("CREATE TABLE loose (" + ", ".join(f'"{name}" text' for name in values) + ")")
    manager.load("loose", [values])
    with manager.transaction() as tx:
        row = dict(tx.one("SELECT * FROM loose"))
    assert row["json"] == '{"a":[1]}'
    assert row["list"] == "[1,2]"
    assert row["exact"] == "1.50"
    assert row["day"] == "2026-01-02"
    assert row["moment"] == "2026-01-02 03:04:05+00:00"
    assert row["kind"] == "good"
    assert row["number"] == "3"


class Kind(str):
    GOOD: str


Kind.GOOD = Kind("good")


class Number(int):
    """Stands for any subclass of int."""


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(
            st.integers(min_value=0, max_value=30),
            st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
            st.none() | st.floats(allow_nan=False, allow_infinity=False).filter(math.isfinite),
        ),
        max_size=30,
    )
)
def test_any_text_and_number_survive_a_load(manager: ConnectionManager, rows: list[Any]) -> None:
    with manager.transaction() as tx:
        tx.execute("DROP TABLE IF EXISTS any_value")
        tx.execute("CREATE TABLE any_value (id integer PRIMARY KEY, text text, number double precision)")
    manager.load("any_value", rows, columns=("id", "text", "number"), on_conflict=Upsert(keys=("id",)))
    with manager.transaction() as tx:
        found = {row["id"]: (row["text"], row["number"]) for row in tx.all("SELECT * FROM any_value")}
    assert found == {number: (text, value) for number, text, value in rows}


def test_memory_stays_flat_however_many_rows(notes: ConnectionManager) -> None:
    def peak(count: int, start: int) -> int:
        rows = ((start + number, "x" * 40, number) for number in range(count))
        tracemalloc.start()
        try:
            notes.load("note", rows, columns=("id", "text", "number"), on_conflict="ignore")
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    small, large = peak(2 * bulk.BATCH, 0), peak(10 * bulk.BATCH, 10**6)
    assert large < small * 2


# Health


def test_health_of_a_database_that_works(notes: ConnectionManager) -> None:
    found = health.check(notes)
    assert found.ready
    assert not found.degraded
    assert found.problems == ()
    assert found.schema_version is None
    assert found.pressure == 0
    assert found.as_dict()["routes"][0]["name"] == notes.active


def test_health_knows_the_schema_version(notes: ConnectionManager) -> None:
    with notes.transaction() as tx:
        tx.execute("CREATE TABLE alembic_version (version_num varchar(32) NOT NULL)")
    assert health.check(notes).schema_version is None
    with notes.transaction() as tx:
        tx.execute("INSERT INTO alembic_version VALUES ('0001')")
    assert health.check(notes, expected_schema="0001").problems == ()
    behind = health.check(notes, expected_schema="0002")
    assert behind.problems == ("The schema is at 0001, and this code needs 0002.",)


def test_health_of_an_unreachable_database_is_a_problem_and_not_an_exception(database: Database) -> None:
    with database.manager(local_port=1, connect_timeout=0.5) as manager:
        found = health.check(manager, budget=0.2)
    assert not found.ready
    assert not found.reachable
    assert "No route could write" in found.problems[0]


def test_health_tells_a_server_that_takes_no_writes(database: Database) -> None:
    database.execute(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
    with database.manager() as manager:
        found = health.check(manager, budget=0.3)
        assert not found.writable
        assert not found.ready
        assert found.problems


def test_health_shows_pressure_on_the_pool(database: Database) -> None:
    with database.manager(pool_size=2) as manager, manager.transaction() as a:
        a.scalar("SELECT 1")
        with manager.transaction() as b:
            b.scalar("SELECT 1")
            waiter = threading.Thread(target=lambda: manager.run(lambda tx: tx.scalar("SELECT 1")))
            waiter.start()
            wait_until(lambda: manager.statistics().routes[0].pools["main"].waiting)
            found = health.check(manager, budget=0.1)
        waiter.join()
    assert found.pressure == 1
    assert any("under pressure" in problem for problem in found.problems)


def test_sqlite_that_may_not_be_written_is_not_ready(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = Sqlite(tmp_path / "ledger.sqlite3")
    with ConnectionManager([adapter], limits=Limits(budget=0.3)) as manager:
        assert health.check(manager).ready
        monkeypatch.setattr("os.access", lambda path, mode: False)
        found = health.check(manager)
        assert found.reachable
        assert not found.ready


def test_every_error_tells_where_and_what_next() -> None:
    error = DatabaseError("It failed.", where="here", next_step="Do this.")
    assert str(error) == "It failed.\nhere\nDo this."
    assert error.exit_code == 4
