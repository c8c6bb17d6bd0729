"""Which backups to keep: the last few, and the newest of each day, week and month."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class Retention:
    """How many to keep of each; a backup that counts for several is kept once. 0 keeps none of that kind."""

    last: int = 5
    daily: int = 7
    weekly: int = 4
    monthly: int = 12

    def __post_init__(self) -> None:
        if min(self.last, self.daily, self.weekly, self.monthly) < 0:
            raise ValueError("a number of backups to keep is not negative")


def kept(times: Iterable[datetime], retention: Retention) -> set[datetime]:
    """Return those of `times` to keep. Weeks are ISO weeks; the newest one is always kept."""
    newest_first = sorted(set(times), reverse=True)
    keep = set(newest_first[: max(1, retention.last)])
    periods: tuple[tuple[int, Callable[[datetime], tuple[int, ...]]], ...] = (
        (retention.daily, lambda time: (time.year, time.month, time.day)),
        (retention.weekly, lambda time: time.isocalendar()[:2]),
        (retention.monthly, lambda time: (time.year, time.month)),
    )
    for count, period in periods:
        newest: dict[tuple[int, ...], datetime] = {}
        for time in newest_first:
            newest.setdefault(period(time), time)
        keep.update(list(newest.values())[:count])
    return keep
