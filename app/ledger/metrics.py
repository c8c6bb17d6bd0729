"""What Prometheus scrapes: requests, database routes and pools, and the ledger's own counts.

Requests are counted in plain numbers; prometheus-client is only imported by the first scrape, which keeps it
off the service's start. Counts are of this process: run one worker a container and scale by replicas.
"""

from __future__ import annotations

import logging
import threading
from bisect import bisect_left
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from app.database import ConnectionManager

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
BUDGET = 1.0
# A client may send any word as a method; only these become a label of their own.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_log = logging.getLogger("slipway.metrics")


class Requests:
    """How many requests were answered, how, and how long they took."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, str, str], int] = {}
        self._latency: dict[str, tuple[list[int], float]] = {}

    def count(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request that took `seconds`."""
        key = (method if method in _METHODS else "other", route, str(status))
        with self._lock:
            self._counts[key] = self._counts.get(key, 0) + 1
            buckets, total = self._latency.setdefault(route, ([0] * (len(BUCKETS) + 1), 0.0))
            buckets[bisect_left(BUCKETS, seconds)] += 1
            self._latency[route] = (buckets, total + seconds)

    def collect(self) -> Iterator[Metric]:
        """Yield the counts for prometheus-client."""
        from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

        with self._lock:
            counts = dict(self._counts)
            latency = {route: (list(buckets), total) for route, (buckets, total) in self._latency.items()}
        requests = CounterMetricFamily(
            "slipway_http_requests", "Requests answered", labels=("method", "route", "status")
        )
        for key, number in sorted(counts.items()):
            requests.add_metric(key, number)
        yield requests
        seconds = HistogramMetricFamily(
            "slipway_http_request_seconds", "Time from request to answer", labels=("route",)
        )
        for route, (buckets, total) in sorted(latency.items()):
            running, cumulative = 0, []
            for bound, number in zip([*map(str, BUCKETS), "+Inf"], buckets, strict=True):
                running += number
                cumulative.append((bound, running))
            seconds.add_metric((route,), cumulative, total)
        yield seconds


class Ledger:
    """What the ledger holds, read when Prometheus asks; silent but for `slipway_ledger_up` when it cannot."""

    def __init__(self, manager: ConnectionManager) -> None:
        self._manager = manager

    def collect(self) -> Iterator[Metric]:
        """Yield the counts for prometheus-client."""
        yield from _database_metrics(self._manager)
        yield from self._ledger()

    def _ledger(self) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily

        from app.database.errors import DatabaseError

        try:
            metrics = [
                *self._manager.run(_ledger_metrics, read_only=True, budget=BUDGET),
                GaugeMetricFamily("slipway_ledger_up", "Whether the ledger could be read", value=1),
            ]
        except DatabaseError as problem:
            _log.warning("the ledger's counts are missing from this scrape: %s", problem)
            metrics = [GaugeMetricFamily("slipway_ledger_up", "Whether the ledger could be read", value=0)]
        yield from metrics


def exposition(requests: Requests, manager: ConnectionManager) -> tuple[bytes, str]:
    """Return the body and the content type of a scrape."""
    from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    for collector in (requests, Ledger(manager)):
        registry.register(collector)
    return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4


def _database_metrics(manager: ConnectionManager) -> list[Metric]:
    """Return the state of routes and pools, grouped by metric as the text format asks."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    from app.database.statistics import samples

    families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
    for sample in samples(manager.statistics()):
        family = families.get(sample.name)
        if family is None:
            kind = CounterMetricFamily if sample.kind == "counter" else GaugeMetricFamily
            family = kind(
                f"slipway_{sample.name}".removesuffix("_total"), sample.help, labels=list(sample.labels)
            )
            families[sample.name] = family
        family.add_metric(list(sample.labels.values()), sample.value)
    return list(families.values())


def _ledger_metrics(tx: Any) -> list[Metric]:
    from prometheus_client.core import GaugeMetricFamily
    from sqlalchemy import func, select

    from . import models

    # The log only grows, so its last number is its length, give or take gaps, for one index look-up.
    events = tx.execute(select(func.max(models.event.c.sequence))).scalar()
    runs = GaugeMetricFamily("slipway_ledger_runs", "Runs in the ledger", labels=("result",))
    run = models.pipeline_run.c
    for row in tx.execute(select(run.result, func.count()).group_by(run.result)):
        runs.add_metric((row[0] or "running",), row[1])
    deployments = GaugeMetricFamily(
        "slipway_ledger_deployments", "Deployments in the ledger", labels=("environment", "result")
    )
    last = GaugeMetricFamily(
        "slipway_last_deployment_timestamp_seconds",
        "When the last deployment with this result finished",
        labels=("environment", "result"),
    )
    done = models.deployment.c
    query = select(done.environment, done.result, func.count(), func.max(done.finished))
    for environment, result, number, finished in tx.execute(query.group_by(done.environment, done.result)):
        deployments.add_metric((environment, result), number)
        last.add_metric((environment, result), finished.timestamp())
    return [
        GaugeMetricFamily("slipway_ledger_last_sequence", "Number of the newest event", value=events or 0),
        runs,
        deployments,
        last,
    ]
