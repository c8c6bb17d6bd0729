"""Everything that is done with a database goes through PgBouncer in transaction mode, or says why not."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.database import (
    ConnectionManager,
    FeatureRefused,
    Limits,
    Outcome,
    OutcomeUnknown,
    RolledBack,
    Upsert,
    WrongDatabase,
)
from app.database.errors import LoginRefused
from app.database.migrations import runner
from app.database.migrations.errors import MigrationLockedError
from app.database.routes import adapters_of
from scripts.database.backup import job as backups
from scripts.database.backup import postgresql
from scripts.database.check import job as checks
from scripts.database.check.findings import Level
from scripts.database.errors import BackupError
from scripts.database.populate import job as population
from scripts.database.populate import sources
from tests.bouncer import Bouncer
from tests.postgres import Server, wait_until
from tests.tcp_proxy import TcpProxy

pytestmark = pytest.mark.system

Make = Callable[..., Bouncer]
QUICK = Limits(
    budget=15.0,
    connect_timeout=1.0,
    silence=0.5,
    failback=0.5,
    failback_probes=2,
    breaker_cooldown=0.05,
    breaker_cooldown_limit=0.3,
)


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of the test's own, so that nobody else's sessions are on it."""
    made = Server.create()
    try:
        yield made
    finally:
        made.remove()


def left_in_session(raw: Any) -> dict[str, Any]:
    """Return what a client finds in the server session that it was given.

    Each transaction sets its isolation anew from its default; only the source of the last SET TRANSACTION
    stays.
    """
    with raw.cursor() as cursor:
        cursor.execute(
            "SELECT (SELECT json_object_agg(name, setting ORDER BY name) FROM pg_settings"
            "        WHERE source = 'session' AND name <> 'transaction_isolation'),"
            " (SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM pg_cursors),"
            " (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),"
            " (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()),"
            " (SELECT count(*) FROM pg_listening_channels()), pg_backend_pid()"
        )
        names = ("settings", "prepared", "cursors", "locks", "temporary", "channels", "pid")
        return dict(zip(names, cursor.fetchone(), strict=True))


@contextmanager
def same_session(bouncer: Bouncer) -> Iterator[None]:
    """Hold that the pooler's one server session is the same and as it was after the block."""
    with closing(bouncer.connect()) as raw:
        before = left_in_session(raw)
        yield
        assert left_in_session(raw) == before


def events(path: Path, count: int) -> Path:
    common = {
        "specversion": "1.0",
        "source": "/test",
        "type": "example.happened",
        "time": "2026-01-31T12:00:00Z",
        "data": {},
    }
    path.write_text("".join(f"{json.dumps({**common, 'id': f'e{n}'})}\n" for n in range(count)))
    return path


def test_each_job_leaves_the_one_server_session_as_it_found_it(
    server: Server, bouncer: Make, tmp_path: Path
) -> None:
    """One session for everybody: what a job left behind in it, the stranger after it would find."""
    pooler = bouncer(server, size=1)
    settings = pooler.settings(statement_timeout=2.0)
    with ConnectionManager.from_settings(settings) as manager:

        def populate(count: int) -> Any:
            path = events(tmp_path / "events.ndjson", count)
            options = population.Options(folder=tmp_path / "report", batch=7)
            chosen = sources.steps("ndjson", path)
            (step,) = population.populate(manager, "ndjson", path, chosen, options, io.StringIO()).steps
            return step

        with same_session(pooler):
            assert runner.upgrade(manager).steps
        with same_session(pooler):
            assert runner.status(manager).at_head
        with same_session(pooler):
            assert runner.downgrade(manager, "base").after is None
            runner.upgrade(manager)
        with same_session(pooler):
            assert populate(20).accepted == 20
            again = populate(30)
            assert (again.resumed_at, again.accepted, again.verified) == (20, 30, 30)
        with same_session(pooler):
            assert manager.run(lambda tx: tx.execute("CREATE TABLE note (id integer PRIMARY KEY, text text)"))
            for text in ("first", "second"):
                rows = ((number, text) for number in range(2500))
                manager.load("note", rows, columns=("id", "text"), on_conflict=Upsert(keys=("id",)))
            assert (
                manager.run(lambda tx: tx.scalar("SELECT count(*) FROM note WHERE text = 'second'")) == 2500
            )
            manager.run(lambda tx: tx.execute("DROP TABLE note"))
        with same_session(pooler):
            report = checks.check(manager)
            assert report.worst is not Level.CRITICAL, report
        with same_session(pooler), pytest.raises(RolledBack) as caught:
            manager.run(lambda tx: tx.execute("SELECT pg_sleep(30)"), budget=8.0)
        assert caught.value.sqlstate == "57014"
    with same_session(pooler):
        made = backups.backup(settings, tmp_path / "backups", verify=True)
        assert (made.verified, made.manifest.method) == (True, "copy")
        assert made.manifest.tables["public.event"].rows == 30
        done = backups.restore(made.path, settings, to="copy_of_it")
    assert done.manifest.rows == made.manifest.rows
    assert server.execute("SELECT count(*) FROM event", "copy_of_it") == [(30,)]
    assert {row[0] for row in server.execute("SELECT datname FROM pg_database")} == {
        "copy_of_it",
        "postgres",
        "template0",
        "template1",
    }


