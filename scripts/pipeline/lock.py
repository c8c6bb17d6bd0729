"""One run at a time in one tree: the second waits, and then finds the first one's proofs."""

import contextlib
import fcntl
import json
import os
from pathlib import Path


class RunLock:
    """An advisory lock on a file; the system frees it when the process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def take(self, run: str, command: str) -> bool:
        """Take the lock and say who has it; False when another run has it. Raises OSError on a full disk."""
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        with contextlib.suppress(OSError):
            # Who holds it is for the message of those who wait; the lock holds without it.
            os.ftruncate(self._file, 0)
            os.pwrite(
                self._file, json.dumps({"run": run, "command": command, "pid": os.getpid()}).encode(), 0
            )
        return True

    def holder(self) -> str:
        """Say which run has the lock, as far as it is known."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            content = json.loads(self._path.read_text(encoding="utf-8"))
            return f"run {content['run']} (invoke {content['command']}, process {content['pid']})"
        return "another run"

    def free(self) -> None:
        """Free the lock; does nothing when it is not held."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
