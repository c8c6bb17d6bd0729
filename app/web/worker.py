"""A gunicorn thread worker that drains before it stops, and that slow clients cannot tie up.

gunicorn's own worker stops accepting at once on SIGTERM, while the proxy still sends: a deployment would drop
requests. It also gives a thread to every connection that says nothing yet. Both differ here and nothing else.
"""

from __future__ import annotations

import errno
import signal
import socket
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from gunicorn.workers.gthread import TConn, ThreadWorker

if TYPE_CHECKING:
    from types import FrameType

# No request of the ledger takes this long; one that does is a client that stalls.
REQUEST_SECONDS = 30.0
# How long a connection that says nothing may hold up a stop.
LINGER = 1.0


class DrainingWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn is not typed
    """Serve until SIGTERM, then say "not ready" for the drain time while serving on, then finish and exit."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._busy: dict[TConn, float] = {}
        self._draining = False

    def init_signals(self) -> None:
        """Add SIGHUP, which gunicorn leaves deadly in a worker: it re-reads the secrets."""
        super().init_signals()
        signal.signal(signal.SIGHUP, self.handle_hangup)

    def handle_hangup(self, _number: int, _frame: FrameType | None) -> None:
        """Re-read the settings, off the signal handler."""
        threading.Thread(target=self.app.reload_settings, name="reload", daemon=True).start()

    def handle_exit(self, number: int, frame: FrameType | None) -> None:
        """Begin to drain; the timer stops the worker when the proxies had time to notice."""
        if self._draining:
            return
        self._draining = True
        self.app.begin_drain()
        stop = partial(super().handle_exit, number, frame)
        timer = threading.Timer(self.app.drain_seconds, stop)
        timer.daemon = True
        timer.start()

    def set_accept_enabled(self, enabled: bool) -> None:
        """When stopping, take in what the kernel has accepted already, then close the door for good.

        gunicorn keeps it open while the last requests finish: who knocks then waits, to be dropped at last.
        """
        super().set_accept_enabled(enabled)
        if enabled or self.alive:
            return
        for listener in self.sockets:
            while self._accept_one(listener):
                pass
            listener.close()
        linger = time.monotonic() + LINGER
        for connection in self.pending_conns:
            connection.timeout = min(connection.timeout, linger)

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection, and give it a thread only when it has something to say."""
        self._accept_one(listener)

    def _accept_one(self, listener: socket.socket) -> bool:
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED):
                return False
            raise
        self.nr_conns += 1
        connection = TConn(self.cfg, client, address, listener.getsockname())
        connection.set_timeout()
        self.pending_conns.append(connection)
        self.poller.register(client, 1, partial(self.on_pending_socket_readable, connection))
        return True

    def handle(self, conn: TConn) -> Any:
        """Serve one request, watched by `notify`."""
        self._busy[conn] = time.monotonic()
        try:
            return super().handle(conn)
        finally:
            self._busy.pop(conn, None)

    def notify(self) -> None:
        """Tell the arbiter that we live, and hang up on requests that have stalled for too long."""
        super().notify()
        late = time.monotonic() - REQUEST_SECONDS
        for connection, began in list(self._busy.items()):
            if began < late:
                try:
                    connection.sock.shutdown(socket.SHUT_RDWR)
                except OSError:  # it hung up itself
                    continue
