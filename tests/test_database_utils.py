"""What a program does with the database: transactions, savepoints, errors, retries."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from app.database import (
    ConnectionManager,
    ConstraintBroken,
    DatabaseError,
    Outcome,
    OutcomeUnknown,
    RolledBack,
    Transaction,
)
from tests.database.notes import ids
from tests.postgres import Database
from tests.tcp_proxy import TcpProxy

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


def test_a_parameter_may_have_any_name(notes: ConnectionManager) -> None:
    with notes.transaction() as tx:
        assert tx.scalar("SELECT :statement", statement="a") == "a"
        assert tx.one("SELECT :self AS value", self="b")["value"] == "b"
        assert [row["value"] for row in tx.all("SELECT :self AS value", self="c")] == ["c"]
        assert tx.first("SELECT :statement AS value", statement="d") == {"value": "d"}


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


def test_a_tracked_transaction_without_statements_leaves_nothing_open(manager: ConnectionManager) -> None:
    manager.run(lambda _tx: None)
    with manager.transaction(read_only=True) as tx:
        assert tx.scalar("SELECT 1") == 1


def test_asking_for_an_outcome_that_is_turned_away_at_once_pauses_before_it_asks_again(
    database: Database,
) -> None:
    lost = OutcomeUnknown("The answer to COMMIT was lost.", transaction_id=1, timeline=1)
    with database.manager(pool_size=1, pool_max_waiting=0) as manager:
        with manager.transaction() as tx:
            tx.execute("SELECT 1")
            assert manager.outcome(lost, budget=0.5) is Outcome.UNKNOWN
        (route,) = manager.statistics().routes
    assert 1 <= route.pools["main"].turned_away <= 11


def test_an_outcome_is_found_even_when_the_answer_to_the_question_is_lost_too(
    database: Database, proxy: Callable[[int], TcpProxy]
) -> None:
    database.execute("CREATE TABLE entry (id integer)")
    way = proxy(database.server.port)
    with database.manager(local_host="127.0.0.1", local_port=way.port) as manager:
        for cut, truth in (
            (way.cut_before_commit, Outcome.ROLLED_BACK),
            (way.cut_after_commit, Outcome.COMMITTED),
        ):
            with pytest.raises(OutcomeUnknown) as caught, manager.transaction(track=True) as tx:
                tx.execute("INSERT INTO entry VALUES (1)")
                cut()
            cut()
            assert manager.outcome(caught.value) is truth


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
        manager.run(lambda tx: tx.scalar("SELECT 1"))  # so that the budget is not spent on connecting
        calls: list[float] = []

        def work(tx: Transaction) -> None:
            calls.append(time.monotonic())
            tx.execute("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$")

        for budget in (0.5, 1.5):
            calls.clear()
            began = time.monotonic()
            with pytest.raises(RolledBack) as caught:
                manager.run(work, budget=budget)
            assert caught.value.sqlstate == "40001"
            # The last attempt began in time and took what it took; before it, less than half was slept away.
            assert budget * 0.9 < time.monotonic() - began
            assert calls[-1] - began < budget + 0.5
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


# Errors


def test_every_error_tells_where_and_what_next() -> None:
    error = DatabaseError("It failed.", where="here", next_step="Do this.")
    assert str(error) == "It failed.\nhere\nDo this."
    assert error.exit_code == 4
