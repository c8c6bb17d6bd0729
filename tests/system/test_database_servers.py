"""Whole servers that die, freeze, follow and are promoted."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app.database import (
    ConnectionManager,
    Limits,
    NotSent,
    Outcome,
    OutcomeUnknown,
    RolledBack,
    health,
)
from app.database.adapters.local import Local
from tests.clock import wrong_clock
from tests.postgres import (
    Server,
    debian_binaries,
    wait_until,
    wheel_binaries,
)
from tests.tcp_proxy import TcpProxy

pytestmark = pytest.mark.system

QUICK = Limits(
    budget=15.0,
    connect_timeout=1.0,
    silence=1.0,
    failback=0.5,
    failback_probes=2,
    breaker_cooldown=0.05,
    breaker_cooldown_limit=0.3,
)


def route(name: str, server: Server) -> Local:
    return Local(name=name, host="127.0.0.1", port=server.port, database="postgres", user="slipway")


@pytest.fixture
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Server, Server]]:
    """A primary with a table, and a streaming replica of it."""
    binaries = debian_binaries() if getattr(request, "param", "") == "Debian's" else wheel_binaries()
    if binaries is None:
        pytest.skip("needs Debian's package postgresql")
    primary = Server.create(binaries=binaries)
    replica = None
    try:
        primary.execute("CREATE TABLE entry (id integer PRIMARY KEY)")
        replica = primary.standby()
        yield primary, replica
    finally:
        primary.remove()
        if replica is not None:
            replica.remove()


def write(manager: ConnectionManager, number: int) -> str:
    def work(tx: Any) -> str:
        tx.execute("INSERT INTO entry VALUES (:id)", {"id": number})
        return str(tx.route)

    return manager.run(work)


@pytest.mark.parametrize("pair", ["18 from the wheel", "Debian's"], indirect=True)
def test_a_replica_serves_reads_that_allow_it_and_takes_over_when_promoted(
    pair: tuple[Server, Server],
) -> None:
    primary, replica = pair
    with ConnectionManager(
        [route("primary", primary)], replicas=[route("replica", replica)], limits=QUICK
    ) as manager:
        assert write(manager, 1) == "primary"

        def seen(tx: Any) -> tuple[str, int]:
            return tx.route, tx.scalar("SELECT count(*) FROM entry")

        wait_until(
            lambda: manager.run(seen, read_only=True, max_lag=30) == ("replica", 1), what="replication"
        )
        assert manager.run(seen, read_only=True) == ("primary", 1)
        with pytest.raises(RolledBack), manager.transaction(read_only=True, max_lag=30) as tx:
            tx.execute("INSERT INTO entry VALUES (99)")
        statuses = {status.name: status for status in manager.probe()}
        assert statuses["replica"].role == "replica"
        assert not statuses["replica"].writable
        assert statuses["primary"].identity == statuses["replica"].identity
        assert health.check(manager).lag is not None

        primary.kill()
        replica.promote()
        assert write(manager, 2) == "replica"
        assert manager.active == "replica"
        assert manager.run(seen) == ("replica", 2)
        assert health.check(manager).degraded

        # The old primary comes back and would take writes that its successor never sees.
        primary.start()
        with pytest.raises(NotSent, match="promoted replica"):
            manager.router.named("primary").probe()
        time.sleep(QUICK.failback * 2)
        assert write(manager, 3) == "replica"
        assert primary.execute("SELECT count(*) FROM entry") == [(1,)]


def test_reads_fall_back_to_the_primary_when_the_replica_is_behind_or_gone(
    pair: tuple[Server, Server],
) -> None:
    primary, replica = pair
    with ConnectionManager(
        [route("primary", primary)], replicas=[route("replica", replica)], limits=QUICK
    ) as manager:
        write(manager, 1)

        def name(tx: Any) -> str:
            tx.scalar("SELECT 1")
            return str(tx.route)

        wait_until(lambda: manager.run(name, read_only=True, max_lag=30) == "replica")
        replica.execute("SELECT pg_wal_replay_pause()")
        numbers = itertools.count(2)
        wait_until(
            lambda: (
                write(manager, next(numbers)) and manager.run(name, read_only=True, max_lag=0.05) == "primary"
            ),
            what="the lag to be seen",
        )
        replica.execute("SELECT pg_wal_replay_resume()")
        wait_until(lambda: manager.run(name, read_only=True, max_lag=30) == "replica")
        replica.kill()
        assert manager.run(name, read_only=True, max_lag=30) == "primary"


def test_a_replica_that_receives_nothing_any_more_does_not_pass_for_fresh(
    pair: tuple[Server, Server],
) -> None:
    """It has replayed all that it received, and who knows what the primary has written since."""
    primary, replica = pair
    with ConnectionManager(
        [route("primary", primary)], replicas=[route("replica", replica)], limits=QUICK
    ) as manager:
        write(manager, 1)

        def name(tx: Any) -> str:
            tx.scalar("SELECT 1")
            return str(tx.route)

        wait_until(lambda: replica.execute("SELECT count(*) FROM entry") == [(1,)], what="replication")
        wait_until(lambda: manager.run(name, read_only=True, max_lag=0.3) == "replica", what="freshness")
        ((source,),) = replica.execute("SHOW primary_conninfo")
        replica.execute("ALTER SYSTEM SET primary_conninfo = ''")
        replica.execute("SELECT pg_reload_conf()")
        wait_until(lambda: replica.execute("SELECT count(*) FROM pg_stat_wal_receiver") == [(0,)])
        write(manager, 2)
        wait_until(lambda: manager.run(name, read_only=True, max_lag=0.3) == "primary", what="the lag")
        assert manager.run(name, read_only=True, max_lag=3600) == "replica"
        replica.execute("ALTER SYSTEM SET primary_conninfo = '" + source.replace("'", "''") + "'")
        replica.execute("SELECT pg_reload_conf()")
        wait_until(lambda: manager.run(name, read_only=True, max_lag=0.3) == "replica", 20, "freshness")


def test_a_replica_whose_line_to_its_primary_went_silent_is_stale_once_the_receiver_gives_up(
    pair: tuple[Server, Server], proxy: Callable[[int], TcpProxy]
) -> None:
    """It hears of an idle primary only when it asks, so silence is no lag until `wal_receiver_timeout`."""
    primary, replica = pair
    line = proxy(primary.port)
    source = f"host=127.0.0.1 port={line.port} user=slipway"
    replica.execute(f"ALTER SYSTEM SET primary_conninfo = '{source}'")
    replica.execute("ALTER SYSTEM SET wal_receiver_timeout = '3s'")
    replica.execute("SELECT pg_reload_conf()")
    primary.execute("CREATE ROLE reader LOGIN")  # no right to see what the receiver received, and when
    copy = Local(name="replica", host="127.0.0.1", port=replica.port, database="postgres", user="reader")
    with ConnectionManager([route("primary", primary)], replicas=[copy], limits=QUICK) as manager:

        def name(tx: Any) -> str:
            tx.scalar("SELECT 1")
            return str(tx.route)

        def served_by() -> str:
            return manager.run(name, read_only=True, max_lag=0.3)

        wait_until(lambda: line.connections and served_by() == "replica", 20, "replication by the line")
        idle_since = time.monotonic()
        wait_until(lambda: time.monotonic() - idle_since > 4 or served_by() != "replica")
        assert served_by() == "replica"
        line.freeze()
        write(manager, 1)
        wait_until(lambda: served_by() == "primary", what="the lag")


@pytest.mark.parametrize(("hours", "served_by"), [(-3, "primary"), (3, "primary"), (0, "replica")])
def test_a_replica_whose_clock_is_off_is_taken_for_stale_and_never_for_fresh(
    pair: tuple[Server, Server], hours: int, served_by: str
) -> None:
    primary, replica = pair
    replica.stop("fast")
    replica.environment = {**wrong_clock(), "FAKETIME": f"{hours:+}h"}
    replica.start()
    with ConnectionManager(
        [route("primary", primary)], replicas=[route("replica", replica)], limits=QUICK
    ) as manager:

        def name(tx: Any) -> str:
            tx.scalar("SELECT 1")
            return str(tx.route)

        # Up to date is up to date, whatever the time.
        write(manager, 1)
        wait_until(lambda: replica.execute("SELECT count(*) FROM entry") == [(1,)], what="replication")
        wait_until(lambda: manager.run(name, read_only=True, max_lag=0.3) == "replica", what="freshness")
        replica.execute("SELECT pg_wal_replay_pause()")
        write(manager, 2)
        received = "SELECT pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn()"
        wait_until(lambda: replica.execute(received) == [(True,)], what="rows that wait to be replayed")
        assert manager.run(name, read_only=True, max_lag=3600) == served_by
        (lag,) = (status.lag for status in manager.probe() if status.name == "replica")
        assert lag is not None
        assert lag >= 0


def test_a_server_stopped_by_a_signal_is_left_and_taken_again(pair: tuple[Server, Server]) -> None:
    primary, _ = pair
    with ConnectionManager([route("only", primary)], limits=QUICK) as manager:
        write(manager, 1)
        stopped = primary.freeze()
        failed: list[BaseException] = []

        def stuck() -> None:
            try:
                with manager.transaction(budget=3) as tx:
                    tx.execute("INSERT INTO entry VALUES (2)")
            except (NotSent, RolledBack) as error:
                failed.append(error)

        thread = threading.Thread(target=stuck)
        began = time.monotonic()
        thread.start()
        thread.join(15)
        took = time.monotonic() - began
        primary.thaw(stopped)
        assert not thread.is_alive()
        assert len(failed) == 1
        assert took < 8
        assert write(manager, 3) == "only"
        assert [row[0] for row in primary.execute("SELECT id FROM entry ORDER BY id")] == [1, 3]


def test_a_killed_server_that_restarts_serves_the_same_manager(pair: tuple[Server, Server]) -> None:
    primary, _ = pair
    with ConnectionManager([route("only", primary)], limits=QUICK) as manager:
        write(manager, 1)
        primary.kill()
        restarted = threading.Timer(0.3, lambda: wait_until(lambda: _started(primary)))
        restarted.start()
        assert write(manager, 2) == "only"
        restarted.join()


@pytest.fixture
def forgetful(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server that writes nothing to its log but for a COMMIT."""
    binaries = debian_binaries() if request.param == "Debian's" else wheel_binaries()
    if binaries is None:
        pytest.skip("needs Debian's package postgresql")
    server = Server.create(
        binaries=binaries,
        configuration={"wal_writer_delay": "10s", "autovacuum": "off"},
    )
    try:
        server.execute("CREATE TABLE entry (id integer PRIMARY KEY)")
        yield server
    finally:
        server.remove()


