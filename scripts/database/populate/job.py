"""Put the records of a source into the ledger: in batches, once each, going on where it was stopped."""

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from scripts.database.errors import IncompleteError, RejectedError
from scripts.database.populate import checkpoint, report
from scripts.database.populate.checkpoint import Checkpoint, Content
from scripts.database.populate.lock import alone
from scripts.database.populate.progress import Progress
from scripts.database.populate.rejects import Rejects, places, whole
from scripts.database.populate.report import Report, StepReport
from scripts.database.populate.steps import Record, Step, printable

if TYPE_CHECKING:
    from app.database import ConnectionManager, Transaction
    from app.database.errors import DatabaseError
    from app.ledger.cloudevents import Event

BATCH = 500


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to populate. `strict` allows no rejected record, `restart` forgets the checkpoints."""

    folder: Path
    batch: int = BATCH
    strict: bool = False
    dry_run: bool = False
    restart: bool = False


def populate(
    manager: "ConnectionManager",
    source: str,
    path: Path,
    steps: Sequence[Step],
    options: Options,
    stream: TextIO,
    clock: Callable[[], float] = time.monotonic,
) -> Report:
    """Run `steps` in their order, read everything back, and write the report into `options.folder`.

    Raises RejectedError in strict mode, BusyError while another one works on the same source, and
    IncompleteError when events are missing afterwards.
    """
    started = clock()
    reports = []
    for step in steps:
        key = checkpoint.key(source, path)
        rejects = options.folder / rejects_name(step.name, path, key, dry_run=options.dry_run)
        worker = Worker(manager, key, step, options, rejects, stream, clock)
        if options.dry_run:
            reports.append(worker.dry_run())
            continue
        with alone(rejects):
            reports.append(worker.run())
    done = Report(
        source=source,
        path=printable(path),
        database=manager.active or "",
        dry_run=options.dry_run,
        seconds=clock() - started,
        steps=tuple(reports),
    )
    report.write(done, options.folder)
    if done.missing:
        raise IncompleteError(
            f"{done.missing:,} events are missing from the database after the population.",
            str(options.folder / "report.md"),
            "repeat the command with --restart; if they stay missing, see `invoke db.check`",
        )
    return done


def rejects_name(step: str, path: Path, key: str, *, dry_run: bool = False) -> str:
    """Return the name of a step's rejects file: one for each checkpoint, since that knows its size."""
    name = re.sub(r"[^\w.-]+", "_", path.resolve().name)[-40:]
    end = "-dry-run" if dry_run else ""
    return f"rejects-{step}-{name}-{hashlib.sha256(key.encode()).hexdigest()[:8]}{end}.ndjson"


