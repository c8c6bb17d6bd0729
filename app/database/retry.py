"""Run a whole transaction again, only after errors that say that this is safe and may help."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

from app.database.errors import NotSent, RolledBack

if TYPE_CHECKING:
    from app.database.budget import Budget

T = TypeVar("T")

_FIRST_WAIT: Final = 0.01
_LONGEST_WAIT: Final = 1.0
_JITTER: Final = 0.05
_LAST: Final = 0.01
"""Seconds that must be left for another attempt."""


def may_help(error: Exception) -> bool:
    """Tell whether running the transaction again is safe and may succeed."""
    return isinstance(error, NotSent | RolledBack) and error.transient


def with_retries(attempt: Callable[[], T], budget: Budget, on_retry: Callable[[], None]) -> T:
    """Call `attempt` until it succeeds, fails for good, or `budget` is spent; then its last error is raised.

    Waits double, and take half of what is left at most, so that the last ones leave time for an attempt.
    The first call costs nothing more than the call: stamina is imported when something has failed.
    """
    try:
        return attempt()
    except (NotSent, RolledBack) as error:
        if not may_help(error) or budget.remaining() <= 0:
            raise
        last = error
    import stamina

    waits = 0

    def wait(error: Exception) -> bool | float:
        nonlocal waits
        left = budget.remaining()
        if not may_help(error) or left < _LAST:
            return False
        waits += 1
        doubled: float = min(_FIRST_WAIT * 2 ** min(waits - 1, 16), _LONGEST_WAIT)
        return min(doubled + random.random() * _JITTER, left / 2)  # noqa: S311 - jitter, not a secret

    for again in stamina.retry_context(on=wait, attempts=None, timeout=None):
        with again:
            if budget.remaining() <= 0:  # the machine was busy while this waited
                raise last
            on_retry()
            try:
                return attempt()
            except (NotSent, RolledBack) as error:
                last = error
                raise
    raise AssertionError("stamina ends with a value or an error")  # pragma: no cover
