"""A TCP proxy of our own that misbehaves as networks do: refuses, freezes, resets, delays, cuts at COMMIT."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER with zero seconds: close sends RST


class TcpProxy:
    """Forward a loopback port to another one, until told otherwise; `target` is a port."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self._flow = threading.Event()
        self._flow.set()
        self._delay = 0.0
        self._cut: str | None = None
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._listener: socket.socket | None = None
        self.accepted = 0
        self.heal()

    def heal(self) -> None:
        """Forward everything again, and listen."""
        self._delay = 0.0
        self._cut = None
        self._flow.set()
        if self._listener is None:
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", self.port))
            listener.listen(128)
            self.port = listener.getsockname()[1]
            self._listener = listener
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def refuse(self) -> None:
        """Refuse new connections and reset those that exist: the program behind has died."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.reset()

    def reset(self) -> None:
        """Break every connection with RST."""
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            for end in pair:
                _break(end)

    def freeze(self) -> None:
        """Accept connections and bytes, and pass none on."""
        self._flow.clear()

    def delay(self, seconds: float) -> None:
        """Hold back every piece of data for so long, in each direction."""
        self._delay = seconds

    def cut_before_commit(self) -> None:
        """Break the connection of the next COMMIT without passing it on."""
        self._cut = "before"

    def cut_after_commit(self) -> None:
        """Pass the next COMMIT on, wait for its answer, and break the connection instead of delivering it."""
        self._cut = "after"

    @property
    def connections(self) -> int:
        with self._lock:
            return len(self._pairs)

    def close(self) -> None:
        self._closing.set()
        self._flow.set()
        self.refuse()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._flow.wait()
        try:
            server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
        except OSError:
            _break(client)
            return
        server.settimeout(None)
        pair = (client, server)
        for end in pair:
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._pairs.add(pair)
        lost = threading.Event()  # set when the answer to a COMMIT must not be delivered
        threading.Thread(target=self._pump, args=(server, client, pair, lost, False), daemon=True).start()
        self._pump(client, server, pair, lost, True)

    def _pump(
        self,
        source: socket.socket,
        sink: socket.socket,
        pair: tuple[socket.socket, socket.socket],
        lost: threading.Event,
        from_client: bool,
    ) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if self._delay:
                    self._closing.wait(self._delay)
                self._flow.wait()
                if from_client and self._cut and b"COMMIT\0" in data:
                    how, self._cut = self._cut, None
                    if how == "before":
                        break
                    lost.set()
                elif not from_client and lost.is_set():
                    break
                sink.sendall(data)
        with self._lock:
            self._pairs.discard(pair)
        for end in pair:
            _break(end)


def _break(end: socket.socket) -> None:
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        end.shutdown(socket.SHUT_RDWR)
    end.close()


@pytest.fixture
def proxy() -> Iterator[Callable[[int], TcpProxy]]:
    """Return a maker of proxies to a port; they end with the test."""
    with ExitStack() as stack:

        def make(target: int) -> TcpProxy:
            made = TcpProxy(target)
            stack.callback(made.close)
            return made

        yield make
