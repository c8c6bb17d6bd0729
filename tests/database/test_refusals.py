"""What a server refuses, and what becomes of the transaction, the pool and the next one."""

from __future__ import annotations

import datetime
import multiprocessing
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from app.database import ConnectionManager, NotSent, QueueFull, RolledBack, Upsert, WrongDatabase
from app.database.adapters.local import Local
from app.database.errors import LoginRefused
from tests.postgres import Database, Server, wait_until


def refused(manager: ConnectionManager, statement: str) -> tuple[RolledBack, int]:
    """Return the error with which `statement` ends, and how often it was tried."""
    calls: list[int] = []

    def work(tx: Any) -> None:
        calls.append(1)
        tx.execute(statement)

    with pytest.raises(RolledBack) as caught:
        manager.run(work)
    pools = [pool for route in manager.statistics().routes for pool in route.pools.values()]
    assert all(pool.in_use == pool.waiting == 0 for pool in pools)
    assert manager.run(lambda tx: tx.scalar("SELECT 1")) == 1
    return caught.value, len(calls)


def test_a_role_without_the_right_is_told_so_and_not_asked_again(database: Database) -> None:
    database.execute("CREATE TABLE secret (id integer)")
    role = f"{database.name}_low"
    database.execute(f"CREATE ROLE {role} LOGIN")
    database.execute(f"GRANT USAGE ON SCHEMA public TO {role}")
    try:
        with database.manager(user=role) as manager:
            error, tries = refused(manager, "SELECT * FROM secret")
    finally:
        database.execute(f"DROP OWNED BY {role}")
        database.execute(f"DROP ROLE {role}")
    assert (error.sqlstate, error.transient, tries) == ("42501", False, 1)
    assert "GRANT" in str(error)


def test_a_statement_beyond_its_time_is_not_tried_again(database: Database) -> None:
    with database.manager(statement_timeout=0.2) as manager:
        error, tries = refused(manager, "SELECT pg_sleep(30)")
    assert (error.sqlstate, error.transient, tries) == ("57014", False, 1)
    assert "DB_STATEMENT_TIMEOUT" in str(error)


def test_a_session_ended_for_idling_in_its_transaction_has_surely_kept_nothing(database: Database) -> None:
    database.execute("CREATE TABLE note (id integer)")
    with database.manager(idle_in_transaction_timeout=0.1) as manager:
        with pytest.raises(RolledBack) as caught, manager.transaction() as tx:
            tx.execute("INSERT INTO note VALUES (1)")
            session = tx.scalar("SELECT pg_backend_pid()")
            alive = f"SELECT 1 FROM pg_stat_activity WHERE pid = {session}"
            wait_until(lambda: not database.execute(alive), 10, "the end of the session")
        assert caught.value.transient
        assert manager.run(lambda tx: tx.scalar("SELECT count(*) FROM note")) == 0


def test_a_locked_table_is_waited_for_as_long_as_was_said(database: Database) -> None:
    """The statement time-out ends the wait for good; a lock time-out means that another try may succeed."""
    database.execute("CREATE TABLE note (id integer)")
    holder = database.connect()
    holder.autocommit = False
    with holder.cursor() as cursor:
        cursor.execute("LOCK TABLE note")
    with database.manager(statement_timeout=0.3) as manager:
        error, _ = refused(manager, "INSERT INTO note VALUES (1)")
        assert (error.sqlstate, error.transient) == ("57014", False)
    with database.manager() as manager:
        tries: list[float] = []

        def insert(tx: Any) -> None:
            tries.append(time.monotonic())
            if len(tries) == 3:
                holder.rollback()
            tx.execute("SET LOCAL lock_timeout = '50ms'")
            tx.execute("INSERT INTO note VALUES (1)")

        manager.run(insert)
        assert len(tries) >= 3
        assert manager.run(lambda tx: tx.scalar("SELECT count(*) FROM note")) == 1
    holder.close()


