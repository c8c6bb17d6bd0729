"""What the image room asks of whoever runs it: start a command, say a line, stop when asked to.

A stage's context is one; `Aside` is the plain one for work outside a run.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from scripts.pipeline import process
from scripts.pipeline.errors import Cancelled, StageFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


class Console(Protocol):
    """The part of a stage's context that making an image needs."""

    cancelled: threading.Event

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        quiet: bool = False,
        on_line: Callable[[str], None] | None = None,
    ) -> process.Completed:
        """Run a command, showing its lines unless `quiet` or handing them to `on_line`; end it on cancel."""
        ...

    def say(self, line: str) -> None:
        """Show one line."""
        ...

    def progress(self, text: str) -> None:
        """Say what is being done now."""
        ...

    def raise_if_cancelled(self) -> None:
        """Raise when the run is cancelled."""
        ...


class Aside:
    """Run commands outside a run, handing their lines to a function."""

    def __init__(self, say: Callable[[str], None] = lambda _line: None) -> None:
        self.cancelled = threading.Event()
        self.say = say
        self.progress = say

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        quiet: bool = False,
        on_line: Callable[[str], None] | None = None,
    ) -> process.Completed:
        """Run a command to its end; raises StageFailure when `check` is set and it fails."""
        completed = process.run(
            [str(word) for word in argv],
            cwd=cwd or Path.cwd(),
            env=env or {},
            family=process.Family(mark=f"aside-{os.getpid()}"),
            on_line=None if quiet else on_line or self.say,
            cancelled=self.cancelled,
        )
        self.raise_if_cancelled()
        if check and completed.exit_code != 0:
            lines = (completed.errors or completed.output).splitlines()[-40:]
            raise StageFailure(
                f"`{completed.command}` {completed.ended}",
                where="\n".join(lines[-5:]),
                next_step="read its last lines",
                details=lines,
            )
        return completed

    def raise_if_cancelled(self) -> None:
        """Raise Cancelled when `cancelled` was set."""
        if self.cancelled.is_set():
            raise Cancelled


@contextmanager
def one_at_a_time(name: str, console: Console) -> Iterator[None]:
    """Hold a lock of this user on this machine, so that two runs do not make the same image twice.

    The kernel frees it when its owner dies.
    """
    path = Path(tempfile.gettempdir()) / f"slipway-{os.getuid()}-{name}.lock"
    with path.open("w") as lock:
        waiting = False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waiting:
                    console.say(f"another run is making the {name}; waiting for it")
                    waiting = True
                console.raise_if_cancelled()
                console.cancelled.wait(0.2)
        yield