def test_a_session_feature_would_reach_the_next_client_and_is_refused(server: Server, bouncer: Make) -> None:
    """The stranger shows that the danger is real: its own SET is found by whoever comes next."""
    pooler = bouncer(server, size=1)
    with ConnectionManager([pooler.pooler(statement_timeout=7.0)], limits=QUICK) as manager:
        with closing(pooler.connect()) as stranger, stranger.cursor() as cursor:
            cursor.execute("SET work_mem = '123MB'")
        assert manager.run(lambda tx: tx.scalar("SHOW work_mem")) == "123MB"
        for statement in ("SET statement_timeout = 1", "SELECT pg_advisory_lock(1)", "PREPARE p AS SELECT 1"):
            with same_session(pooler), pytest.raises(FeatureRefused, match="direct"):
                manager.run(lambda tx, statement=statement: tx.execute(statement))
        with closing(pooler.connect()) as stranger, stranger.cursor() as cursor:
            cursor.execute("SHOW statement_timeout")
            assert cursor.fetchone() == ("0",)


def test_many_clients_share_two_server_sessions_and_none_sees_anothers(server: Server, bouncer: Make) -> None:
    server.execute("CREATE TABLE entry (id integer PRIMARY KEY)")
    adapter = bouncer(server).pooler(statement_timeout=7.0)
    with ConnectionManager([adapter], limits=Limits(pool_size=8)) as manager:
        pids: set[int] = set()

        def work(number: int) -> None:
            for step in range(10):
                with manager.transaction() as tx:
                    assert tx.scalar("SHOW statement_timeout") == "7s"
                    tx.execute("INSERT INTO entry VALUES (:id)", {"id": number * 100 + step})
                    pids.add(tx.scalar("SELECT pg_backend_pid()"))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(pids) <= 2
        assert server.execute("SELECT count(*) FROM entry") == [(80,)]


def test_a_migrator_waits_for_the_lock_through_the_pooler_and_names_its_holder(
    server: Server, bouncer: Make
) -> None:
    settings = bouncer(server).settings(application_name="deploy 17")
    holds, release = threading.Event(), threading.Event()

    def hold() -> None:
        with (
            ConnectionManager.from_settings(settings) as holder,
            runner.exclusive(holder, 5, "migrate: upgrade"),
        ):
            holds.set()
            release.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert holds.wait(10)
        with ConnectionManager.from_settings(replace(settings, application_name="deploy 18")) as manager:
            with pytest.raises(MigrationLockedError, match="deploy 17"):
                runner.upgrade(manager, wait=0.3)
            assert not runner.status(manager).at_head
            release.set()
            assert runner.upgrade(manager, wait=10).steps
            # Transaction-level, so the session that the pooler keeps holds nothing.
            wait_until(
                lambda: server.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]
            )
    finally:
        release.set()
        thread.join(30)


def test_what_cannot_go_through_a_pooler_names_the_adapter_that_can(
    server: Server, bouncer: Make, tmp_path: Path
) -> None:
    settings = bouncer(server).settings()
    beside = replace(settings, adapter_order=("pooler", "direct"))
    with ConnectionManager.from_settings(settings) as manager:
        runner.upgrade(manager)
    with pytest.raises(BackupError, match="pg_dump cannot go through a pooler") as caught:
        backups.backup(settings, tmp_path / "by-pooler", method="pg_dump")
    assert "direct" in str(caught.value)
    assert list((tmp_path / "by-pooler").iterdir()) == []
    # With a direct route named too, that one is taken.
    made = backups.backup(beside, tmp_path / "backups", method="pg_dump", verify=True)
    for use in (lambda: backups.prove(made.path, settings), lambda: backups.restore(made.path, settings)):
        with pytest.raises(BackupError, match="pg_restore cannot go through a pooler") as caught:
            use()
        assert "direct" in str(caught.value)
    assert backups.restore(made.path, beside, to="restored").manifest.rows == made.manifest.rows


def test_a_pooler_that_knows_only_its_own_database_says_so_and_nothing_is_left(
    server: Server, bouncer: Make, tmp_path: Path
) -> None:
    settings = bouncer(server, databases="postgres").settings()
    with ConnectionManager.from_settings(settings) as manager:
        runner.upgrade(manager)
    with pytest.raises(LoginRefused, match="knows no database 'slipway_verify_") as caught:
        backups.backup(settings, tmp_path, verify=True)
    assert "direct adapter" in str(caught.value)
    with closing(postgresql.connect(backups.route(settings))) as raw, raw.cursor() as cursor:
        assert [row[0] for row in postgresql.listed(cursor, "SELECT datname FROM pg_database")].count(
            "postgres"
        ) == 1
        assert len(postgresql.listed(cursor, "SELECT 1 FROM pg_database")) == 3


