"""Sixteen threads write while everything between them and the database goes wrong.

No acknowledged write is lost, none is doubled, every error is of the right kind, and the pool is whole
at the end.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator

import pytest

from app.database import ConnectionManager, Limits, NotSent, OutcomeUnknown, RolledBack, Transaction
from app.database.adapters.local import Local
from tests.postgres import Server, wait_until
from tests.tcp_proxy import TcpProxy

pytestmark = pytest.mark.system

THREADS = 16
TRANSACTIONS = 10_000
LIMITS = Limits(
    pool_size=THREADS,
    budget=20.0,
    connect_timeout=1.0,
    silence=0.4,
    failback=0.4,
    failback_probes=2,
    breaker_cooldown=0.05,
    breaker_cooldown_limit=0.4,
)


@pytest.fixture
def servers() -> Iterator[tuple[Server, Server]]:
    """A primary that waits for its synchronous replica, so that a promotion loses nothing acknowledged."""
    primary = Server.create(configuration={"synchronous_commit": "remote_apply"})
    replica = None
    try:
        primary.execute("CREATE TABLE entry (key bigint)")
        replica = primary.standby()
        primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.execute("SELECT pg_reload_conf()")
        yield primary, replica
    finally:
        primary.remove()
        if replica is not None:
            replica.remove()


class Storm:
    """What goes wrong: proxies to the primary and its replica, and the servers themselves."""

    def __init__(self, primary: Server, replica: Server, seed: int) -> None:
        self.primary, self.replica = primary, replica
        self.first, self.second, self.spare = (
            TcpProxy(primary.port),
            TcpProxy(primary.port),
            TcpProxy(replica.port),
        )
        self.promoted = False
        self.faults = 0
        self._dice = random.Random(seed)
        self._pause = threading.Event()

    @property
    def server(self) -> Server:
        """The server that takes writes now."""
        return self.replica if self.promoted else self.primary

    def proxies(self) -> tuple[TcpProxy, ...]:
        return self.first, self.second, self.spare

    def strike(self) -> None:
        """Do one thing wrong for a while, and make it good again."""
        proxy = self.spare if self.promoted else self._dice.choice([self.first, self.second])
        fault, seconds = self._dice.choice(
            [
                (proxy.refuse, 0.2),
                (proxy.reset, 0.0),
                (proxy.freeze, 0.8),
                (proxy.cut_before_commit, 0.05),
                (proxy.cut_after_commit, 0.05),
                (lambda: proxy.delay(0.02), 0.2),
                (lambda: self.read_only(True), 0.3),
                (self.end_sessions, 0.0),
            ]
        )
        fault()
        self._pause.wait(seconds)
        proxy.heal()
        self.read_only(False)
        self.faults += 1
        self._pause.wait(self._dice.uniform(0.05, 0.2))

    def read_only(self, on: bool) -> None:
        self.configure("default_transaction_read_only", "on" if on else "off")

    def configure(self, name: str, value: str) -> None:
        raw = self.server.connect()
        with raw.cursor() as cursor:
            cursor.execute("SET default_transaction_read_only = off")
            cursor.execute(f"ALTER SYSTEM SET {name} = '{value}'")
            cursor.execute("SELECT pg_reload_conf()")
        raw.close()

    def end_sessions(self) -> None:
        self.server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND random() < 0.5"
        )

    def promote(self) -> None:
        """Kill the primary, promote the replica, and bring the old primary back as if nothing had been."""
        self.calm()
        self.primary.kill()
        self.replica.promote()
        self.promoted = True
        self.configure("synchronous_standby_names", "")
        self.primary.configuration = {**self.primary.configuration, "synchronous_standby_names": ""}
        self.primary.start()

    def calm(self) -> None:
        for proxy in self.proxies():
            proxy.heal()

    def close(self) -> None:
        for proxy in self.proxies():
            proxy.close()


class Crew:
    """Threads that write numbered rows, and the books that they keep of what they were told."""

    def __init__(self, manager: ConnectionManager, numbers: Iterable[int], threads: int = THREADS) -> None:
        self.manager = manager
        self.acknowledged: list[int] = []
        self.unknown: list[int] = []
        self.failed: list[NotSent | RolledBack] = []
        self.surprises: list[BaseException] = []
        self._numbers = iter(numbers)
        self._draw = threading.Lock()
        self.threads = [threading.Thread(target=self._work, name=f"crew-{n}") for n in range(threads)]

    @property
    def done(self) -> int:
        return len(self.acknowledged) + len(self.unknown) + len(self.failed) + len(self.surprises)

    def working(self) -> bool:
        return any(thread.is_alive() for thread in self.threads)

    def assert_books_match(self, stored: Counter[int], story: str) -> None:
        """Hold that the table has what was acknowledged, once, and nothing that was reported failed."""
        assert not self.surprises, f"{story} {self.surprises[:3]}"
        assert set(self.acknowledged) <= set(stored), f"{story}: acknowledged writes are lost"
        assert set(stored.values()) == {1}, f"{story}: doubled {stored.most_common(3)}"
        assert set(stored) <= {*self.acknowledged, *self.unknown}, f"{story}: kept what was reported failed"
        assert len(self.acknowledged) > self.done * 0.95, story

    def _work(self) -> None:
        while True:
            with self._draw:
                key = next(self._numbers, None)
            if key is None:
                return
            self._write(key)

    def _write(self, key: int) -> None:
        def insert(tx: Transaction) -> None:
            # No unique index: a doubled write must show, not be refused.
            tx.execute("INSERT INTO entry VALUES (:key)", {"key": key})

        try:
            self.manager.run(insert)
        except OutcomeUnknown:
            self.unknown.append(key)
        except (NotSent, RolledBack) as error:
            self.failed.append(error)
        except BaseException as error:  # noqa: BLE001 - any other kind is what this test looks for
            self.surprises.append(error)
        else:
            self.acknowledged.append(key)


def test_no_acknowledged_write_is_lost_or_doubled(servers: tuple[Server, Server]) -> None:
    seed = int(os.environ.get("CHAOS_SEED", random.randrange(2**32)))
    storm = Storm(*servers, seed)
    routes = [
        Local(name=name, host="127.0.0.1", port=proxy.port, database="postgres", user="slipway")
        for name, proxy in zip(("first", "second", "spare"), storm.proxies(), strict=True)
    ]
    with ConnectionManager(routes[:2], replicas=routes[2:], limits=LIMITS) as manager:
        crew = Crew(manager, range(TRANSACTIONS))
        for thread in crew.threads:
            thread.start()
        try:
            began = time.monotonic()
            while crew.working() and time.monotonic() - began < 240:
                if crew.done > TRANSACTIONS * 0.6 and not storm.promoted:
                    storm.promote()
                else:
                    storm.strike()
        finally:
            storm.calm()
            for thread in crew.threads:
                thread.join(120)
        figures = manager.statistics()
        story = (
            f"seed {seed}: {storm.faults} faults, {len(crew.acknowledged)} acknowledged, "
            f"{len(crew.unknown)} unknown, {Counter(type(error).__name__ for error in crew.failed)}, "
            f"{figures.retries} retries, {figures.failovers} failovers, last {crew.failed[-1:]}"
        )
        assert not crew.working(), story
        assert crew.done == TRANSACTIONS, story
        assert storm.promoted, story
        stored = Counter(row[0] for row in storm.server.execute("SELECT key FROM entry"))
        crew.assert_books_match(stored, story)
        assert manager.active == "spare", story
        wait_until(lambda: whole(manager), what="a whole pool")
        assert manager.run(lambda tx: tx.scalar("SELECT 1")) == 1
    storm.close()
    logging.getLogger(__name__).info(story)


def whole(manager: ConnectionManager) -> bool:
    pools = [pool for found in manager.statistics().routes for pool in found.pools.values()]
    return all(pool.in_use == pool.waiting == pool.opening == 0 for pool in pools)
