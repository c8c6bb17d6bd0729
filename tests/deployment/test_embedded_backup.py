import sqlite3
from contextlib import closing
from pathlib import Path

from scripts.deployment.embedded_backup import KEPT, back_up


def test_no_database_means_no_backup(tmp_path: Path) -> None:
    assert back_up(tmp_path / "ledger.sqlite3") is None
    assert list(tmp_path.iterdir()) == []


def test_the_copy_holds_what_was_committed_while_another_writer_is_at_work(tmp_path: Path) -> None:
    database = tmp_path / "ledger.sqlite3"
    with closing(sqlite3.connect(database, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("CREATE TABLE t (x)")
        writer.execute("INSERT INTO t VALUES (1)")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO t VALUES (2)")
        copy = back_up(database)
        writer.execute("ROLLBACK")
    assert copy is not None
    with closing(sqlite3.connect(copy)) as reader:
        assert reader.execute("SELECT x FROM t").fetchall() == [(1,)]


def test_only_the_newest_copies_stay(tmp_path: Path) -> None:
    database = tmp_path / "ledger.sqlite3"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE t (x)")
    folder = tmp_path / "backups"
    folder.mkdir()
    for year in range(2000, 2000 + KEPT + 2):
        (folder / f"ledger-{year}0101T000000Z.sqlite3").touch()
    made = back_up(database)
    assert made is not None
    left = sorted(folder.iterdir())
    assert len(left) == KEPT
    assert left[-1] == made
    assert left[0].name == "ledger-20030101T000000Z.sqlite3"
