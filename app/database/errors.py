"""What can go wrong with a database, in the words of the caller.

Whatever the cause, three things can have happened to a transaction, and each has its class: `NotSent` (no
database saw it), `RolledBack` (a database saw it and kept nothing) and `OutcomeUnknown` (the answer to its
COMMIT was lost). The first two are safe to run again when `transient` is true.
"""

from __future__ import annotations

from typing import Final


class DatabaseError(Exception):
    """Anything the database layer raises: what happened, where, and what to do next."""

    exit_code = 4
    transient = False

    def __init__(
        self, what: str, *, where: str = "", next_step: str = "", sqlstate: str | None = None
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.next_step = next_step
        self.sqlstate = sqlstate

    def __str__(self) -> str:
        return "\n".join(part for part in (self.what, self.where, self.next_step) if part)


class AdapterMisconfigured(DatabaseError):
    """A setting breaks a rule of its adapter; nothing was tried."""

    exit_code = 2


class FeatureRefused(DatabaseError):
    """A statement needs what this route cannot keep, such as a session behind a pooler."""

    exit_code = 2


class NotSent(DatabaseError):
    """No database saw the transaction; running it again is safe."""

    transient = True


class RouteDown(NotSent):
    """A route refused, stayed silent, or answered that it cannot serve."""


class ServerFull(RouteDown):
    """A server answered that it gives no more connections."""


class NoRoute(NotSent):
    """No route could serve within the budget; the text names the last cause of each."""


class PoolTimeout(NotSent):
    """Every connection stayed in use for the whole budget; the text names the holders."""


class QueueFull(NotSent):
    """Too many callers wait already; this one was turned away at once."""


class WrongDatabase(NotSent):
    """A route leads to another database, or to a server that a newer primary has replaced."""

    transient = False


class LoginRefused(NotSent):
    """The server refused the user, the password or the database name."""

    transient = False


NO_MORE: Final = (ServerFull, LoginRefused)
"""What a server that is well answers to one more connection; those that are open go on."""


class ManagerClosed(NotSent):
    """The manager was closed, or belongs to the process that this one was forked from."""

    transient = False


def again(error: DatabaseError) -> DatabaseError:
    """Return a copy of `error`, because one exception must not be raised in two threads."""
    return type(error)(error.what, where=error.where, next_step=error.next_step, sqlstate=error.sqlstate)


class RolledBack(DatabaseError):
    """The database kept nothing of the transaction; run it again only when `transient` is true."""

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        next_step: str = "",
        sqlstate: str | None = None,
        transient: bool = False,
        constraint: str | None = None,
    ) -> None:
        super().__init__(what, where=where, next_step=next_step, sqlstate=sqlstate)
        self.transient = transient
        self.constraint = constraint


class ConstraintBroken(RolledBack):
    """A row breaks a rule of the schema: unique, foreign key, not null, check or exclusion."""


class OutcomeUnknown(DatabaseError):
    """The answer to COMMIT was lost: the writes are either all there or none is.

    `transaction_id` is set for a tracked transaction on PostgreSQL, with the `timeline` and the `life` of the
    server that gave it; then `ConnectionManager.outcome` finds out.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        next_step: str = "",
        sqlstate: str | None = None,
        transaction_id: int | None = None,
        timeline: int = 0,
        life: str = "",
    ) -> None:
        super().__init__(what, where=where, next_step=next_step, sqlstate=sqlstate)
        self.transaction_id = transaction_id
        self.timeline = timeline
        self.life = life
