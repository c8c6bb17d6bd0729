"""Read what BuildKit prints with `--progress=plain`: what it does now, and what went wrong."""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LINE = re.compile(r"^#(\d+) (.*)$")
STEP = re.compile(r"^\[[^\]]+\] .+$")
STATE = re.compile(r"^(DONE|CACHED|ERROR|CANCELED)\b *(.*)$")
CLOCK = re.compile(r"^[\d.]+ (.*)$")
NOISE = re.compile(r"^(sha256:|resolve |transferring |naming |exporting |extracting |sending |\.\.\.)")
RULE = "------"


class Transcript:
    """The lines of one build, shortened for a reader and kept for a failure.

    A step is told when it has run, with its time, or as soon as it prints something; a cached one is not.
    """

    def __init__(self, say: Callable[[str], None], progress: Callable[[str], None]) -> None:
        self._say = say
        self._progress = progress
        self._pending: dict[str, str] = {}
        self._quoted: list[str] = []
        self._quoting = False
        self._last: deque[str] = deque(maxlen=40)
        self.errors: list[str] = []

    def line(self, line: str) -> None:
        """Take the next line."""
        self._last.append(line)
        if line == RULE:
            self._quoting = not self._quoting
        elif self._quoting:
            self._quoted.append(line)
        elif line.startswith("ERROR:"):
            self.errors.append(line)
        elif found := LINE.match(line):
            self._numbered(found[1], found[2])

    def _numbered(self, number: str, text: str) -> None:
        if state := STATE.match(text):
            step = self._pending.pop(number, "")
            if state[1] in ("ERROR", "CANCELED"):
                self._say(f"{step or 'step ' + number}: {state[1].lower()}")
            elif state[1] == "DONE" and step:
                self._say(f"{step} {state[2]}".rstrip())
        elif STEP.match(text):
            # BuildKit names a step again each time that it comes back to it.
            if not text.startswith("[internal]") and number not in self._pending:
                self._pending[number] = _short(text, 100)
                self._progress(_short(text, 60))
        elif output := CLOCK.match(text):
            self._say(f"  {output[1]}")
        elif not NOISE.match(text):
            self._say(_short(text, 100))

    def failure(self) -> list[str]:
        """Return the lines to show first: the failing step's own, then BuildKit's verdict."""
        quoted = (line for line in self._quoted if line.strip())
        step = [clocked[1] if (clocked := CLOCK.match(line)) else line for line in quoted]
        return [*(step or self._last), *self.errors]

    def mentions(self, text: str) -> bool:
        """Tell whether the end of the transcript holds a text."""
        return any(text in line for line in (*self._last, *self._quoted))


def _short(text: str, width: int) -> str:
    words = " ".join(text.split())
    return words if len(words) <= width else f"{words[: width - 1]}…"