def test_a_text_with_a_nul_is_refused_and_nothing_of_it_is_kept(database: Database) -> None:
    with database.manager() as manager:
        manager.run(lambda tx: tx.execute("CREATE TABLE note (id integer, text text)"))
        with pytest.raises(ValueError, match="NUL"):
            manager.run(lambda tx: tx.execute("INSERT INTO note VALUES (1, :text)", {"text": "a\0b"}))
        with pytest.raises(RolledBack) as caught:
            manager.load("note", [(1, "good"), (2, "a\0b")], columns=("id", "text"))
        assert (caught.value.sqlstate, caught.value.transient) == ("22021", False)
        assert manager.run(lambda tx: tx.scalar("SELECT count(*) FROM note")) == 0


def test_names_longer_than_the_server_keeps_are_the_same_names_everywhere(manager: ConnectionManager) -> None:
    long = "n" * 90
    row = {"id": 1, long: "kept"}
    manager.run(lambda tx: tx.execute(f'CREATE TABLE "{long}" (id integer PRIMARY KEY, "{long}" text)'))
    for _ in range(2):
        manager.load(long, [row], on_conflict=Upsert(keys=("id",)))
    assert manager.run(lambda tx: tx.scalar(f'SELECT "{long}" FROM "{long}"'), label="x" * 500) == "kept"


def test_a_moment_is_the_same_moment_under_any_settings_of_the_server(database: Database) -> None:
    for setting in (
        "timezone = 'Asia/Kathmandu'",
        "datestyle = 'SQL, DMY'",
        "intervalstyle = 'sql_standard'",
    ):
        database.execute(f"ALTER DATABASE {database.name} SET {setting}")
    noon = datetime.datetime(2026, 3, 4, 12, tzinfo=datetime.UTC)
    there = noon.astimezone(datetime.timezone(datetime.timedelta(hours=-9, minutes=-30)))
    table = sa.Table(
        "moment",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("at", sa.DateTime(timezone=True)),
        sa.Column("day", sa.Date),
    )
    rows = [{"id": number, "at": at, "day": at.date()} for number, at in enumerate((noon, there))]
    with database.manager() as manager:
        manager.run(lambda tx: table.create(tx.connection))
        manager.load(table, rows)
        manager.run(lambda tx: tx.execute(sa.insert(table), [{**row, "id": row["id"] + 10} for row in rows]))
        found = manager.run(lambda tx: [dict(row) for row in tx.all(sa.select(table).order_by("id"))])
    assert [row["at"] for row in found] == [noon] * 4
    assert [row["day"] for row in found] == [noon.date()] * 4


def test_two_hundred_threads_share_two_connections(database: Database) -> None:
    with (
        database.manager(pool_size=2, pool_max_waiting=200, budget_seconds=60.0) as manager,
        ThreadPoolExecutor(200) as threads,
    ):
        barrier = threading.Barrier(200, timeout=60)

        def work(number: int) -> int:
            barrier.wait()
            return int(manager.run(lambda tx: tx.scalar("SELECT CAST(:n AS integer)", n=number)))

        assert sorted(threads.map(work, range(200))) == list(range(200))
        (pool,) = manager.statistics().routes[0].pools.values()
        assert pool.opened <= 2
        assert pool.in_use == pool.waiting == 0


def test_a_crowd_beyond_the_queue_is_turned_away_and_the_rest_is_served(database: Database) -> None:
    with (
        database.manager(pool_size=2, pool_max_waiting=20, budget_seconds=60.0) as manager,
        ThreadPoolExecutor(100) as threads,
    ):
        barrier = threading.Barrier(100, timeout=60)

        def work(_: int) -> str:
            barrier.wait()
            try:
                with manager.transaction() as tx:
                    tx.execute("SELECT pg_sleep(0.05)")
            except QueueFull:
                return "turned away"
            return "served"

        answers = list(threads.map(work, range(100)))
        assert answers.count("served") >= 22
        assert answers.count("turned away") > 0
        assert manager.run(lambda tx: tx.scalar("SELECT 1")) == 1


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_in_the_middle_of_a_transaction_harms_neither_side(manager: ConnectionManager) -> None:
    manager.run(lambda tx: tx.execute("CREATE TABLE note (id integer)"))

    def child() -> None:
        seen = manager.run(lambda tx: tx.scalar("SELECT count(*) FROM note"), read_only=True)
        raise SystemExit(seen)

    with manager.transaction() as tx:
        tx.execute("INSERT INTO note VALUES (1)")
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join(20)
        assert process.exitcode == 0, "the child sees only what is committed"
        tx.execute("INSERT INTO note VALUES (2)")
    assert manager.run(lambda tx: tx.scalar("SELECT count(*) FROM note")) == 2


