"""Record events: append to the log what is new, and bring the projections up to date, in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from .cloudevents import Event, InvalidEventError, parse
from .projections import Change, apply, store

if TYPE_CHECKING:
    from app.database import Transaction

# One writer at a time keeps the order of `sequence` the order of commits, so that a reader who pages by it
# misses nothing. The number only has to differ from the migrations' lock.
_WRITER_LOCK = 0x51495741
_BATCH = 200


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """How many events were new, and how many were known already by their source and id."""

    accepted: int
    duplicates: int


def record(tx: Transaction, events: Iterable[Mapping[str, Any] | Event]) -> Recorded:
    """Record CloudEvents (as JSON objects or checked) all or nothing; a repeated delivery changes nothing.

    Raises InvalidEventError with the place of the first bad event, before anything is written.
    """
    checked = _check(events)
    if not checked:
        return Recorded(accepted=0, duplicates=0)
    exclusive(tx)
    unique = {(event.source, event.id): (event, changes) for event, changes in reversed(checked)}
    once = [event for event, _ in reversed(unique.values())]
    fresh = [key for start in range(0, len(once), _BATCH) for key in _append(tx, once[start:][:_BATCH])]
    store(tx, (change for key in fresh for change in unique[key][1]))
    return Recorded(accepted=len(fresh), duplicates=len(checked) - len(fresh))


def exclusive(tx: Transaction) -> None:
    """Be the only writer of the log until `tx` ends; SQLite's write transactions are that already."""
    if tx.dialect == "postgresql":
        from sqlalchemy import func, select

        tx.execute(select(func.pg_advisory_xact_lock(_WRITER_LOCK)))


def from_row(row: Mapping[str, Any]) -> Event:
    """Return the event that a row of the `event` table holds."""
    return Event(
        source=row["source"],
        id=row["id"],
        type=row["type"],
        time=row["time"],
        subject=row["subject"],
        data=row["data"],
        extensions=row["extensions"],
    )


def _check(events: Iterable[Mapping[str, Any] | Event]) -> list[tuple[Event, tuple[Change, ...]]]:
    """Return each event with the changes that it asks for."""
    checked = []
    for index, item in enumerate(events):
        try:
            event = item if isinstance(item, Event) else parse(item)
            # What cannot be projected must not enter the log: a rebuild would fail on it for ever.
            changes = apply(event)
        except InvalidEventError as problem:
            raise problem.at(index) from None
        checked.append((event, changes))
    return checked


def _append(tx: Transaction, events: list[Event]) -> list[tuple[str, str]]:
    """Insert what the log does not hold yet and return its sources and ids."""
    from . import models

    if tx.dialect == "postgresql":
        from sqlalchemy.dialects.postgresql import insert
    else:
        from sqlalchemy.dialects.sqlite import insert  # type: ignore[assignment]

    recorded = datetime.now(UTC)
    rows = [
        {
            "source": event.source,
            "id": event.id,
            "type": event.type,
            "time": event.time,
            "subject": event.subject,
            "data": event.data,
            "extensions": dict(event.extensions),
            "recorded": recorded,
        }
        for event in events
    ]
    statement = (
        insert(models.event)
        .on_conflict_do_nothing(index_elements=["source", "id"])
        .returning(models.event.c.source, models.event.c.id)
    )
    return [(row.source, row.id) for row in tx.execute(statement, rows)]
