"""Backups of one file: among writers, two at once, and with a name that is none of a backup."""

import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from app.database import ConnectionManager
from app.database.migrations import runner
from scripts.database.backup import archive, job, sqlite
from scripts.database.errors import BackupError, RestoreRefusedError
from tests.database.test_backup import NOON
from tests.postgres import Settings, wait_until

WRITER = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20) as raw:
    for number in range(10**9):
        raw.execute("INSERT INTO note VALUES (?)", (number,))
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    found = Settings(sqlite_path=tmp_path / "ledger.sqlite3")
    with ConnectionManager.from_settings(found) as manager:
        runner.upgrade(manager)
    return found


def rows(path: Path) -> int:
    with closing(sqlite3.connect(path)) as raw:
        return int(raw.execute("SELECT count(*) FROM note").fetchone()[0])


def test_a_copy_of_many_steps_ends_while_another_process_commits_all_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, target = tmp_path / "live", tmp_path / "copy"
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("PRAGMA journal_mode = WAL")
        raw.execute("CREATE TABLE big (content)")
        raw.execute("CREATE TABLE note (number INTEGER)")
        raw.execute("INSERT INTO big VALUES (zeroblob(20000000))")
    monkeypatch.setattr(sqlite, "PAGES", 4)
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)]) as writer:
        try:
            assert wait_until(lambda: rows(path) > 0)
            copying = threading.Thread(target=sqlite.copy, args=(path, target))
            before = rows(path)
            copying.start()
            copying.join(20)
            late, after = copying.is_alive(), rows(path)
        finally:
            writer.kill()
        copying.join()
    assert not late
    assert after > before
    assert before <= rows(target) <= after
    with closing(sqlite.connect(target)) as raw:
        sqlite.sound(raw, target)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("second", [False, True])
def test_of_two_backups_in_one_second_one_stays_whole(
    settings: Settings, tmp_path: Path, first: bool, second: bool
) -> None:
    folder, together = tmp_path / "backups", threading.Barrier(2)

    def backup(verify: bool) -> str:
        together.wait(20)
        try:
            return str(job.backup(settings, folder, now=NOON, verify=verify).path)
        except BackupError as error:
            return error.what

    with ThreadPoolExecutor(2) as pool:
        made, refused = sorted(pool.map(backup, (first, second)), key=lambda said: "There is" in said)
    assert refused == "There is a backup of this second already."
    assert {str(each) for each in folder.iterdir()} == {made, f"{made}.sha256"}
    job.prove(Path(made), settings)


def test_a_name_that_is_being_given_away_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with archive.claimed(path):
        with pytest.raises(BackupError, match="of this second"), archive.claimed(path):
            pass
        # The refused one has not taken the claim away.
        with pytest.raises(BackupError, match="of this second"), archive.claimed(path):
            pass
    with archive.claimed(path):
        path.write_bytes(b"")
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_backup_is_told_in_words(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="cannot be read: Is a directory"):
        job.prove(tmp_path, settings)
    made = job.backup(settings, tmp_path / "backups", now=NOON)
    note = made.path.with_name(f"{made.path.name}.sha256")
    for content in (b"", b"\xff"):
        note.write_bytes(content)
        with pytest.raises(BackupError, match="its checksum is not the one in"):
            job.prove(made.path, settings)


def test_a_place_that_cannot_be_restored_into_is_told_in_words(settings: Settings, tmp_path: Path) -> None:
    made = job.backup(settings, tmp_path / "backups", now=NOON)
    with pytest.raises(RestoreRefusedError, match="not an empty database"):
        job.restore(made.path, settings, to=str(tmp_path))
    with pytest.raises(BackupError, match="cannot be written"):
        job.restore(made.path, settings, to=str(settings.sqlite_path / "x"))
