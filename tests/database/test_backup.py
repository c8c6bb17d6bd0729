"""Backups: what is made restores, what is not whole is refused, and nothing is ever overwritten."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import uuid
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.database import ConnectionManager
from app.database.migrations import runner
from app.ledger.recorder import record
from scripts.database.backup import archive, job, postgresql, sqlite, tools
from scripts.database.backup.archive import SUFFIX
from scripts.database.backup.retention import Retention, kept
from scripts.database.errors import BackupError, RestoreRefusedError
from tests.postgres import Server, Settings, debian_binaries, wait_until
from tests.small_disk import SmallDisk

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
KINDS = ["sqlite", "pg_dump", "copy"]


@pytest.fixture(params=KINDS)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Any, str]]:
    """Settings of a filled database and the method to back it up by."""
    if request.param == "sqlite":
        settings, method = Settings(sqlite_path=tmp_path / "ledger.sqlite3"), "auto"
    else:
        settings, method = request.getfixturevalue("database").settings(), request.param
    fill(settings)
    yield settings, method
    drop_restored(settings)


@pytest.fixture
def file_settings(tmp_path: Path) -> Settings:
    """Settings of a filled SQLite database."""
    settings = Settings(sqlite_path=tmp_path / "ledger.sqlite3")
    fill(settings)
    return settings


def drop_restored(settings: Any) -> None:
    if "sqlite" not in settings.adapter_order:
        server = job.route(settings)
        for (name,) in databases(settings):
            if name.endswith("_restored"):
                postgresql.command(server, f'DROP DATABASE "{name}" WITH (FORCE)')


def databases(settings: Any) -> list[tuple[str, ...]]:
    with postgresql.snapshot(job.route(settings)) as cursor:
        return postgresql.listed(cursor, "SELECT datname FROM pg_database ORDER BY 1")


def event(number: int) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"e{number}",
        "source": "/test",
        "type": "dev.slipway.run.finished",
        "time": "2026-01-31T12:00:00.123456Z",
        "data": {"run": f"r{number}", "command": "ship", "result": "success", "note": "Grüße\t\\N\n"},
    }


def fill(settings: Any, events: int = 30) -> None:
    with ConnectionManager.from_settings(settings) as manager:
        runner.upgrade(manager)
        with manager.transaction() as tx:
            record(tx, [event(number) for number in range(events)])


def backup(settings: Any, folder: Path, method: str = "auto", **options: Any) -> job.Backup:
    return job.backup(settings, folder, method=method, **{"now": NOON, **options})


def restored_name(settings: Any, tmp_path: Path) -> str:
    if "sqlite" in settings.adapter_order:
        return str(tmp_path / "restored.sqlite3")
    return f"{settings.name}_restored"


def pointed_at(settings: Any, name: str) -> Any:
    if "sqlite" in settings.adapter_order:
        return replace(settings, sqlite_path=Path(name))
    return replace(settings, name=name)


def test_a_backup_restores_to_the_same_rows_and_a_schema_that_goes_on(
    case: tuple[Any, str], tmp_path: Path
) -> None:
    settings, method = case
    made = backup(settings, tmp_path / "backups", method, verify=True)
    assert made.verified
    assert made.manifest.method == ("sqlite" if method == "auto" else method)
    assert made.manifest.revision == "0001"
    assert made.manifest.rows == 30 + 30 + 1 + 1  # events, runs, revision, history
    name = restored_name(settings, tmp_path)
    assert job.restore(made.path, settings, to=name).manifest == made.manifest
    with ConnectionManager.from_settings(pointed_at(settings, name)) as manager:
        assert runner.status(manager).at_head
        with manager.transaction() as tx:
            assert tx.scalar("SELECT count(*) FROM pipeline_run WHERE command = 'ship'") == 30
            # The sequence goes on where it was, or this insert would collide.
            assert record(tx, [event(0), event(99)]).accepted == 1


def test_a_backup_leaves_nothing_but_itself_behind(case: tuple[Any, str], tmp_path: Path) -> None:
    settings, method = case
    before = [] if method == "auto" else databases(settings)
    made = backup(settings, tmp_path / "backups", method, verify=True)
    assert sorted(path.name for path in made.path.parent.iterdir()) == [
        made.path.name,
        f"{made.path.name}.sha256",
    ]
    assert made.path.stat().st_mode & 0o077 == 0
    done = subprocess.run(
        ["sha256sum", "-c", f"{made.path.name}.sha256"],
        cwd=made.path.parent,
        check=False,
        capture_output=True,
    )
    assert done.returncode == 0
    if method != "auto":
        assert databases(settings) == before


def test_a_backup_taken_while_others_write_is_of_one_moment(case: tuple[Any, str], tmp_path: Path) -> None:
    """Two rows whose sum never changes: a copy of two moments would show another sum."""
    settings, method = case
    with ConnectionManager.from_settings(settings) as manager:
        with manager.transaction() as tx:
            # The COPY method carries tables that migrations make; this one it must be given.
            tx.execute("CREATE TABLE account (id INTEGER PRIMARY KEY, amount INTEGER NOT NULL)")
            tx.execute("INSERT INTO account VALUES (1, 500), (2, 500)")
        stop, moved = threading.Event(), threading.Event()

        def move() -> None:
            while not stop.is_set():
                with manager.transaction() as tx:
                    tx.execute("UPDATE account SET amount = amount - 1 WHERE id = 1")
                    tx.execute("UPDATE account SET amount = amount + 1 WHERE id = 2")
                moved.set()

        mover = threading.Thread(target=move)
        mover.start()
        try:
            assert moved.wait(20)
            made = backup(settings, tmp_path / "backups", method)
        finally:
            stop.set()
            mover.join()
    with archive.reading(made.path) as (file, manifest):
        if method == "copy":
            amounts = [line.split(b"\t")[1] for line in file.read("tables/public.account.copy").splitlines()]
            assert sum(map(int, amounts)) == 1000
            return
        assert manifest.tables
    name = restored_name(settings, tmp_path)
    job.restore(made.path, settings, to=name)
    with (
        ConnectionManager.from_settings(pointed_at(settings, name)) as manager,
        manager.transaction(read_only=True) as tx,
    ):
        assert tx.scalar("SELECT sum(amount) FROM account") == 1000


def test_the_live_database_is_never_overwritten(case: tuple[Any, str], tmp_path: Path) -> None:
    settings, method = case
    made = backup(settings, tmp_path / "backups", method)
    with pytest.raises(RestoreRefusedError, match="the live database, which is not empty"):
        job.restore(made.path, settings)
    job.restore(made.path, settings, to=restored_name(settings, tmp_path))
    with pytest.raises(RestoreRefusedError, match="is not empty") as caught:
        job.restore(made.path, settings, to=restored_name(settings, tmp_path))
    assert "--to=" in caught.value.next_step
    with ConnectionManager.from_settings(settings) as manager, manager.transaction() as tx:
        assert tx.scalar("SELECT count(*) FROM event") == 30


def test_a_refused_restore_leaves_the_live_database_as_it_is(file_settings: Settings, tmp_path: Path) -> None:
    made = backup(file_settings, tmp_path / "backups")

    def mode() -> str:
        with closing(sqlite3.connect(file_settings.sqlite_path)) as raw:
            return str(raw.execute("PRAGMA journal_mode").fetchone()[0])

    assert mode() == "wal"
    with closing(sqlite3.connect(file_settings.sqlite_path)) as reader:
        for look in ("SELECT 1", "SELECT count(*) FROM event"):  # before anybody reads, and meanwhile
            reader.execute("BEGIN")
            reader.execute(look).fetchone()
            with pytest.raises(RestoreRefusedError, match="the live database, which is not empty"):
                job.restore(made.path, file_settings)
            reader.execute("ROLLBACK")
            assert mode() == "wal"


def test_an_empty_database_that_somebody_has_open_is_not_replaced(
    file_settings: Settings, tmp_path: Path
) -> None:
    made = backup(file_settings, tmp_path / "backups")
    empty = tmp_path / "empty.sqlite3"
    with closing(sqlite3.connect(empty, isolation_level=None)) as reader:
        reader.execute("PRAGMA journal_mode = WAL")
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM sqlite_master").fetchone()
        with pytest.raises(RestoreRefusedError, match="is in use"):
            job.restore(made.path, file_settings, to=str(empty))
    job.restore(made.path, file_settings, to=str(empty))


def test_an_empty_live_database_can_be_restored_into(file_settings: Settings, tmp_path: Path) -> None:
    made = backup(file_settings, tmp_path / "backups")
    for suffix in ("", "-wal", "-shm"):
        file_settings.sqlite_path.with_name(f"ledger.sqlite3{suffix}").unlink(missing_ok=True)
    with ConnectionManager.from_settings(file_settings) as manager, manager.transaction() as tx:
        assert tx.scalar("SELECT count(*) FROM sqlite_master") == 0
    job.restore(made.path, file_settings)
    with ConnectionManager.from_settings(file_settings) as manager:
        assert runner.status(manager).at_head


def test_a_file_that_is_no_database_is_left_alone(file_settings: Settings, tmp_path: Path) -> None:
    made = backup(file_settings, tmp_path / "backups")
    other = tmp_path / "notes.txt"
    other.write_text("not a database at all, and longer than a header of one " * 20)
    with pytest.raises(RestoreRefusedError, match="not an empty database"):
        job.restore(made.path, file_settings, to=str(other))
    assert other.read_text().startswith("not a database")


def test_a_backup_of_another_engine_is_refused(
    file_settings: Settings, tmp_path: Path, postgres: Server
) -> None:
    made = backup(file_settings, tmp_path / "backups")
    for refused in (job.restore, job.prove):
        with pytest.raises(
            RestoreRefusedError, match="of a sqlite database, and the settings lead to postgresql"
        ):
            refused(made.path, postgres.settings())


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("note", [True, False])
def test_a_truncated_backup_is_refused(
    file_settings: Settings, tmp_path: Path, share: float, note: bool
) -> None:
    made = backup(file_settings, tmp_path / "backups")
    os.truncate(made.path, int(made.bytes * share))
    if not note:
        made.path.with_name(f"{made.path.name}.sha256").unlink()
    target = tmp_path / "restored.sqlite3"
    with pytest.raises(BackupError, match="not whole"):
        job.restore(made.path, file_settings, to=str(target))
    assert not target.exists()


def test_a_backup_with_one_changed_byte_anywhere_in_its_data_is_refused(
    file_settings: Settings, tmp_path: Path
) -> None:
    made = backup(file_settings, tmp_path / "backups")
    made.path.with_name(f"{made.path.name}.sha256").unlink()
    good = made.path.read_bytes()
    with zipfile.ZipFile(made.path) as file:
        entry = file.getinfo(sqlite.MEMBER)
    start = entry.header_offset + 30 + len(entry.filename) + 20
    for place in range(start, start + entry.compress_size, max(1, entry.compress_size // 20)):
        bad = bytearray(good)
        bad[place] ^= 0x55
        made.path.write_bytes(bad)
        with pytest.raises(BackupError, match="not whole"):
            job.prove(made.path, file_settings)
    made.path.write_bytes(good)
    job.prove(made.path, file_settings)


def test_a_changed_byte_is_found_by_the_note_beside_it(file_settings: Settings, tmp_path: Path) -> None:
    made = backup(file_settings, tmp_path / "backups")
    with made.path.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BackupError, match="its checksum is not the one in"):
        job.prove(made.path, file_settings)


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Write the backup anew with a changed manifest and no note."""
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    manifest = json.loads(members[archive.MANIFEST])
    change(manifest)
    members[archive.MANIFEST] = json.dumps(manifest).encode()
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    path.with_name(f"{path.name}.sha256").unlink()


