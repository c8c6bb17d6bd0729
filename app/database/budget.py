"""One span of time that everything done for a caller shares."""

from __future__ import annotations

import time


class Budget:
    """Seconds left of a span that began when this was made, on the monotonic clock."""

    __slots__ = ("deadline", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.deadline = time.monotonic() + seconds

    def remaining(self) -> float:
        """Return the seconds left, never below zero."""
        return max(0.0, self.deadline - time.monotonic())
