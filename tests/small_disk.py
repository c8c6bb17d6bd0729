"""A disk of a few megabytes that is really full when it is full."""

from __future__ import annotations

import os
import pwd
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.postgres import UNPRIVILEGED


class SmallDisk:
    """A tmpfs of so many megabytes at `folder`, which PostgreSQL's account may write to."""

    def __init__(self, megabytes: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="slipway-disk-"))
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", str(self.folder)],
            check=False,
            capture_output=True,
            text=True,
        )
        if mounted.returncode:
            self.folder.rmdir()
            pytest.fail(f"a full disk needs the right to mount a tmpfs: {mounted.stderr.strip()}")
        owner = pwd.getpwnam(UNPRIVILEGED)
        os.chown(self.folder, owner.pw_uid, owner.pw_gid)

    @property
    def free(self) -> int:
        """The bytes that are free."""
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def fill(self, leave: int = 0) -> None:
        """Take all of the space but so many bytes."""
        with (self.folder / "ballast").open("ab") as file:
            file.write(b"\0" * max(0, self.free - leave))

    def make_room(self) -> None:
        """Give back what `fill` took."""
        (self.folder / "ballast").unlink(missing_ok=True)

    def remove(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)
        self.folder.rmdir()


@pytest.fixture
def small_disk() -> Iterator[Callable[[int], SmallDisk]]:
    """Return a maker of small disks; they go with the test."""
    with ExitStack() as stack:

        def make(megabytes: int) -> SmallDisk:
            made = SmallDisk(megabytes)
            stack.callback(made.remove)
            return made

        yield make
