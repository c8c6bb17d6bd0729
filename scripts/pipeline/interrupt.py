"""Ctrl-C, SIGTERM and a closed terminal, noticed by the run instead of tearing it apart."""

import signal
import threading
from types import FrameType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupt:
    """Remembers the first signal and how many came, while it is entered.

    Only the main thread can take signals; elsewhere this stays quiet and `set` stands for a signal.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.count = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.set(number)

    def set(self, number: int) -> None:
        """Take note of a signal."""
        self.number = self.number or number
        self.count += 1

    @property
    def exit_code(self) -> int:
        """What a shell expects of a program that this signal ended."""
        return 128 + (self.number or 0)
