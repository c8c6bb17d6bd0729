"""The pool stays whole whatever its callers, the garbage collector and the operating system do."""

from __future__ import annotations

import gc
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from app.database import ConnectionManager, DatabaseError, Limits, NotSent, RolledBack
from app.database.adapters.local import Local
from app.database.adapters.sqlite import Sqlite
from app.database.errors import PoolTimeout, RouteDown
from app.database.pool import Pool
from app.database.statistics import PoolCounts
from tests.postgres import Database, wait_until
from tests.tcp_proxy import TcpProxy


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[ConnectionManager]:
    with ConnectionManager([Sqlite(tmp_path / "ledger.sqlite3")], limits=Limits(budget=2.0)) as manager:
        yield manager


@pytest.fixture
def proxy(database: Database) -> Iterator[TcpProxy]:
    made = TcpProxy(database.server.port)
    try:
        yield made
    finally:
        made.close()


def main_pool(manager: ConnectionManager) -> Pool:
    return manager.router.routes[0].pool


def test_a_transaction_that_the_garbage_collector_ends_may_come_back_while_the_pool_is_locked(
    sqlite: ConnectionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows() -> Iterator[int]:
        with sqlite.transaction() as tx:
            yield tx.scalar("SELECT 1")

    def counted_while_collecting(**figures: Any) -> PoolCounts:
        gc.collect()  # runs in this thread, which holds the lock
        return PoolCounts(**figures)

    class Cycle:
        pass

    gc.disable()
    try:
        cycle: Any = Cycle()
        cycle.rows, cycle.itself = rows(), cycle
        assert next(cycle.rows) == 1
        del cycle
        monkeypatch.setattr("app.database.pool.PoolCounts", counted_while_collecting)
        counting = threading.Thread(target=main_pool(sqlite).counts, daemon=True)
        counting.start()
        counting.join(10)
        assert not counting.is_alive()
    finally:
        gc.enable()
    monkeypatch.undo()
    assert main_pool(sqlite).counts().in_use == 0
    assert sqlite.run(lambda tx: tx.scalar("SELECT 1")) == 1


def test_callers_that_give_up_while_a_route_fails_are_told_so(sqlite: ConnectionManager) -> None:
    """Time-out and refusal may meet: each caller gets one of the two, and nothing else."""
    pool = main_pool(sqlite)
    seen: list[BaseException] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                pool.acquire(sqlite.transaction(), time.monotonic() + 0.001, None)
            except BaseException as error:  # noqa: BLE001 - the kind is what is tested
                seen.append(error)

    with sqlite.transaction() as tx:
        tx.scalar("SELECT 1")
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        while len(seen) < 2000:
            pool.fail_waiters(RouteDown("down for the test"))
        stop.set()
        for thread in threads:
            thread.join()
    assert {type(error) for error in seen} <= {PoolTimeout, RouteDown}


def test_a_thread_that_cannot_be_started_costs_no_slot(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit of processes of a container counts threads."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("open-"):
            raise RuntimeError("can't start new thread")
        start(thread)

    with database.manager(pool_size=1) as manager:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(NotSent, match="can't start new thread"), manager.transaction(budget=0.5):
            raise AssertionError
        monkeypatch.undo()
        assert manager.run(lambda tx: tx.scalar("SELECT 1")) == 1
        counts = main_pool(manager).counts()
        assert (counts.opening, counts.waiting, counts.size) == (0, 0, 1)


def test_a_probe_that_cannot_be_started_is_made_later(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("probe-"):
            raise RuntimeError("can't start new thread")
        start(thread)

    with database.manager() as manager:
        manager.run(lambda tx: tx.scalar("SELECT 1"))
        route = manager.router.routes[0]
        monkeypatch.setattr(threading.Thread, "start", refuse)
        route.breaker.failure(severe=True)
        wait_until(lambda: route.breaker.state == "open" and time.monotonic() > route.breaker.retry_at)
        monkeypatch.undo()
        wait_until(route.breaker.allows, 15)


def test_a_listener_that_fails_harms_nobody_else(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []

    def fail(_old: object, _new: object) -> None:
        raise ZeroDivisionError("a listener of the program's own")

    def hear(old: object, new: object) -> None:
        heard.append(f"{old} -> {new}")

    with database.manager(adapter_order=("local", "direct"), sslmode="disable") as manager:
        assert manager.run(lambda tx: tx.scalar("SELECT 1")) == 1
        route = manager.router.named("local")
        listened: Any
        for listened in (manager, route.breaker):
            listened.listen(fail)
            listened.listen(hear)
        route.failed(RouteDown("down for the test"), 10.0)
        assert manager.run(lambda tx: tx.route) == "direct"
        wait_until(route.breaker.allows, 15)
    assert heard[:2] == ["closed -> open", "local -> direct"]
    assert heard[-1] == "half_open -> closed"
    assert "a listener of the program's own" in caplog.text


def test_a_slow_listener_does_not_keep_a_route_out_for_ever(database: Database) -> None:
    """While one probe still tells of its failure, no other may take the open breaker's single probe."""
    told = threading.Event()

    def dawdle(_old: object, _new: object) -> None:
        told.wait(1.0)

    with database.manager(adapter_order=("local", "direct"), sslmode="disable") as manager:
        assert manager.run(lambda tx: tx.route) == "local"
        manager.listen(dawdle)
        route = manager.router.named("local")
        adapter = route.adapter
        opened = adapter.open

        def refused(_timeout: float) -> Any:
            raise RouteDown("down for the test")

        adapter.open = refused  # type: ignore[method-assign]
        route.suspect()
        wait_until(lambda: manager.active == "direct", 15)
        adapter.open = opened  # type: ignore[method-assign]
        told.set()
        wait_until(lambda: manager.active == "local", 30)


def test_connections_of_a_route_that_was_left_are_closed_when_they_come_back(database: Database) -> None:
    with database.manager(adapter_order=("local", "direct"), sslmode="disable") as manager:
        left = manager.router.named("local")
        with manager.transaction() as tx:
            tx.scalar("SELECT 1")
            left.failed(RouteDown("down for the test"), 10.0)
            assert manager.run(lambda other: other.route) == "direct"
        wait_until(lambda: left.pool.counts().size == 0 or manager.active == "local", 15)
        assert left.pool.counts().closed >= 1


def test_a_route_that_takes_no_writes_is_not_on_its_way_back(database: Database) -> None:
    """Only good probes count, and a probe of a read-only server is none."""
    with database.manager() as manager:
        route = manager.router.routes[0]
        later = time.monotonic() + 1000
        for _ in range(3):
            route.probe()
        assert route.standing(write=True, now=later).steady
        database.execute(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
        for _ in range(5):
            route.probe()
        database.server.execute(f"ALTER DATABASE {database.name} RESET default_transaction_read_only")
        route.probe()
        assert route.writable
        assert not route.standing(write=True, now=later).steady
        for _ in range(2):
            route.probe()
        assert route.standing(write=True, now=later).steady


def test_nothing_is_left_of_all_this(database: Database) -> None:
    """Many short transactions from more threads than connections end with every connection idle."""
    failed: list[DatabaseError] = []

    def work(manager: ConnectionManager) -> None:
        for _ in range(50):
            try:
                manager.run(lambda tx: tx.scalar("SELECT 1"))
            except DatabaseError as error:
                failed.append(error)

    with database.manager(pool_size=2) as manager:
        threads = [threading.Thread(target=work, args=(manager,)) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        counts = main_pool(manager).counts()
    assert failed == []
    assert (counts.in_use, counts.opening, counts.waiting) == (0, 0, 0)
    assert counts.idle == counts.size <= 2


def test_a_forked_child_leaves_its_parents_transaction_alone(manager: ConnectionManager) -> None:
    """It may not say a word on the connection: not by leaving the block, not by asking, not at its end."""
    with manager.transaction() as tx:
        tx.execute("CREATE TABLE entry (id integer PRIMARY KEY)")
    with manager.transaction() as tx:
        tx.execute("INSERT INTO entry VALUES (1)")
        child = os.fork()
        if child == 0:  # pragma: no cover - another process
            verdict = 1
            try:
                with pytest.raises(RuntimeError, match="forked from"):
                    tx.scalar("SELECT 1")
                tx.__exit__(SystemExit, SystemExit(0), None)
                gc.collect()
                assert manager.run(lambda own: own.scalar("SELECT count(*) FROM entry"), read_only=True) == 0
                verdict = 0
            finally:
                os._exit(verdict)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        tx.execute("INSERT INTO entry VALUES (2)")
    assert [row["id"] for row in manager.run(lambda tx: tx.all("SELECT id FROM entry ORDER BY id"))] == [1, 2]


def test_a_forked_child_cannot_commit_its_parents_transaction(sqlite: ConnectionManager) -> None:
    with sqlite.transaction() as tx:
        lease = tx.lease
        assert lease is not None
        lease.foreign = True  # as in a child; the next lines would end the parent's transaction there
        with pytest.raises(RuntimeError, match="forked from"):
            tx.__exit__(None, None, None)
        lease.pool.drop(tx, lease)


def test_after_a_full_disk_ended_a_transaction_nothing_more_of_it_is_kept(sqlite: ConnectionManager) -> None:
    """SQLite rolls back by itself on some errors; what follows would commit one by one."""
    with sqlite.transaction() as tx:
        tx.execute("CREATE TABLE entry (id integer PRIMARY KEY, text varchar)")
    with pytest.raises(RolledBack, match="its error was caught"), sqlite.transaction() as tx:
        tx.execute("INSERT INTO entry VALUES (1, 'first')")
        pages = tx.scalar("PRAGMA page_count")
        tx.execute(f"PRAGMA max_page_count = {pages + 20}")
        with pytest.raises(sa.exc.OperationalError, match="full"):
            tx.execute("INSERT INTO entry VALUES (2, :text)", {"text": "x" * 400_000})
        with pytest.raises(sa.exc.OperationalError, match="readonly"):
            tx.execute("INSERT INTO entry VALUES (3, 'third')")
    with sqlite.transaction() as tx:
        tx.execute("INSERT INTO entry VALUES (4, 'next')")
    assert [row["id"] for row in sqlite.run(lambda tx: tx.all("SELECT id FROM entry"))] == [4]


def test_a_busy_file_is_waited_for_no_longer_than_the_budget(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    with ConnectionManager([Sqlite(path, busy_timeout=30)]) as manager:
        assert manager.run(lambda tx: tx.scalar("SELECT 1")) == 1
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            with pytest.raises(NotSent, match="locked"), manager.transaction(budget=0.3):
                raise AssertionError
            assert 0.2 < time.monotonic() - began < 10
        assert manager.run(lambda tx: tx.scalar("SELECT 1")) == 1
        assert main_pool(manager).counts().opened == 1


def test_a_silent_route_costs_one_silence_and_not_one_for_each_connection(
    database: Database, proxy: TcpProxy
) -> None:
    adapter = Local(host="127.0.0.1", port=proxy.port, database=database.name, user="slipway")
    asked: list[Any] = []
    alive = adapter.alive

    def ask(raw: Any) -> None:
        asked.append(raw)
        alive(raw)

    adapter.alive = ask  # type: ignore[method-assign]
    limits = Limits(pool_size=5, fresh=0.0, silence=0.5, connect_timeout=20.0)
    with ConnectionManager([adapter], limits=limits) as manager:
        with ExitStack() as many:
            for _ in range(5):
                many.enter_context(manager.transaction(read_only=True)).scalar("SELECT 1")
        assert main_pool(manager).counts().idle == 5
        asked.clear()
        proxy.freeze()
        with pytest.raises(NotSent), manager.transaction(budget=2.0):
            raise AssertionError
        assert len(asked) == 1
        assert main_pool(manager).counts().closed == 5


@pytest.mark.parametrize("limit", ["role", "database"])
def test_a_full_server_goes_on_with_the_connections_that_are_open(database: Database, limit: str) -> None:
    """One that gives no more is well: nobody is told that it is down, and nothing open is thrown away."""
    role = f"{database.name}_few"
    database.execute(f"CREATE ROLE {role} LOGIN")
    database.execute(f"ALTER {limit} {role if limit == 'role' else database.name} CONNECTION LIMIT 2")
    failed: list[DatabaseError] = []

    def work(manager: ConnectionManager) -> None:
        for _ in range(20):
            try:
                manager.run(lambda tx: tx.scalar("SELECT pg_backend_pid()"))
            except DatabaseError as error:
                failed.append(error)

    try:
        with database.manager(user=role, pool_size=4) as manager:
            with manager.transaction() as first, manager.transaction() as second:
                assert first.scalar("SELECT 1") == second.scalar("SELECT 1")
            threads = [threading.Thread(target=work, args=(manager,)) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            counts = main_pool(manager).counts()
            route = manager.router.routes[0]
            assert failed == []
            assert counts.open_failures >= 1
            assert (counts.opened, counts.closed, counts.in_use) == (2, 0, 0)
            assert (route.cause, route.breaker.state) == (None, "closed")
            with manager.transaction() as first, manager.transaction() as second:
                assert first.scalar("SELECT 1") == second.scalar("SELECT 1")
                with pytest.raises(PoolTimeout, match="gives no more connections"):
                    manager.run(lambda tx: tx.scalar("SELECT 1"), budget=0.3)
    finally:
        database.execute(f"DROP ROLE {role}")
