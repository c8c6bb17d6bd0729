"""Bound the time that a driver call may block in a socket.

psycopg2 waits for ever on a server that keeps the connection open and says nothing: the server's own
time-outs do not run while it is frozen, and its kernel answers TCP keepalives. Shutting the socket down from
another thread makes the blocked call return with a connection error at once.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from typing import Any


def cut(raw: Any) -> None:
    """Shut down the socket under a driver connection, or interrupt an embedded database."""
    if hasattr(raw, "interrupt"):
        with suppress(Exception):
            raw.interrupt()
        return
    with suppress(Exception), socket.socket(fileno=os.dup(raw.fileno())) as twin:
        twin.shutdown(socket.SHUT_RDWR)


class Guard:
    """Driver connections that must answer by a deadline; a monitor thread calls `sweep`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: dict[int, tuple[float, Any]] = {}

    def watch(self, raw: Any, seconds: float) -> None:
        """Cut `raw` when it is still watched after `seconds`."""
        with self._lock:
            self._watched[id(raw)] = (time.monotonic() + seconds, raw)

    def release(self, raw: Any) -> None:
        """Stop watching `raw`; harmless when it is not watched."""
        with self._lock:
            self._watched.pop(id(raw), None)

    def after_fork(self) -> None:
        """Forget everything: the connections are the parent's."""
        self._lock = threading.Lock()
        self._watched = {}

    def sweep(self, now: float) -> int:
        """Cut every connection whose deadline has passed and return how many there were."""
        with self._lock:
            late = [key for key, (deadline, _) in self._watched.items() if deadline <= now]
            for key in late:
                cut(self._watched.pop(key)[1])
        return len(late)
