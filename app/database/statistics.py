"""What a manager counts, as plain data and as samples that any metrics library can take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PoolCounts:
    """One moment of a pool; the totals only rise until the process ends."""

    size: int
    limit: int
    idle: int
    in_use: int
    opening: int
    waiting: int
    opened: int
    closed: int
    lent: int
    timeouts: int
    turned_away: int
    open_failures: int
    leaks: int
    committed: int
    rolled_back: int


@dataclass(frozen=True, kw_only=True)
class RouteStatistics:
    """One route: its state and its pools (`main`, and `readers` where reads have their own)."""

    name: str
    kind: str
    active: bool
    up: bool
    writable: bool
    breaker: str
    lag: float | None
    pools: dict[str, PoolCounts]


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """A manager at one moment; totals only rise until the process ends."""

    active: str
    routes: tuple[RouteStatistics, ...]
    failovers: int
    retries: int
    unknown: int


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One figure in the terms of Prometheus: `kind` is `gauge` or `counter`."""

    name: str
    help: str
    kind: str
    labels: dict[str, str]
    value: float


_POOL_GAUGES = {
    "size": "Connections, open or opening",
    "limit": "Most connections",
    "idle": "Connections that nobody uses",
    "in_use": "Connections lent to transactions",
    "waiting": "Callers that wait for a connection",
}
_POOL_COUNTERS = {
    "opened": "Connections opened",
    "closed": "Connections closed",
    "lent": "Times that a connection was lent",
    "timeouts": "Callers that waited in vain",
    "turned_away": "Callers that found the queue full",
    "open_failures": "Failed attempts to connect",
    "leaks": "Transactions reported as held too long",
    "committed": "Transactions committed",
    "rolled_back": "Transactions rolled back",
}


def samples(statistics: Statistics) -> Iterator[Sample]:
    """Yield every figure; counters carry `_total`, as Prometheus' naming guide asks."""
    for route in statistics.routes:
        labels = {"route": route.name}
        yield Sample(
            name="database_route_up",
            help="1 when the route answers",
            kind="gauge",
            labels=labels,
            value=route.up,
        )
        yield Sample(
            name="database_route_active",
            help="1 for the route in use",
            kind="gauge",
            labels=labels,
            value=route.active,
        )
        yield Sample(
            name="database_route_writable",
            help="1 when the route takes writes",
            kind="gauge",
            labels=labels,
            value=route.writable,
        )
        yield Sample(
            name="database_breaker_open",
            help="1 when the route's breaker is not closed",
            kind="gauge",
            labels=labels,
            value=route.breaker != "closed",
        )
        if route.lag is not None:
            yield Sample(
                name="database_replica_lag_seconds",
                help="How far a replica is behind",
                kind="gauge",
                labels=labels,
                value=route.lag,
            )
        for pool, counts in route.pools.items():
            both = {**labels, "pool": pool}
            for field, text in _POOL_GAUGES.items():
                yield Sample(
                    name=f"database_pool_{field}",
                    help=text,
                    kind="gauge",
                    labels=both,
                    value=getattr(counts, field),
                )
            for field, text in _POOL_COUNTERS.items():
                yield Sample(
                    name=f"database_pool_{field}_total",
                    help=text,
                    kind="counter",
                    labels=both,
                    value=getattr(counts, field),
                )
    for field, text in (
        ("failovers", "Changes of the active route"),
        ("retries", "Transactions run again"),
        ("unknown", "Transactions whose COMMIT was not answered"),
    ):
        yield Sample(
            name=f"database_{field}_total",
            help=text,
            kind="counter",
            labels={},
            value=getattr(statistics, field),
        )
