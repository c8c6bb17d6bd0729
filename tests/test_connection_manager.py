"""The manager and its pool: bounded in number, in time and in who may wait; whole after every fault."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from app.database import ConnectionManager, Limits, NotSent, PoolTimeout, QueueFull, RolledBack
from app.database.adapters.local import Local
from app.database.adapters.sqlite import Sqlite
from app.database.errors import ManagerClosed
from app.database.statistics import PoolCounts, samples
from app.database.transactions import Transaction
from tests.postgres import Database, Settings, wait_until
from tests.tcp_proxy import TcpProxy


def counts(manager: ConnectionManager, pool: str = "main") -> PoolCounts:
    return manager.statistics().routes[0].pools[pool]


def limited(database: Database, **limits: Any) -> ConnectionManager:
    adapter = Local(
        host=str(database.server.folder),
        port=database.server.port,
        database=database.name,
        user="slipway",
    )
    return ConnectionManager([adapter], limits=Limits(**limits))


def backend(tx: Any) -> int:
    return int(tx.scalar("SELECT pg_backend_pid()"))


def test_one_connection_serves_transactions_that_follow_each_other(database: Database) -> None:
    with database.manager() as manager:
        pids = set()
        for _ in range(5):
            with manager.transaction() as tx:
                pids.add(backend(tx))
        assert len(pids) == 1
        found = counts(manager)
        assert (found.opened, found.lent, found.idle, found.in_use) == (1, 5, 1, 0)
        assert found.committed == 5


def test_an_exhausted_pool_says_who_holds_it_when_the_budget_ends(database: Database) -> None:
    with database.manager(pool_size=1) as manager, manager.transaction(label="nightly report"):
        began = time.monotonic()
        with pytest.raises(PoolTimeout) as caught, manager.transaction(budget=0.3):
            raise AssertionError
        assert 0.3 <= time.monotonic() - began < 2
    text = str(caught.value)
    assert "1 of 1 in use" in text
    assert "nightly report" in text
    assert "test_connection_manager.py" in text
    assert "MainThread" in text
    assert counts(manager).timeouts == 1


def test_a_full_queue_turns_away_at_once(database: Database) -> None:
    with database.manager(pool_size=1, pool_max_waiting=1) as manager:
        release = threading.Event()
        with ThreadPoolExecutor(2) as threads:
            with manager.transaction():
                waiting = threads.submit(manager.run, lambda tx: release.wait(5))
                wait_until(lambda: counts(manager).waiting == 1)
                began = time.monotonic()
                with pytest.raises(QueueFull, match="already wait"), manager.transaction():
                    raise AssertionError
                assert time.monotonic() - began < 3
                assert counts(manager).turned_away == 1
            release.set()
            assert waiting.result(5)


def test_waiters_are_served_in_the_order_in_which_they_came(database: Database) -> None:
    with database.manager(pool_size=1) as manager:
        served: list[int] = []
        with ThreadPoolExecutor(5) as threads, manager.transaction():
            for number in range(5):
                threads.submit(manager.run, lambda tx, number=number: served.append(number))
                wait_until(lambda number=number: counts(manager).waiting == number + 1)
        assert served == [0, 1, 2, 3, 4]


def test_a_pool_that_was_exhausted_does_not_deadlock(manager: ConnectionManager) -> None:
    with manager.transaction() as tx:
        tx.execute("CREATE TABLE entry (id integer PRIMARY KEY)")

    def write(number: int) -> None:
        with manager.transaction() as tx:
            tx.execute("INSERT INTO entry VALUES (:id)", {"id": number})

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(write, range(200)))
    with manager.transaction(read_only=True) as tx:
        assert tx.scalar("SELECT count(*) FROM entry") == 200
    for pool in manager.statistics().routes[0].pools.values():
        assert pool.in_use == 0
        assert pool.waiting == 0
        assert pool.size <= pool.limit


def test_a_connection_in_steady_use_is_not_checked(database: Database) -> None:
    with limited(database, fresh=60) as manager:
        with manager.transaction() as tx:
            pid = backend(tx)
        database.execute(f"SELECT pg_terminate_backend({pid}, 5000)")
        with pytest.raises(RolledBack) as caught, manager.transaction() as tx:
            tx.scalar("SELECT 1")
        assert caught.value.transient


def test_a_connection_that_was_idle_is_checked_and_replaced(database: Database) -> None:
    with limited(database, fresh=0.0) as manager:
        with manager.transaction() as tx:
            pid = backend(tx)
        database.execute(f"SELECT pg_terminate_backend({pid}, 5000)")
        with manager.transaction() as tx:
            assert backend(tx) != pid
        assert counts(manager).closed == 1


def test_one_dead_connection_makes_all_others_suspect(database: Database) -> None:
    with limited(database, fresh=60, pool_size=2) as manager:
        with manager.transaction() as first, manager.transaction() as second:
            pids = {backend(first), backend(second)}
        for pid in pids:
            database.execute(f"SELECT pg_terminate_backend({pid}, 5000)")
        with pytest.raises(RolledBack), manager.transaction() as tx:
            tx.scalar("SELECT 1")
        with manager.transaction() as tx:
            assert backend(tx) not in pids


def test_run_survives_the_servers_restart_of_every_session(database: Database) -> None:
    with database.manager() as manager:
        pid = manager.run(backend)
        database.execute(f"SELECT pg_terminate_backend({pid}, 5000)")
        assert manager.run(backend) != pid
        assert manager.statistics().retries <= 1


def test_a_connection_past_its_lifetime_is_replaced(database: Database) -> None:
    with limited(database, max_lifetime=0.2) as manager:
        first = manager.run(backend)
        wait_until(lambda: counts(manager).size == 0, what="the old connection's end")
        assert manager.run(backend) != first
    with limited(database, max_lifetime=0.05, leak=30) as manager:
        first = manager.run(backend)
        with manager.transaction() as tx:
            backend(tx)
            time.sleep(0.06)
        assert manager.run(backend) != first


def test_connections_opened_together_do_not_expire_together(database: Database) -> None:
    with limited(database, max_lifetime=1000.0, pool_size=8) as manager:
        began = time.monotonic()
        with ExitStack() as many:
            held = [many.enter_context(manager.transaction()).lease for _ in range(8)]
            ends = [lease.expires for lease in held if lease is not None]
        opened = time.monotonic() - began
    assert len(ends) == 8
    assert all(900 <= end - began <= 1000 + opened for end in ends)
    assert max(ends) - min(ends) > opened + 1.0


def test_a_transaction_held_too_long_is_reported_with_its_owner(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with limited(database, leak=0.1) as manager, manager.transaction(label="forgotten"):
        wait_until(lambda: counts(manager).leaks == 1)
        with caplog.at_level(logging.WARNING):
            wait_until(lambda: "forgotten at" in caplog.text)
    assert "test_connection_manager.py" in caplog.text
    assert counts(manager).leaks == 1


@pytest.mark.parametrize("way", ["run", "transactional"])
def test_the_owner_is_whoever_asked_for_the_transaction(
    way: str, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    def hold(_tx: Transaction) -> None:
        wait_until(lambda: "held for" in caplog.text)

    def asker(manager: ConnectionManager) -> None:
        manager.run(hold) if way == "run" else manager.transactional()(hold)()

    with limited(database, leak=0.1) as manager:
        asker(manager)
    assert "test_connection_manager.py" in caplog.text
    assert "(asker)" in caplog.text


def test_a_transaction_that_is_dropped_gives_its_connection_back(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    database.execute("CREATE TABLE entry (id integer)")
    with database.manager(pool_size=1) as manager:
        tx = manager.transaction(label="dropped")
        tx.__enter__()
        tx.execute("INSERT INTO entry VALUES (1)")
        del tx
        gc.collect()
        assert counts(manager).in_use == 0
        assert manager.run(lambda tx: tx.scalar("SELECT count(*) FROM entry")) == 0
    assert "dropped" in caplog.text


def test_closing_ends_connections_and_refuses_new_transactions(database: Database) -> None:
    manager = database.manager()
    held = manager.transaction()
    with held:
        pid = backend(held)
        manager.close()
        assert backend(held) == pid
    wait_until(lambda: not database.execute(f"SELECT 1 FROM pg_stat_activity WHERE pid = {pid}"))
    with pytest.raises(ManagerClosed), manager.transaction():
        raise AssertionError
    manager.close()


def test_closing_wakes_those_who_wait(database: Database) -> None:
    manager = database.manager(pool_size=1)
    with ThreadPoolExecutor(1) as threads, manager.transaction():
        waiting = threads.submit(manager.run, lambda tx: None, budget=20)
        wait_until(lambda: counts(manager).waiting == 1)
        manager.close()
        with pytest.raises(NotSent):
            waiting.result(5)


def test_a_forgotten_manager_closes_its_connections(database: Database) -> None:
    manager = database.manager()
    pid = manager.run(backend)
    del manager
    gc.collect()
    wait_until(lambda: not database.execute(f"SELECT 1 FROM pg_stat_activity WHERE pid = {pid}"))


def _in_child(manager: ConnectionManager, results: Any) -> None:
    results.put(manager.run(lambda tx: (os.getpid(), backend(tx))))
    results.close()
    results.join_thread()
    manager.close()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_opens_its_own_connections_and_leaves_its_parents_alone(database: Database) -> None:
    with database.manager() as manager:
        with manager.transaction() as tx:
            before = backend(tx)
            fork = multiprocessing.get_context("fork")
            results = fork.Queue()
            child = fork.Process(target=_in_child, args=(manager, results))
            child.start()
            pid, theirs = results.get(timeout=20)
            child.join(20)
            assert child.exitcode == 0
            assert pid == child.pid
            assert theirs != before
            assert backend(tx) == before
        assert manager.run(backend) == before


def test_a_server_that_is_full_is_waited_for(database: Database) -> None:
    database.execute(f"ALTER DATABASE {database.name} CONNECTION LIMIT 1")
    database.execute("SELECT 1")
    # The limit does not hold for superusers, so an ordinary role takes the one place.
    database.execute(f"DROP ROLE IF EXISTS {database.name}_role")
    database.execute(f"CREATE ROLE {database.name}_role LOGIN")
    try:
        settings = database.settings(user=f"{database.name}_role")
        with (
            ConnectionManager.from_settings(settings) as first,
            ConnectionManager.from_settings(settings) as second,
            ThreadPoolExecutor(1) as threads,
        ):
            with first.transaction() as tx:
                tx.scalar("SELECT 1")
                waiting = threads.submit(second.run, lambda tx: tx.scalar("SELECT 1"), budget=10)
                wait_until(lambda: second.router.current.cause is not None)
                assert "too many connections" in str(second.router.current.cause)
            first.close()
            assert waiting.result(15) == 1
    finally:
        database.execute(f"DROP ROLE {database.name}_role")


def test_statistics_become_samples_for_a_metrics_library(manager: ConnectionManager) -> None:
    manager.run(lambda tx: tx.scalar("SELECT 1"))
    found = list(samples(manager.statistics()))
    by_name = {(sample.name, *sample.labels.values()): sample for sample in found}
    route = manager.active
    pool = "writer" if manager.dialect == "sqlite" else "main"
    assert by_name["database_route_active", route].value == 1
    assert by_name["database_route_up", route].value == 1
    assert by_name["database_breaker_open", route].value == 0
    assert by_name["database_pool_committed_total", route, pool].value == 1
    assert by_name[("database_retries_total",)].kind == "counter"
    for sample in found:
        assert sample.name.endswith("_total") is (sample.kind == "counter")
        assert sample.help
        assert float(sample.value) >= 0


def test_a_manager_that_was_never_used_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    before = threading.active_count()
    with ConnectionManager.from_settings(Settings(sqlite_path=path)):
        assert threading.active_count() == before
    assert not path.exists()


def test_sqlite_write_inside_a_write_says_who_holds_the_writer(tmp_path: Path) -> None:
    with (
        ConnectionManager([Sqlite(tmp_path / "db.sqlite3")]) as manager,
        manager.transaction(label="outer"),
        pytest.raises(PoolTimeout, match="outer at"),
        manager.transaction(budget=0.1),
    ):
        raise AssertionError


def test_a_frozen_server_costs_a_caller_no_more_than_its_budget(
    database: Database, proxy: Callable[[int], TcpProxy]
) -> None:
    between = proxy(database.server.port)
    between.freeze()
    adapter = Local(host="127.0.0.1", port=between.port, database=database.name, user="slipway")
    with ConnectionManager([adapter], limits=Limits(connect_timeout=3.0)) as manager:
        began = time.monotonic()
        with pytest.raises(NotSent), manager.transaction(budget=0.4):
            raise AssertionError
        assert 0.35 < time.monotonic() - began < 2.9
        between.heal()
        assert manager.run(lambda tx: tx.scalar("SELECT 1")) == 1