class Worker:
    """Does one step."""

    def __init__(
        self,
        manager: "ConnectionManager",
        source: str,
        step: Step,
        options: Options,
        rejects: Path,
        stream: TextIO,
        clock: Callable[[], float],
    ) -> None:
        self._manager = manager
        self._source = source
        self._step = step
        self._options = options
        self._clock = clock
        self._progress = Progress(stream, step.name, step.total(), clock)
        self._path = rejects

    def run(self) -> StepReport:
        """Put in what is not in yet and read everything back."""
        started = self._clock()
        with self._manager.transaction(label="populate: prepare") as tx:
            checkpoint.prepare(tx)
            saved = checkpoint.load(tx, self._source, self._step.name)
        lost = not whole(self._path, count=saved.rejected, size=saved.rejects_bytes)
        if self._options.restart or lost:
            saved = Checkpoint()
        records, content, changed = self._after(saved)
        if changed:
            saved = Checkpoint()
        if self._options.strict and saved.rejected:
            raise RejectedError(
                f"{saved.rejected:,} records of {self._step.name} were rejected by an earlier run.",
                f"{self._path}",
                "correct them and repeat the command with --restart, or leave out --strict",
            )
        now = saved
        with Rejects(self._path, size=saved.rejects_bytes) as rejects:
            while batch := list(islice(records, self._options.batch)):
                now = self._put(batch, now, content, rejects)
                self._progress.at(now.position - saved.position, batch[-1].done)
        expected, verified, later = self._read_back(now)
        self._progress.close()
        return StepReport(
            name=self._step.name,
            records=now.position,
            accepted=now.accepted,
            duplicates=now.duplicates,
            rejected=now.rejected,
            resumed_at=saved.position,
            changed=changed,
            rejects_lost=lost and not self._options.restart,
            seconds=self._clock() - started,
            expected=expected,
            verified=verified,
            later=later,
            moved=expected is None,
            rejects=str(self._path) if now.rejected else None,
        )

    def dry_run(self) -> StepReport:
        """Read and check everything and look up what is known already; write nothing but the rejects file."""
        started = self._clock()
        total = known = fresh = rejected = 0
        seen: set[tuple[str, str]] = set()
        records = self._step.records()
        with Rejects(self._path) as rejects:
            while batch := list(islice(records, self._options.batch)):
                events, refused = self._check(batch, rejects)
                keys = {(event.source, event.id) for _, event in events} - seen
                seen |= keys
                there = self._held(keys)
                total, rejected = total + len(batch), rejected + refused
                fresh += len(keys) - there
                known += len(events) - len(keys) + there
                self._progress.at(total, batch[-1].done)
            rejects.flush()
        self._progress.close()
        return StepReport(
            name=self._step.name,
            records=total,
            accepted=fresh,
            duplicates=known,
            rejected=rejected,
            resumed_at=0,
            changed=False,
            seconds=self._clock() - started,
            rejects=str(self._path) if rejected else None,
        )

    def _after(self, saved: Checkpoint) -> tuple[Iterator[Record], Content, bool]:
        """Return the records after the checkpoint, the hash up to there, and whether the source changed."""
        records, content = self._step.records(), Content(self._step.head)
        count = 0
        for record in islice(records, saved.position):
            content.add(record.raw)
            count += 1
        if saved.position and (count < saved.position or content.digest() != saved.content):
            return self._step.records(), Content(self._step.head), True
        return records, content, False

    def _put(self, batch: list[Record], before: Checkpoint, content: Content, rejects: Rejects) -> Checkpoint:
        """Record one batch and the checkpoint after it in one transaction."""
        from app.database.errors import RolledBack

        events, refused = self._check(batch, rejects)
        for record in batch:
            content.add(record.raw)
        after = replace(
            before,
            position=before.position + len(batch),
            content=content.digest(),
            rejected=before.rejected + refused,
            rejects_bytes=rejects.flush(),
        )
        try:
            return self._manager.run(lambda tx: self._record(tx, events, after))
        except RolledBack as error:
            if not row_is_at_fault(error):
                raise
            # The database refuses a row that we took for good: find it and let the others in.
            return self._one_by_one(events, after, rejects)

    def _record(
        self, tx: "Transaction", events: "Sequence[tuple[Record, Event]]", after: Checkpoint
    ) -> Checkpoint:
        from app.ledger.recorder import record

        done = record(tx, [event for _, event in events])
        after = replace(
            after, accepted=after.accepted + done.accepted, duplicates=after.duplicates + done.duplicates
        )
        checkpoint.save(tx, self._source, self._step.name, after)
        return after

    def _one_by_one(
        self, events: "Sequence[tuple[Record, Event]]", after: Checkpoint, rejects: Rejects
    ) -> Checkpoint:
        good, refused = [], 0
        for record, event in events:
            reason = self._refusal(event)
            if reason is None:
                good.append((record, event))
            else:
                self._reject(record, reason, rejects)
                refused += 1
        after = replace(after, rejected=after.rejected + refused, rejects_bytes=rejects.flush())
        return self._manager.run(lambda tx: self._record(tx, good, after))

    def _refusal(self, event: "Event") -> str | None:
        """Return why the database refuses `event`, None when it does not; nothing is kept either way."""
        from app.database.errors import RolledBack
        from app.ledger.recorder import record

        reason = None
        try:
            with self._manager.transaction(label="populate: try one") as tx:
                record(tx, [event])
                take_back()
        except _TakenBack:
            pass
        except RolledBack as error:
            if not row_is_at_fault(error):
                raise
            cause = getattr(error.__cause__, "orig", None) or error
            reason = f"the database refuses it: {' '.join(str(cause).split())}"
        return reason

    def _check(self, batch: list[Record], rejects: Rejects) -> "tuple[list[tuple[Record, Event]], int]":
        """Return the events of the good records, and how many were rejected."""
        events = []
        for record in batch:
            event, reason = judge(self._step, record)
            if event is None:
                self._reject(record, reason, rejects)
            else:
                events.append((record, event))
        return events, len(batch) - len(events)

    def _reject(self, record: Record, reason: str, rejects: Rejects) -> None:
        rejects.add(record, reason)
        if self._options.strict:
            rejects.flush()
            raise RejectedError(
                f"Record {record.line} of {self._step.name} was rejected: {reason}.",
                f"{self._path}",
                "correct it and repeat the command, or leave out --strict: the others then go in",
            )

    def _read_back(self, now: Checkpoint) -> tuple[int | None, int | None, int]:
        """Return how many different events went in, how many of them are held, how many records came later.

        What went in are the records up to the checkpoint, since a source may grow meanwhile. When those have
        changed, it cannot be told any more, and the first two are None.
        """
        expected = found = 0
        records, content = self._step.records(), Content(self._step.head)
        done = islice(records, now.position)
        rejected = places(self._path)
        while batch := list(islice(done, self._options.batch)):
            for record in batch:
                content.add(record.raw)
            keys = {
                key
                for record in batch
                if (record.file, record.line) not in rejected and (key := name_of(self._step, record))
            }
            expected += len(keys)
            found += self._held(keys)
        later = sum(1 for _ in records)
        if now.position and content.digest() != now.content:
            return None, None, later
        return expected, found, later

    def _held(self, keys: set[tuple[str, str]]) -> int:
        """Return how many events with these sources and ids the database holds."""
        from sqlalchemy import func, select, tuple_

        from app.ledger import models

        if not keys:
            return 0
        event = models.event.c
        statement = select(func.count()).where(tuple_(event.source, event.id).in_(sorted(keys)))
        with self._manager.transaction(read_only=True, label="populate: read back") as tx:
            return int(tx.execute(statement).scalar_one())


