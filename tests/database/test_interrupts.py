"""Ctrl-C and SIGTERM in the middle of anything: rolled back, the connection given back, nobody hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from app.database import ConnectionManager, Limits
from app.database.adapters.local import Local
from tests.database.notes import ids
from tests.postgres import Database, wait_until
from tests.tcp_proxy import TcpProxy

AT_COMMIT = """
CREATE TABLE note (id integer);
CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.6); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER linger AFTER INSERT ON note DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION linger()
"""


@contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    """Raise KeyboardInterrupt in the main thread after so long, as Ctrl-C does, and expect it to come out."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def assert_whole(manager: ConnectionManager) -> None:
    """Hold that nothing is lent or waited for, and that every connection can be had."""

    def quiet() -> bool:
        pools = [pool for route in manager.statistics().routes for pool in route.pools.values()]
        return all(pool.in_use == pool.waiting == pool.opening == 0 for pool in pools)

    wait_until(quiet, what="a pool with nothing lent")
    assert manager.run(lambda tx: tx.scalar("SELECT 1"), budget=5) == 1


def test_an_interrupt_in_the_block_rolls_back_and_gives_back(manager: ConnectionManager) -> None:
    manager.run(lambda tx: tx.execute("CREATE TABLE note (id integer)"))
    with pytest.raises(KeyboardInterrupt), manager.transaction() as tx:
        tx.execute("INSERT INTO note VALUES (1)")
        raise KeyboardInterrupt
    assert_whole(manager)
    assert manager.run(lambda tx: tx.scalar("SELECT count(*) FROM note")) == 0


def test_an_interrupt_during_a_statement_rolls_back(database: Database) -> None:
    with database.manager(pool_size=1) as manager:
        manager.run(lambda tx: tx.execute("CREATE TABLE note (id integer)"))
        with interrupted_after(0.3), manager.transaction() as tx:
            tx.execute("INSERT INTO note VALUES (1)")
            tx.execute("SELECT pg_sleep(1)")
        assert_whole(manager)
        assert manager.run(lambda tx: tx.scalar("SELECT count(*) FROM note")) == 0


def test_an_interrupt_during_commit_leaves_the_whole_transaction_or_nothing(database: Database) -> None:
    database.execute(AT_COMMIT)
    with database.manager(pool_size=1) as manager:
        with interrupted_after(0.3), manager.transaction() as tx:
            tx.execute("INSERT INTO note VALUES (1), (2)")
        assert_whole(manager)
        assert manager.run(lambda tx: tx.scalar("SELECT count(*) FROM note")) in (0, 2)


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), SystemExit(143)], ids=["ctrl-c", "exit"])
@pytest.mark.parametrize("conflict", ["error", "ignore"])
def test_an_interrupt_during_a_load_comes_out_as_it_is(
    notes: ConnectionManager, conflict: Any, interrupt: BaseException
) -> None:
    def rows() -> Iterator[tuple[int, str]]:
        yield 1, "x"
        raise interrupt

    with pytest.raises(type(interrupt)) as caught:
        notes.load("note", rows(), columns=("id", "text"), on_conflict=conflict)
    assert caught.value is interrupt
    assert_whole(notes)
    assert ids(notes) == []


def test_an_interrupted_waiter_is_not_given_a_connection_that_nobody_takes(
    manager: ConnectionManager,
) -> None:
    writers = manager.router.current.pool
    held, release = [threading.Event() for _ in range(writers.limit)], threading.Event()

    def hold(begun: threading.Event) -> None:
        with manager.transaction():
            begun.set()
            release.wait(20)

    threads = [threading.Thread(target=hold, args=(begun,)) for begun in held]
    for thread in threads:
        thread.start()
    try:
        assert all(begun.wait(10) for begun in held)
        with interrupted_after(0.3), manager.transaction(budget=20):
            raise AssertionError
        assert writers.counts().waiting == 0
    finally:
        release.set()
        for thread in threads:
            thread.join(20)
    assert_whole(manager)


def test_an_interrupt_while_an_idle_connection_is_checked_gives_it_up(database: Database) -> None:
    proxy = TcpProxy(database.server.port)
    try:
        route = Local(host="127.0.0.1", port=proxy.port, database=database.name, user="slipway")
        with ConnectionManager([route], limits=Limits(pool_size=1, fresh=0.0, silence=5.0)) as manager:
            manager.run(lambda tx: tx.scalar("SELECT 1"))
            proxy.delay(0.5)
            with interrupted_after(0.3), manager.transaction():
                raise AssertionError
            proxy.heal()
            assert_whole(manager)
    finally:
        proxy.close()


PROGRAM = """
import signal, sys
from app.database import ConnectionManager
from app.database.adapters.local import Local
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
route = Local(host=sys.argv[1], port=int(sys.argv[2]), database=sys.argv[3], user="slipway")
with ConnectionManager([route]) as manager, manager.transaction() as tx:
    tx.execute("INSERT INTO note VALUES (1), (2)")
    print("committing", flush=True)
"""


def test_a_program_told_to_end_during_commit_ends_and_leaves_no_session(database: Database) -> None:
    database.execute(AT_COMMIT)
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, database.server.folder, str(database.server.port), database.name],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"committing\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143
    wait_until(
        lambda: (
            database.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
            == [(0,)]
        ),
        what="the end of its session",
    )
    assert database.execute("SELECT count(*) FROM note")[0][0] in (0, 2)
