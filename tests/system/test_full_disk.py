"""Disks that are really full: what is refused, what is kept, and that all goes on when there is room."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.database import ConnectionManager, NotSent, RolledBack, Upsert
from app.database.migrations import runner
from scripts.database.backup import job as backups
from scripts.database.errors import BackupError
from scripts.database.populate import job as population
from scripts.database.populate import sources
from tests.postgres import Server, Settings, wait_until
from tests.small_disk import SmallDisk

pytestmark = pytest.mark.system

Make = Callable[[int], SmallDisk]
COUNT = "SELECT count(*) FROM note"
BIG = {"text": "x" * 4000}


@pytest.fixture
def server() -> Iterator[Server]:
    """A server whose tables may be put on another disk than its log."""
    made = Server.create(configuration={"autovacuum": "off"})
    try:
        yield made
    finally:
        made.remove()


def tables_on(disk: SmallDisk, server: Server) -> None:
    """Put every new table of the server on `disk`."""
    server.execute(f"CREATE TABLESPACE small LOCATION '{disk.folder}'")
    server.execute("ALTER DATABASE postgres SET default_tablespace = small")


def whole(manager: ConnectionManager) -> bool:
    pools = [pool for route in manager.statistics().routes for pool in route.pools.values()]
    return all(pool.in_use == pool.waiting == pool.opening == 0 for pool in pools)


def notes(count: int, start: int = 0) -> Iterator[dict[str, Any]]:
    return ({"id": number, **BIG} for number in range(start, start + count))


def assert_a_full_disk_is_told_once_and_passes(manager: ConnectionManager, disk: SmallDisk) -> None:
    """Fill `disk`, on which `manager` keeps its table `note`, and make room again."""
    manager.load("note", notes(10))
    disk.fill()
    calls: list[int] = []

    def insert(tx: Any) -> None:
        calls.append(1)
        for number in range(100, 1100):
            tx.execute("INSERT INTO note VALUES (:id, :text)", {"id": number, **BIG})

    with pytest.raises(RolledBack) as caught:
        manager.run(insert)
    assert len(calls) == 1, "a full disk does not pass while somebody waits"
    assert not caught.value.transient
    assert "Free space" in str(caught.value)
    for conflict in ("error", Upsert(keys=("id",))):
        with pytest.raises(RolledBack) as caught:
            manager.load("note", notes(3000, start=5000), on_conflict=conflict)
        assert not caught.value.transient, conflict
    assert whole(manager)
    assert manager.run(lambda tx: tx.scalar(COUNT), read_only=True) == 10, "reading goes on"
    disk.make_room()
    manager.load("note", notes(50), on_conflict=Upsert(keys=("id",)))
    assert manager.run(lambda tx: tx.scalar(COUNT)) == 50
    assert whole(manager)


def test_a_server_whose_tables_are_on_a_full_disk(server: Server, small_disk: Make) -> None:
    disk = small_disk(8)
    tables_on(disk, server)
    with ConnectionManager.from_settings(server.settings()) as manager:
        manager.run(lambda tx: tx.execute("CREATE TABLE note (id integer PRIMARY KEY, text text)"))
        server.execute("ALTER TABLE note ALTER text SET STORAGE PLAIN")  # or it is compressed to nothing
        assert_a_full_disk_is_told_once_and_passes(manager, disk)


def test_sqlite_on_a_full_disk(small_disk: Make) -> None:
    disk = small_disk(4)
    with ConnectionManager.from_settings(Settings(sqlite_path=disk.folder / "ledger.sqlite3")) as manager:
        manager.run(lambda tx: tx.execute("CREATE TABLE note (id integer PRIMARY KEY, text text)"))
        assert_a_full_disk_is_told_once_and_passes(manager, disk)
        assert manager.run(lambda tx: tx.scalar("PRAGMA integrity_check")) == "ok"


def insert_thousand(tx: Any) -> None:
    tx.execute(
        "INSERT INTO note SELECT (SELECT count(*) FROM note) + number, :text"
        " FROM generate_series(1, 1000) AS number",
        BIG,
    )


def test_a_server_whose_log_is_on_a_full_disk_is_down_and_comes_back(small_disk: Make) -> None:
    """PostgreSQL gives up when it cannot write its log; what was acknowledged is there when it returns."""
    disk = small_disk(160)
    server = Server.create(folder=disk.folder / "server", configuration={"autovacuum": "off"})
    try:
        server.execute("CREATE TABLE note (id integer PRIMARY KEY, text text)")
        server.execute("ALTER TABLE note ALTER text SET STORAGE PLAIN")
        with ConnectionManager.from_settings(server.settings(budget_seconds=2.0)) as manager:
            acknowledged = 0
            disk.fill(leave=1 << 20)
            while acknowledged < 100:
                try:
                    manager.run(insert_thousand)
                except (RolledBack, NotSent):
                    break
                acknowledged += 1
            assert acknowledged < 100
            disk.make_room()
            if (server.data / "postmaster.pid").exists():
                server.stop("immediate")
            server.start()
            assert manager.run(lambda tx: tx.scalar(COUNT), budget=20) == acknowledged * 1000
            manager.run(insert_thousand, budget=20)
            wait_until(lambda: whole(manager), what="a whole pool")
    finally:
        server.remove()


def events(path: Path, count: int) -> Path:
    common = {
        "specversion": "1.0",
        "source": "/test",
        "type": "example.happened",
        "time": "2026-01-31T12:00:00Z",
    }
    noise = (os.urandom(1000).hex() for _ in range(count))
    lines = (json.dumps({**common, "id": f"e{n}", "data": {"noise": text}}) for n, text in enumerate(noise))
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_a_population_stopped_by_a_full_disk_goes_on_where_it_was(
    server: Server, small_disk: Make, tmp_path: Path
) -> None:
    disk = small_disk(12)
    tables_on(disk, server)
    path = events(tmp_path / "events.ndjson", 2000)
    options = population.Options(folder=tmp_path / "report", batch=50)
    with ConnectionManager.from_settings(server.settings()) as manager:
        runner.upgrade(manager)
        disk.fill(leave=1 << 20)

        def populate() -> Any:
            chosen = sources.steps("ndjson", path)
            (step,) = population.populate(manager, "ndjson", path, chosen, options, io.StringIO()).steps
            return step

        with pytest.raises(RolledBack, match="Free space"):
            populate()
        kept = manager.run(lambda tx: tx.scalar("SELECT count(*) FROM event"))
        disk.make_room()
        step = populate()
        assert step.resumed_at == kept > 0
        assert (step.accepted, step.rejected, step.verified) == (2000, 0, 2000)


def filled(server: Server, tmp_path: Path, count: int) -> Settings:
    """Return settings of a database with so many events."""
    settings = server.settings()
    path = events(tmp_path / "events.ndjson", count)
    chosen, options = sources.steps("ndjson", path), population.Options(folder=tmp_path / "report")
    with ConnectionManager.from_settings(settings) as manager:
        runner.upgrade(manager)
        population.populate(manager, "ndjson", path, chosen, options, io.StringIO())
    return settings


@pytest.mark.parametrize("method", ["pg_dump", "copy"])
def test_a_backup_onto_a_full_disk_leaves_nothing(
    server: Server, small_disk: Make, tmp_path: Path, method: str
) -> None:
    disk = small_disk(2)
    settings = filled(server, tmp_path, 4000)
    with pytest.raises(BackupError, match="disk is full"):
        backups.backup(settings, disk.folder, method=method)
    assert list(disk.folder.iterdir()) == []
    assert backups.backup(settings, tmp_path / "backups", method=method, verify=True).verified


@pytest.mark.parametrize("method", ["pg_dump", "copy"])
def test_a_restore_onto_a_server_without_room_leaves_the_database_empty_and_can_be_repeated(
    server: Server, small_disk: Make, tmp_path: Path, method: str
) -> None:
    settings = filled(server, tmp_path, 2000)
    made = backups.backup(settings, tmp_path / "backups", method=method)
    disk = small_disk(32)
    server.execute(f"CREATE TABLESPACE small LOCATION '{disk.folder}'")
    server.execute("CREATE DATABASE restored TABLESPACE small TEMPLATE template0")
    disk.fill(leave=2 << 20)
    with pytest.raises(BackupError, match="No space left") as caught:
        backups.restore(made.path, settings, to="restored")
    assert "noise" not in str(caught.value)
    disk.make_room()
    assert backups.restore(made.path, settings, to="restored").manifest.tables["public.event"].rows == 2000
