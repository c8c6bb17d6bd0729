"""Make a backup, prove that it restores, keep the right ones, and put one back."""

import re
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from scripts.database.backup import archive, locales, postgresql, sqlite
from scripts.database.backup.archive import SUFFIX, Manifest
from scripts.database.backup.retention import Retention, kept
from scripts.database.errors import RestoreRefusedError

if TYPE_CHECKING:
    from app.database.adapters.postgresql import PostgreSQL
    from config.service import Database

STAMP = "%Y%m%dT%H%M%SZ"
UNPROVEN = ".unproven"
METHODS = ("auto", "pg_dump", "copy")


@dataclass(frozen=True, kw_only=True)
class Backup:
    """A backup that was made: `seconds` for making it, `verified` whether it was restored and compared."""

    path: Path
    manifest: Manifest
    bytes: int
    seconds: float
    verified: bool
    removed: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True)
class Restored:
    """A backup that was put back: into which database, from which revision, and how long it took."""

    target: str
    manifest: Manifest
    seconds: float


def backup(
    database: "Database",
    folder: Path,
    *,
    label: str = "ledger",
    method: str = "auto",
    verify: bool = False,
    retention: Retention | None = None,
    now: datetime | None = None,
) -> Backup:
    """Back up the database of these settings into a new file in `folder`, then drop what `retention` drops.

    `method` is auto, pg_dump or copy and concerns PostgreSQL only. With `verify` the file is restored into a
    scratch database and compared, and has the name of a backup only then. Raises BackupError, and
    app.database's errors when no server answers.
    """
    started = time.monotonic()
    moment = (now or datetime.now(UTC)).strftime(STAMP)
    path = folder / f"{label}-{moment}{SUFFIX}"
    written = path.with_name(f"{path.name}{UNPROVEN}") if verify else path
    with archive.claimed(path):
        with archive.writing(written) as writer:
            if engine(database) == "sqlite":
                scratch = folder / f".{path.name}.sqlite3"
                manifest = sqlite.dump(database.sqlite_path, writer, scratch)
            else:
                manifest = postgresql.dump(route(database), writer, method=method)
        made = time.monotonic() - started
        if verify:
            prove(written, database)
            archive.rename(written, path)
    return Backup(
        path=path,
        manifest=manifest,
        bytes=path.stat().st_size,
        seconds=made,
        verified=verify,
        removed=prune(folder, label, retention) if retention else (),
    )


def prove(path: Path, database: "Database") -> Manifest:
    """Restore the backup at `path` into a scratch database and compare every table; leave nothing behind.

    Raises BackupError when it does not restore or differs.
    """
    with archive.reading(path) as (file, manifest):
        refuse_unfit(manifest, database, path)
        if manifest.engine == "sqlite":
            with tempfile.TemporaryDirectory(prefix="slipway-verify-") as scratch:
                sqlite.restore(file, manifest, Path(scratch) / "verify.sqlite3", live=False)
        else:
            name = f"slipway_verify_{secrets.token_hex(6)}"
            with created(database, name) as target:
                fill(file, manifest, target)
    return manifest


def restore(path: Path, database: "Database", *, to: str | None = None) -> Restored:
    """Restore the backup at `path` into an empty database: the one of the settings, or another by `to`.

    `to` is a file for SQLite and the name of a database on the same server for PostgreSQL, made when missing.
    Raises RestoreRefusedError for a database that is not empty or of another engine, BackupError for a file
    that is not whole.
    """
    started = time.monotonic()
    with archive.reading(path) as (file, manifest):
        refuse_unfit(manifest, database, path)
        if manifest.engine == "sqlite":
            target = Path(to) if to else database.sqlite_path
            live = target.resolve() == database.sqlite_path.resolve()
            sqlite.restore(file, manifest, target, live=live)
            where = str(target)
        else:
            where = restore_postgresql(file, manifest, database, to or database.name)
    return Restored(target=where, manifest=manifest, seconds=time.monotonic() - started)


def restore_postgresql(file: Any, manifest: Manifest, database: "Database", name: str) -> str:
    """Fill the empty database `name`, making it when it is missing and dropping it again when that fails."""
    if name != database.name and not postgresql.database_exists(route(database), name):
        with created(database, checked_name(name), keep=True) as target:
            fill(file, manifest, target)
    else:
        target = replace(database, name=name)
        if not postgresql.is_empty(route(target)):
            live = name == database.name
            raise sqlite.not_empty(route(target).describe(), live=live, example=f"--to={name}_restored")
        try:
            fill(file, manifest, target)
        except BaseException:
            with suppress(Exception):  # the first error is the one to tell
                make_empty_again(target)
            raise
    return route(target).describe()