def test_a_restore_that_differs_from_what_was_backed_up_is_not_kept(
    case: tuple[Any, str], tmp_path: Path
) -> None:
    settings, method = case
    made = backup(settings, tmp_path / "backups", method)
    table = "event" if method == "auto" else "public.event"
    rewrite(made.path, lambda manifest: manifest["tables"][table].update(rows=31))
    name = restored_name(settings, tmp_path)
    with pytest.raises(BackupError, match=rf"{table} was not restored as it was: 30 rows .* of 31 rows"):
        job.restore(made.path, settings, to=name)
    if method == "auto":
        assert not Path(name).exists()
    else:
        assert (name,) not in databases(settings)


def test_a_difference_in_any_column_is_found_whatever_the_columns_are_called(database: Any) -> None:
    database.execute("CREATE TABLE odd (t text, row text, odd text)")
    database.execute("INSERT INTO odd VALUES ('same', 'same', 'one')")
    before = postgresql.fingerprint(job.route(database.settings()))[0]["public.odd"]
    database.execute("UPDATE odd SET odd = 'another'")
    assert postgresql.fingerprint(job.route(database.settings()))[0]["public.odd"] != before


def test_a_missing_table_and_a_changed_schema_are_told(file_settings: Settings, tmp_path: Path) -> None:
    made = backup(file_settings, tmp_path / "backups")
    tables, objects = sqlite.fingerprint(file_settings.sqlite_path)
    sqlite.compare(made.manifest, tables, objects, "here")
    with pytest.raises(BackupError, match="token was not restored as it was: no table instead of 0 rows"):
        sqlite.compare(made.manifest, {k: v for k, v in tables.items() if k != "token"}, objects, "here")
    with pytest.raises(BackupError, match="indexes, constraints or triggers are not"):
        sqlite.compare(made.manifest, tables, "another", "here")


