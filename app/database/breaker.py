"""A circuit breaker: after consecutive failures a route is left alone until one probe succeeds.

closed --(threshold consecutive failures, or one severe)--> open --(cool-down over, one caller)--> half-open
half-open --success--> closed; half-open --failure--> open, with a longer cool-down.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from enum import StrEnum

logger = logging.getLogger(__name__)


class State(StrEnum):
    """Where a breaker stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


Listener = Callable[[State, State], None]
"""Called after each change with the old and the new state, outside the breaker's lock."""


class Breaker:
    """Count consecutive failures of one route; safe to use from any thread."""

    def __init__(
        self,
        *,
        threshold: int = 3,
        cooldown: float = 0.25,
        cooldown_limit: float = 5.0,
        jitter: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if threshold < 1:
            raise ValueError("threshold must be at least 1 failure")
        if not 0 < cooldown <= cooldown_limit:
            raise ValueError("cooldown must be above 0 s and at most cooldown_limit")
        self._threshold = threshold
        self._cooldown = cooldown
        self._cooldown_limit = cooldown_limit
        self._jitter = jitter
        self._clock = clock
        self._lock = threading.Lock()
        self._listeners: list[Listener] = []
        self._state = State.CLOSED
        self._failures = 0
        self._openings = 0
        self._retry_at = 0.0

    @property
    def state(self) -> State:
        """Return the present state."""
        return self._state

    @property
    def failures(self) -> int:
        """Return the failures since the last success."""
        return self._failures

    @property
    def retry_at(self) -> float:
        """Return the monotonic time from which an open breaker lets a probe through."""
        return self._retry_at

    def listen(self, listener: Listener) -> None:
        """Call `listener` after each change of state."""
        self._listeners.append(listener)

    def allows(self) -> bool:
        """Tell whether ordinary traffic may use the route."""
        return self._state is State.CLOSED

    def begin_probe(self) -> bool:
        """Take the single probe of an open breaker whose cool-down is over; True for exactly one caller."""
        with self._lock:
            if self._state is not State.OPEN or self._clock() < self._retry_at:
                return False
            change = self._move(State.HALF_OPEN)
        self._tell(change)
        return True

    def success(self) -> None:
        """Record that the route answered well: the count starts again, and a half-open breaker closes."""
        with self._lock:
            if self._state is State.OPEN:
                return  # an answer that was under way when the breaker opened proves nothing
            self._failures = 0
            self._openings = 0
            change = self._move(State.CLOSED)
        self._tell(change)

    def failure(self, *, severe: bool = False) -> None:
        """Record a failure; `severe` opens at once, for a fault that needs no second opinion."""
        with self._lock:
            self._failures += 1
            if self._state is State.OPEN:
                return
            if self._state is State.CLOSED and self._failures < self._threshold and not severe:
                return
            pause = min(self._cooldown * 2 ** min(self._openings, 16), self._cooldown_limit)
            self._openings += 1
            self._retry_at = self._clock() + pause * (0.5 + self._jitter() / 2)
            change = self._move(State.OPEN)
        self._tell(change)

    def reset(self) -> None:
        """Close by hand and forget every failure."""
        with self._lock:
            self._failures = 0
            self._openings = 0
            change = self._move(State.CLOSED)
        self._tell(change)

    def after_fork(self) -> None:
        """Replace the lock, which a thread of the parent may have held, and let the probe be taken anew."""
        self._lock = threading.Lock()
        if self._state is State.HALF_OPEN:  # the probe under way is the parent's, and ends there
            self._state = State.OPEN

    def _move(self, new: State) -> tuple[State, State]:
        old, self._state = self._state, new
        return old, new

    def _tell(self, change: tuple[State, State]) -> None:
        if change[0] is not change[1]:
            for listener in tuple(self._listeners):
                try:
                    listener(*change)
                except Exception:
                    logger.exception("a listener of a breaker failed")
