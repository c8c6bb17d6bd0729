"""Take turns at the pools: their lock, and those who wait for a connection."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.database.errors import DatabaseError
    from app.database.lease import Lease

_lock = threading.RLock()


def pools_lock() -> threading.RLock:
    """Return the one lock of all pools, to be used by `with` alone.

    `with` takes and gives it in C, where no interrupt such as Ctrl-C comes between. It is one for all pools,
    and knows its owner, because the garbage collector may end a transaction of any pool in a thread that
    holds the lock.
    """
    return _lock


def _renew() -> None:
    global _lock  # noqa: PLW0603 - another thread of the parent may have held it
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_renew)


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