def test_a_backup_of_a_newer_format_or_with_an_unreadable_manifest_is_refused(
    file_settings: Settings, tmp_path: Path
) -> None:
    made = backup(file_settings, tmp_path / "backups")
    rewrite(made.path, lambda manifest: manifest.update(format=99))
    with pytest.raises(BackupError, match="format 99"):
        job.prove(made.path, file_settings)
    other = backup(file_settings, tmp_path / "others")
    rewrite(other.path, lambda manifest: manifest.pop("tables"))
    with pytest.raises(BackupError, match="its manifest cannot be read"):
        job.prove(other.path, file_settings)
    third = backup(file_settings, tmp_path / "thirds")
    rewrite(third.path, lambda manifest: manifest["members"].update({"more.copy": "00"}))
    with pytest.raises(BackupError, match=r"more\.copy cannot be read"):
        job.prove(third.path, file_settings)


def test_a_missing_database_and_a_missing_backup_say_what_to_do(tmp_path: Path) -> None:
    settings = Settings(sqlite_path=tmp_path / "none.sqlite3")
    with pytest.raises(BackupError, match="There is no database") as caught:
        backup(settings, tmp_path / "backups")
    assert "db.init" in caught.value.next_step
    assert list((tmp_path / "backups").iterdir()) == []
    assert not settings.sqlite_path.exists()
    with pytest.raises(BackupError, match="There is no backup"):
        job.restore(tmp_path / "none.zip", settings)


