"""Read what BuildKit prints with `--progress=plain`: what it does now, and what went wrong."""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

STEP = re.compile(r"^#\d+ (\[[^\]]+\] .+)$")
STATE = re.compile(r"^#(\d+) (DONE|CACHED|ERROR|CANCELED)\b(.*)$")
CLOCK = re.compile(r"^#\d+ [\d.]+ (.*)$")
QUOTED = re.compile(r"^[\d.]+ ")
NOISE = re.compile(r"^#\d+ (sha256:|resolve |transferring |naming |exporting |extracting |sending tarball)")
RULE = "------"


class Transcript:
    """The lines of one build, shortened for a reader and kept for a failure."""

    def __init__(self, say: Callable[[str], None], progress: Callable[[str], None]) -> None:
        self._say = say
        self._progress = progress
        self._quoted: list[str] = []
        self._quoting = False
        self._steps: set[str] = set()
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
        self._show(line)

    def _show(self, line: str) -> None:
        if not line.strip() or NOISE.match(line):
            return
        if step := STEP.match(line):
            text = step[1]
            # BuildKit names a step again each time that it comes back to it.
            if not text.startswith("[internal]") and text not in self._steps:
                self._steps.add(text)
                self._progress(_short(text, 60))
                self._say(_short(text, 100))
        elif state := STATE.match(line):
            if state[2] not in ("DONE", "CACHED"):
                self._say(line)
        elif output := CLOCK.match(line):
            self._say(f"  {output[1]}")
        else:
            self._say(line)

    def failure(self) -> list[str]:
        """Return the lines to show first: the failing step's own, then BuildKit's verdict."""
        step = [QUOTED.sub("", line) for line in self._quoted if line.strip()]
        return [*(step or self._last), *self.errors]

    def mentions(self, text: str) -> bool:
        """Tell whether the end of the transcript holds a text."""
        return any(text in line for line in (*self._last, *self._quoted))


def _short(text: str, width: int) -> str:
    words = " ".join(text.split())
    return words if len(words) <= width else f"{words[: width - 1]}…"
