"""Which route to use: the decision alone, as pure functions of what is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What is known of one route when a choice is made."""

    fit: bool
    """It can serve now, as far as anyone knows."""
    allowed: bool
    """It may be tried: its breaker is closed and nothing rules it out."""
    steady: bool
    """It has been fit for long enough to be trusted again."""


def choose(active: int, standings: Sequence[Standing]) -> int:
    """Return the index of the route to prefer from now on; routes are in order of preference.

    A fit active route is left only for a more preferred one that is steady, so that a flapping route does not
    drag the traffic back and forth. An unfit one is left at once for the first fit route, if there is any.
    """
    if standings[active].fit:
        better = (i for i in range(active) if standings[i].fit and standings[i].steady)
        return next(better, active)
    return next((i for i, standing in enumerate(standings) if standing.fit), active)


def order(active: int, standings: Sequence[Standing]) -> list[int]:
    """Return the routes to try for one transaction: the active one, other fit ones, then those in doubt."""
    indices = sorted(range(len(standings)), key=lambda i: (i != active, i))
    fit = [i for i in indices if standings[i].fit]
    doubtful = [i for i in indices if standings[i].allowed and not standings[i].fit]
    return fit + doubtful
