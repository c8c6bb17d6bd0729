"""An open connection on loan: what the pool knows of it, and who holds it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import CodeType

    from sqlalchemy import Connection

    from app.database.adapters.contract import Adapter, Facts
    from app.database.pool import Pool


class Lease:
    """An open connection with what the pool knows of it; times are monotonic seconds."""

    __slots__ = (
        "adapter",
        "begun",
        "busy",
        "claimed",
        "connection",
        "expires",
        "facts",
        "foreign",
        "label",
        "owner",
        "pool",
        "raw",
        "reported",
        "since",
        "thread",
        "used",
    )

    def __init__(
        self, pool: Pool, adapter: Adapter, connection: Connection, raw: Any, facts: Facts, expires: float
    ) -> None:
        self.pool = pool
        self.adapter = adapter
        self.connection = connection
        self.raw = raw
        self.facts = facts
        self.expires = expires
        self.used = time.monotonic()
        self.since = 0.0
        self.busy = 0.0
        """When the statement that is under way was sent; 0 between statements."""
        self.begun: Any = None
        """SQLAlchemy's transaction, where it is begun along with ours."""
        self.claimed = False
        """A transaction holds it, and will give it back."""
        self.label = ""
        self.owner: tuple[CodeType, int] | None = None
        self.thread = 0
        self.reported = False
        self.foreign = False
        """This process was forked from its holder's: a word on the wire would end that transaction."""

    def holder(self) -> str:
        """Name who holds this connection: label, place in the code, thread."""
        place = (
            f"{self.owner[0].co_filename}:{self.owner[1]} ({self.owner[0].co_name})"
            if self.owner
            else "unknown"
        )
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        return f"{self.label or 'a transaction'} at {place} in thread {names.get(self.thread, self.thread)}"
