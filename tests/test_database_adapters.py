"""Each kind of route keeps its rules, on a real database."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.database import (
    AdapterMisconfigured,
    ConnectionManager,
    FeatureRefused,
    Limits,
    NotSent,
    RolledBack,
    RouteDown,
)
from app.database.adapters.direct import Direct, system_bundle
from app.database.adapters.local import Local
from app.database.adapters.pooler import Pooler
from app.database.adapters.session_rules import refuse_session_features
from app.database.adapters.sqlite import Sqlite
from app.database.errors import LoginRefused
from app.database.routes import check_capacity
from tests.postgres import PASSWORD, Database, Server, Settings

QUICK = Limits(budget=1.0, connect_timeout=1.0)

# SQLite


def test_sqlite_uses_wal_foreign_keys_and_a_busy_time_out(tmp_path: Path) -> None:
    adapter = Sqlite(tmp_path / "deep" / "folder" / "db.sqlite3", busy_timeout=1.25)
    _, raw, facts = adapter.connect(1.0)
    assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert raw.execute("PRAGMA foreign_keys").fetchone() == (1,)
    assert raw.execute("PRAGMA busy_timeout").fetchone() == (1250,)
    assert facts.writable
    assert facts.role == "primary"
    raw.close()


@pytest.mark.parametrize("path", [":memory:", "", "file:x?mode=memory"])
def test_sqlite_refuses_a_database_in_memory(path: str) -> None:
    with pytest.raises(AdapterMisconfigured, match="must be a file"):
        Sqlite(path)  # type: ignore[arg-type]


def test_sqlite_refuses_a_database_that_cannot_use_wal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On files locked by other files, as on a network share, SQLite has no shared memory and so no WAL."""
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda file, **how: connect(f"{file}&vfs=unix-dotfile", **how))
    with (
        ConnectionManager([Sqlite(tmp_path / "db.sqlite3")], limits=QUICK) as manager,
        pytest.raises(AdapterMisconfigured, match="WAL is needed"),
        manager.transaction(),
    ):
        raise AssertionError
    with pytest.raises(AdapterMisconfigured, match="without foreign keys"):
        Sqlite(tmp_path / "db.sqlite3")._verify("wal", 0)


