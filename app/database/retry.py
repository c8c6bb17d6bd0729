"""Run a whole transaction again, only after errors that say that this is safe and may help."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from app.database.errors import NotSent, RolledBack

if TYPE_CHECKING:
    from app.database.budget import Budget

T = TypeVar("T")


def may_help(error: Exception) -> bool:
    """Tell whether running the transaction again is safe and may succeed."""
    return isinstance(error, NotSent | RolledBack) and error.transient


def with_retries(attempt: Callable[[], T], budget: Budget, on_retry: Callable[[], None]) -> T:
    """Call `attempt` until it succeeds, fails for good, or `budget` is spent; then its last error is raised.

    The first call costs nothing more than the call: stamina is imported when something has failed.
    """
    try:
        return attempt()
    except (NotSent, RolledBack) as error:
        left = budget.remaining()
        if not may_help(error) or left <= 0:
            raise
    import stamina

    for again in stamina.retry_context(
        on=may_help,
        attempts=None,
        timeout=left,
        wait_initial=0.01,
        wait_max=1.0,
        wait_jitter=0.05,
    ):
        with again:
            on_retry()
            return attempt()
    raise AssertionError("stamina ends with a value or an error")  # pragma: no cover
