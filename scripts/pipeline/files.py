"""Files that are either whole or not there, whatever kills the writer."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any


def write(path: Path, data: bytes, *, lasting: bool = True) -> None:
    """Write a file at once: a reader sees the old content or the new one, also after a crash.

    `lasting` waits until the disk has it. Raises OSError, for instance on a full disk, and then leaves the
    old file as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            if lasting:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
        if lasting:
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write_json(path: Path, content: Any, *, indent: int | None = None, lasting: bool = True) -> None:
    """Write `content` as JSON in one piece; names that are no text survive as escaped surrogates."""
    write(path, (json.dumps(content, indent=indent) + "\n").encode(), lasting=lasting)


def point(link: Path, target: str) -> None:
    """Make the symbolic link `link` point at `target`, replacing it in one step."""
    temporary = link.with_name(f".{link.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)