def test_sqlite_writers_in_two_processes_queue_and_none_fails_half_way(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite3"
    with (
        ConnectionManager([Sqlite(path, busy_timeout=5)]) as one,
        ConnectionManager([Sqlite(path, busy_timeout=5)]) as other,
    ):
        with one.transaction() as tx:
            tx.execute("CREATE TABLE counter (value integer)")
            tx.execute("INSERT INTO counter VALUES (0)")

        def add(manager: ConnectionManager) -> None:
            for _ in range(25):
                with manager.transaction() as tx:
                    value = tx.scalar("SELECT value FROM counter")
                    tx.execute("UPDATE counter SET value = :value", {"value": value + 1})

        threads = [threading.Thread(target=add, args=(manager,)) for manager in (one, one, other, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with one.transaction(read_only=True) as tx:
            assert tx.scalar("SELECT value FROM counter") == 100


def test_sqlite_readers_are_not_blocked_by_the_writer(tmp_path: Path) -> None:
    with ConnectionManager([Sqlite(tmp_path / "db.sqlite3")], limits=QUICK) as manager:
        with manager.transaction() as tx:
            tx.execute("CREATE TABLE t (id integer)")
        with manager.transaction() as writer:
            writer.execute("INSERT INTO t VALUES (1)")
            with manager.transaction(read_only=True) as reader:
                assert reader.scalar("SELECT count(*) FROM t") == 0


def test_sqlite_busy_beyond_its_time_out_is_not_sent(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite3"
    with ConnectionManager([Sqlite(path, busy_timeout=0.05)], limits=QUICK) as manager:
        with manager.transaction() as tx:
            tx.execute("CREATE TABLE t (id integer)")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(NotSent, match="database is locked"), manager.transaction():
            raise AssertionError
        other.execute("ROLLBACK")
        other.close()
        with manager.transaction() as tx:
            tx.execute("INSERT INTO t VALUES (1)")


def test_sqlite_notices_that_its_file_was_replaced(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite3"
    limits = Limits(budget=5.0, fresh=0.0)
    with ConnectionManager([Sqlite(path)], limits=limits) as manager:
        with manager.transaction() as tx:
            tx.execute("CREATE TABLE t (id integer)")
        path.rename(tmp_path / "old.sqlite3")
        with pytest.raises(NotSent, match="is gone"), manager.transaction() as tx:
            raise AssertionError("a write would have gone to a file that nobody sees")


def test_sqlite_out_of_space_rolls_back_and_says_so(tmp_path: Path) -> None:
    with ConnectionManager([Sqlite(tmp_path / "db.sqlite3")], limits=QUICK) as manager:
        with manager.transaction() as tx:
            tx.execute("CREATE TABLE t (text varchar)")
            tx.execute("PRAGMA max_page_count = 20")
        with pytest.raises(RolledBack, match="full") as caught, manager.transaction() as tx:
            tx.execute("INSERT INTO t VALUES (:text)", {"text": "x" * 200_000})
        assert not caught.value.transient
        with manager.transaction() as tx:
            assert tx.scalar("SELECT count(*) FROM t") == 0


# PostgreSQL, any kind


def test_the_session_carries_time_outs_and_our_name(database: Database) -> None:
    with database.manager(statement_timeout=12.5, idle_in_transaction_timeout=34) as manager:
        with manager.transaction() as tx:
            assert tx.scalar("SHOW statement_timeout") == "12500ms"
            assert tx.scalar("SHOW idle_in_transaction_session_timeout") == "34s"
            assert tx.scalar("SHOW application_name") == "slipway-test"
            parameters = tx.connection.connection.dbapi_connection.info.dsn_parameters  # type: ignore[union-attr]
            assert parameters["keepalives"] == "1"
            assert parameters["tcp_user_timeout"] == "30000"
        statement = "SELECT pg_sleep(5)"
        with (
            database.manager(statement_timeout=0.05) as hasty,
            pytest.raises(RolledBack) as caught,
            hasty.transaction() as tx,
        ):
            tx.execute(statement)
        assert caught.value.sqlstate == "57014"
        assert not caught.value.transient


def test_facts_name_the_same_identity_on_every_route(database: Database) -> None:
    server = database.server
    common: dict[str, Any] = {"port": server.port, "database": database.name, "user": "slipway"}
    adapters = [
        Local(host=str(server.folder), **common),
        Direct(host="127.0.0.1", sslmode="disable", **common),
        Pooler(host="127.0.0.1", sslmode="disable", **common),
    ]
    facts = [connect(adapter) for adapter in adapters]
    assert len({found.identity for found in facts}) == 1
    other = connect(Local(host=str(server.folder), port=server.port, database="postgres", user="slipway"))
    assert other.identity != facts[0].identity
    assert facts[0].server_limit == 97
    assert facts[0].timeline == 1
    assert facts[0].latency > 0


def connect(adapter: Any) -> Any:
    connection, _, facts = adapter.connect(2.0)
    connection.close()
    return facts


def test_no_description_or_error_shows_the_password(database: Database) -> None:
    adapter = Local(host="127.0.0.1", port=1, database="x", user="slipway", password=lambda: PASSWORD)
    assert PASSWORD not in adapter.describe()
    with pytest.raises(RouteDown) as caught:
        adapter.connect(1.0)
    assert PASSWORD not in f"{caught.value}{caught.value.__cause__}"
    assert "Connection refused" in str(caught.value)


def test_a_missing_database_or_user_is_a_refused_login(postgres: Server) -> None:
    for options in ({"database": "missing", "user": "slipway"}, {"database": "postgres", "user": "nobody"}):
        adapter = Local(host=str(postgres.folder), port=postgres.port, **options)
        with pytest.raises(LoginRefused) as caught:
            adapter.connect(2.0)
        assert not caught.value.transient
    with (
        ConnectionManager([adapter], limits=QUICK) as manager,
        pytest.raises(LoginRefused),
        manager.transaction(),
    ):
        raise AssertionError


# local


@pytest.mark.parametrize("host", ["/var/run/postgresql", "@abstract", "localhost", "127.0.0.1", "::1"])
def test_local_stays_on_this_machine(host: str) -> None:
    assert Local(host=host, port=5432, database="d", user="u").parameters()["sslmode"] == "disable"


@pytest.mark.parametrize("host", ["db.example.com", "10.0.0.1", "", "0.0.0.0"])
def test_local_refuses_the_network(host: str) -> None:
    with pytest.raises(AdapterMisconfigured, match="direct adapter"):
        Local(host=host, port=5432, database="d", user="u")


# direct


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"host": ""}, "has no host"),
        ({"sslmode": "sometimes"}, "not an sslmode"),
        ({"sslrootcert": Path("/missing/ca.pem")}, "does not exist"),
    ],
)
def test_direct_refuses_settings_that_break_its_rules(options: dict[str, Any], message: str) -> None:
    defaults = {"host": "db", "port": 5432, "database": "d", "user": "u"}
    with pytest.raises(AdapterMisconfigured, match=message):
        Direct(**{**defaults, **options})


def test_a_verifying_mode_without_authorities_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = Direct(host="db", port=5432, database="d", user="u")
    monkeypatch.setenv("SSL_CERT_FILE", "/missing")
    monkeypatch.setattr("app.database.adapters.direct.SYSTEM_BUNDLES", ())
    assert system_bundle() is None
    with pytest.raises(AdapterMisconfigured, match="certificate authorities"):
        adapter.parameters()


def test_the_systems_authorities_are_used_when_none_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    assert Direct(host="db", port=5432, database="d", user="u").tls()["sslrootcert"] == str(bundle)


# pooler


@pytest.mark.parametrize(
    "statement",
    [
        "SET statement_timeout = 0",
        "set session search_path to x",
        "SELECT 1; SET x = 1",
        "/* why */ SET x = 1",
        "-- why\nSET x = 1",
        "RESET ALL",
        "DISCARD ALL",
        "LISTEN channel",
        "UNLISTEN *",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_try_advisory_lock(1, 2)",
        "SELECT pg_advisory_unlock_all()",
        "SELECT pg_advisory_lock_shared(1)",
        "CREATE TEMP TABLE t (id int)",
        "CREATE TEMPORARY TABLE t (id int) ON COMMIT DELETE ROWS",
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "DEALLOCATE p",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        "LOAD 'library'",
        "SELECT set_config(:name, :value, false)",
        "SELECT set_config('x', lower(trim('A')), false)",
        "SELECT set_config('x', 'y', 'f')",
        "SELECT set_config('x', set_config('y', 'z', NOT true), true)",
        "SELECT set_config('x', 'y', :local)",
        "SELECT 1 INTO TEMP t",
        r"SELECT E'\''; SET x = 1; SELECT ''",
        "SELECT a$b$; SET x = 1; SELECT a$b$",
        "/* a /* b */ c */ SET x = 1",
    ],
)
def test_pooler_refuses_what_needs_a_session(statement: str) -> None:
    with pytest.raises(FeatureRefused) as caught:
        refuse_session_features(statement)
    assert "direct" in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "statement",
    [
        "SET LOCAL statement_timeout = 0",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SET CONSTRAINTS ALL DEFERRED",
        "UPDATE t SET x = 1",
        "SELECT 'SET x = 1; LISTEN y'",
        "SELECT $tag$ LISTEN y $tag$",
        'SELECT "pg_advisory_lock"',
        "SELECT pg_advisory_xact_lock(1)",
        "SELECT pg_try_advisory_xact_lock(1)",
        "CREATE TEMP TABLE t ON COMMIT DROP AS SELECT 1",
        "NOTIFY channel",
        "PREPARE TRANSACTION 'x'",
        "DECLARE c CURSOR FOR SELECT 1",
        "SELECT set_config('x', 'y', true)",
        "SELECT set_config('x', concat('y', lower('Z')), TRUE), (SELECT false)",
        r"SELECT E'\\', 'a\', E'it\'s; SET x = 1', date'2026-11-23'",
        "INSERT INTO temp SELECT 1",
        "/* a /* b */ ; SET x = 1 */ SELECT 1",
        "INSERT INTO reset VALUES (1)",
    ],
)
def test_pooler_lets_everything_else_through(statement: str) -> None:
    refuse_session_features(statement)


