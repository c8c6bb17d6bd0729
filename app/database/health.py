"""How the database is, for a readiness probe, a report and metrics."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.database.errors import DatabaseError

if TYPE_CHECKING:
    from app.database.manager import ConnectionManager
    from app.database.route import RouteStatus
    from app.database.transactions import Transaction

PRESSED = 0.8
"""Share of a pool in use from which it counts as under pressure."""


@dataclass(frozen=True, kw_only=True)
class Health:
    """The database at one moment; times are seconds."""

    reachable: bool
    writable: bool
    degraded: bool
    """Another route than the preferred one serves."""
    active: str
    preferred: str
    lag: float | None
    """How far the furthest replica was behind when it was last asked; None without a replica."""
    schema_version: str | None
    """Alembic's revision; None before the first migration."""
    in_use: int
    limit: int
    waiting: int
    routes: tuple[RouteStatus, ...]
    problems: tuple[str, ...]

    @property
    def ready(self) -> bool:
        """Tell whether requests can be served."""
        return self.reachable and self.writable

    @property
    def pressure(self) -> float:
        """Return the share of the fullest pool that is in use, from 0 to 1."""
        return self.in_use / self.limit

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data that JSON can hold; an unknown lag is null."""
        return {
            **{name: value for name, value in self.__dict__.items() if name not in {"routes", "problems"}},
            "lag": _finite(self.lag),
            "ready": self.ready,
            "pressure": self.pressure,
            "routes": [{**route.__dict__, "lag": _finite(route.lag)} for route in self.routes],
            "problems": list(self.problems),
        }


def check(manager: ConnectionManager, *, expected_schema: str | None = None, budget: float = 1.0) -> Health:
    """Ask the database through the manager, as a request would; takes at most about `budget` seconds.

    With `expected_schema`, another revision is a problem. Never raises a DatabaseError: it becomes a problem.
    """
    problems: list[str] = []
    reachable = writable = False
    version: str | None = None
    try:
        # On SQLite a write transaction would take the one write lock; the file's permissions tell as much.
        embedded = manager.dialect == "sqlite"
        with manager.transaction(read_only=embedded, budget=budget, label="health") as transaction:
            reachable = True
            writable = (
                _file_writable(manager)
                if embedded
                else transaction.scalar("SELECT current_setting('transaction_read_only') = 'off'")
            )
            version = schema_version(transaction)
    except DatabaseError as error:
        problems.append(" ".join(str(error).split()))
    if reachable and not writable:
        problems.append(f"The route {manager.active} takes no writes.")
    if reachable and expected_schema is not None and version != expected_schema:
        problems.append(f"The schema is at {version or 'nothing'}, and this code needs {expected_schema}.")
    if manager.active != manager.preferred:
        problems.append(f"The route {manager.active} serves, because {manager.preferred} does not.")
    pools = [pool for route in manager.statistics().routes if route.active for pool in route.pools.values()]
    fullest = max(pools, key=lambda pool: pool.in_use / pool.limit)
    waiting = sum(pool.waiting for pool in pools)
    if waiting and fullest.in_use / fullest.limit >= PRESSED:
        problems.append(
            f"The pool is under pressure: {fullest.in_use} of {fullest.limit} in use, {waiting} waiting."
        )
    statuses = manager.status()
    return Health(
        reachable=reachable,
        writable=bool(writable),
        degraded=manager.active != manager.preferred,
        active=manager.active,
        preferred=manager.preferred,
        lag=max((status.lag for status in statuses if status.lag is not None), default=None),
        schema_version=version,
        in_use=fullest.in_use,
        limit=fullest.limit,
        waiting=waiting,
        routes=statuses,
        problems=tuple(problems),
    )


def schema_version(transaction: Transaction) -> str | None:
    """Return Alembic's revision, or None before the first migration."""
    exists = (
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'alembic_version'"
        if transaction.dialect == "sqlite"
        else "SELECT 1 WHERE to_regclass('alembic_version') IS NOT NULL"
    )
    if transaction.scalar(exists) is None:
        return None
    found = transaction.scalar("SELECT version_num FROM alembic_version")
    return str(found) if found is not None else None


def _finite(lag: float | None) -> float | None:
    return lag if lag is not None and math.isfinite(lag) else None


def _file_writable(manager: ConnectionManager) -> bool:
    from app.database.adapters.sqlite import Sqlite

    adapter = manager.router.current.adapter
    return isinstance(adapter, Sqlite) and os.access(adapter.path, os.W_OK)
