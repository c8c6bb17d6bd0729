"""Finds and stops every process that a run started, also those that left their parent or session.

A process is known by the mark in its environment, which its children inherit whatever they do with sessions
and process groups. Run as a program, it waits for the run that started it: when that run's end of the pipe
closes without a farewell, because the run was killed, it kills what the run left. Standard library only: it
starts without the site packages.
"""

import contextlib
import os
import signal
import sys
import time

MARK = "SLIPWAY_MARK"
FAREWELL = b"."
ROUNDS = 20
PAUSE = 0.02


def content(path: str) -> bytes:
    """Return what a file under /proc holds; empty when the process is gone or not ours to read."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 this program starts in 10 ms because it needs no pathlib
            return file.read()
    except OSError:
        return b""


def parents() -> dict[int, int]:
    """Return the parent of every live process by its id; empty where there is no /proc."""
    found: dict[int, int] = {}
    names = os.listdir("/proc") if os.path.isdir("/proc") else []  # noqa: PTH112, PTH208
    for name in names:
        # The command's name may hold spaces and brackets; the fields start behind the last bracket.
        fields = content(f"/proc/{name}/stat").rpartition(b")")[2].split() if name.isdigit() else []
        if len(fields) > 1 and fields[0] not in (b"Z", b"X"):
            found[int(name)] = int(fields[1])
    return found


def descendants(roots: set[int]) -> set[int]:
    """Return the live processes among `roots` and all below them."""
    children: dict[int, list[int]] = {}
    alive = parents()
    for pid, parent in alive.items():
        children.setdefault(parent, []).append(pid)
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting.extend(children.get(pid, ()))
    return found & alive.keys()


def marked(prefix: str) -> set[int]:
    """Return the live processes whose mark has a word that starts with `prefix`."""
    wanted = prefix.encode()
    found: set[int] = set()
    for pid in parents():
        for entry in content(f"/proc/{pid}/environ").split(b"\0"):
            name, _, value = entry.partition(b"=")
            if name == MARK.encode() and any(word.startswith(wanted) for word in value.split()):
                found.add(pid)
    return found - {os.getpid()}


def send(pids: set[int], number: int) -> None:
    """Send a signal to each process that is still there and is ours to signal."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def kill_marked(prefix: str) -> int:
    """Kill every marked process, again until none is left, and return how many there were."""
    killed: set[int] = set()
    for _ in range(ROUNDS):
        left = marked(prefix)
        if not left:
            break
        killed |= left
        send(left, signal.SIGKILL)
        time.sleep(PAUSE)
    return len(killed)


def main() -> int:
    """Wait for the run named on the command line and clean up after it when it dies."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    said = b""
    while chunk := os.read(0, 64):
        said = chunk
    if not said.endswith(FAREWELL):
        kill_marked(f"{sys.argv[1]}/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
