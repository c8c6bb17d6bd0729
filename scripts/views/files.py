"""Write files that a reader never sees half done."""

import contextlib
import os
import threading
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Put `text` at `path` in one step, making the folders above it.

    A reader sees the earlier file or the new one. Raises OSError when the disk refuses; then nothing is left
    behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = beside(path)
    try:
        with temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            file.write(text)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def point(link: Path, target: str) -> None:
    """Make the symbolic link at `link` lead to `target`, in one step; raises OSError when it cannot."""
    temporary = beside(link)
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)


def beside(path: Path) -> Path:
    """Return a hidden name next to `path` that no other process or thread takes."""
    return path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