def write(manager: ConnectionManager, number: int) -> str:
    def work(tx: Any) -> str:
        tx.execute("INSERT INTO entry VALUES (:id)", {"id": number})
        return str(tx.route)

    return manager.run(work)


def test_the_pooler_is_preferred_left_when_it_dies_and_taken_again(server: Server, bouncer: Make) -> None:
    server.execute("CREATE TABLE entry (id integer PRIMARY KEY)")
    pooler = bouncer(server)
    adapters, _ = adapters_of(pooler.settings(adapter_order=("pooler", "direct")))
    with ConnectionManager(adapters, limits=QUICK) as manager:
        assert write(manager, 1) == "pooler"
        identities = {status.identity for status in manager.probe()}
        assert len(identities) == 1
        pooler.stop()
        assert write(manager, 2) == "direct"
        pooler.start()
        wait_until(lambda: manager.active == "pooler", what="failing back to the pooler")
        assert write(manager, 3) == "pooler"


def test_a_lost_commit_through_the_pooler_can_be_looked_up(server: Server, bouncer: Make) -> None:
    server.execute("CREATE TABLE entry (id integer PRIMARY KEY)")
    pooler = bouncer(server)
    between = TcpProxy(pooler.port)
    pooler.port = between.port
    try:
        with ConnectionManager([pooler.pooler()], limits=QUICK) as manager:
            write(manager, 1)
            between.cut_before_commit()
            write(manager, 2)
            between.cut_after_commit()
            write(manager, 3)
        assert [row[0] for row in server.execute("SELECT id FROM entry ORDER BY id")] == [1, 2, 3]
    finally:
        between.close()


@pytest.fixture
def standby(server: Server) -> Iterator[Server]:
    """A streaming replica of the server, which has the table `entry`."""
    server.execute("CREATE TABLE entry (id integer PRIMARY KEY)")
    made = server.standby()
    try:
        yield made
    finally:
        made.remove()


def test_a_pooler_that_is_led_to_the_promoted_replica_serves_on_and_never_leads_back(
    server: Server, standby: Server, bouncer: Make
) -> None:
    """The client's connection stays the same all the time, so nothing but a question can tell."""
    pooler = bouncer(server, databases="postgres")
    with ConnectionManager([pooler.pooler()], limits=QUICK) as manager:
        write(manager, 1)
        wait_until(lambda: standby.execute("SELECT count(*) FROM entry") == [(1,)], what="replication")
        standby.promote()
        pooler.lead_to(standby)
        write(manager, 2)
        pooler.lead_to(server)
        with pytest.raises(WrongDatabase, match="promoted replica"):
            write(manager, 3)
        pooler.lead_to(standby)
        manager.probe()
        write(manager, 4)
    assert server.execute("SELECT id FROM entry ORDER BY id") == [(1,)]
    assert standby.execute("SELECT id FROM entry ORDER BY id") == [(1,), (2,), (4,)]


def test_a_pooler_that_is_led_to_a_standby_is_left_by_who_reads_the_present(
    server: Server, standby: Server, bouncer: Make
) -> None:
    pooler = bouncer(server, databases="postgres")
    adapters, _ = adapters_of(pooler.settings(adapter_order=("pooler", "direct")))

    def count(tx: Any) -> tuple[str, int]:
        return tx.route, tx.scalar("SELECT count(*) FROM entry")

    with ConnectionManager(adapters, limits=QUICK) as manager:
        standby.execute("SELECT pg_wal_replay_pause()")
        write(manager, 1)
        assert manager.run(count, read_only=True) == ("pooler", 1)
        pooler.lead_to(standby)
        assert manager.run(count, read_only=True) == ("direct", 1)


def test_a_pooler_that_is_led_to_another_database_is_left_and_proves_no_outcome(
    server: Server, bouncer: Make
) -> None:
    other = Server.create()
    try:
        for each in (server, other):
            each.execute("CREATE TABLE entry (id integer PRIMARY KEY)")
        pooler = bouncer(server, databases="postgres")
        between = TcpProxy(pooler.port)
        alone = pooler.pooler()
        alone.port = between.port
        with ConnectionManager([alone], limits=QUICK) as manager:
            between.cut_after_commit()
            with pytest.raises(OutcomeUnknown) as caught, manager.transaction(track=True) as tx:
                tx.execute("INSERT INTO entry VALUES (1)")
            assert manager.outcome(caught.value) is Outcome.COMMITTED
            pooler.lead_to(other)
            assert manager.outcome(caught.value) is Outcome.UNKNOWN
            with pytest.raises(WrongDatabase):
                write(manager, 2)
        between.close()
        pooler.lead_to(server)
        adapters, _ = adapters_of(pooler.settings(adapter_order=("pooler", "direct")))
        with ConnectionManager(adapters, limits=QUICK) as manager:
            assert write(manager, 3) == "pooler"
            pooler.lead_to(other)
            assert write(manager, 4) == "direct"
        assert server.execute("SELECT id FROM entry ORDER BY id") == [(1,), (3,), (4,)]
        assert other.execute("SELECT id FROM entry") == []
    finally:
        other.remove()
