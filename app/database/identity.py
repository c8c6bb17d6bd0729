"""Proof that every route leads to one database, and to its present."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from app.database.errors import WrongDatabase

if TYPE_CHECKING:
    from app.database.adapters.contract import Facts


class Identity:
    """The database in use: named by DB_IDENTITY, or learned from the first connection.

    PostgreSQL names itself by the cluster's system identifier, which replicas share, and the database's
    number and name; SQLite by the file. The timeline rises with each promotion: a primary on an older one is
    a server that a promoted replica has replaced, and what it takes in is lost when it rejoins.
    """

    def __init__(self, expected: str | None = None) -> None:
        self._lock = threading.Lock()
        self._expected = expected
        self._named = expected is not None
        self._timeline = 0

    def admit(self, facts: Facts) -> None:
        """Take in the facts of a fresh connection; raise WrongDatabase when it leads elsewhere."""
        with self._lock:
            if self._expected is None:
                self._expected = facts.identity
            if facts.identity != self._expected:
                remedy = "set DB_IDENTITY to the new one" if self._named else "restart the program"
                raise WrongDatabase(
                    f"This route leads to another database than the one {self._known_as}, so it is refused.",
                    where=f"{self._known_as}: {self._expected}; here: {facts.identity}",
                    next_step="Name only routes to one database in DB_ADAPTER_ORDER; when it was replaced on "
                    f"purpose, {remedy}.",
                )
            if facts.writable:
                if facts.timeline < self._timeline:
                    raise WrongDatabase(
                        "A promoted replica replaced this server: what it takes in would be lost.",
                        where=f"newest timeline: {self._timeline}; here: {facts.timeline}",
                        next_step="Rejoin the old primary as a replica, or take away its address.",
                    )
                self._timeline = facts.timeline

    @property
    def _known_as(self) -> str:
        return "named by DB_IDENTITY" if self._named else "in use"

    def after_fork(self) -> None:
        """Replace the lock, which another thread of the parent may have held."""
        self._lock = threading.Lock()