def fill(file: Any, manifest: Manifest, target: "Database") -> None:
    """Put the backup into the empty PostgreSQL database `target` and compare every table."""
    adapter = route(target)
    if manifest.method == "pg_dump":
        postgresql.run_pg_restore(file, manifest, adapter)
    else:
        migrate(target, manifest)
        postgresql.fill(file, manifest, adapter)
    tables, objects = postgresql.fingerprint(adapter)
    sqlite.compare(manifest, tables, objects, adapter.describe())
    postgresql.compare_sequences(manifest, adapter)


def make_empty_again(target: "Database") -> None:
    """Take away what a failed restore has made in a database that was empty, so that it can be repeated."""
    from app.database import ConnectionManager
    from app.database.migrations import runner

    with ConnectionManager.from_settings(replace(target, adapter_order=(route(target).kind,))) as manager:
        runner.downgrade(manager, "base", accept_loss=True)
    postgresql.drop_tables(route(target))


def migrate(target: "Database", manifest: Manifest) -> None:
    """Bring an empty database to the revision of a COPY backup, with the tables that jobs make beside it."""
    from app.database import ConnectionManager
    from app.database.migrations import runner
    from scripts.database.populate import checkpoint

    manager = ConnectionManager.from_settings(replace(target, adapter_order=(route(target).kind,)))
    try:
        if manifest.revision is not None:
            runner.upgrade(manager, manifest.revision)
        if f"public.{checkpoint.TABLE}" in manifest.tables:
            with manager.transaction(label="restore") as tx:
                checkpoint.prepare(tx)
    finally:
        manager.close()


@contextmanager
def created(database: "Database", name: str, *, keep: bool = False) -> Iterator["Database"]:
    """Make the database `name` on the same server; drop it afterwards, with `keep` only after an error."""
    maintenance = route(database)
    locales.create_alike(maintenance, name)
    done = False
    try:
        yield replace(database, name=name)
        done = True
    finally:
        if not (keep and done):
            postgresql.command(maintenance, f"DROP DATABASE {postgresql.quoted(name)} WITH (FORCE)")


def engine(database: "Database") -> str:
    """Return which engine these settings lead to: sqlite or postgresql."""
    return "sqlite" if "sqlite" in database.adapter_order else "postgresql"


def route(database: "Database") -> "PostgreSQL":
    """Return the first route to the server that is not a pooler, or the pooler when there is no other."""
    from app.database.routes import adapters_of, fixed_password

    routes, _ = adapters_of(database, fixed_password(database))
    plain = [each for each in routes if each.kind != "pooler"]
    return cast("PostgreSQL", (plain or routes)[0])


def refuse_unfit(manifest: Manifest, database: "Database", path: Path) -> None:
    """Raise when these settings cannot take the backup.

    RestoreRefusedError when they name another engine, BackupError when their only route is a pooler and the
    backup needs pg_restore.
    """
    here = engine(database)
    if manifest.engine != here:
        raise RestoreRefusedError(
            f"The backup is of a {manifest.engine} database, and the settings lead to {here}.",
            str(path),
            "choose the environment it was made in with --env, or set DB_ADAPTER_ORDER",
        )
    if manifest.method == "pg_dump" and route(database).kind == "pooler":
        raise postgresql.needs_session("pg_restore", route(database), "take a backup by --method=copy")


def checked_name(name: str) -> str:
    """Return `name` when it can be a new database's; raises RestoreRefusedError."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]{0,62}", name):
        raise RestoreRefusedError(
            f"{name!r} cannot be the name of a database.", "--to", "use letters, digits, _ and -"
        )
    return name


def prune(folder: Path, label: str, retention: Retention) -> tuple[Path, ...]:
    """Remove the backups of `label` in `folder` that `retention` does not keep, and return them.

    Those that were not proven are judged among themselves, so that none stands in for a good one.
    """
    gone: list[Path] = []
    for suffix in (SUFFIX, f"{SUFFIX}{UNPROVEN}"):
        by_time = {time_of(path, label): path for path in folder.glob(f"{label}-*{suffix}")}
        by_time.pop(None, None)
        times = {moment for moment in by_time if moment is not None}
        gone += [by_time[moment] for moment in sorted(times - kept(times, retention))]
    for path in gone:
        path.unlink()
        path.with_name(f"{path.name}.sha256").unlink(missing_ok=True)
    return tuple(gone)


def time_of(path: Path, label: str) -> datetime | None:
    """Return when a backup was made by its name, None for a file that we did not name."""
    text = path.name.removeprefix(f"{label}-").removesuffix(UNPROVEN).removesuffix(SUFFIX)
    try:
        return datetime.strptime(text, STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None
