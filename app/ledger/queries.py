"""Questions to the ledger: what runs where, which runs there were, what was built and deployed.

Lists are read by keyset: a position is the sort key of the last row seen, so a page costs the same however
deep it is and nothing is skipped or shown twice while new rows arrive.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sqlalchemy import Column, Select, and_, func, select, tuple_

from . import models

if TYPE_CHECKING:
    from app.database import Transaction

SUCCEEDED = "succeeded"
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Task:
    """One stage of a run."""

    name: str
    kind: str
    result: str
    reason: str | None
    proof: str | None
    started: datetime | None
    seconds: float
    figures: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """One attempt to put a release on an environment."""

    run: str
    environment: str
    result: str
    digest: str | None
    previous: str | None
    commit: str | None
    actor: str | None
    url: str | None
    started: datetime
    finished: datetime
    seconds: float | None


@dataclass(frozen=True, kw_only=True)
class Run:
    """One execution of the pipeline; `result` is None while it runs. Seconds are wall time."""

    run: str
    command: str
    environment: str | None
    result: str | None
    commit: str | None
    dirty: bool
    started: datetime
    finished: datetime | None
    seconds: float | None
    digest: str | None
    stages: tuple[Task, ...] = ()
    deployments: tuple[Deployment, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """An image that was built: who built it first, and its size in bytes."""

    digest: str
    image: str | None
    bytes: int | None
    bytes_compressed: int | None
    commit: str | None
    run: str
    built: datetime


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What runs in an environment: the last deployment that succeeded, and the last attempt of all."""

    environment: str
    current: Deployment | None
    last: Deployment


@dataclass(frozen=True, kw_only=True)
class StoredEvent:
    """An event as it is in the log."""

    sequence: int
    source: str
    id: str
    type: str
    time: datetime
    subject: str | None
    data: Any
    extensions: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Page(Generic[T]):
    """A part of a list, and the position to go on from; None at the end."""

    items: tuple[T, ...] = field(default_factory=tuple)
    next: tuple[Any, ...] | None = None


def environments(tx: Transaction) -> tuple[Environment, ...]:
    """Return what runs where, by the name of the environment."""
    last = {each.environment: each for each in _newest_deployments(tx)}
    current = {each.environment: each for each in _newest_deployments(tx, result=SUCCEEDED)}
    return tuple(
        Environment(environment=name, current=current.get(name), last=last[name]) for name in sorted(last)
    )


def runs(
    tx: Transaction,
    *,
    limit: int,
    after: tuple[datetime, str] | None = None,
    environment: str | None = None,
    result: str | None = None,
    commit: str | None = None,
    stages: bool = False,
) -> Page[Run]:
    """Return runs, newest first; with their stages when `stages` is set."""
    column = models.pipeline_run.c
    query = _where(
        select(models.pipeline_run),
        {column.environment: environment, column.result: result, column.commit: commit},
    )
    rows, following = _newest_first(tx, query, (column.started, column.run), after, limit)
    tasks = _tasks(tx, [row["run"] for row in rows]) if stages and rows else {}
    return Page(items=tuple(_run(row, tasks.get(row["run"], ())) for row in rows), next=following)


def run(tx: Transaction, name: str) -> Run | None:
    """Return one run with its stages and deployments, or None."""
    row = (
        tx.execute(select(models.pipeline_run).where(models.pipeline_run.c.run == name))
        .mappings()
        .one_or_none()
    )
    if row is None:
        return None
    column = models.deployment.c
    query = select(models.deployment).where(column.run == name).order_by(column.environment)
    done = tuple(_make(Deployment, each) for each in tx.execute(query).mappings())
    return _run(dict(row), _tasks(tx, [name]).get(name, ()), done)


def deployments(
    tx: Transaction,
    *,
    limit: int,
    after: tuple[datetime, str, str] | None = None,
    environment: str | None = None,
    result: str | None = None,
) -> Page[Deployment]:
    """Return deployments, newest first."""
    column = models.deployment.c
    query = _where(select(models.deployment), {column.environment: environment, column.result: result})
    keys = (column.finished, column.run, column.environment)
    rows, following = _newest_first(tx, query, keys, after, limit)
    return Page(items=tuple(_make(Deployment, row) for row in rows), next=following)


def artifacts(
    tx: Transaction, *, limit: int, after: tuple[datetime, str] | None = None, commit: str | None = None
) -> Page[Artifact]:
    """Return artifacts, newest first."""
    column = models.artifact.c
    query = _where(select(models.artifact), {column.commit: commit})
    rows, following = _newest_first(tx, query, (column.built, column.digest), after, limit)
    return Page(items=tuple(_make(Artifact, row) for row in rows), next=following)


def events(
    tx: Transaction, *, limit: int, after: tuple[int] | None = None, kind: str | None = None
) -> Page[StoredEvent]:
    """Return the event log in the order that it was recorded, oldest first."""
    column = models.event.c
    query = _where(select(models.event), {column.type: kind})
    if after is not None:
        query = query.where(column.sequence > after[0])
    rows = tx.execute(query.order_by(column.sequence).limit(limit + 1)).mappings().all()
    shown = tuple(_make(StoredEvent, row) for row in rows[:limit])
    return Page(items=shown, next=(shown[-1].sequence,) if len(rows) > limit else None)


def _newest_deployments(tx: Transaction, *, result: str | None = None) -> Iterable[Deployment]:
    """Return the newest deployment of each environment."""
    column = models.deployment.c
    place = func.row_number().over(
        partition_by=column.environment, order_by=(column.finished.desc(), column.run.desc())
    )
    query = _where(select(models.deployment, place.label("place")), {column.result: result}).subquery()
    return [_make(Deployment, row) for row in tx.execute(select(query).where(query.c.place == 1)).mappings()]


def _tasks(tx: Transaction, names: Sequence[str]) -> dict[str, tuple[Task, ...]]:
    column = models.task_run.c
    query = select(models.task_run).where(column.run.in_(names))
    found: dict[str, tuple[Task, ...]] = {}
    for row in tx.execute(query.order_by(column.run, column.position, column.name)).mappings():
        found[row["run"]] = (*found.get(row["run"], ()), _make(Task, row))
    return found


def _where(query: Select[Any], wanted: Mapping[Column[Any], object]) -> Select[Any]:
    return query.where(
        and_(True, *(column == value for column, value in wanted.items() if value is not None))
    )


def _newest_first(
    tx: Transaction,
    query: Select[Any],
    keys: Sequence[Column[Any]],
    after: tuple[Any, ...] | None,
    limit: int,
) -> tuple[list[Mapping[str, Any]], tuple[Any, ...] | None]:
    """Read one page in falling order of `keys`, and the position to go on from."""
    if after is not None:
        query = query.where(tuple_(*keys) < tuple_(*after, types=[key.type for key in keys]))
    ordered = query.order_by(*(key.desc() for key in keys)).limit(limit + 1)
    rows: list[Mapping[str, Any]] = [dict(row) for row in tx.execute(ordered).mappings()]
    shown = rows[:limit]
    following = tuple(shown[-1][key.name] for key in keys) if len(rows) > limit else None
    return shown, following


def _run(row: Mapping[str, Any], stages: tuple[Task, ...], done: tuple[Deployment, ...] = ()) -> Run:
    values = {name: row[name] for name in Run.__dataclass_fields__ if name in row}
    return Run(**values, stages=stages, deployments=done)


def _make(kind: type[T], row: Mapping[Any, Any]) -> T:
    fields = kind.__dataclass_fields__  # type: ignore[attr-defined]  # every kind here is a dataclass
    return kind(**{name: row[name] for name in fields})
