"""How fast a step goes and how long it will take, on one line that a terminal rewrites and a log repeats."""

import time
from collections.abc import Callable
from typing import TextIO

TERMINAL_SECONDS = 0.2
LOG_SECONDS = 5.0


class Progress:
    """Tells on `stream` how far a step is; says nothing more often than a reader can follow."""

    def __init__(
        self, stream: TextIO, name: str, total: int | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream
        self._name = name
        self._total = total
        self._clock = clock
        self._started = self._said = clock()
        self._first: int | None = None
        self._terminal = stream.isatty()

    def at(self, records: int, done: int) -> None:
        """Tell that `records` were handled in this run and the source is read up to `done` of its total."""
        now = self._clock()
        if self._first is None:
            self._first = done
        if now - self._said < (TERMINAL_SECONDS if self._terminal else LOG_SECONDS):
            return
        self._said = now
        line = describe(self._name, records, now - self._started, done - self._first, self._left(done))
        self._stream.write(f"\r\x1b[K{line}" if self._terminal else f"{line}\n")
        self._stream.flush()

    def close(self) -> None:
        """Clear the line that a terminal rewrites."""
        if self._terminal:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _left(self, done: int) -> int | None:
        return None if self._total is None else max(0, self._total - done)


def describe(name: str, records: int, seconds: float, done: int, left: int | None) -> str:
    """Return one line: `done` units took `seconds`, `left` units are to come (None: unknown)."""
    rate = records / seconds if seconds > 0 else 0.0
    line = f"{name}: {records:,} records, {rate:,.0f} a second"
    if left is None or done <= 0:
        return line
    return f"{line}, {100 * done / (done + left):.0f} %, {duration(seconds * left / done)} left"


def duration(seconds: float) -> str:
    """Return seconds as a person says them: 42 s, 3 min 5 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
