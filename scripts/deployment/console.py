"""Whoever watches a deployment: a stage's context is one, `Foreground` is the one for a task of its own."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Protocol

from scripts.pipeline.errors import Cancelled


class Console(Protocol):
    """The part of a stage's context that a deployment needs."""

    cancelled: threading.Event

    def say(self, line: str) -> None:
        """Show one line."""
        ...

    def progress(self, text: str) -> None:
        """Say what is being done now."""
        ...

    def raise_if_cancelled(self) -> None:
        """Raise Cancelled when told to stop."""
        ...


class Foreground:
    """Hand lines to a function; stop at the next step when a signal asks for it."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self.cancelled = threading.Event()
        self.signal = 0
        self._write = write
        self._last = ""

    def say(self, line: str) -> None:
        """Show one line."""
        with suppress(OSError, ValueError):  # whoever read it has gone; the target comes first
            self._write(line)

    def progress(self, text: str) -> None:
        """Show what is being done now as a line when it is news: there is no spinner here."""
        if text != self._last:
            self._last = text
            self.say(f"{text} ...")

    def raise_if_cancelled(self) -> None:
        """Raise Cancelled when a signal came."""
        if self.cancelled.is_set():
            raise Cancelled

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take SIGINT, SIGTERM and SIGHUP as the order to stop and put things back, for the block."""
        orders = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, self._note) for number in orders}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.signal = number
        self.cancelled.set()
