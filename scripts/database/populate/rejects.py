"""The records that could not go in, each with its line and the reason, for a person to correct."""

import json
import os
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from scripts.database.populate.steps import Record

LONGEST_RECORD = 2000  # characters kept of a rejected record; its line says where the rest is


class Rejects:
    """A file of one JSON object a rejected record; it is made with the first one."""

    def __init__(self, path: Path, *, size: int = 0) -> None:
        self.path = path
        self._file: BinaryIO | None = None
        if path.exists():
            # What stands behind the checkpoint was written by a run that was killed before its commit.
            os.truncate(path, min(size, path.stat().st_size))
            if size == 0:
                path.unlink()

    def add(self, rejected: Record, reason: str) -> None:
        """Write down one record."""
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab")
        record = rejected.raw.decode("utf-8", "replace")[:LONGEST_RECORD]
        place = {"file": rejected.file} if rejected.file else {}
        entry = {**place, "line": rejected.line, "reason": reason, "record": record}
        # What is left of a file's name that is no UTF-8 becomes an escape of JSON's own.
        self._file.write(json.dumps(entry, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")

    def flush(self) -> int:
        """Put everything on the disk and return the size of the file in bytes."""
        if self._file is None:
            return self.path.stat().st_size if self.path.exists() else 0
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def __enter__(self) -> "Rejects":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()


def whole(path: Path, *, count: int, size: int) -> bool:
    """Tell whether the first `size` bytes of a rejects file are the `count` records written there."""
    if not count:
        return True
    found = read = 0
    try:
        with path.open("rb") as file:
            while read < size and (text := file.readline()):
                json.loads(text)
                found, read = found + 1, read + len(text)
    except (FileNotFoundError, ValueError):
        return False
    return (found, read) == (count, size)


def places(path: Path) -> set[tuple[str, int]]:
    """Return file and line of each record in a rejects file."""
    if not path.exists():
        return set()
    with path.open(encoding="utf-8") as file:
        entries = (json.loads(text) for text in file)
        return {(entry.get("file", ""), entry["line"]) for entry in entries}
