"""What each event type means for the projections, as pure functions; and the rebuild from the log.

A `Change` is a whole row with the version of the event that it comes from. Of two changes for one key the
better version stays, so the fold is commutative, associative and idempotent: events may arrive late, twice or
in any order and the tables come out the same. A version is text that sorts: rank, time, source, id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .cloudevents import Event, InvalidEventError, format_time, parse_time

if TYPE_CHECKING:
    from app.database import Transaction

RUN_STARTED = "dev.slipway.run.started"
RUN_FINISHED = "dev.slipway.run.finished"
TASK_FINISHED = "dev.slipway.task.finished"
ARTIFACT_BUILT = "dev.slipway.artifact.built"
DEPLOYMENT_FINISHED = "dev.slipway.deployment.finished"

KEYS: Mapping[str, tuple[str, ...]] = {
    "pipeline_run": ("run",),
    "task_run": ("run", "name"),
    "artifact": ("digest",),
    "deployment": ("run", "environment"),
}
# Who built an artifact first is who built it; everywhere else the last word counts.
EARLIEST_WINS = frozenset({"artifact"})
_BATCH = 200
_MAX_INTEGER = 2**63 - 1
# Required text is part of a key or an index, whose rows PostgreSQL limits to 2,704 bytes.
_MAX_KEY = 200


@dataclass(frozen=True, kw_only=True)
class Change:
    """One row that an event asks for in one projection."""

    table: str
    row: Mapping[str, Any]

    @property
    def key(self) -> tuple[str, ...]:
        """Return the table and the primary key of the row."""
        return (self.table, *(self.row[name] for name in KEYS[self.table]))

    def beats(self, other: Change) -> bool:
        """Tell whether this row replaces `other`, which has the same key."""
        mine, theirs = self.row["version"], other.row["version"]
        return bool(mine < theirs if self.table in EARLIEST_WINS else mine > theirs)


def apply(event: Event) -> tuple[Change, ...]:
    """Return the rows that `event` asks for; none when its type is not one of ours.

    Raises InvalidEventError when a type of ours lacks what it needs.
    """
    derive = {
        RUN_STARTED: _run_started,
        RUN_FINISHED: _run_finished,
        TASK_FINISHED: _task_finished,
        ARTIFACT_BUILT: _artifact_built,
        DEPLOYMENT_FINISHED: _deployment_finished,
    }.get(event.type)
    if derive is None:
        return ()
    if not isinstance(event.data, Mapping):
        raise InvalidEventError("must be a JSON object", attribute="data")
    return tuple(derive(event, _Data(event.data)))


def merge(changes: Iterable[Change]) -> tuple[Change, ...]:
    """Keep the winner of each key, in the order of the keys."""
    winners: dict[tuple[str, ...], Change] = {}
    for change in changes:
        held = winners.get(change.key)
        if held is None or change.beats(held):
            winners[change.key] = change
    return tuple(winners[key] for key in sorted(winners))


def store(tx: Transaction, changes: Iterable[Change]) -> None:
    """Write the winners among `changes`; a stored row of a better version stays as it is."""
    from . import models

    by_table: dict[str, list[dict[str, Any]]] = {}
    for change in merge(changes):
        by_table.setdefault(change.table, []).append(dict(change.row))
    for name, rows in by_table.items():
        tx.execute(_upsert(models.metadata.tables[name], tx.dialect), rows)


def rebuild(tx: Transaction) -> int:
    """Empty every projection, derive it again from the event log, and return how many events were read.

    Call it in a transaction of its own: readers keep the old rows until it commits.
    """
    from sqlalchemy import delete, select

    from . import models
    from .recorder import exclusive, from_row

    exclusive(tx)
    for table in models.PROJECTIONS:
        tx.execute(delete(table))
    after = count = 0
    while True:
        page = (
            select(models.event)
            .where(models.event.c.sequence > after)
            .order_by(models.event.c.sequence)
            .limit(_BATCH)
        )
        rows = tx.execute(page).mappings().all()
        if not rows:
            return count
        store(tx, (change for row in rows for change in apply(from_row(dict(row)))))
        after = rows[-1]["sequence"]
        count += len(rows)


@lru_cache
def _upsert(table: Any, dialect: str) -> Any:
    """Insert rows, replacing a stored row only by a better version, atomically row by row.

    One statement for any number of rows is compiled once; one with all its values in it would be compiled
    anew for every batch, which took two thirds of the time of a large import.
    """
    if dialect == "postgresql":
        from sqlalchemy.dialects.postgresql import insert
    else:
        from sqlalchemy.dialects.sqlite import insert  # type: ignore[assignment]

    statement = insert(table)
    new, old = statement.excluded.version, table.c.version
    return statement.on_conflict_do_update(
        index_elements=list(KEYS[table.name]),
        set_={c.name: statement.excluded[c.name] for c in table.c if not c.primary_key},
        where=(new < old) if table.name in EARLIEST_WINS else (new > old),
    )


def _version(event: Event, rank: int) -> str:
    return f"{rank} {format_time(event.time)} {event.source} {event.id}"


def _run_started(event: Event, data: _Data) -> Iterable[Change]:
    yield _run(event, data, rank=0, result=None, finished=None)


def _run_finished(event: Event, data: _Data) -> Iterable[Change]:
    run, ended = data.text("run"), event.time
    yield _run(event, data, rank=1, result=data.text("result"), finished=ended)
    for position, stage in enumerate(data.objects("stages")):
        yield _task(event, stage, run=run, rank=1, position=position)
    release = data.object("release")
    digest = release.optional_text("digest")
    if digest is not None:
        # An artifact that was proven earlier is not built again; a young ledger learns of it here.
        yield _artifact(event, release, data, rank=1)
    deployment = data.object("deployment")
    if deployment.optional_text("result") is not None:
        yield _deployment(event, deployment, data, digest=digest, rank=0)


def _task_finished(event: Event, data: _Data) -> Iterable[Change]:
    yield _task(event, data, run=data.text("run"), rank=0, position=data.integer("position") or 0)


def _artifact_built(event: Event, data: _Data) -> Iterable[Change]:
    yield _artifact(event, data, data, rank=0)


def _deployment_finished(event: Event, data: _Data) -> Iterable[Change]:
    yield _deployment(event, data, data, digest=data.optional_text("digest"), rank=1)


def _run(event: Event, data: _Data, *, rank: int, result: str | None, finished: datetime | None) -> Change:
    row = {
        "run": data.text("run"),
        "command": data.text("command"),
        "environment": data.optional_text("environment"),
        "result": result,
        "commit": data.optional_text("commit"),
        "dirty": data.boolean("dirty"),
        "started": data.time("started") or event.time,
        "finished": finished,
        "seconds": data.number("seconds") if finished is not None else None,
        "digest": data.object("release").optional_text("digest"),
        "version": _version(event, rank),
    }
    return Change(table="pipeline_run", row=row)


def _task(event: Event, data: _Data, *, run: str, rank: int, position: int) -> Change:
    row = {
        "run": run,
        "name": data.text("name"),
        "kind": data.optional_text("kind") or "check",
        "result": data.text("result"),
        "reason": data.optional_text("reason"),
        "proof": data.optional_text("proof"),
        "position": position,
        "started": data.time("started"),
        "seconds": data.number("seconds") or 0.0,
        "figures": data.figures("figures"),
        "version": _version(event, rank),
    }
    return Change(table="task_run", row=row)


def _artifact(event: Event, data: _Data, run: _Data, *, rank: int) -> Change:
    row = {
        "digest": data.text("digest"),
        "image": data.optional_text("image"),
        "bytes": data.integer("bytes"),
        "bytes_compressed": data.integer("bytes_compressed"),
        "commit": run.optional_text("commit"),
        "run": run.text("run"),
        "built": event.time,
        "version": _version(event, rank),
    }
    return Change(table="artifact", row=row)


def _deployment(event: Event, data: _Data, run: _Data, *, digest: str | None, rank: int) -> Change:
    row = {
        "run": run.text("run"),
        "environment": data.text("environment"),
        "result": data.text("result"),
        "digest": digest,
        "previous": data.optional_text("previous"),
        "commit": run.optional_text("commit"),
        "actor": run.optional_text("actor"),
        "url": data.optional_text("url"),
        "started": run.time("started") or event.time,
        "finished": event.time,
        "seconds": run.number("seconds"),
        "version": _version(event, rank),
    }
    return Change(table="deployment", row=row)


class _Data:
    """Typed reading of an event's data; every mismatch is an InvalidEventError that names the field."""

    def __init__(self, values: Mapping[str, Any], prefix: str = "data") -> None:
        self._values = values
        self._prefix = prefix

    def text(self, name: str) -> str:
        value = self.optional_text(name)
        if not value:
            raise self._wrong(name, "must be a string that is not empty")
        if len(value) > _MAX_KEY:
            raise self._wrong(name, f"is longer than {_MAX_KEY} characters")
        return value

    def optional_text(self, name: str) -> str | None:
        value = self._values.get(name)
        if value is not None and not isinstance(value, str):
            raise self._wrong(name, "must be a string")
        return value

    def boolean(self, name: str) -> bool:
        value = self._values.get(name)
        if value is not None and not isinstance(value, bool):
            raise self._wrong(name, "must be true or false")
        return bool(value)

    def number(self, name: str) -> float | None:
        value = self._values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > _MAX_INTEGER:
            raise self._wrong(name, "must be a number")
        return float(value)

    def integer(self, name: str) -> int | None:
        value = self._values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _MAX_INTEGER:
            raise self._wrong(name, "must be a whole number of at most 64 bits")
        return value

    def time(self, name: str) -> datetime | None:
        value = self._values.get(name)
        return None if value is None else parse_time(value, attribute=f"{self._prefix}.{name}")

    def object(self, name: str) -> _Data:
        value = self._values.get(name)
        if value is not None and not isinstance(value, Mapping):
            raise self._wrong(name, "must be an object")
        return _Data(value or {}, f"{self._prefix}.{name}")

    def objects(self, name: str) -> Iterable[_Data]:
        value = self._values.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
            raise self._wrong(name, "must be a list of objects")
        return [_Data(item, f"{self._prefix}.{name}[{index}]") for index, item in enumerate(value)]

    def figures(self, name: str) -> dict[str, float]:
        values = self.object(name)
        return {key: number for key in values._values if (number := values.number(key)) is not None}

    def _wrong(self, name: str, rule: str) -> InvalidEventError:
        return InvalidEventError(rule, attribute=f"{self._prefix}.{name}")
