"""Faults on the way to a real server: what the caller sees, and which route serves next."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from app.database import (
    ConnectionManager,
    Limits,
    NoRoute,
    NotSent,
    Outcome,
    OutcomeUnknown,
    RolledBack,
    RouteDown,
    WrongDatabase,
)
from app.database.adapters.local import Local
from tests.postgres import Database, Server, wait_until
from tests.tcp_proxy import TcpProxy

pytestmark = pytest.mark.system  # faults take their time-outs

QUICK = Limits(
    budget=8.0,
    connect_timeout=1.0,
    silence=1.0,
    failback=0.4,
    failback_probes=2,
    breaker_cooldown=0.05,
    breaker_cooldown_limit=0.3,
)


def route(name: str, database: str, port: int) -> Local:
    return Local(name=name, host="127.0.0.1", port=port, database=database, user="slipway")


@pytest.fixture
def two(
    database: Database, proxy: Callable[[int], TcpProxy]
) -> Iterator[tuple[ConnectionManager, TcpProxy, TcpProxy]]:
    """Two routes, `first` and `second`, to one database, each through a proxy."""
    first, second = proxy(database.server.port), proxy(database.server.port)
    database.execute("CREATE TABLE entry (id integer PRIMARY KEY)")
    with ConnectionManager(
        [route("first", database.name, first.port), route("second", database.name, second.port)], limits=QUICK
    ) as manager:
        with manager.transaction() as tx:
            assert tx.route == "first"
        yield manager, first, second


def write(manager: ConnectionManager, number: int, **options: float) -> str:
    with manager.transaction(**options) as tx:
        tx.execute("INSERT INTO entry VALUES (:id)", {"id": number})
        return tx.route


def test_a_refused_route_is_left_at_once_and_taken_again_when_it_is_steady(two) -> None:
    manager, first, _ = two
    changes: list[tuple[str, str]] = []
    manager.listen(lambda old, new: changes.append((old, new)))
    first.refuse()
    began = time.monotonic()
    assert manager.run(lambda tx: (tx.execute("INSERT INTO entry VALUES (1)"), tx.route)[1]) == "second"
    assert time.monotonic() - began < 5
    assert manager.active == "second"
    assert write(manager, 2) == "second"
    healed = time.monotonic()
    first.heal()
    wait_until(lambda: manager.active == "first", what="failing back")
    assert time.monotonic() - healed >= QUICK.failback * 0.9
    assert write(manager, 3) == "first"
    assert changes == [("first", "second"), ("second", "first")]
    assert manager.statistics().failovers == 2


def test_a_frozen_route_is_left_and_an_idle_connection_does_not_hang(two) -> None:
    manager, first, _ = two
    first.freeze()
    time.sleep(QUICK.fresh)  # long enough for the idle connection to need a check
    began = time.monotonic()
    assert write(manager, 1) == "second"
    assert time.monotonic() - began < QUICK.silence + QUICK.connect_timeout * 1.25 + 1
    first.heal()
    wait_until(lambda: manager.active == "first", what="failing back")


def test_a_statement_under_way_on_a_frozen_route_ends_rolled_back(two) -> None:
    manager, first, _ = two
    with pytest.raises(RolledBack) as caught, manager.transaction() as tx:
        tx.execute("INSERT INTO entry VALUES (1)")
        first.freeze()
        tx.execute("INSERT INTO entry VALUES (2)")
    assert caught.value.transient
    first.heal()
    with manager.transaction(read_only=True) as tx:
        assert tx.scalar("SELECT count(*) FROM entry") == 0


def test_a_long_statement_on_a_healthy_route_is_left_alone(two) -> None:
    manager, _, _ = two
    with manager.transaction() as tx:
        tx.execute("SELECT pg_sleep(:seconds)", {"seconds": QUICK.silence * 2})
        assert tx.route == "first"
    assert manager.active == "first"


def test_a_slow_route_is_left(two) -> None:
    manager, first, _ = two
    first.delay(QUICK.silence * 1.5)
    time.sleep(QUICK.fresh)
    wait_until(lambda: write(manager, time.monotonic_ns() % 2**31) == "second", what="leaving the slow route")
    assert manager.active == "second"
    first.heal()
    wait_until(lambda: manager.active == "first", what="failing back")


def test_a_flapping_route_does_not_drag_the_traffic_back_and_forth(two, database: Database) -> None:
    """However often it answers in between: only `failback` seconds without a fault bring it back."""
    _, first, second = two
    limits = dataclasses.replace(QUICK, failback=3.0)
    with ConnectionManager(
        [route("first", database.name, first.port), route("second", database.name, second.port)],
        limits=limits,
    ) as manager:
        first.refuse()
        assert manager.run(lambda tx: tx.route) == "second"
        until = time.monotonic() + limits.failback * 1.5
        while time.monotonic() < until:
            first.heal()
            wait_until(lambda: manager.router.routes[0].cause is None, what="one good probe")
            first.refuse()
            wait_until(lambda: manager.router.routes[0].cause is not None, what="one bad probe")
        assert manager.statistics().failovers == 1


def test_a_commit_that_did_not_arrive_can_be_told_from_one_that_did(two) -> None:
    manager, first, _ = two
    for number, cut, truth in (
        (1, first.cut_before_commit, Outcome.ROLLED_BACK),
        (2, first.cut_after_commit, Outcome.COMMITTED),
    ):
        with pytest.raises(OutcomeUnknown) as caught, manager.transaction(track=True) as tx:
            tx.execute("INSERT INTO entry VALUES (:id)", {"id": number})
            cut()
        assert caught.value.transaction_id is not None
        assert manager.outcome(caught.value) is truth
    with manager.transaction() as tx:
        assert [row["id"] for row in tx.all("SELECT id FROM entry")] == [2]


def test_an_untracked_lost_commit_stays_unknown(two) -> None:
    manager, first, _ = two
    with pytest.raises(OutcomeUnknown) as caught, manager.transaction() as tx:
        tx.execute("INSERT INTO entry VALUES (1)")
        first.cut_after_commit()
    assert manager.outcome(caught.value) is Outcome.UNKNOWN
    assert "wholly there or not at all" in str(caught.value)


def test_run_is_done_exactly_once_when_the_answer_to_commit_is_lost(two) -> None:
    manager, first, _ = two
    for number, cut in ((1, first.cut_before_commit), (2, first.cut_after_commit)):
        cut()
        assert (
            manager.run(
                lambda tx, number=number: tx.scalar("INSERT INTO entry VALUES (:id) RETURNING id", id=number)
            )
            == number
        )
    with manager.transaction() as tx:
        assert tx.scalar("SELECT count(*) FROM entry") == 2


def test_a_lost_commit_of_a_transaction_that_wrote_nothing_is_harmless(two) -> None:
    manager, first, _ = two
    first.cut_after_commit()
    with pytest.raises(RolledBack) as caught, manager.transaction(track=True) as tx:
        tx.scalar("SELECT 1")
    assert caught.value.transient
    first.cut_after_commit()
    with pytest.raises(RolledBack), manager.transaction(read_only=True) as tx:
        tx.scalar("SELECT 1")


def test_the_outcome_of_a_transaction_whose_session_still_hangs_is_made_final(two, database) -> None:
    manager, _, _ = two
    # The session stays open with its transaction, as when COMMIT is lost on the way: only ending it gives an
    # answer.
    failures: list[BaseException] = []

    def stuck() -> None:
        try:
            with manager.transaction(track=True) as tx:
                tx.execute("INSERT INTO entry VALUES (1)")
                hold.wait()
        except RolledBack as error:
            failures.append(error)

    hold = threading.Event()
    session = (
        "FROM pg_stat_activity WHERE backend_xid IS NOT NULL"
        f" AND datname = '{database.name}' AND backend_type = 'client backend'"
    )
    thread = threading.Thread(target=stuck)
    thread.start()
    wait_until(
        lambda: database.execute(f"SELECT 1 {session}"),
        what="the transaction's number",
    )
    ((xid, life),) = database.execute(
        f"SELECT backend_xid, extract(epoch FROM pg_stat_get_bgwriter_stat_reset_time())::text {session}"
    )
    lost = OutcomeUnknown("lost", transaction_id=int(xid), timeline=1, life=life)
    assert manager.outcome(lost, budget=5) is Outcome.ROLLED_BACK
    hold.set()
    thread.join()
    assert [failure.transient for failure in failures] == [True]
    assert database.execute("SELECT * FROM entry") == []


def test_nothing_works_within_the_budget_says_the_last_cause_of_each_route(two) -> None:
    manager, first, second = two
    first.refuse()
    second.refuse()
    began = time.monotonic()
    with pytest.raises(NoRoute) as caught:
        manager.run(lambda tx: tx.scalar("SELECT 1"), budget=0.6)
    assert 0.5 < time.monotonic() - began < 5
    text = str(caught.value)
    assert "first" in text
    assert "second" in text
    assert text.count("Connection refused") == 2  # once a route
    assert caught.value.transient


def test_a_transaction_waits_for_a_server_that_comes_back(two) -> None:
    manager, first, second = two
    first.refuse()
    second.refuse()
    threading.Timer(0.5, second.heal).start()
    assert manager.run(lambda tx: (tx.execute("INSERT INTO entry VALUES (1)"), tx.route)[1]) == "second"


def test_a_route_to_another_database_is_refused(two, postgres: Server, database: Database) -> None:
    _, first, _ = two
    with ConnectionManager(
        [route("right", database.name, first.port), route("wrong", "postgres", postgres.port)], limits=QUICK
    ) as manager:
        assert write(manager, 1) == "right"
        statuses = {status.name: status for status in manager.probe()}
        assert statuses["right"].reachable
        assert not statuses["wrong"].reachable
        assert "another database" in (statuses["wrong"].cause or "")
        first.refuse()
        with pytest.raises(NotSent):
            manager.run(lambda tx: tx.scalar("SELECT 1"), budget=0.6)
        assert manager.active == "right"


def test_a_manager_that_knows_its_database_refuses_another_as_its_only_route(postgres: Server) -> None:
    with (
        ConnectionManager(
            [route("only", "postgres", postgres.port)], limits=QUICK, identity="postgresql:1/2/other"
        ) as manager,
        pytest.raises(WrongDatabase) as caught,
        manager.transaction(),
    ):
        raise AssertionError
    assert not caught.value.transient


def test_the_settings_can_name_the_database(database: Database) -> None:
    """A process that starts while only a wrong database answers cannot learn from it which one is right."""
    with database.manager() as manager:
        manager.run(lambda tx: tx.scalar("SELECT 1"))
        (identity,) = (route.identity for route in manager.status())
    assert identity
    with database.manager(identity=identity) as manager:
        assert manager.run(lambda tx: tx.scalar("SELECT 1")) == 1
    with (
        database.manager(identity="postgresql:1/2/other") as manager,
        pytest.raises(WrongDatabase, match="named by DB_IDENTITY") as caught,
    ):
        manager.run(lambda tx: tx.scalar("SELECT 1"))
    assert identity in str(caught.value)
    assert "set DB_IDENTITY to the new one" in str(caught.value)


def test_a_server_that_turns_read_only_is_left_for_writes_and_kept_for_reads(
    proxy: Callable[[int], TcpProxy],
) -> None:
    server = Server.create()
    try:
        server.execute("CREATE TABLE entry (id integer PRIMARY KEY)")
        with ConnectionManager([route("only", "postgres", server.port)], limits=QUICK) as manager:
            assert write(manager, 1) == "only"
            server.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            server.execute("SELECT pg_reload_conf()")
            wait_until(lambda: server.execute("SHOW default_transaction_read_only") == [("on",)])
            with pytest.raises(RolledBack) as caught:
                wait_until(lambda: write(manager, time.monotonic_ns() % 2**31) is None)
            assert caught.value.sqlstate == "25006"
            assert caught.value.transient
            with pytest.raises(NoRoute), manager.transaction(budget=0.3):
                raise AssertionError
            with manager.transaction(read_only=True) as tx:
                assert tx.scalar("SELECT count(*) FROM entry") >= 1
            raw = server.connect()
            with raw.cursor() as cursor:
                cursor.execute("SET default_transaction_read_only = off")
                cursor.execute("ALTER SYSTEM RESET default_transaction_read_only")
                cursor.execute("SELECT pg_reload_conf()")
            raw.close()
            assert write(manager, 2) == "only"
    finally:
        server.remove()


def test_a_write_in_a_read_only_transaction_is_the_callers_mistake(two) -> None:
    manager, _, _ = two
    with pytest.raises(RolledBack) as caught, manager.transaction(read_only=True) as tx:
        tx.execute("INSERT INTO entry VALUES (1)")
    assert caught.value.sqlstate == "25006"
    assert not caught.value.transient
    assert write(manager, 1) == "first"


def test_a_name_that_does_not_resolve_is_a_route_that_is_down(two, database: Database) -> None:
    _, _, second = two
    from app.database.adapters.direct import Direct

    lost = Direct(
        name="lost",
        host="no-such-host.invalid",
        port=5432,
        database=database.name,
        user="slipway",
        sslmode="disable",
    )
    with ConnectionManager([lost, route("second", database.name, second.port)], limits=QUICK) as manager:
        assert write(manager, 1) == "second"
        with pytest.raises(RouteDown, match="could not translate host name"):
            manager.router.named("lost").probe()


def test_the_breaker_can_be_reset_by_hand(two) -> None:
    manager, first, _ = two
    first.refuse()
    wait_until(
        lambda: not manager.router.named("first").breaker.allows() or write_quietly(manager), what="opening"
    )
    first.heal()
    manager.reset("first")
    assert manager.router.named("first").breaker.allows()
    with pytest.raises(KeyError, match="no route is named 'third'"):
        manager.reset("third")


def write_quietly(manager: ConnectionManager) -> bool:
    try:
        manager.probe()
    except NotSent:
        return False
    return False
