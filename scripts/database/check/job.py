"""Look at a database from every side that was asked for."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from scripts.database.check import integrity, performance, schema
from scripts.database.check.findings import AREAS, Finding, Level, Report
from scripts.database.check.limits import Limits
from scripts.database.errors import UsageError

if TYPE_CHECKING:
    from app.database import ConnectionManager


def check(
    manager: "ConnectionManager", areas: Collection[str] = AREAS, limits: Limits | None = None
) -> Report:
    """Look at `areas` of the database behind `manager`; changes nothing.

    When no route leads there, that is the only finding. Raises UsageError for an unknown area.
    """
    limits = limits or Limits()
    unknown = sorted(set(areas) - set(AREAS))
    if unknown:
        raise UsageError(
            f"There is no area {', '.join(unknown)}.", "--areas", f"name some of {', '.join(AREAS)}"
        )
    routes = list(check_routes(manager, limits))
    findings = routes if "routes" in areas else []
    down = any(finding.level is Level.CRITICAL for finding in routes)
    if down:
        return replace(report(manager, ("routes",), routes), unreachable=True)
    checks = {"schema": schema.check, "integrity": integrity.check, "performance": performance.check}
    with manager.transaction(read_only=True, label="check") as tx:
        for name, look in checks.items():
            if name in areas:
                findings.extend(look(tx, limits))
    return report(manager, tuple(area for area in AREAS if area in areas), findings)


def report(manager: "ConnectionManager", areas: tuple[str, ...], findings: list[Finding]) -> Report:
    """Return the findings as a report of now."""
    return Report(
        database=next((route.description for route in manager.status() if route.active), manager.active),
        at=datetime.now(UTC),
        areas=areas,
        findings=tuple(findings),
    )


def check_routes(manager: "ConnectionManager", limits: Limits) -> Iterator[Finding]:
    """Yield which routes are down or behind, and whether any can be written to."""
    statuses = manager.probe()
    if not any(route.reachable and route.writable for route in statuses):
        yield finding(
            Level.CRITICAL,
            "no route leads to a database that can be written to",
            where="; ".join(f"{route.description}: {route.cause or 'read-only'}" for route in statuses),
            next_step="start the server, or correct the settings: `invoke config.show`",
        )
        return
    for route in statuses:
        if not route.reachable:
            yield finding(
                Level.WARNING,
                f"the route {route.name} is down: {route.cause}",
                where=route.description,
                next_step="another route serves meanwhile; bring this one back before that one fails too",
            )
        elif route.lag is not None and route.lag > limits.lag:
            yield finding(
                Level.WARNING,
                f"the copy behind {route.name} is {route.lag:,.0f} s late",
                where=route.description,
                next_step="look at its disk and network; reads that need fresh rows go to the primary",
            )


def finding(level: Level, what: str, *, where: str, next_step: str) -> Finding:
    """Return a finding about routes."""
    return Finding(level=level, area="routes", what=what, where=where, next_step=next_step)
