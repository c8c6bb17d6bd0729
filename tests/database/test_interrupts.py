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
from types import FrameType
from typing import Any

import pytest

from app.database import ConnectionManager, Limits
from app.database.adapters.local import Local
from app.database.adapters.sqlite import Sqlite
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


class InterruptAt:
    """Raise KeyboardInterrupt at the n-th place in the database layer at which CPython takes a signal.

    It does so at the begin of a function and at the return of one in C. In `__del__`, Python ignores it.
    """

    def __init__(self, place: int) -> None:
        self.left = place
        self.came = ""

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        within, caller = frame.f_code.co_filename, frame
        if event not in {"call", "c_return"} or not ("/app/database/" in within or "/sqlalchemy/" in within):
            return
        while caller.f_back is not None:
            if caller.f_code.co_name == "__del__":
                return
            caller = caller.f_back
        self.left -= 1
        if self.left == 0:
            self.came = f"{event} in {frame.f_code.co_qualname}, line {frame.f_lineno}"
            raise KeyboardInterrupt


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("adapter", ["sqlite", "postgresql"])
def test_wherever_an_interrupt_comes_it_comes_out_and_the_pool_is_whole(
    adapter: str, fails: bool, database: Database, tmp_path: Path
) -> None:
    route = (
        Sqlite(tmp_path / "db")
        if adapter == "sqlite"
        else Local(
            host=str(database.server.folder),
            port=database.server.port,
            database=database.name,
            user="slipway",
        )
    )

    def work(manager: ConnectionManager) -> None:
        with manager.transaction() as tx:
            tx.execute("INSERT INTO note VALUES (1)")
            if fails:
                raise LookupError

    # What an interrupt made nobody's is found by the housekeeping after the time `leak`.
    with ConnectionManager([route], limits=Limits(pool_size=1, budget=10, leak=0.2)) as manager:
        manager.run(lambda tx: tx.execute("CREATE TABLE note (id integer)"))
        for place in range(1, 2000):
            interrupt, came = InterruptAt(place), None
            sys.setprofile(interrupt)
            try:
                work(manager)
            except BaseException as error:  # noqa: BLE001 - the kind is what is tested
                came = type(error)
            finally:
                sys.setprofile(None)
            if not interrupt.came:
                break
            assert came is KeyboardInterrupt, interrupt.came
            assert manager.run(lambda tx: tx.scalar("SELECT 1")) == 1, interrupt.came
        assert place > 50
        assert_whole(manager)


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
