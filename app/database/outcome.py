"""Find out how a transaction ended whose COMMIT was never answered.

A transaction is looked up by its number (PostgreSQL 18 manual, section 9.27.9, `txid_status`). A number says
something only in the life of the server that gave it out: a crash forgets the numbers whose transactions had
not reached the disk and gives them out again, and a promoted replica gives out those it had not received.
A crash begins the server's statistics anew, which a clean restart does not: by that a life is known.
"""

from __future__ import annotations

import time
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from app.database.errors import NotSent, OutcomeUnknown, RolledBack

if TYPE_CHECKING:
    from app.database.manager import ConnectionManager

_SERVER = """
('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int AS timeline,
coalesce(extract(epoch FROM pg_stat_get_bgwriter_stat_reset_time())::text, '') AS life
"""
NUMBER: Final = f"SELECT txid_current_if_assigned(), {_SERVER}"
"""Asks for a `Number`, whose first part is None for a transaction that wrote nothing."""
_LOOK = f"SELECT {_SERVER}"
_END_SESSION = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_xid = mod(:id, 4294967296)::text::xid
"""
_IN_THE_FUTURE = "22023"
_PAUSE = 0.05


class Number(NamedTuple):
    """A transaction's number, and the timeline and the life of the server that gave it out."""

    transaction_id: int
    timeline: int
    life: str


class Outcome(StrEnum):
    """How a transaction ended."""

    COMMITTED = "committed"
    ROLLED_BACK = "rolled_back"
    UNKNOWN = "unknown"


def find_out(manager: ConnectionManager, error: OutcomeUnknown, seconds: float) -> Outcome:
    """Ask the database what became of the transaction behind `error`, for up to `seconds`.

    The answer is UNKNOWN for a transaction that was not tracked, when a replica was promoted meanwhile, and
    when the server has crashed since and a transaction of that number is committed now: it may be another.
    A session that still runs the transaction has lost its client, so it is ended: then the answer is final.
    """
    if error.transaction_id is None:
        return Outcome.UNKNOWN
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        try:
            found = _look(manager, error, left)
        except (NotSent, RolledBack, OutcomeUnknown) as failed:
            if failed.sqlstate == _IN_THE_FUTURE:
                return Outcome.ROLLED_BACK  # a crash forgot it, and nobody else has had its number yet
            if not failed.transient and not isinstance(failed, OutcomeUnknown):
                return Outcome.UNKNOWN
            found = None
        if found is not None:
            return found
        time.sleep(min(_PAUSE, max(0.0, deadline - time.monotonic())))
    return Outcome.UNKNOWN


def _look(manager: ConnectionManager, error: OutcomeUnknown, seconds: float) -> Outcome | None:
    """Ask once; the answer is None while the transaction still runs."""
    with manager.transaction(budget=seconds, label="outcome of a lost COMMIT") as transaction:
        server = transaction.one(_LOOK)
        if server["timeline"] != error.timeline:
            return Outcome.UNKNOWN
        same_life = server["life"] == error.life
        status = transaction.scalar("SELECT txid_status(:id)", id=error.transaction_id)
        if status == "in progress" and same_life:
            transaction.execute(_END_SESSION, {"id": error.transaction_id})
            return None
    if status == "committed":
        return Outcome.COMMITTED if same_life else Outcome.UNKNOWN
    if status is None:
        return Outcome.UNKNOWN
    return Outcome.ROLLED_BACK  # had ours been kept, nobody else would have its number
