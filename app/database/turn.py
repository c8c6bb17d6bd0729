"""Take turns at a pool: its lock, and those who wait for a connection."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.database.errors import DatabaseError
    from app.database.lease import Lease


class Waiter:
    """Somebody who waits for a connection, and what he is given; told once, by whoever holds the lock."""

    __slots__ = ("_bell", "error", "lease")

    def __init__(self) -> None:
        # A bare lock, and no Event: its methods cannot be interrupted half-way by the garbage collector.
        self._bell = threading.Lock()
        self._bell.acquire()
        self.lease: Lease | None = None
        self.error: DatabaseError | None = None

    def tell(self, *, lease: Lease | None = None, error: DatabaseError | None = None) -> None:
        """Give a connection, or the reason why there is none."""
        self.lease, self.error = lease, error
        self._bell.release()

    def wait(self, seconds: float) -> bool:
        """Wait to be told, for so long at most; tell whether it came."""
        return self._bell.acquire(timeout=max(0.0, seconds))


class Turn:
    """The pool's lock. What comes back while it is held is taken in when it is let go.

    A transaction that nobody holds any more is ended by the garbage collector, in the middle of whatever this
    thread does: it may come back while this very thread holds the lock.
    """

    __slots__ = ("_afterwards", "lock")

    def __init__(self, afterwards: Callable[[], None]) -> None:
        self.lock = threading.Lock()
        self._afterwards = afterwards

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()
        self._afterwards()