@pytest.mark.parametrize("place", [0, 4096])
def test_a_damaged_database_makes_no_backup(file_settings: Settings, tmp_path: Path, place: int) -> None:
    path = file_settings.sqlite_path
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA journal_mode = DELETE")
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"\xff" * 3000)
    with pytest.raises(BackupError, match="damaged"):
        backup(file_settings, tmp_path / "backups")
    assert list((tmp_path / "backups").iterdir()) == []


def test_two_backups_in_one_second_do_not_mix(file_settings: Settings, tmp_path: Path) -> None:
    backup(file_settings, tmp_path / "backups")
    with pytest.raises(BackupError, match="of this second"):
        backup(file_settings, tmp_path / "backups")


def test_a_folder_that_is_a_file_is_told(file_settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "backups").write_text("")
    with pytest.raises(BackupError, match="cannot be written"):
        backup(file_settings, tmp_path / "backups")


def test_an_interrupted_write_leaves_no_file(tmp_path: Path) -> None:
    class Interrupted(BaseException):
        pass

    def write() -> None:
        with (
            archive.writing(tmp_path / "a.zip") as writer,
            writer.member("x", compress=False) as member,
        ):
            member.write(b"half")
            raise Interrupted

    with pytest.raises(Interrupted):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_backup_without_any_pg_dump_is_made_by_copy(
    database: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(database.settings())
    monkeypatch.setattr(tools, "folders", list)
    assert backup(database.settings(), tmp_path).manifest.method == "copy"
    with pytest.raises(BackupError, match="no pg_dump of version 18"):
        backup(database.settings(), tmp_path, "pg_dump", now=NOON + timedelta(seconds=1))


def test_a_dump_without_a_fitting_pg_restore_is_told(
    database: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(database.settings())
    made = backup(database.settings(), tmp_path, "pg_dump")
    monkeypatch.setattr(tools, "folders", list)
    before = databases(database.settings())
    with pytest.raises(BackupError, match="no pg_restore of version 18"):
        job.prove(made.path, database.settings())
    assert databases(database.settings()) == before


def test_a_failing_pg_dump_makes_no_backup(database: Any, tmp_path: Path) -> None:
    fill(database.settings())
    database.execute(
        "CREATE FUNCTION f() RETURNS int LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_call_handler'"
    )
    database.execute("UPDATE pg_proc SET prolang = 999999 WHERE proname = 'f'")
    with pytest.raises(BackupError, match="pg_dump failed"):
        backup(database.settings(), tmp_path, "pg_dump")
    assert list(tmp_path.iterdir()) == []


def test_a_copy_of_a_table_that_no_migration_makes_is_refused_at_restore(
    database: Any, tmp_path: Path
) -> None:
    fill(database.settings())
    database.execute("CREATE TABLE notes (text text)")
    made = backup(database.settings(), tmp_path, "copy")
    with pytest.raises(BackupError, match=r"no migration makes: public\.notes"):
        job.prove(made.path, database.settings())


def test_a_role_that_may_not_create_databases_is_told(database: Any, tmp_path: Path) -> None:
    fill(database.settings())
    made = backup(database.settings(), tmp_path)
    role = f"{database.name}_reader"
    database.execute(f"CREATE ROLE {role} LOGIN")
    try:
        with pytest.raises(BackupError, match="permission denied") as caught:
            job.prove(made.path, replace(database.settings(), user=role))
        assert "CREATEDB" in caught.value.next_step
    finally:
        database.execute(f"DROP ROLE {role}")


def test_a_name_that_cannot_be_a_database_s_is_refused(database: Any, tmp_path: Path) -> None:
    fill(database.settings())
    made = backup(database.settings(), tmp_path)
    with pytest.raises(RestoreRefusedError, match="cannot be the name"):
        job.restore(made.path, database.settings(), to='x"; DROP DATABASE postgres; --')


@pytest.mark.parametrize(("host", "hostaddr"), [("localhost", "127.0.0.9"), ("db.invalid", "127.0.0.1")])
def test_the_programs_go_to_the_server_that_we_ask_ourselves(
    database: Any, tmp_path: Path, host: str, hostaddr: str
) -> None:
    """The address stands in only where the name does not resolve; nobody listens on 127.0.0.9."""
    fill(database.settings())
    settings = database.settings(adapter_order=("direct",), host=host, hostaddr=hostaddr)
    assert backup(settings, tmp_path, "pg_dump", verify=True).verified


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(
        f"#!/bin/sh\n[ $1 = --version ] && echo '{name} (PostgreSQL) 99.0' && exit\n{script}\n"
    )
    (folder / name).chmod(0o755)


WARNS = "timeout 10 head -c 300000 /dev/zero >&2 || exit 1"


def test_a_program_that_warns_a_lot_is_heard_to_its_end(
    database: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe holds 64 KiB: who reads the warnings last waits for a program that waits for its reader."""
    settings = database.settings()
    fill(settings)
    program(tmp_path / "bin", "pg_dump", f"{WARNS}; echo rows")
    program(tmp_path / "bin", "pg_restore", f"{WARNS}; cat >/dev/null; echo wrong >&2; exit 3")
    monkeypatch.setattr(tools, "folders", lambda: [tmp_path / "bin"])
    made = backup(settings, tmp_path / "backups", "pg_dump")
    with archive.reading(made.path) as (file, manifest):
        assert file.read(postgresql.DUMP) == b"rows\n"
        with pytest.raises(BackupError, match=r"nothing was restored.*wrong"):
            postgresql.run_pg_restore(file, manifest, job.route(settings))


@pytest.mark.parametrize("case", KINDS, indirect=True)
def test_a_backup_that_does_not_prove_good_does_not_get_the_name_of_one(
    case: tuple[Any, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, method = case
    folder = tmp_path / "backups"
    good = backup(settings, folder, method, now=NOON - timedelta(days=2))
    with monkeypatch.context() as patch:
        for module in (sqlite, postgresql):
            patch.setattr(module, "finish", spoiled)
        with pytest.raises(BackupError, match="was not restored as it was"):
            backup(settings, folder, method, verify=True, now=NOON - timedelta(days=1))
    left = {path.name for path in folder.iterdir()} - {good.path.name, f"{good.path.name}.sha256"}
    assert left == {
        f"ledger-20260130T120000Z{SUFFIX}.unproven",
        f"ledger-20260130T120000Z{SUFFIX}.unproven.sha256",
    }
    few = Retention(last=1, daily=0, weekly=0, monthly=0)
    made = backup(settings, folder, method, verify=True, retention=few)
    assert good.path in made.removed
    assert sorted(path.name for path in folder.iterdir() if "20260131" in path.name) == [
        made.path.name,
        f"{made.path.name}.sha256",
    ]


def spoiled(writer: archive.Writer, manifest: archive.Manifest) -> archive.Manifest:
    """Write a manifest that says more than the data holds."""
    tables = {name: replace(table, rows=table.rows + 1) for name, table in manifest.tables.items()}
    return FINISH(writer, replace(manifest, tables=tables))


FINISH = archive.finish


def test_a_copy_of_tables_that_refer_to_each_other_goes_back_in_any_order(
    database: Any, tmp_path: Path
) -> None:
    """Neither a child that sorts before its parent nor two tables that refer to each other stop it."""
    tables = """
        CREATE TABLE parent (id int PRIMARY KEY, favourite int, above int REFERENCES parent);
        CREATE TABLE child (id int PRIMARY KEY, parent int NOT NULL REFERENCES parent ON DELETE CASCADE);
        ALTER TABLE parent ADD FOREIGN KEY (favourite) REFERENCES child;
    """
    database.execute(tables)
    database.execute("INSERT INTO parent SELECT n, NULL, nullif(n + 1, 4) FROM generate_series(3, 1, -1) n")
    database.execute("INSERT INTO child SELECT n, n FROM generate_series(1, 3) n")
    database.execute("UPDATE parent SET favourite = id")
    made = backup(database.settings(), tmp_path, "copy")
    settings = database.settings()
    with job.created(settings, f"{settings.name}_again") as target:
        adapter = job.route(target)
        with closing(postgresql.connect(adapter)) as raw, raw.cursor() as cursor:
            cursor.execute(tables)
            raw.commit()
        with archive.reading(made.path) as (file, manifest):
            postgresql.fill(file, manifest, adapter)
            found, objects = postgresql.fingerprint(adapter)
            sqlite.compare(manifest, found, objects, "here")


@pytest.mark.parametrize("case", ["pg_dump", "copy"], indirect=True)
def test_a_sequence_that_was_left_behind_is_found(case: tuple[Any, str], tmp_path: Path) -> None:
    """Ahead is well: a sequence knows no snapshot, so others move it on while the backup is taken."""
    settings, method = case
    made = backup(settings, tmp_path, method)
    assert made.manifest.sequences
    adapter = job.route(settings)
    postgresql.compare_sequences(made.manifest, adapter)
    with closing(postgresql.connect(adapter)) as raw, raw.cursor() as cursor:
        cursor.execute("SELECT nextval('event_sequence_seq')")
        raw.commit()
        postgresql.compare_sequences(made.manifest, adapter)
        cursor.execute("SELECT setval('event_sequence_seq', 29)")
        raw.commit()
        with pytest.raises(BackupError, match=r"public\.event_sequence_seq stands at 29 instead of 30"):
            postgresql.compare_sequences(made.manifest, adapter)
        cursor.execute("DROP TABLE event CASCADE")
        raw.commit()
        with pytest.raises(BackupError, match=r"public\.event_sequence_seq was not restored"):
            postgresql.compare_sequences(made.manifest, adapter)


def test_the_lowest_fitting_version_of_a_program_is_taken(tmp_path: Path) -> None:
    for version in ("15.4", "17.2", "18.1"):
        folder = tmp_path / version
        folder.mkdir()
        (folder / "pg_dump").write_text(f"#!/bin/sh\necho 'pg_dump (PostgreSQL) {version}'\n")
        (folder / "pg_dump").chmod(0o755)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "pg_dump").write_text("#!/bin/sh\nexit 1\n")
    (broken / "pg_dump").chmod(0o755)
    where = [tmp_path / "none", *tmp_path.iterdir()]
    assert tools.find("pg_dump", 16, where) == (tmp_path / "17.2" / "pg_dump", 17)
    assert tools.find("pg_dump", 19, where) is None


def test_a_password_goes_to_pg_dump_by_the_environment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSERVICE", "another")
    given = tools.environment(
        {"host": "db", "password": "secret", "sslmode": "verify-full", "options": "-c x=1"}
    )
    assert (given["PGHOST"], given["PGPASSWORD"], given["PGSSLMODE"]) == ("db", "secret", "verify-full")
    assert "PGSERVICE" not in given
    assert "PGOPTIONS" not in given


class TestRetention:
    """Which backups are kept: a pure function of their times."""

    def test_the_newest_of_each_day_week_and_month_stays(self) -> None:
        times = [NOON - timedelta(hours=6 * n) for n in range(4 * 400)]
        keep = kept(times, Retention(last=2, daily=3, weekly=3, monthly=3))
        days = sorted(keep, reverse=True)
        assert days[:2] == [NOON, NOON - timedelta(hours=6)]
        assert {time.date().isoformat() for time in keep} == {
            "2026-01-31",
            "2026-01-30",
            "2026-01-29",
            "2026-01-25",
            "2026-01-18",
            "2025-12-31",
            "2025-11-30",
        }

    def test_a_negative_number_is_refused(self) -> None:
        with pytest.raises(ValueError, match="not negative"):
            Retention(daily=-1)

    @given(
        st.lists(st.datetimes(timezones=st.just(UTC)), max_size=60),
        st.builds(Retention, **{name: st.integers(0, 5) for name in ("last", "daily", "weekly", "monthly")}),
    )
    def test_it_keeps_the_newest_and_few_and_keeps_them_again(
        self, times: list[datetime], retention: Retention
    ) -> None:
        keep = kept(times, retention)
        assert keep <= set(times)
        assert not times or max(times) in keep
        most = max(1, retention.last) + retention.daily + retention.weekly + retention.monthly
        assert len(keep) <= most
        assert kept(keep, retention) == keep

    def test_pruning_removes_only_what_is_ours(self, file_settings: Settings, tmp_path: Path) -> None:
        folder = tmp_path / "backups"
        for day in range(4):
            backup(file_settings, folder, now=NOON - timedelta(days=day))
        stranger = folder / f"ledger-mine{SUFFIX}"
        stranger.write_text("")
        other = folder / f"staging-20200101T000000Z{SUFFIX}"
        other.write_text("")
        made = backup(
            file_settings,
            folder,
            now=NOON + timedelta(days=1),
            retention=Retention(last=1, daily=2, weekly=0, monthly=0),
        )
        assert len(made.removed) == 3
        left = {path.name for path in folder.iterdir()}
        assert {stranger.name, other.name} <= left
        assert len(left) == 2 + 4


@pytest.mark.system
def test_a_database_keeps_its_collation_and_proves_good_in_any(tmp_path: Path) -> None:
    """An ICU database on a server whose templates sort by bytes: Debian's, since the wheel has no ICU."""
    binaries = debian_binaries()
    if binaries is None:
        pytest.skip("Debian's PostgreSQL is not installed")
    server = Server.create(binaries=binaries)
    try:
        server.execute(
            "CREATE DATABASE sorted TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.utf8'"
            " LOCALE_PROVIDER icu ICU_LOCALE 'en-US'"
        )
        settings = server.settings("sorted")
        fill(settings)
        server.execute('CREATE TABLE a_b (id int); CREATE TABLE "aB" (id int); CREATE TABLE "A" ()', "sorted")
        made = backup(settings, tmp_path, "pg_dump", verify=True)
        job.restore(made.path, settings, to="sorted_restored")
        server.execute("CREATE DATABASE bytes TEMPLATE template0")
        job.restore(made.path, settings, to="bytes")
        query = "SELECT datname, datlocprovider, daticulocale FROM pg_database WHERE datname LIKE 'sorted%'"
        assert {row[1:] for row in server.execute(query)} == {("i", "en-US")}
    finally:
        server.remove()


@pytest.mark.parametrize(
    "locale",
    [
        "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'",
        "LOCALE_PROVIDER libc LC_COLLATE 'C.utf8' LC_CTYPE 'C.utf8'",
        "ENCODING 'LATIN1' LOCALE 'C'",
    ],
)
def test_a_restored_database_is_of_the_live_one_s_locale(
    postgres: Server, tmp_path: Path, locale: str
) -> None:
    name = f"locale_{uuid.uuid4().hex[:8]}"
    query = (
        "SELECT encoding, datlocprovider, datcollate, datctype, datlocale FROM pg_database"
        f" WHERE datname LIKE '{name}%'"
    )
    postgres.execute(f"CREATE DATABASE {name} {locale} TEMPLATE template0")
    settings = postgres.settings(name)
    try:
        made = backup(settings, tmp_path, "copy")
        job.restore(made.path, settings, to=f"{name}_restored")
        rows = postgres.execute(query)
        assert len(rows) == 2
        assert len(set(rows)) == 1
    finally:
        for each in (name, f"{name}_restored"):
            postgres.execute(f"DROP DATABASE IF EXISTS {each} WITH (FORCE)")


@pytest.mark.system
def test_a_full_disk_leaves_no_partial_file(
    file_settings: Settings, tmp_path: Path, small_disk: Callable[[int], SmallDisk]
) -> None:
    """A small tmpfs, filled by the backup itself."""
    with closing(sqlite3.connect(file_settings.sqlite_path)) as raw, raw:
        raw.execute("CREATE TABLE noise (bytes BLOB)")
        raw.executemany("INSERT INTO noise VALUES (?)", [(os.urandom(100_000),) for _ in range(40)])
    folder = small_disk(6).folder
    with pytest.raises(BackupError, match="disk is full"):
        backup(file_settings, folder)
    assert list(folder.iterdir()) == []
    (folder / "ballast").write_bytes(b"x" * 4_000_000)
    with pytest.raises(BackupError, match="disk is full"):
        backup(file_settings, folder)
    assert [path.name for path in folder.iterdir()] == ["ballast"]
    made = backup(file_settings, tmp_path / "backups")
    with pytest.raises(BackupError, match="disk is full"):
        job.restore(made.path, file_settings, to=str(folder / "restored.sqlite3"))
    assert [path.name for path in folder.iterdir()] == ["ballast"]


@pytest.mark.system
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_backup_leaves_no_partial_file(
    file_settings: Settings, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    with closing(sqlite3.connect(file_settings.sqlite_path)) as raw, raw:
        raw.execute("CREATE TABLE noise (bytes BLOB)")
        raw.executemany("INSERT INTO noise VALUES (?)", [(os.urandom(1_000_000),) for _ in range(200)])
    folder = tmp_path / "backups"
    invoke = shutil.which("invoke", path=str(Path(sys.executable).parent)) or "invoke"
    with subprocess.Popen(
        [invoke, "db.backup", f"--folder={folder}"],
        env={**os.environ, "ENVIRONMENT": "development", "DB_SQLITE_PATH": str(file_settings.sqlite_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        wait_until(lambda: any(folder.glob(".*.partial")), 60, "the partial file")
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode == code
    assert list(folder.iterdir()) == []
