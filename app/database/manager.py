"""The database as a program sees it: transactions on whichever route works."""

from __future__ import annotations

import functools
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from app.database import bulk, outcome, retry
from app.database.budget import Budget
from app.database.errors import DatabaseError, OutcomeUnknown, RolledBack
from app.database.options import DatabaseSettings, Limits, Password
from app.database.router import Router
from app.database.routes import adapters_of, check_capacity, limits_of
from app.database.statistics import RouteStatistics, Statistics
from app.database.transactions import Transaction

if TYPE_CHECKING:
    from types import TracebackType

    from sqlalchemy import Table

    from app.database.adapters.contract import Adapter
    from app.database.route import Route, RouteStatus

T = TypeVar("T")
P = ParamSpec("P")

_managers: weakref.WeakSet[ConnectionManager] = weakref.WeakSet()


class ConnectionManager:
    """The database as a program sees it: transactions that commit, or say what happened."""

    def __init__(
        self,
        adapters: Sequence[Adapter],
        *,
        replicas: Sequence[Adapter] = (),
        limits: Limits | None = None,
        identity: str | None = None,
        processes: int = 1,
    ) -> None:
        self.limits = limits or Limits()
        self.router = Router(adapters, replicas, self.limits, identity)
        self.dialect = adapters[0].dialect
        self._processes = processes
        self._retries = 0
        self._unknown = 0
        self._finalizer = weakref.finalize(self, self.router.close)
        _managers.add(self)

    @classmethod
    def from_settings(
        cls,
        settings: DatabaseSettings,
        *,
        password: Password | None = None,
        processes: int = 1,
    ) -> ConnectionManager:
        """Build a manager from the `database` group of the settings; connects to nothing yet.

        `password` is asked at every connect, so that a rotated secret is used without a restart; by default
        the settings' own is used. `processes` is all that share the server: workers times replicas. Raise
        AdapterMisconfigured when a rule of an adapter is broken or when all pools together exceed the
        server's limit; a pooler's clients do not count.
        """
        adapters, replicas = adapters_of(settings, password)
        if any(adapter.kind in ("local", "direct") for adapter in adapters):
            check_capacity(settings.pool_size, len(adapters), processes, settings.server_max_connections)
        return cls(
            adapters,
            replicas=replicas,
            limits=limits_of(settings),
            identity=settings.identity or None,
            processes=processes,
        )

    def __enter__(self) -> ConnectionManager:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def active(self) -> str:
        """Return the name of the route that transactions use now."""
        return self.router.current.name

    @property
    def preferred(self) -> str:
        """Return the name of the route that is used when all is well."""
        return self.router.routes[0].name

    def transaction(
        self,
        *,
        read_only: bool = False,
        budget: float | None = None,
        label: str = "",
        max_lag: float | None = None,
        track: bool = False,
    ) -> Transaction:
        """Return a transaction to be used in a `with` block: it commits at the end, whatever was run in it.

        `budget` is the seconds for waiting and connecting; `label` names the transaction in logs and errors.
        With `read_only` and `max_lag` it may run on a replica at most so many seconds behind. `track` asks
        for the transaction's number before COMMIT, one round trip, so that a lost answer can be looked up.

        Entering raises NotSent; leaving raises RolledBack or OutcomeUnknown; other errors pass unchanged
        after the rollback.
        """
        return Transaction(
            self, read_only, self.limits.budget if budget is None else budget, label, max_lag, track
        )

    def run(
        self,
        function: Callable[[Transaction], T],
        *,
        read_only: bool = False,
        budget: float | None = None,
        label: str = "",
        max_lag: float | None = None,
        track: bool = True,
    ) -> T:
        """Call `function` with a transaction, and again after transient errors, for up to `budget` seconds.

        `function` may run several times, so it must change nothing but the database. When the answer to
        COMMIT is lost, a tracked transaction is looked up: it counts as done when it was committed and runs
        again when it was not. Raise the last NotSent or RolledBack, or OutcomeUnknown.
        """
        span = Budget(self.limits.budget if budget is None else budget)
        name = label or getattr(function, "__qualname__", "")

        def attempt() -> T:
            try:
                with self.transaction(
                    read_only=read_only, budget=span.remaining(), label=name, max_lag=max_lag, track=track
                ) as transaction:
                    value = function(transaction)
            except OutcomeUnknown as error:
                self._unknown += 1
                found = self.outcome(error, budget=span.remaining())
                if found is outcome.Outcome.UNKNOWN:
                    raise
                if found is outcome.Outcome.ROLLED_BACK:
                    raise RolledBack(
                        "The transaction was rolled back: its COMMIT did not arrive.",
                        where=error.where,
                        transient=True,
                    ) from error
            return value

        return retry.with_retries(attempt, span, self._count_retry)

    def load(
        self,
        table: str | Table,
        rows: Iterable[bulk.Row],
        *,
        columns: Sequence[str] | None = None,
        on_conflict: bulk.OnConflict = "error",
        budget: float | None = None,
    ) -> bulk.Loaded:
        """Load many rows in one transaction of their own; see `bulk.load`. It is not run again by itself."""
        with self.transaction(budget=budget, label=f"load {table}", track=True) as transaction:
            return bulk.load(transaction, table, rows, columns=columns, on_conflict=on_conflict)

    def transactional(
        self, *, read_only: bool = False, budget: float | None = None, label: str = "", track: bool = True
    ) -> Callable[[Callable[Concatenate[Transaction, P], T]], Callable[P, T]]:
        """Return a decorator that runs a function by `run`; the transaction becomes its first argument."""

        def decorate(function: Callable[Concatenate[Transaction, P], T]) -> Callable[P, T]:
            @functools.wraps(function)
            def call(*args: P.args, **kwargs: P.kwargs) -> T:
                return self.run(
                    lambda transaction: function(transaction, *args, **kwargs),
                    read_only=read_only,
                    budget=budget,
                    label=label or function.__qualname__,
                    track=track,
                )

            return call

        return decorate

    def outcome(self, error: OutcomeUnknown, *, budget: float | None = None) -> outcome.Outcome:
        """Find out whether the transaction behind `error` was committed; see `outcome.find_out`."""
        return outcome.find_out(self, error, self.limits.budget if budget is None else budget)

    def probe(self) -> tuple[RouteStatus, ...]:
        """Ask every route now, side by side, and return what each answered."""
        self.router.start()
        threads = [
            threading.Thread(target=_probe, args=(route,), name=f"probe-{route.name}", daemon=True)
            for route in self.router.routes
        ]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + self.limits.connect_timeout + self.limits.silence
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return self.status()

    def status(self) -> tuple[RouteStatus, ...]:
        """Return what is known of every route, without asking."""
        return tuple(route.status(active=route is self.router.current) for route in self.router.routes)

    def check_server_limit(self) -> None:
        """Raise AdapterMisconfigured when all pools together exceed what the active server really gives."""
        route = self.router.current
        facts = route.facts
        if facts is not None and facts.server_limit is not None and route.adapter.kind != "pooler":
            routes = sum(not each.replica for each in self.router.routes)
            check_capacity(
                self.limits.pool_size, routes, self._processes, facts.server_limit, where=route.name
            )

    def statistics(self) -> Statistics:
        """Return counts and gauges of every route; `statistics.samples` turns them into metrics."""
        routes = []
        for route, status in zip(self.router.routes, self.status(), strict=True):
            names = ("main",) if len(route.pools) == 1 else ("writer", "readers")
            routes.append(
                RouteStatistics(
                    name=route.name,
                    kind=status.kind,
                    active=status.active,
                    up=status.reachable,
                    writable=status.writable,
                    breaker=status.breaker,
                    lag=status.lag,
                    pools={name: pool.counts() for name, pool in zip(names, route.pools, strict=True)},
                )
            )
        return Statistics(
            active=self.active,
            routes=tuple(routes),
            failovers=self.router.failovers,
            retries=self._retries,
            unknown=self._unknown,
        )

    def listen(self, listener: Callable[[str, str], None]) -> None:
        """Call `listener` with the old and the new name after each change of the active route."""
        self.router.listen(listener)

    def reset(self, route: str) -> None:
        """Close the breaker of a route by hand and forget its failures; raise KeyError."""
        self.router.named(route).reset()

    def close(self) -> None:
        """Close every connection; transactions under way keep theirs until they end."""
        self._finalizer()

    def _count_retry(self) -> None:
        self._retries += 1


def _probe(route: Route) -> None:
    with suppress(DatabaseError):  # the route has recorded it
        route.probe()


def _after_fork() -> None:
    for manager in list(_managers):
        manager.router.after_fork()


os.register_at_fork(after_in_child=_after_fork)