class _TakenBack(Exception):  # noqa: N818 - leaves a transaction on purpose; nothing went wrong
    """Rolls a trial back."""


def take_back() -> None:
    """Leave the transaction around us without keeping what it did."""
    raise _TakenBack


def judge(step: Step, record: Record) -> "tuple[Event | None, str]":
    """Return the checked event of `record`, or None and the reason why it cannot go in."""
    from app.ledger.cloudevents import parse
    from app.ledger.projections import apply

    if record.problem is not None:
        return None, record.problem
    try:
        event = parse(step.event(record))
        apply(event)
    except ValueError as error:
        attribute = getattr(error, "attribute", None)
        return None, f"{attribute}: {error.rule}" if attribute else str(error)  # type: ignore[attr-defined]
    return event, ""


def name_of(step: Step, record: Record) -> tuple[str, str] | None:
    """Return source and id of a record's event, None when it has none: then it is not what went in."""
    try:
        event = step.event(record)
    except ValueError:
        return None
    source, name = event.get("source"), event.get("id")
    return (source, name) if isinstance(source, str) and isinstance(name, str) else None


def row_is_at_fault(error: "DatabaseError") -> bool:
    """Tell whether the database refuses the values, rather than being unwell itself.

    SQLSTATE classes: 22 data exception, 23 integrity constraint, 54 program limit (PostgreSQL 18 manual,
    Appendix A).
    """
    from app.database.errors import ConstraintBroken

    return isinstance(error, ConstraintBroken) or (error.sqlstate or "")[:2] in ("22", "23", "54")
