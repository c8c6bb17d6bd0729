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
from collections import Counter, deque
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


class Storm:
    """What goes wrong: proxies to the primary and its replica, and the servers themselves.

    `first` and `second` lead to one server, `spare` to the other. The primary waits for its synchronous
    replica, so that a promotion loses nothing acknowledged.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._dice = random.Random(seed)
        self._pause = threading.Event()
        self.faults = 0
        self.server = Server.create(configuration={"synchronous_commit": "remote_apply"})
        """The server that takes writes now."""
        self._servers = [self.server]
        self.server.execute("CREATE TABLE entry (key bigint)")
        self._standby: Server | None = self._replica()
        self._stale: Server | None = None
        self.first, self.second = TcpProxy(self.server.port), TcpProxy(self.server.port)
        self.spare = TcpProxy(self._servers[1].port)
        turns = (self.promote, self.restore, self.promote)
        moments = sorted(self._dice.uniform(0.1, 0.9) * TRANSACTIONS for _ in turns)
        self._turns = deque(zip(moments, turns, strict=True))

    @property
    def over(self) -> bool:
        """Whether the servers have changed their parts as often as they should."""
        return not self._turns

    def proxies(self) -> tuple[TcpProxy, ...]:
        return self.first, self.second, self.spare

    def go_on(self, done: int) -> None:
        """Do the next thing wrong, now that so many transactions are done."""
        if self._turns and done >= self._turns[0][0]:
            self.calm()
            self._turns.popleft()[1]()
        else:
            self.strike()

    def strike(self) -> None:
        """Do one thing wrong for a while, and make it good again."""
        proxy = self._dice.choice(self.proxies())
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
        """Kill the primary, promote its replica, and bring the old one back as if nothing had been."""
        assert self._standby is not None
        self._stale, self.server, self._standby = self.server, self._standby, None
        self._stale.kill()
        self.server.promote()
        self.configure("synchronous_standby_names", "")
        self._stale.configuration = {**self._stale.configuration, "synchronous_standby_names": ""}
        self._stale.start()

    def restore(self) -> None:
        """Put a replica of the server that took over in the place of the one that was killed."""
        assert self._stale is not None
        self._stale.stop()
        self._standby = self._replica()
        for proxy in self.proxies():
            if proxy.target == self._stale.port:
                proxy.target = self._standby.port
        self._stale = None

    def _replica(self) -> Server:
        replica = self.server.standby()
        self._servers.append(replica)
        self.configure("synchronous_standby_names", "*")
        synchronous = "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
        wait_until(lambda: self.server.execute(synchronous), 30, "a synchronous replica")
        # What was acknowledged before it was synchronous is in it when it has replayed all until now.
        ((now,),) = self.server.execute("SELECT pg_current_wal_lsn()")
        caught_up = f"SELECT 1 FROM pg_stat_replication WHERE replay_lsn >= '{now}'"
        wait_until(lambda: self.server.execute(caught_up), 30, "a replica that has caught up")
        return replica

    def calm(self) -> None:
        for proxy in self.proxies():
            proxy.heal()

    def close(self) -> None:
        for proxy in self.proxies():
            proxy.close()
        for server in self._servers:
            server.remove()


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


def numbers(storm: Storm) -> Iterator[int]:
    """Give numbers for `TRANSACTIONS` writes, and for more until the storm is over."""
    for number in range(TRANSACTIONS * 20):
        if number >= TRANSACTIONS and storm.over:
            return
        yield number


@pytest.fixture
def storm() -> Iterator[Storm]:
    storm = Storm(int(os.environ.get("CHAOS_SEED", random.randrange(2**32))))
    try:
        yield storm
    finally:
        storm.close()


def test_no_acknowledged_write_is_lost_or_doubled(storm: Storm) -> None:
    routes = [
        Local(name=name, host="127.0.0.1", port=proxy.port, database="postgres", user="slipway")
        for name, proxy in zip(("first", "second", "spare"), storm.proxies(), strict=True)
    ]
    with ConnectionManager(routes[:2], replicas=routes[2:], limits=LIMITS) as manager:
        crew = Crew(manager, numbers(storm))
        for thread in crew.threads:
            thread.start()
        try:
            began = time.monotonic()
            while crew.working() and time.monotonic() - began < 240:
                storm.go_on(crew.done)
        finally:
            storm.calm()
            for thread in crew.threads:
                thread.join(120)
        figures = manager.statistics()
        story = (
            f"seed {storm.seed}: {storm.faults} faults, {len(crew.acknowledged)} acknowledged, "
            f"{len(crew.unknown)} unknown, {Counter(type(error).__name__ for error in crew.failed)}, "
            f"{figures.retries} retries, {figures.failovers} failovers, last {crew.failed[-1:]}"
        )
        assert not crew.working(), story
        assert crew.done >= TRANSACTIONS, story
        assert storm.over, story
        stored = Counter(row[0] for row in storm.server.execute("SELECT key FROM entry"))
        crew.assert_books_match(stored, story)
        wait_until(
            lambda: manager.active in ("first", "second"), what=f"the way to the last primary; {story}"
        )
        wait_until(lambda: whole(manager), what="a whole pool")
        assert manager.run(lambda tx: tx.scalar("SELECT 1")) == 1
    logging.getLogger(__name__).info(story)


def whole(manager: ConnectionManager) -> bool:
    pools = [pool for found in manager.statistics().routes for pool in found.pools.values()]
    return all(pool.in_use == pool.waiting == pool.opening == 0 for pool in pools)
