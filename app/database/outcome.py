"""Find out how a transaction ended whose COMMIT was never answered.

Source: PostgreSQL 18 manual, section 9.27.9, `txid_status`.
"""

from __future__ import annotations

import time
from enum import StrEnum
from typing import TYPE_CHECKING

from app.database.errors import NotSent, OutcomeUnknown, RolledBack

if TYPE_CHECKING:
    from app.database.manager import ConnectionManager

_END_SESSION = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_xid = (:low)::text::xid"
_PAUSE = 0.05


class Outcome(StrEnum):
    """How a transaction ended."""

    COMMITTED = "committed"
    ROLLED_BACK = "rolled_back"
    UNKNOWN = "unknown"


def find_out(manager: ConnectionManager, error: OutcomeUnknown, seconds: float) -> Outcome:
    """Ask the database what became of the transaction behind `error`, for up to `seconds`.

    The answer is UNKNOWN for a transaction that was not tracked, and when a replica was promoted meanwhile:
    transaction numbers above the point of promotion are given out again to others. A session that still runs
    the transaction has lost its client, so it is ended, which makes the answer final.
    """
    if error.transaction_id is None:
        return Outcome.UNKNOWN
    deadline = time.monotonic() + seconds
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            return Outcome.UNKNOWN
        try:
            with manager.transaction(budget=left, label="outcome of a lost COMMIT") as transaction:
                if transaction.facts.timeline != error.timeline:
                    return Outcome.UNKNOWN
                status = transaction.scalar("SELECT txid_status(:id)", id=error.transaction_id)
                if status == "in progress":
                    transaction.execute(_END_SESSION, {"low": str(error.transaction_id % 2**32)})
        except (NotSent, RolledBack) as failed:
            if not failed.transient:
                return Outcome.UNKNOWN
            continue
        if status == "committed":
            return Outcome.COMMITTED
        if status == "aborted":
            return Outcome.ROLLED_BACK
        if status is None:
            return Outcome.UNKNOWN
        time.sleep(min(_PAUSE, max(0.0, deadline - time.monotonic())))
