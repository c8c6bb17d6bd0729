"""Health: what a readiness probe is told of a database that works, waits, refuses writes or is gone."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from app.database import ConnectionManager, Limits, health
from app.database.adapters.sqlite import Sqlite
from tests.postgres import Database, wait_until


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
