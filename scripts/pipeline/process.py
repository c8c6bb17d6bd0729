"""Commands as a stage runs them: own process group, bounded memory, every line told, all of it stopped."""

import contextlib
import os
import selectors
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from scripts.pipeline import guardian
from scripts.pipeline.errors import UnreachableError

CHUNK = 1 << 16
LINE_LIMIT = 1 << 14
"""Bytes of one line that are passed on in one piece; a longer line arrives as several."""
SHOWN_LINES = 5_000
LOG_LIMIT = 256 << 20
TAIL_LIMIT = 1 << 20
QUIET_LIMIT = 64 << 20
FLUSH_SECONDS = 0.2
TERM_SECONDS = 0.8
"""How long a process may take to end after SIGTERM, in seconds."""
LINGER_SECONDS = 0.3
"""How long to read on, in seconds, when a command has ended but something still holds its output open."""
POLL_SECONDS = 0.05


class Log:
    """A stage's log on disk: whole up to a limit, while the views get the first lines only."""

    def __init__(self, path: Path, *, shown: int = SHOWN_LINES, limit: int = LOG_LIMIT) -> None:
        self.path = path
        self._file: IO[str] | None = None
        self._left = shown
        self._room = limit
        self._lock = threading.Lock()
        self._broken = False
        self._flushed = 0.0

    def write(self, line: str) -> str | None:
        """Append a line and return what the views should show of it, or None."""
        with self._lock:
            self._append(line)
            self._left -= 1
            if self._left > 0:
                return line
            return (
                f"more lines than a view can show; the rest is in {self.path.name}"
                if self._left == 0
                else None
            )

    def _append(self, line: str) -> None:
        if self._broken or self._room <= 0:
            return
        self._room -= len(line) + 1
        if self._room <= 0:
            line = "the log has reached its limit; what follows is not kept"
        try:
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self.path.open("a", encoding="utf-8", errors="replace")
            self._file.write(line + "\n")
            # A reader who follows the log sees each line soon; a flood is not written line by line.
            now = time.monotonic()
            if now > self._flushed + FLUSH_SECONDS:
                self._file.flush()
                self._flushed = now
        except OSError:
            # A full disk costs the log, not the stage's result.
            self._broken = True
            self._discard()

    def _discard(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def close(self) -> None:
        """Close the file; a later line opens it again."""
        with self._lock:
            self._discard()


@dataclass(frozen=True, kw_only=True)
class Completed:
    """How a command ended. `output` and `errors` are decoded with replacement and hold the last part only
    when `truncated`; `errors` is empty unless the command ran quietly."""

    command: str
    exit_code: int
    output: str
    errors: str
    seconds: float
    truncated: bool = False

    @property
    def ended(self) -> str:
        """Say how it ended, as the end of a sentence."""
        if self.exit_code < 0:
            with contextlib.suppress(ValueError):
                return f"was killed by {signal.Signals(-self.exit_code).name}"
        return f"exited with {self.exit_code}"


class Family:
    """All processes that one stage started; they carry the same mark."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        """Return this process's environment with `extra` and the mark added."""
        environment = {**os.environ, **extra}
        # An outer run's mark stays, so that stopping the outer run finds these processes too.
        marks = [word for word in environment.get(guardian.MARK, "").split() if word != self.mark]
        environment[guardian.MARK] = " ".join([*marks, self.mark])
        return environment

    def stop(self, child: "subprocess.Popen[bytes]") -> None:
        """End a child and everything below it: SIGTERM first, SIGKILL when it does not listen."""
        self._send(child, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(TERM_SECONDS)
        self._send(child, signal.SIGKILL)
        child.wait()

    def sweep(self) -> int:
        """Kill what was left behind and return how many processes that were."""
        return guardian.kill_marked(self.mark)

    def _send(self, child: "subprocess.Popen[bytes]", number: int) -> None:
        below = guardian.descendants({child.pid}) if child.returncode is None else set[int]()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, number)
        guardian.send(below - {child.pid}, number)


class Guardian:
    """A small process that outlives this one just long enough to kill what a killed run left behind."""

    def __init__(self, run: str) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-I", "-S", guardian.__file__, run],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def close(self) -> None:
        """Say farewell, so that it ends without killing anything."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self._child.communicate(guardian.FAREWELL, timeout=1)
        self._child.kill()
        self._child.wait()


class Tail:
    """The last bytes of a stream, in bounded memory."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self.truncated = False

    def add(self, chunk: bytes) -> None:
        """Append a chunk; forget the oldest part when there is too much."""
        self._buffer += chunk
        if len(self._buffer) > 2 * self._limit:
            self._cut()

    def _cut(self) -> None:
        if len(self._buffer) > self._limit:
            del self._buffer[: -self._limit]
            self.truncated = True

    def text(self) -> str:
        """Return what is kept, decoded with replacement."""
        self._cut()
        return self._buffer.decode(errors="replace")


class Lines:
    """Cuts a byte stream into text lines; a carriage return within a line keeps only what it would show."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._rest = b""

    def add(self, chunk: bytes) -> None:
        """Take a chunk and tell every line that is now whole."""
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        for line in whole:
            self._tell(line)
        while len(self._rest) > LINE_LIMIT:
            self._tell(self._rest[:LINE_LIMIT])
            self._rest = self._rest[LINE_LIMIT:]

    def end(self) -> None:
        """Tell the last line when it has no line end."""
        if self._rest:
            self._tell(self._rest)
            self._rest = b""

    def _tell(self, line: bytes) -> None:
        if len(line) <= LINE_LIMIT and b"\r" not in line:
            self._on_line(line.decode(errors="replace"))
            return
        shown = line.rstrip(b"\r").rpartition(b"\r")[2]
        for start in range(0, len(shown) or 1, LINE_LIMIT):
            self._on_line(shown[start : start + LINE_LIMIT].decode(errors="replace"))


def start(
    words: Sequence[str], *, cwd: Path, environment: Mapping[str, str], stdin: IO[bytes] | int, stderr: int
) -> "subprocess.Popen[bytes]":
    """Start a command as the leader of its own session; raises UnreachableError when it does not exist."""
    try:
        return subprocess.Popen(
            list(words),
            cwd=cwd,
            env=dict(environment),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
        )
    except OSError as error:
        missing = not cwd.is_dir()
        raise UnreachableError(
            f"`{words[0]}` cannot be started: {error.strerror or error}",
            where=str(cwd),
            next_step="the folder does not exist"
            if missing
            else "run scripts/bootstrap, which installs the tools",
        ) from error


def run(
    words: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    family: Family,
    input: str | bytes | None = None,  # noqa: A002
    on_line: Callable[[str], None] | None = None,
    cancelled: threading.Event | None = None,
) -> Completed:
    """Run a command to its end, or stop its whole process tree when `cancelled` is set.

    With `on_line` both streams are merged and told line by line; without it they are kept apart and returned.
    Raises UnreachableError when there is no such command.
    """
    began = time.monotonic()
    merged = on_line is not None
    with contextlib.ExitStack() as stack:
        stdin: IO[bytes] | int = subprocess.DEVNULL
        if input is not None:
            file = stack.enter_context(tempfile.TemporaryFile())
            file.write(input.encode() if isinstance(input, str) else input)
            file.seek(0)
            stdin = file
        child = start(
            words,
            cwd=cwd,
            environment=family.environment(env),
            stdin=stdin,
            stderr=subprocess.STDOUT if merged else subprocess.PIPE,
        )
        stack.enter_context(child)
        limit = TAIL_LIMIT if merged else QUIET_LIMIT
        output, errors = Tail(limit), Tail(limit)
        lines = Lines(on_line) if on_line else None
        try:
            follow(child, output, errors, lines, cancelled)
        finally:
            if child.poll() is None:
                family.stop(child)
        if lines:
            lines.end()
        return Completed(
            command=shlex.join(words),
            exit_code=child.returncode,
            output=output.text(),
            errors=errors.text(),
            seconds=time.monotonic() - began,
            truncated=output.truncated or errors.truncated,
        )


def follow(
    child: "subprocess.Popen[bytes]",
    output: Tail,
    errors: Tail,
    lines: Lines | None,
    cancelled: threading.Event | None,
) -> None:
    """Read what a child writes until it and its output have ended or it is to be stopped."""
    ended: float | None = None
    with selectors.DefaultSelector() as selector:
        if child.stdout:
            selector.register(child.stdout, selectors.EVENT_READ, output)
        if child.stderr:
            selector.register(child.stderr, selectors.EVENT_READ, errors)
        while selector.get_map():
            for key, _ in selector.select(POLL_SECONDS):
                chunk = os.read(key.fd, CHUNK)
                if not chunk:
                    selector.unregister(key.fileobj)
                    continue
                key.data.add(chunk)
                if lines:
                    lines.add(chunk)
            if cancelled is not None and cancelled.is_set():
                return
            # A process that the command left in the background may hold the pipe for ever.
            if ended is None and child.poll() is not None:
                ended = time.monotonic()
            if ended is not None and time.monotonic() - ended > LINGER_SECONDS:
                return
    while cancelled is None or not cancelled.is_set():
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(POLL_SECONDS)
            return
