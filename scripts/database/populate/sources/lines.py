"""The lines of a file of any size, none of which can fill the memory."""

from collections.abc import Iterator
from pathlib import Path

LONGEST_LINE = 1 << 20  # bytes; an event is some hundred


def lines(path: Path) -> Iterator[tuple[bytes, int, str | None]]:
    """Yield each line, where it ends in bytes, and why it is not whole: a line that is too long comes cut."""
    done = 0
    with path.open("rb") as file:
        while raw := file.readline(LONGEST_LINE):
            done += len(raw)
            problem = None
            if len(raw) == LONGEST_LINE and not raw.endswith(b"\n"):
                problem = f"the line is longer than {LONGEST_LINE} bytes"
                rest = b"..."
                while rest and not rest.endswith(b"\n"):
                    rest = file.readline(LONGEST_LINE)
                    done += len(rest)
            yield raw, done, problem