def test_pooler_sets_its_time_outs_for_each_transaction(database: Database) -> None:
    settings = database.settings(
        adapter_order=("pooler",),
        pooler_host="127.0.0.1",
        pooler_port=database.server.port,
        statement_timeout=7,
    )
    with ConnectionManager.from_settings(settings) as manager:
        with manager.transaction() as tx:
            assert tx.scalar("SHOW statement_timeout") == "7s"
            raw = tx.connection.connection.dbapi_connection
            assert not raw.info.dsn_parameters.get("options")  # type: ignore[union-attr]
            with pytest.raises(FeatureRefused):
                tx.execute("LISTEN channel")
        with manager.transaction(read_only=True) as tx:
            assert tx.scalar("SHOW transaction_read_only") == "on"
        assert manager.load("pg_temp.x", []).read == 0
        # A transaction in which nothing was run ends too, or it would keep the pooler's server session.
        with manager.transaction(read_only=True):
            pass
        with manager.transaction():
            pass
        assert database.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND state LIKE 'idle in transaction%'"
        ) == [(0,)]


# From settings


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ((), "No route"),
        (("oracle",), "unknown adapter"),
        (("direct", "direct"), "one twice"),
        (("sqlite", "direct"), "two databases"),
    ],
)
def test_an_order_of_routes_that_makes_no_sense_is_refused(order: tuple[str, ...], message: str) -> None:
    with pytest.raises(AdapterMisconfigured, match=message):
        ConnectionManager.from_settings(Settings(adapter_order=order, host="db"))


