"""One CPU budget for the stages and their own workers."""

import contextlib
import os
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")
QUOTA_V1 = (Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us"))


def read(path: Path) -> str:
    """Return a small file's text; empty when there is none."""
    with contextlib.suppress(OSError):
        return path.read_text()
    return ""


def quota(version_2: str, version_1: tuple[str, str]) -> float | None:
    """Return how many processors the control group allows, from the text of its files, or None for no
    limit.
    """
    with contextlib.suppress(ValueError, ZeroDivisionError):
        limit, period = version_2.split() if version_2.strip() else version_1
        if int(limit) > 0:
            return int(limit) / int(period)
    return None


def processors() -> int:
    """Return how many processors this run may use: by affinity and by control group, 1 at least."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    allowed = quota(read(QUOTA), (read(QUOTA_V1[0]), read(QUOTA_V1[1])))
    return max(1, count if allowed is None else min(count, int(allowed)))


class Budget:
    """Gives workers to stages that bring their own, and takes them back.

    A stage that can use one worker is one process at a time, mostly waiting for another one's work: it rides
    along and takes nothing, and so does a stage that finds nothing left, so that none waits for the longest.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.free = size
        self._taken: dict[str, int] = {}

    def take(self, name: str, wanted: int) -> int:
        """Return how many workers a stage may use, at least one."""
        taken = min(wanted, self.free) if wanted > 1 else 0
        self._taken[name] = taken
        self.free -= taken
        return max(1, taken)

    def give_back(self, name: str) -> None:
        """Return the workers of a stage that has ended."""
        self.free += self._taken.pop(name, 0)
