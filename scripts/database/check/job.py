"""Look at a database from every side that was asked for."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from scripts.database.check import integrity, performance, schema
from scripts.database.check.findings import AREAS, Finding, Level, Report
from scripts.database.check.limits import Limits
from scripts.database.errors import UsageError

if TYPE_CHECKING:
    from app.database import ConnectionManager, Transaction
    from app.database.errors import DatabaseError

Look = Callable[["Transaction", Limits], Iterator[Finding]]
# Integrity first: the others read what it may find damaged.
CHECKS: Mapping[str, Look] = {
    "integrity": integrity.check,
    "schema": schema.check,
    "performance": performance.check,
}


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
    for name, look in CHECKS.items():
        if name in areas:
            findings.extend(looked(manager, name, look, limits))
    return report(manager, tuple(area for area in AREAS if area in areas), findings)


def looked(manager: "ConnectionManager", area: str, look: Look, limits: Limits) -> list[Finding]:
    """Return what was found in one area; rows that cannot be read any more are a finding as well."""
    from app.database.errors import DatabaseError

    found: list[Finding] = []
    try:
        with manager.transaction(read_only=True, label=f"check: {area}") as tx:
            for one in look(tx, limits):
                found.append(one)  # noqa: PERF402 - what was found before an error counts
    except DatabaseError as error:
        if not is_damage(error):
            raise
        found.append(
            Finding(
                level=Level.CRITICAL,
                area=area,
                what=f"the database is damaged: {error.what}",
                next_step="restore the last good backup: `invoke db.restore FILE --to=PLACE`",
            )
        )
    return found


def is_damage(error: "DatabaseError") -> bool:
    """Tell whether what is stored cannot be read any more.

    Sources: PostgreSQL 18 manual, Appendix A: data_corrupted, index_corrupted; sqlite.org/rescode.html:
    SQLITE_CORRUPT, SQLITE_NOTADB.
    """
    from app.database.sqlstates import sqlite_code_of

    cause = error.__cause__
    cause = getattr(cause, "orig", None) or cause
    return error.sqlstate in ("XX001", "XX002") or sqlite_code_of(cause) in (11, 26)


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