@pytest.mark.parametrize("forgetful", ["18 from the wheel", "Debian's"], indirect=True)
def test_a_number_given_out_again_after_a_crash_is_not_taken_for_ours(
    forgetful: Server, proxy: Callable[[int], TcpProxy]
) -> None:
    """A crash forgets a transaction that had not reached the disk, and another one gets its number."""
    way = proxy(forgetful.port)
    adapter = Local(host="127.0.0.1", port=way.port, database="postgres", user="slipway")
    with ConnectionManager([adapter], limits=QUICK) as manager:
        write(manager, 1)
        way.cut_before_commit()
        with pytest.raises(OutcomeUnknown) as caught, manager.transaction(track=True) as tx:
            tx.execute("INSERT INTO entry VALUES (2)")
        lost = caught.value
        forgetful.stop("immediate")
        forgetful.start()
        assert manager.outcome(lost) is Outcome.ROLLED_BACK
        for number in range(10, 20):
            write(manager, number)
        assert forgetful.execute(f"SELECT txid_status({lost.transaction_id})") == [("committed",)]
        assert manager.outcome(lost) is Outcome.UNKNOWN
        # A restart that is no crash gives out no number twice.
        way.cut_after_commit()
        with pytest.raises(OutcomeUnknown) as caught, manager.transaction(track=True) as tx:
            tx.execute("INSERT INTO entry VALUES (3)")
        forgetful.restart()
        assert manager.outcome(caught.value) is Outcome.COMMITTED
    assert [row[0] for row in forgetful.execute("SELECT id FROM entry ORDER BY id")] == [1, 3, *range(10, 20)]


def _started(server: Server) -> bool:
    try:
        server.start()
    except AssertionError:
        return False
    return True
