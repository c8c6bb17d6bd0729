"""One route as the manager sees it: an adapter, its pool, its breaker, and what is known of its health."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.database.adapters.contract import PRIMARY, Adapter, Facts, discard
from app.database.breaker import Breaker
from app.database.errors import NO_MORE, DatabaseError, RouteDown, WrongDatabase
from app.database.failover import Standing
from app.database.pool import Pool

if TYPE_CHECKING:
    from app.database.guard import Guard
    from app.database.options import Limits

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RouteStatus:
    """One route's health at one moment; times are seconds."""

    name: str
    kind: str
    description: str
    active: bool
    reachable: bool
    writable: bool
    role: str | None
    lag: float | None
    latency: float | None
    identity: str | None
    breaker: str
    cause: str | None


class Route:
    """Keep what probes and openings told about one adapter."""

    def __init__(
        self,
        adapter: Adapter,
        limits: Limits,
        guard: Guard,
        *,
        replica: bool = False,
        admit: Callable[[Facts], None],
        changed: Callable[[], None],
    ) -> None:
        self.adapter = adapter
        self.name = adapter.name
        self.replica = replica
        self._limits = limits
        self._guard = guard
        self._admit_identity = admit
        self._changed = changed
        self.breaker = Breaker(
            threshold=limits.breaker_threshold,
            cooldown=limits.breaker_cooldown,
            cooldown_limit=limits.breaker_cooldown_limit,
        )
        self.pool, self.readers = self._make_pools()
        self.facts: Facts | None = None
        self.cause: DatabaseError | None = None
        """Why the last opening or probe failed; None when it succeeded."""
        self.writable: bool | None = None
        self.suspected = False
        self.next_probe = 0.0
        self._good_since = 0.0
        self._good_probes = 0
        self._probing = threading.Lock()

    def _make_pools(self) -> tuple[Pool, Pool]:
        limits, writers = self._limits, self.adapter.writers

        def pool(size: int) -> Pool:
            return Pool(
                self.adapter,
                size=size,
                max_waiting=limits.max_waiting,
                connect_timeout=limits.connect_timeout,
                silence=limits.silence,
                fresh=limits.fresh,
                max_lifetime=limits.max_lifetime,
                guard=self._guard,
                admit=self.admit,
                on_open_failure=self.failed,
                on_dead=self.suspect,
            )

        main = pool(writers or limits.pool_size)
        return main, (pool(limits.pool_size) if writers else main)

    @property
    def pools(self) -> tuple[Pool, ...]:
        """Return each pool once."""
        return (self.pool,) if self.readers is self.pool else (self.pool, self.readers)

    @property
    def promoted(self) -> bool:
        """Tell whether a replica was a primary when it last answered."""
        return self.replica and self.facts is not None and self.facts.role == PRIMARY

    def standing(self, *, write: bool, now: float) -> Standing:
        """Return what `failover` needs to know; reads may use a primary that refuses writes."""
        allowed = self.breaker.allows() and not isinstance(self.cause, WrongDatabase)
        if self.replica:  # never by itself, unless it was promoted
            allowed = allowed and self.writable is True
        elif write:
            allowed = allowed and self.writable is not False
        else:
            allowed = allowed and (self.facts is None or self.facts.role == PRIMARY)
        limits = self._limits
        steady = self._good_probes >= limits.failback_probes and now - self._good_since >= limits.failback
        return Standing(fit=allowed and self.cause is None, allowed=allowed, steady=steady)

    def admit(self, facts: Facts) -> None:
        """Take in what a fresh connection told; raise WrongDatabase when it leads elsewhere."""
        self._admit_identity(facts)
        self.facts = facts
        self.writable = facts.writable
        self.suspected = False
        if self.cause is not None or not self._good_since:
            self._good_since = time.monotonic()
            self._good_probes = 0
        if not facts.writable:
            self._good_since = 0.0  # it is well for a while only when it takes writes for a while
        self.cause = None
        self.breaker.success()
        self._changed()

    def failed(self, error: DatabaseError, seconds: float) -> None:
        """Take in a failure to open or to answer; a time-out opens the breaker at once.

        A server that only gives no more connections is well: the route goes on with those that it has.
        """
        if isinstance(error, NO_MORE) and self.breaker.allows() and any(pool.live for pool in self.pools):
            return
        self.cause = error
        self._good_since = 0.0
        self._good_probes = 0
        silent = seconds >= min(self._limits.connect_timeout, 1.0) * 0.9
        self.breaker.failure(severe=silent)
        if not self.breaker.allows():
            now = time.monotonic()
            for pool in self.pools:
                pool.distrust()
                pool.fail_waiters(self.cause)
                pool.close_idle()
                if silent:
                    pool.cut_silent(now - self._limits.silence)
        self._changed()

    def refused_write(self) -> None:
        """Take in that the server refused to write, SQLSTATE 25006: another route has its turn."""
        self.writable = False
        self._good_since = 0.0
        self._good_probes = 0
        self._changed()

    def suspect(self) -> None:
        """Ask for a probe soon: something on this route died or stays silent."""
        self.suspected = True

    def probe(self) -> Facts:
        """Ask for the facts on a connection of its own and take in the result; raise NotSent on failure."""
        began = time.monotonic()
        try:
            connection, _, facts = self.adapter.connect(self._limits.connect_timeout, self._guard)
            discard(connection)
            if facts.latency > self._limits.silence:
                raise RouteDown(
                    f"The route {self.name} is slow: {facts.latency:.2f} s to answer.",
                    where=self.adapter.describe(),
                )
            self.admit(facts)
        except DatabaseError as error:
            self.failed(error, time.monotonic() - began)
            raise
        self._good_probes += 1
        self._changed()
        return facts

    def probe_in_background(self, wanted: Callable[[], bool]) -> None:
        """Start a probe unless one is under way, or `wanted`, asked just before, says no.

        An open breaker gives its single probe away when it is asked, so nobody may ask who cannot probe.
        """
        if not self._probing.acquire(blocking=False):
            return
        if wanted():
            try:
                threading.Thread(target=self._probe_quietly, name=f"probe-{self.name}", daemon=True).start()
            except RuntimeError as error:  # this process may have no more threads
                logger.warning("route %s is not probed now: %s", self.name, error)
                if not self.breaker.allows():
                    self.breaker.failure()  # and asks again after its next cool-down
            else:
                return
        self._probing.release()

    def _probe_quietly(self) -> None:
        try:
            self.probe()
        except DatabaseError:
            pass  # recorded by `failed`
        finally:
            self.suspected = False
            self._probing.release()

    def reset(self) -> None:
        """Close the breaker by hand and forget every failure."""
        self.cause = None
        self.breaker.reset()
        self._changed()

    def status(self, *, active: bool) -> RouteStatus:
        """Return what is known now, without asking the server."""
        facts = self.facts if self.cause is None else None
        return RouteStatus(
            name=self.name,
            kind=self.adapter.kind,
            description=self.adapter.describe(),
            active=active,
            reachable=facts is not None,
            writable=bool(facts is not None and self.writable),
            role=facts.role if facts else None,
            lag=facts.lag if facts else None,
            latency=facts.latency if facts else None,
            identity=facts.identity if facts else None,
            breaker=self.breaker.state.value,
            cause=" ".join(str(self.cause).split()) if self.cause else None,
        )

    def after_fork(self) -> None:
        """Forget connections and locks after a fork; see `Pool.after_fork`."""
        for pool in self.pools:
            pool.after_fork()
        self.adapter.after_fork()
        self.breaker.after_fork()
        self.pool, self.readers = self._make_pools()
        self._probing = threading.Lock()
