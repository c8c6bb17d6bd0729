"""A stream that text is written to line by line, whatever it can spell and whoever stopped reading."""

import re
from typing import TextIO

from scripts.views.wording import ASCII_MARKS, MARKS

ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[PX^_][^\x1b]*(?:\x1b\\)?|[ -/]*[0-~])"
    r"|[\x00-\x08\x0b-\x1f\x7f\x80-\x9f\u202a-\u202e\u2066-\u2069]"
)
"""Terminal control sequences (ECMA-48), control characters, and the marks that turn the direction of text."""


def clean(line: str) -> str:
    """Return `line` as text: no colours, no cursor movement, only what a carriage return left standing."""
    line = line.rstrip("\r\n")
    if "\r" in line:
        line = line.rpartition("\r")[2]
    return ESCAPES.sub("", line)


class Paper:
    """Write whole lines to a stream; a reader that went away ends the writing, not the run."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._encoding = (getattr(stream, "encoding", None) or "utf-8").lower()
        self.open = True
        self.marks = MARKS if self.spells("✓✗○■●·") else ASCII_MARKS

    def spells(self, text: str) -> bool:
        """Tell whether the stream's encoding has every character of `text`."""
        try:
            text.encode(self._encoding)
        except UnicodeEncodeError:
            return False
        return True

    def line(self, *lines: str) -> None:
        """Write each of `lines` and flush once."""
        self.raw("".join(f"{line}\n" for line in lines))

    def raw(self, text: str) -> None:
        """Write `text` as it is and flush; does nothing once the reader went away."""
        if not self.open or not text:
            return
        if not self.spells(text):
            text = text.encode(self._encoding, "backslashreplace").decode(self._encoding)
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # a closed pipe, or a closed file object
            self.open = False