# Servers of a test's own


@pytest.fixture
def guarded() -> Iterator[Server]:
    """A server that asks the role `app` for its password."""
    server = Server.create(host_based="host all app 127.0.0.1/32 scram-sha-256")
    try:
        server.execute("CREATE ROLE app LOGIN PASSWORD 'first-password'")
        yield server
    finally:
        server.remove()


@pytest.mark.system
def test_a_password_changed_under_us_is_said_at_once_and_not_tried_again(guarded: Server) -> None:
    password = "first-password"
    adapter = Local(
        host="127.0.0.1", port=guarded.port, database="postgres", user="app", password=lambda: password
    )
    with ConnectionManager([adapter]) as manager:
        assert manager.run(lambda tx: tx.scalar("SELECT 1")) == 1
        guarded.execute("ALTER ROLE app PASSWORD 'second-password'")
        guarded.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
        began = time.monotonic()
        with pytest.raises(LoginRefused, match="DB_PASSWORD") as caught:
            manager.run(lambda tx: tx.scalar("SELECT 1"))
        assert time.monotonic() - began < 5, "the budget of 10 s is not waited for"
        assert not caught.value.transient
        assert "first-password" not in str(caught.value)
        password = "second-password"
        manager.reset("local")
        assert manager.run(lambda tx: tx.scalar("SELECT 1")) == 1


@pytest.mark.system
def test_a_database_dropped_under_us_is_said_at_once_and_its_successor_is_not_taken_for_it(
    guarded: Server,
) -> None:
    guarded.execute("CREATE DATABASE ours")
    with ConnectionManager.from_settings(guarded.settings("ours")) as manager:
        manager.run(lambda tx: tx.execute("CREATE TABLE note (id integer)"))
        with pytest.raises((RolledBack, NotSent)), manager.transaction() as tx:
            guarded.execute("DROP DATABASE ours WITH (FORCE)")
            tx.execute("INSERT INTO note VALUES (1)")
        began = time.monotonic()
        with pytest.raises(LoginRefused, match="does not exist"):
            manager.run(lambda tx: tx.execute("INSERT INTO note VALUES (1)"))
        assert time.monotonic() - began < 5
        guarded.execute("CREATE DATABASE ours")
        guarded.execute("CREATE TABLE note (id integer)", "ours")
        manager.reset("local")
        with pytest.raises(WrongDatabase, match="restart the program"):
            manager.run(lambda tx: tx.execute("INSERT INTO note VALUES (1)"))
        assert guarded.execute("SELECT count(*) FROM note", "ours") == [(0,)]


@pytest.mark.system
@pytest.mark.parametrize("conflict", ["error", "ignore"])
def test_a_server_that_crashes_in_the_middle_of_a_load_keeps_nothing_of_it(
    guarded: Server, conflict: Any
) -> None:
    guarded.execute("CREATE TABLE note (id integer PRIMARY KEY)")

    def rows() -> Iterator[tuple[int]]:
        for number in range(100_000):
            if number == 50_000:
                guarded.stop("immediate")
                guarded.start()
            yield (number,)

    with ConnectionManager.from_settings(guarded.settings()) as manager:
        with pytest.raises(RolledBack) as caught:
            manager.load("note", rows(), columns=("id",), on_conflict=conflict)
        assert caught.value.transient, "so the caller knows that loading again may help"
        assert manager.run(lambda tx: tx.scalar("SELECT count(*) FROM note")) == 0
        loaded = manager.load("note", ((n,) for n in range(1000)), columns=("id",), on_conflict=conflict)
        assert loaded.written == 1000
        wait_until(lambda: manager.statistics().routes[0].pools["main"].in_use == 0)