def test_a_manager_needs_routes_with_names_of_their_own(tmp_path: Path) -> None:
    with pytest.raises(AdapterMisconfigured, match="at least one route"):
        ConnectionManager([])
    adapter = Sqlite(tmp_path / "db")
    with pytest.raises(AdapterMisconfigured, match="one name"):
        ConnectionManager([adapter, adapter])


def test_pools_that_exceed_the_servers_limit_are_refused() -> None:
    with pytest.raises(AdapterMisconfigured, match="need 120, and the server gives 100") as caught:
        ConnectionManager.from_settings(
            Settings(adapter_order=("direct",), host="db", pool_size=5), processes=20
        )
    assert "DB_POOL_SIZE to 4" in str(caught.value)
    check_capacity(5, 1, 16, 97)


def test_a_poolers_clients_do_not_count_as_connections_of_the_server() -> None:
    pooler = Settings(adapter_order=("pooler",), pooler_host="db", pool_size=50)
    ConnectionManager.from_settings(pooler, processes=20).close()
    with pytest.raises(AdapterMisconfigured, match="need 1040"):
        ConnectionManager.from_settings(
            replace(pooler, adapter_order=("pooler", "direct"), host="db"), processes=20
        )


def test_pools_that_exceed_what_the_server_really_gives_are_refused(database: Database) -> None:
    settings = database.settings(pool_size=50, server_max_connections=500)
    with ConnectionManager.from_settings(settings, processes=2) as manager:
        manager.check_server_limit()
        manager.probe()
        with pytest.raises(AdapterMisconfigured, match="the server gives 97"):
            manager.check_server_limit()


@pytest.mark.parametrize(
    "options", [{"pool_size": 0}, {"max_waiting": -1}, {"budget": 0.0}, {"connect_timeout": -1.0}]
)
def test_limits_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        Limits(**options)
