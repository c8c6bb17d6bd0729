"""The embedded database: its file is moved, damaged, no database at all, or not to be written."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from app.database import ConnectionManager, Limits, NotSent, WrongDatabase
from app.database.adapters.sqlite import Sqlite
from tests.postgres import wait_until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite3"


@pytest.fixture
def manager(path: Path) -> Iterator[ConnectionManager]:
    """A manager whose connections count as fresh for ever, as under steady load."""
    with ConnectionManager([Sqlite(path)], limits=Limits(budget=5.0, fresh=600)) as manager:
        with manager.transaction() as tx:
            tx.execute("CREATE TABLE note (id integer PRIMARY KEY)")
        yield manager


def write(manager: ConnectionManager, number: int) -> None:
    with manager.transaction() as tx:
        tx.execute("INSERT INTO note VALUES (:number)", {"number": number})


@pytest.mark.parametrize("deleted", [False, True])
def test_no_write_is_acknowledged_into_a_file_that_was_moved_or_deleted(
    manager: ConnectionManager, path: Path, deleted: bool
) -> None:
    write(manager, 1)
    if deleted:
        path.unlink()
    else:
        path.rename(path.with_name("moved"))
    for number in (2, 3):
        with pytest.raises(WrongDatabase, match="is gone"):
            write(manager, number)
    assert not path.exists()


def test_a_file_that_is_put_back_is_taken_up_again(manager: ConnectionManager, path: Path) -> None:
    moved = path.with_name("moved")
    path.rename(moved)
    with pytest.raises(WrongDatabase, match="is gone"):
        write(manager, 1)
    moved.rename(path)
    wait_until(manager.router.current.breaker.allows, 20)

    def serves() -> bool:
        try:
            write(manager, 1)
        except NotSent:
            return False
        return True

    wait_until(serves, 20)
    assert manager.run(lambda tx: tx.scalar("SELECT count(*) FROM note")) == 1


def test_no_write_is_acknowledged_into_a_file_that_was_replaced(
    manager: ConnectionManager, path: Path
) -> None:
    with closing(sqlite3.connect(path.with_name("new"))) as other:
        other.execute("CREATE TABLE note (id integer PRIMARY KEY)")
        other.commit()
    path.with_name("new").replace(path)
    with pytest.raises(WrongDatabase, match="another database"):
        write(manager, 1)


HOLDER = """
import sqlite3, sys
raw = sqlite3.connect(sys.argv[1], isolation_level=None)
raw.execute("CREATE TABLE note (id integer)")
raw.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.readline()
"""


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_forked_while_the_file_is_opened_opens_it_too(path: Path) -> None:
    adapter = Sqlite(path)
    with (
        subprocess.Popen(
            [sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as holder,
        ConnectionManager([adapter], limits=Limits(budget=20.0)) as manager,
    ):
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        opening = threading.Thread(target=manager.run, args=(lambda _tx: None,))
        opening.start()
        wait_until(adapter._wal_lock.locked)
        child = os.fork()
        if child == 0:  # pragma: no cover - another process
            verdict = 1
            try:
                assert manager.run(lambda tx: tx.scalar("SELECT count(*) FROM note")) == 0
                verdict = 0
            finally:
                os._exit(verdict)
        holder.communicate(b"\n")
        opening.join(20)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
