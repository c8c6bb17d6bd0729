"""Lend a connection of the best route that works, within one budget of time.

A caller gets a connection from the active route's pool. When that route is down the others have their turn in
order; when none works, the caller waits for a probe to succeed until its budget is spent. What is known of a
route is kept by `Route`, the choice among them is `failover`, the waiting for a connection is `Pool`, and the
background work is `Monitor`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from app.database import failover
from app.database.adapters.contract import PRIMARY
from app.database.errors import (
    AdapterMisconfigured,
    LoginRefused,
    ManagerClosed,
    NoRoute,
    NotSent,
    QueueFull,
    RouteDown,
    WrongDatabase,
    again,
)
from app.database.guard import Guard
from app.database.identity import Identity
from app.database.monitor import Monitor
from app.database.route import Route

if TYPE_CHECKING:
    from types import CodeType

    from app.database.adapters.contract import Adapter
    from app.database.lease import Lease
    from app.database.options import Limits
    from app.database.transactions import Transaction

logger = logging.getLogger(__name__)

UNSERVED: Final = (RouteDown, WrongDatabase, LoginRefused)
"""What one route may answer so that another has its turn."""


class Router:
    """The routes to one database and the choice among them; safe to use from any thread."""

    def __init__(
        self, adapters: Sequence[Adapter], replicas: Sequence[Adapter], limits: Limits, identity: str | None
    ) -> None:
        names = [adapter.name for adapter in (*adapters, *replicas)]
        if not adapters:
            raise AdapterMisconfigured("A manager needs at least one route.", where="DB_ADAPTER_ORDER")
        if len(set(names)) != len(names):
            raise AdapterMisconfigured(
                f"Two routes have one name: {names}.", next_step="Give each adapter its own `name`."
            )
        self.limits = limits
        self.guard = Guard()
        self.failovers = 0
        self._identity = Identity(identity)
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._waiting = 0
        self._active = 0
        self._monitor: Monitor | None = None
        self._closed = False
        self._listeners: list[Callable[[str, str], None]] = []
        self.routes = tuple(
            Route(
                adapter,
                limits,
                self.guard,
                replica=adapter in replicas,
                admit=self._identity.admit,
                changed=self.reconsider,
            )
            for adapter in (*adapters, *replicas)
        )
        self.current = self.routes[0]

    def listen(self, listener: Callable[[str, str], None]) -> None:
        """Call `listener` with the old and the new name after each change of the active route."""
        self._listeners.append(listener)

    def named(self, name: str) -> Route:
        """Return the route called `name`."""
        for route in self.routes:
            if route.name == name:
                return route
        raise KeyError(f"no route is named {name!r}; there are {[route.name for route in self.routes]}")

    def borrow(self, transaction: Transaction, owner: tuple[CodeType, int]) -> None:
        """Give `transaction` a connection on which it has begun; raise NotSent."""
        deadline = time.monotonic() + transaction.budget
        if self._monitor is None:
            self.start()
        route = self.current
        if transaction.max_lag is None and route.cause is None and (route.writable or transaction.read_only):
            with suppress(*UNSERVED):  # then the long way tries the other routes too
                self._begin(route, transaction, deadline, owner)
                return
        self._borrow_anywhere(transaction, deadline, owner)

    def start(self) -> None:
        """Start the background thread when it does not run; raise ManagerClosed after `close`."""
        with self._lock:
            if self._closed:
                raise ManagerClosed("This connection manager was closed.")
            if self._monitor is None:
                self._monitor = Monitor(self)
                self._monitor.start()

    def close(self) -> None:
        """Close idle connections now and lent ones when they come back; lend no more."""
        with self._lock:
            self._closed = True
            monitor, self._monitor = self._monitor, None
            self._changed.notify_all()
        if monitor is not None:
            monitor.stop()
        for route in self.routes:
            for pool in route.pools:
                pool.close()
            route.adapter.dispose()

    def reconsider(self) -> None:
        """Choose the active route anew and wake those who wait for one."""
        now = time.monotonic()
        with self._lock:  # not the condition, which an interrupt can stop between taking and giving it
            old = self.current
            standings = [route.standing(write=True, now=now) for route in self.routes]
            chosen = failover.choose(self._active, standings)
            if chosen != self._active:
                self._active = chosen
                self.current = self.routes[chosen]
                self.failovers += 1
            new = self.current
            self._changed.notify_all()
        if new is not old:
            why = " ".join(str(old.cause).split()) if old.cause else "it is preferred, or takes writes"
            logger.warning("database route %s -> %s: %s", old.name, new.name, why)
            for pool in old.pools:
                pool.close_idle()
            for listener in tuple(self._listeners):
                try:
                    listener(old.name, new.name)
                except Exception:
                    logger.exception("a listener to the change of routes failed")

    def wants_probe(self, route: Route, now: float) -> bool:
        """Tell whether the monitor should probe a route whose breaker is closed."""
        if route.suspected:
            return True
        if not route.breaker.allows():
            return False  # its cool-down decides
        standing = route.standing(write=True, now=now)
        if route.replica:
            return not self.current.standing(write=True, now=now).fit
        index = self.routes.index(route)
        if index < self._active:
            return True  # until it is steady enough to be taken again
        return not standing.fit and (route.cause is not None or route.writable is False)

    def after_fork(self) -> None:
        """Begin afresh in a child process: its parent's connections and threads are not its own."""
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._waiting = 0
        self._monitor = None
        self.guard.after_fork()
        self._identity.after_fork()
        for route in self.routes:
            route.after_fork()

    def _begin(
        self, route: Route, transaction: Transaction, deadline: float, owner: tuple[CodeType, int]
    ) -> Lease:
        read_only = transaction.read_only
        pool = route.readers if read_only else route.pool
        while True:
            lease = pool.acquire(transaction, deadline, owner)
            if not read_only and route.writable is False:
                pool.release(transaction, lease)
                raise RouteDown(f"The route {route.name} takes no writes.", where=route.adapter.describe())
            if read_only and transaction.max_lag is None and _on_a_replica(route, lease):
                # What it leads to may be promoted, which only a fresh connection tells.
                pool.drop(transaction, lease)
                raise RouteDown(
                    f"The route {route.name} leads to a replica, which may be behind.",
                    where=route.adapter.describe(),
                )
            lease.busy = lease.since
            try:
                route.adapter.begin(
                    lease.connection, lease.raw, read_only=read_only, within=deadline - lease.since
                )
            except Exception as error:
                if not route.adapter.lost(lease.raw):
                    lease.connection.rollback()
                    pool.release(transaction, lease)
                    raise NotSent(
                        f"No transaction could begin: {error}", where=f"route {route.name}"
                    ) from error
                pool.drop(transaction, lease)
                pool.distrust()
                route.suspect()
                continue  # a fresh connection tells whether the route is down
            lease.begun = lease.connection.get_transaction()
            lease.busy = 0.0
            return lease

    def _borrow_anywhere(
        self, transaction: Transaction, deadline: float, owner: tuple[CodeType, int]
    ) -> None:
        rounds = 0
        while True:
            for route in self._candidates(transaction):
                try:
                    lease = self._begin(route, transaction, deadline, owner)
                except UNSERVED:
                    continue
                if self._fresh_enough(route, lease, transaction):
                    return
            self._wait_for_change(transaction, deadline, rounds)
            rounds += 1

    def _candidates(self, transaction: Transaction) -> list[Route]:
        now = time.monotonic()
        standings = [route.standing(write=not transaction.read_only, now=now) for route in self.routes]
        chosen = [self.routes[i] for i in failover.order(self._active, standings)]
        if transaction.max_lag is None or not transaction.read_only:
            return chosen
        copies = [route for route in self.routes if route.replica and route.breaker.allows()]
        return copies + [route for route in chosen if route not in copies]

    def _fresh_enough(self, route: Route, lease: Lease, transaction: Transaction) -> bool:
        if not (route.replica and transaction.max_lag is not None):
            return True
        try:
            lag = route.adapter.lag(lease.raw)
        except Exception:  # noqa: BLE001 - whatever it was, another route can serve
            route.readers.drop(transaction, lease)
            route.suspect()
            return False
        if lag is None or lag <= transaction.max_lag:
            return True
        route.readers.release(transaction, lease)
        return False

    def _wait_for_change(self, transaction: Transaction, deadline: float, rounds: int) -> None:
        """Wait until a route may have changed; raise when the budget is spent or waiting cannot help."""
        causes = [route.cause for route in self.routes if not route.replica or route.promoted]
        lasting = [cause for cause in causes if cause is not None and not cause.transient]
        if len(lasting) == len(causes):
            raise again(lasting[0])
        with self._lock:
            left = deadline - time.monotonic()
            if left > 0 and not self._closed and self._waiting < self.limits.max_waiting:
                self._waiting += 1
                try:
                    # Probes wake this up; the pause bounds it and spaces out attempts before a breaker opens.
                    self._changed.wait(min(left, 0.02 * 2 ** min(rounds, 5)))
                finally:
                    self._waiting -= 1
                return
            waiting = self._waiting
        if self._closed:
            raise ManagerClosed("This connection manager was closed.")
        if left > 0:
            raise QueueFull(
                f"{waiting} callers already wait for a route to come back.", where=self._describe()
            )
        wish = "read" if transaction.read_only else "write"
        raise NoRoute(
            f"No route could {wish} within {transaction.budget:g} s.",
            where=self._describe(),
            next_step="Nothing was sent, so trying again is safe; `invoke db.check` says more.",
        )

    def _describe(self) -> str:
        return "\n".join(_line(route) for route in self.routes)


def _on_a_replica(route: Route, lease: Lease) -> bool:
    """Tell whether a route to the primary led to a replica when this connection was opened."""
    return not route.replica and lease.facts.role != PRIMARY


def _line(route: Route) -> str:
    refuses = ", takes no writes" if route.writable is False else ""
    pool = route.pool.describe()
    state = f"breaker {route.breaker.state.value}{refuses}; pool: {pool}"
    cause = " ".join(route.cause.what.split()) if route.cause else "no error"
    return f"{route.name} ({route.adapter.describe()}): {state}" + ("" if cause in pool else f"; {cause}")
