"""Eight threads write while PgBouncer, the server behind it and the way around it go wrong.

The order of routes is pooler,direct. No acknowledged write is lost, none is doubled, every error is of the
right kind, and in the end the pooler serves again with a whole pool.
"""

from __future__ import annotations

import itertools
import logging
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable

import pytest

from app.database import ConnectionManager, Limits
from app.database.adapters.direct import Direct
from tests.bouncer import Bouncer
from tests.postgres import Server, wait_until
from tests.system.test_chaos import Crew, whole
from tests.tcp_proxy import TcpProxy

pytestmark = pytest.mark.system

LIMITS = Limits(
    pool_size=8,
    budget=20.0,
    connect_timeout=1.0,
    silence=0.4,
    failback=0.4,
    failback_probes=2,
    breaker_cooldown=0.05,
    breaker_cooldown_limit=0.4,
)


class Weather:
    """What goes wrong, each for a moment, and made good again."""

    def __init__(self, server: Server, pooler: Bouncer, around: TcpProxy, seed: int) -> None:
        self.server, self.pooler, self.around = server, pooler, around
        self._dice = random.Random(seed)
        self._pause = threading.Event()
        self.faults: list[Callable[[], None]] = [
            self.pooler_is_killed,
            self.pooler_is_restarted,
            self.pooler_is_paused,
            self.pooler_drops_everybody,
            self.pooler_freezes,
            self.server_restarts,
            self.server_crashes,
            self.sessions_are_ended,
            self.pooler_is_killed_with_nothing_around_it,
        ]

    def strike_all(self) -> None:
        """Let everything go wrong twice, in an order of its own."""
        for fault in self._dice.sample(self.faults * 2, len(self.faults) * 2):
            fault()
            self._pause.wait(self._dice.uniform(0.1, 0.6))

    def pooler_is_killed(self) -> None:
        self.pooler.stop()
        self._pause.wait(0.3)
        self.pooler.start()

    def pooler_is_killed_with_nothing_around_it(self) -> None:
        self.around.refuse()
        self.pooler_is_killed()
        self.around.heal()

    def pooler_is_restarted(self) -> None:
        self.pooler.stop(signal.SIGTERM)
        self.pooler.start()

    def pooler_is_paused(self) -> None:
        self.pooler.admin("PAUSE")
        self._pause.wait(0.8)
        self.pooler.admin("RESUME")

    def pooler_drops_everybody(self) -> None:
        self.pooler.admin("KILL postgres")
        self._pause.wait(0.2)
        self.pooler.admin("RESUME postgres")

    def pooler_freezes(self) -> None:
        process = self.pooler.process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        self._pause.wait(1.0)
        process.send_signal(signal.SIGCONT)

    def server_restarts(self) -> None:
        self.server.restart()

    def server_crashes(self) -> None:
        self.server.stop("immediate")
        self.server.start()

    def sessions_are_ended(self) -> None:
        self.server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND random() < 0.7"
        )


def test_no_acknowledged_write_is_lost_or_doubled_through_the_pooler(bouncer: Callable[..., Bouncer]) -> None:
    seed = int(os.environ.get("CHAOS_SEED", random.randrange(2**32)))
    server = Server.create()
    around = TcpProxy(server.port)
    try:
        server.execute("CREATE TABLE entry (key bigint)")
        pooler = bouncer(server, size=4)
        direct = Direct(
            host="127.0.0.1", port=around.port, database="postgres", user="slipway", sslmode="disable"
        )
        over = threading.Event()
        with ConnectionManager([pooler.pooler(), direct], limits=LIMITS) as manager:
            served: Counter[str] = Counter()
            manager.listen(lambda _, new: served.update([new]))
            crew = Crew(manager, itertools.takewhile(lambda _: not over.is_set(), itertools.count()), 8)
            began = time.monotonic()
            for thread in crew.threads:
                thread.start()
            try:
                Weather(server, pooler, around, seed).strike_all()
            finally:
                over.set()
                for thread in crew.threads:
                    thread.join(60)
            figures = manager.statistics()
            story = (
                f"seed {seed}: {time.monotonic() - began:.0f} s, {len(crew.acknowledged)} acknowledged, "
                f"{len(crew.unknown)} unknown, {Counter(type(error).__name__ for error in crew.failed)}, "
                f"{figures.retries} retries, to {dict(served)}, last {crew.failed[-1:]}"
            )
            assert not crew.working(), story
            crew.assert_books_match(Counter(row[0] for row in server.execute("SELECT key FROM entry")), story)
            assert served["direct"], story
            wait_until(lambda: manager.active == "pooler", 60, f"the way back to the pooler, {story}")
            wait_until(lambda: whole(manager), 60, "a whole pool")
            assert manager.run(lambda tx: tx.route) == "pooler"
            logging.getLogger(__name__).info(story)
    finally:
        around.close()
        server.remove()
