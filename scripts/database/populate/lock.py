"""One population of a source at a time: two would write one rejects file and move one checkpoint."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.database.errors import BusyError


@contextmanager
def alone(rejects: Path) -> Iterator[None]:
    """Hold the lock beside a rejects file for the block; the kernel frees it when its holder dies.

    Raises BusyError when another population holds it.
    """
    path = rejects.with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(
                "Another population of this source is under way.",
                str(path),
                "wait for its end, then try again",
            ) from None
        yield
