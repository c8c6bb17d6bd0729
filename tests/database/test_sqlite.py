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

from app.database import AdapterMisconfigured, ConnectionManager, Limits, NotSent, WrongDatabase
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


@pytest.mark.parametrize(
    ("wrong", "what", "remedy"),
    [
        ("text", "not a database", "Give the path of an SQLite database"),
        ("folder", "unable to open", "This is a folder"),
        ("text/x", "Not a directory|File exists", "A part of the path is a file"),
    ],
)
def test_a_path_that_no_second_attempt_can_open_is_refused_at_once(
    tmp_path: Path, wrong: str, what: str, remedy: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("this is no database, but it is long enough to look at" * 20)
    calls: list[int] = []
    with ConnectionManager([Sqlite(tmp_path / wrong)], limits=Limits(budget=600)) as manager:
        for _ in range(5):  # the breaker opens meanwhile
            with pytest.raises(AdapterMisconfigured, match=what) as caught:
                manager.run(lambda _tx: calls.append(1))
            assert remedy in str(caught.value)
            assert str(tmp_path / wrong) in str(caught.value)
    assert calls == []


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_folder_that_may_not_be_written_is_refused_at_once(tmp_path: Path, exists: bool) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    if exists:
        with closing(sqlite3.connect(folder / "x")) as raw:
            raw.execute("PRAGMA journal_mode = WAL")
            raw.execute("CREATE TABLE note (id integer)")
    folder.chmod(0o555)
    for above in (tmp_path, *tmp_path.parents):
        if above.stat().st_uid == os.getuid() and not above.stat().st_mode & 0o001:
            above.chmod(0o755)
    child = os.fork()
    if child == 0:  # pragma: no cover - another process
        verdict = 1
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            with ConnectionManager([Sqlite(folder / "x")], limits=Limits(budget=600)) as manager:
                with pytest.raises(AdapterMisconfigured, match="Let this user write to"):
                    manager.run(lambda _tx: None)
                with pytest.raises(AdapterMisconfigured, match="Let this user write to"):
                    manager.run(lambda _tx: None, read_only=True)
            verdict = 0
        finally:
            os._exit(verdict)
    try:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        folder.chmod(0o755)


def test_a_transaction_that_was_committed_by_hand_is_not_said_to_have_kept_nothing(
    manager: ConnectionManager,
) -> None:
    with pytest.raises(RuntimeError, match="ended inside its block"), manager.transaction() as tx:
        tx.execute("INSERT INTO note VALUES (1)")
        tx.connection.commit()
        tx.execute("INSERT INTO note VALUES (2)")
    assert manager.run(lambda tx: tx.scalar("SELECT count(*) FROM note")) == 2


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
