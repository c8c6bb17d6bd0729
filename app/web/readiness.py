"""Whether the service can do its work: the database answers, takes writes, has the schema we need."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.database import ConnectionManager

BUDGET = 1.5
KEEP = 0.5
_log = logging.getLogger("slipway.readiness")


@dataclass(frozen=True, kw_only=True)
class Readiness:
    """One answer; `reason` is empty when ready, and never holds an address or a password."""

    ready: bool
    reason: str = ""
    detail: str = ""
    schema: str | None = None
    head: str | None = None


class SchemaCheck:
    """Ask the database, once at a time, and keep a good answer for half a second.

    Many proxies and an orchestrator ask often; one question a moment is enough for all of them.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: tuple[float, object, Readiness] | None = None
        self._said = ""

    def check(self, manager: ConnectionManager) -> Readiness:
        """Return whether `manager`'s database is reachable, writable and migrated, within BUDGET seconds."""
        kept = self._kept
        if kept is not None and kept[1] is manager and self._clock() - kept[0] < KEEP:
            return kept[2]
        if not self._lock.acquire(timeout=BUDGET):
            return Readiness(
                ready=False, reason="database-unreachable", detail="the database does not answer"
            )
        try:
            answer = ask(manager)
            self._kept = (self._clock(), manager, answer) if answer.ready else None
            self._say(answer)
            return answer
        finally:
            self._lock.release()

    def _say(self, answer: Readiness) -> None:
        """Log a change of state once, not every answer."""
        if answer.reason == self._said:
            return
        self._said = answer.reason
        if answer.ready:
            _log.info("ready: the database is at %s", answer.schema)
        else:
            _log.warning("not ready: %s: %s", answer.reason, answer.detail)


def ask(manager: ConnectionManager, *, budget: float = BUDGET) -> Readiness:
    """Open a write transaction and read the schema's revision, within `budget` seconds.

    A schema ahead of ours is fine: a newer release migrates first, and the old one serves until replaced.
    """
    from app.database.errors import DatabaseError
    from app.database.migrations import schema

    try:
        with manager.transaction(budget=budget, label="readiness") as tx:
            if tx.dialect == "postgresql" and tx.scalar("SHOW transaction_read_only") == "on":
                return Readiness(
                    ready=False, reason="database-read-only", detail="the database takes no writes"
                )
            status = schema.read(tx)
    except DatabaseError as problem:
        _log.debug("readiness: %s", problem)
        return Readiness(
            ready=False, reason="database-unreachable", detail=f"{type(problem).__name__}: {problem.what}"
        )
    if status.pending:
        return Readiness(
            ready=False,
            reason="schema-behind",
            detail=f"the schema is at {status.current or 'nothing'}, this release needs {status.head}:"
            " run `python -m app migrate`",
            schema=status.current,
            head=status.head,
        )
    return Readiness(ready=True, schema=status.current, head=status.head)
