"""Bring a database to a revision, back, or show how: locked, checked, and all or nothing.

Importing this imports Alembic and SQLAlchemy: the migration job does, the service that answers requests does
not (it asks app.database.migrations.schema).
"""

from __future__ import annotations

import getpass
import io
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from app.database.message import said
from app.database.migrations import chain, lint, schema
from app.database.migrations.chain import VERSIONS
from app.database.migrations.errors import (
    MigrationChangedError,
    MigrationError,
    MigrationFailedError,
    MigrationRefusedError,
    SchemaAheadError,
)
from app.database.migrations.lock import lock_file, lock_postgresql
from app.database.migrations.schema import SchemaStatus

if TYPE_CHECKING:
    from app.database.manager import ConnectionManager
    from app.database.transactions import Transaction

LOCK_WAIT_SECONDS = 30.0
REFERENCES = "PRAGMA foreign_keys = {}"

HISTORY = sa.Table(
    schema.HISTORY_TABLE,
    sa.MetaData(),
    sa.Column("revision", sa.String(32), primary_key=True),
    sa.Column("checksum", sa.String(64), nullable=False),
    sa.Column("applied_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("applied_by", sa.Text, nullable=False),
)


@dataclass(frozen=True, kw_only=True)
class Moved:
    """What a command did: from revision, to revision (None: no schema), the steps in order, seconds."""

    before: str | None
    after: str | None
    steps: tuple[str, ...]
    seconds: float


def upgrade(
    manager: ConnectionManager,
    revision: str = "head",
    *,
    wait: float = LOCK_WAIT_SECONDS,
    versions: Path = VERSIONS,
) -> Moved:
    """Apply every migration up to `revision`, all or none of them.

    Waits at most `wait` seconds for another migrator. Raises a MigrationError: MigrationLockedError,
    SchemaAheadError, MigrationChangedError, MigrationRefusedError (it would break the running release),
    MigrationFailedError, UnknownRevisionError.
    """
    started = time.monotonic()
    line = chain.read(versions)
    with exclusive(manager, wait, "migrate: upgrade") as tx:
        at = trusted(tx, line)
        target = line.resolve(revision, at)
        steps = permitted(line, at, target)
        if steps:
            apply(tx, line, versions, command.upgrade, str(target))
    return moved(started, at, target if steps else at, steps)


def downgrade(
    manager: ConnectionManager,
    revision: str,
    *,
    accept_loss: bool = False,
    wait: float = LOCK_WAIT_SECONDS,
    versions: Path = VERSIONS,
) -> Moved:
    """Undo migrations down to `revision` (a name, -1, or base), all or none of them.

    Raises MigrationRefusedError when rows would be lost without `accept_loss`, and what `upgrade` raises.
    """
    started = time.monotonic()
    line = chain.read(versions)
    with exclusive(manager, wait, "migrate: downgrade") as tx:
        at = trusted(tx, line)
        target = line.resolve(revision, at)
        steps = tuple(reversed(between(line, target, at)))
        lost = [] if accept_loss else losses(tx, steps)
        if lost:
            raise MigrationRefusedError(
                f"Going back to {target or 'base'} would lose data: {'; '.join(lost)}.",
                where=f"the database is at {at}",
                next_step="take a backup (`invoke db.backup`), then repeat the command with --accept-loss",
            )
        if steps:
            apply(tx, line, versions, command.downgrade, target or "base")
    return moved(started, at, target if steps else at, steps)


def stamp(
    manager: ConnectionManager, revision: str, *, wait: float = LOCK_WAIT_SECONDS, versions: Path = VERSIONS
) -> Moved:
    """Write down that the database is at `revision` and that these files made it, running none of them."""
    started = time.monotonic()
    line = chain.read(versions)
    with exclusive(manager, wait, "migrate: stamp") as tx:
        at = schema.current(tx)
        target = line.resolve(revision, at if at is None or line.knows(at) else None)
        config = configuration(versions, connection=tx.connection, on_version_apply=())
        command.stamp(config, target or "base", purge=True)
        HISTORY.create(tx.connection, checkfirst=True)
        tx.connection.execute(HISTORY.delete())
        for step in between(line, None, target):
            tx.connection.execute(history_entry(step))
    return moved(started, at, target, ())


def status(manager: ConnectionManager, *, versions: Path = VERSIONS) -> SchemaStatus:
    """Return where the database stands; changes nothing and waits for nobody."""
    with manager.transaction(read_only=True, label="migrate: status") as tx:
        return schema.read(tx, versions)


def sql(manager: ConnectionManager, revision: str = "head", *, versions: Path = VERSIONS) -> str:
    """Return the SQL that an upgrade or downgrade to `revision` would run, for this database's engine.

    It begins and commits its own transaction and keeps the history table, so that a database changed by hand
    with it is as good as one changed by `upgrade`. Raises what `upgrade` raises.
    """
    line = chain.read(versions)
    with manager.transaction(read_only=True, label="migrate: preview") as tx:
        at, dialect = trusted(tx, line), tx.dialect
    target = line.resolve(revision, at)
    if at == target:
        return ""
    up = bool(permitted(line, at, target))
    text = io.StringIO()
    config = configuration(
        versions, dialect=dialect, on_version_apply=(keep_history(line),), output_buffer=text
    )
    run = command.upgrade if up else command.downgrade
    try:
        run(config, f"{at or 'base'}:{target or 'base'}" if at or not up else str(target), sql=True)
    except Exception as error:
        raise MigrationFailedError(
            f"The SQL cannot be shown: {' '.join(str(error).split())}",
            where=f"from {at or 'base'} to {target or 'base'} for {dialect}",
            next_step="write the migration with operations that need no database to render",
        ) from error
    create = sa.schema.CreateTable(HISTORY, if_not_exists=True).compile(dialect=named(dialect))
    begin, rest = text.getvalue().split("\n\n", 1)
    before = f"{REFERENCES.format('OFF')};\n" if dialect == "sqlite" else ""
    return f"{before}{begin}\n\n{str(create).strip()};\n\n{rest}"


def named(dialect: str) -> Any:
    """Return SQLAlchemy's dialect of that name."""
    return sa.create_mock_engine(f"{dialect}://", lambda *_: None).dialect


@contextmanager
def exclusive(manager: ConnectionManager, wait: float, label: str) -> Iterator[Transaction]:
    """Open the one transaction in which migrations happen, holding the migration lock."""
    with manager.transaction(read_only=True, label=f"{label}: look") as tx:
        file = (
            tx.scalar("SELECT file FROM pragma_database_list WHERE name = 'main'")
            if tx.dialect == "sqlite"
            else None
        )
    with lock_file(Path(file), wait) if file else nullcontext(), manager.transaction(label=label) as tx:
        if tx.dialect == "sqlite":
            with without_references(tx):
                yield tx
            return
        # Where the default is stricter, asking for the lock would fix our view to the time before we got it.
        tx.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        lock_postgresql(tx, wait)
        # A table lock that we wait for queues everybody behind us: give up soon instead. A migration may well
        # run for longer than a request, so the statement time-out of requests does not hold for it.
        tx.execute(f"SET LOCAL lock_timeout = '{max(1, round(wait * 1000))}ms'")
        tx.execute("SET LOCAL statement_timeout = 0")
        yield tx


@contextmanager
def without_references(tx: Transaction) -> Iterator[None]:
    """Let the block change tables without a foreign key acting on it, and end its transaction.

    SQLite changes a table by dropping it after a copy, which would delete what refers to it; the pragma
    holds outside a transaction only (https://www.sqlite.org/lang_altertable.html#otheralter).
    """
    with tx.driver() as raw:
        raw.execute("ROLLBACK")
        raw.execute(REFERENCES.format("OFF"))
        try:
            raw.execute("BEGIN IMMEDIATE")
            yield
            raw.execute("COMMIT")
        finally:
            if raw.in_transaction:
                raw.execute("ROLLBACK")
            raw.execute(REFERENCES.format("ON"))
            raw.execute("BEGIN")


def trusted(tx: Transaction, line: chain.Chain) -> str | None:
    """Return the database's revision once it is sure that this code's migrations made it.

    Raises SchemaAheadError or MigrationChangedError.
    """
    found = schema.compare(line, schema.current(tx), schema.applied(tx))
    if found.ahead:
        raise SchemaAheadError(
            f"The database is at revision {found.current}, which this code does not know.",
            where=f"this code ends at {found.head or 'no revision'}",
            next_step="run the newer release that made it, or restore the backup taken before that release",
        )
    if found.changed:
        files = ", ".join(str(line.migrations[line.position(name)].path.name) for name in found.changed)
        raise MigrationChangedError(
            f"A migration was changed after it had been applied: {files}.",
            where=f"the checksum in {schema.HISTORY_TABLE} differs from the file's",
            next_step="put the file back as it was and write a new migration; if the schema is right as it"
            f" is, `invoke db.stamp {found.current}` accepts the new files",
        )
    return found.current


def between(line: chain.Chain, low: str | None, high: str | None) -> tuple[chain.Migration, ...]:
    """Return the migrations after `low` up to and including `high`, oldest first; none when low is higher."""
    start = -1 if low is None else line.position(low)
    end = -1 if high is None else line.position(high)
    return line.migrations[start + 1 : end + 1]


def permitted(line: chain.Chain, at: str | None, target: str | None) -> tuple[chain.Migration, ...]:
    """Return the migrations that lead up from `at`, once the running release survives them; none lead down.

    Raises MigrationRefusedError.
    """
    steps = between(line, at, target)
    for step in steps:
        lint.check(step)
    return steps


def apply(tx: Transaction, line: chain.Chain, versions: Path, run: Any, target: str) -> None:
    """Let Alembic run its steps in `tx`; raises MigrationFailedError with the database's own words."""
    HISTORY.create(tx.connection, checkfirst=True)
    reached: list[str] = []
    watch = (keep_history(line), lambda step, **_: reached.append(step.up_revision_id))
    try:
        run(configuration(versions, connection=tx.connection, on_version_apply=watch), target)
    except MigrationError:
        raise
    except Exception as error:
        cause = said(error) if hasattr(error, "orig") else " ".join(str(error).split())
        raise MigrationFailedError(
            f"A migration failed and everything was rolled back: {cause}",
            where=f"after {reached[-1]}" if reached else "in the first step",
            next_step="correct the migration and repeat the command; `invoke db.sql` shows what it runs",
        ) from error
    if tx.dialect == "sqlite" and (orphan := tx.all("PRAGMA foreign_key_check")):
        raise MigrationFailedError(
            f"The migration left {len(orphan)} rows that refer to nothing; everything was rolled back.",
            where=f"table {orphan[0]['table']}",
            next_step="move or delete those rows in the migration",
        )


def losses(tx: Transaction, steps: tuple[chain.Migration, ...]) -> list[str]:
    """Return which tables' rows undoing `steps` would lose, in words."""
    lost: dict[tuple[str, ...], str] = {}
    for step in steps:
        for breakage in lint.breakages(lint.render(step, direction="downgrade")):
            name = breakage.table
            if not breakage.what.startswith(("drops the table", "drops the column", "empties", "deletes")):
                continue
            if name and name not in lost and (rows := rows_of(tx, name)):
                lost[name] = f"{breakage.what} with {rows:,} rows"
    return list(lost.values())


def rows_of(tx: Transaction, name: tuple[str, ...]) -> int:
    """Return how many rows the table has; none when there is no such table. SQLite has no schemas."""
    of_schema = len(name) > 1 and tx.dialect != "sqlite"
    table = sa.table(name[-1], schema=name[-2] if of_schema else None)
    quoted = tx.connection.dialect.identifier_preparer.format_table(table)
    if not schema.has_table(tx, name[-1] if tx.dialect == "sqlite" else quoted):
        return 0
    return int(tx.connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def keep_history(line: chain.Chain) -> Any:
    """Return the callback with which Alembic tells that a step was applied or undone, to write it down."""

    def write(*, ctx: Any, step: Any, **_: Any) -> None:
        if step.is_upgrade:
            ctx.execute(history_entry(line.migrations[line.position(step.up_revision_id)]))
        else:
            ctx.execute(HISTORY.delete().where(HISTORY.c.revision == sa.literal(step.up_revision_id)))

    return write


def history_entry(migration: chain.Migration) -> Any:
    """Return the statement that writes down that `migration` was applied by us, now."""
    return HISTORY.insert().values(
        revision=migration.revision,
        checksum=migration.checksum,
        applied_at=datetime.now(UTC),
        applied_by=person(),
    )


def person() -> str:
    """Return the name of the account that runs this; a container's numeric user has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def configuration(versions: Path, *, output_buffer: io.StringIO | None = None, **attributes: Any) -> Config:
    """Return Alembic's configuration without an ini file; `attributes` go to env.py."""
    config = Config(output_buffer=output_buffer, attributes=attributes)
    config.set_main_option("path_separator", "os")
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("version_locations", str(versions).replace("%", "%%"))
    return config


def moved(started: float, before: str | None, after: str | None, steps: tuple[chain.Migration, ...]) -> Moved:
    """Return what a command did that began at `started` (monotonic seconds)."""
    return Moved(
        before=before,
        after=after,
        steps=tuple(step.revision for step in steps),
        seconds=time.monotonic() - started,
    )
