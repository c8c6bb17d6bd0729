"""Backup of the embedded database by SQLite's online backup, while others read and write it."""

import hashlib
import shutil
import sqlite3
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from scripts.database.backup.archive import Manifest, Table, Writer, cannot_write, finish
from scripts.database.errors import BackupError, RestoreRefusedError

MEMBER = "database.sqlite3"
PAGES = 1024  # a step of the copy: some megabytes, between which Ctrl-C and SIGTERM are heard
SIDE_FILES = ("-wal", "-shm", "-journal")


def dump(path: Path, writer: Writer, scratch: Path) -> Manifest:
    """Copy the database at `path` into an archive, by way of the file `scratch`.

    Raises BackupError when there is no database or the copy is not sound.
    """
    if not path.exists():
        raise BackupError(f"There is no database {path}.", "DB_SQLITE_PATH", "make one with `invoke db.init`")
    with temporary(scratch):
        copy(path, scratch)
        with closing(connect(scratch)) as database:
            sound(database, path)
            manifest = Manifest(
                engine="sqlite",
                method="sqlite",
                database=path.name,
                server_version=sqlite3.sqlite_version,
                tool_version=sqlite3.sqlite_version,
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                revision=revision(database),
                tables=tables(database),
                objects=objects(database),
            )
        with writer.member(MEMBER, compress=True) as member, scratch.open("rb") as file:
            while piece := file.read(1 << 20):
                member.write(piece)
    return finish(writer, manifest)


def copy(source: Path, target: Path) -> None:
    """Make a consistent copy that needs no side files; raises OSError when the disk is full.

    It is of one moment and read once: others may go on writing, since the log keeps what they write apart.
    """
    try:
        with (
            closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)) as live,
            closing(sqlite3.connect(target, isolation_level=None)) as database,
        ):
            # Without a read transaction around all steps, each commit of another process makes SQLite begin
            # the copy anew, so that under steady writing it never ends.
            live.execute("BEGIN")
            live.execute("SELECT count(*) FROM sqlite_master")
            live.backup(database, pages=PAGES, progress=lambda *_: None)
            database.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL:
            raise OSError(28, "No space left on device") from error
        raise BackupError(f"The database cannot be copied: {error}", str(source), "try again") from error
    except sqlite3.DatabaseError as error:
        raise BackupError(
            f"The database is damaged: {error}",
            str(source),
            "restore the last good backup: `invoke db.restore FILE --to=PLACE`",
        ) from error


@contextmanager
def temporary(path: Path) -> Iterator[None]:
    """Remove the file `path` and SQLite's side files of it, before and after."""

    def remove() -> None:
        for name in (path, *(path.with_name(path.name + suffix) for suffix in SIDE_FILES)):
            with suppress(FileNotFoundError):
                name.unlink()

    remove()
    try:
        yield
    finally:
        remove()


def connect(path: Path) -> sqlite3.Connection:
    """Open a database for reading that nobody else uses, with text as bytes: it may be anything."""
    database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    database.text_factory = bytes
    return database


def sound(database: sqlite3.Connection, path: Path) -> None:
    """Raise BackupError when SQLite finds fault with the file."""
    try:
        found = database.execute("PRAGMA integrity_check(5)").fetchall()
    except sqlite3.DatabaseError as error:
        found = [(str(error).encode(),)]
    if found != [(b"ok",)]:
        raise BackupError(
            f"The database is damaged: {found[0][0].decode()}",
            str(path),
            "restore the last good backup: `invoke db.restore FILE --to=PLACE`",
        )


def names(database: sqlite3.Connection) -> list[str]:
    """Return the names of all tables with rows of ours."""
    found = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    return [name for (raw,) in found if not (name := raw.decode()).startswith("sqlite_")]


def tables(database: sqlite3.Connection) -> dict[str, Table]:
    """Return count and checksum of every table."""
    return {name: table(database, name) for name in names(database)}


def table(database: sqlite3.Connection, name: str) -> Table:
    """Return count and checksum of one table; the sum of the rows' hashes does not depend on their order."""
    quoted = name.replace('"', '""')
    rows = total = 0
    for row in database.execute(f'SELECT * FROM "{quoted}"'):  # noqa: S608 - quoted
        rows += 1
        total += int.from_bytes(hashlib.blake2b(repr(row).encode(), digest_size=8).digest(), "big")
    return Table(rows=rows, checksum=f"{total % (1 << 64):016x}")


def objects(database: sqlite3.Connection) -> str:
    """Return a hash of the schema: tables, indexes, triggers, views as they were written."""
    rows = database.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
    ).fetchall()
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def revision(database: sqlite3.Connection) -> str | None:
    """Return the revision that the database says it is at."""
    if "alembic_version" not in names(database):
        return None
    row = database.execute("SELECT version_num FROM alembic_version").fetchone()
    return row[0].decode() if row else None


def restore(archive: zipfile.ZipFile, manifest: Manifest, target: Path, *, live: bool) -> None:
    """Put the database of `archive` at `target`, where there must be no database or an empty one.

    The file appears there only after every table was found whole. Raises RestoreRefusedError, BackupError.
    """
    refuse_used(target, live=live)
    scratch = target.with_name(f".{target.name}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(error, target) from error
    with temporary(scratch):
        try:
            with archive.open(MEMBER) as member, scratch.open("wb") as file:
                shutil.copyfileobj(member, file, 1 << 20)
        except OSError as error:
            raise cannot_write(error, target) from error
        with closing(connect(scratch)) as database:
            sound(database, target)
            compare(manifest, tables(database), objects(database), str(target))
            database.close()
        refuse_used(target, live=live)
        release(target)
        for suffix in SIDE_FILES:
            target.with_name(target.name + suffix).unlink(missing_ok=True)
        scratch.replace(target)


def refuse_used(target: Path, *, live: bool) -> None:
    """Raise RestoreRefusedError when there are tables at `target`; whatever is there is left as it is."""
    if not target.exists():
        return
    try:
        with closing(connect(target)) as database:
            (count,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        raise RestoreRefusedError(
            f"The file to restore into is not an empty database: {error}",
            str(target),
            "give the name of a new file with --to",
        ) from error
    if count:
        raise not_empty(str(target), live=live, example="--to=var/restored.sqlite3")


def release(target: Path) -> None:
    """Bring an empty database at `target` to one file without a log; raises RestoreRefusedError."""
    if not target.exists():
        return
    with closing(sqlite3.connect(target)) as database:
        try:
            database.execute("PRAGMA journal_mode = DELETE")
        except sqlite3.DatabaseError as error:
            raise RestoreRefusedError(
                f"The database to restore into is in use: {error}",
                str(target),
                "end the programs that have it open, or give the name of a new file with --to",
            ) from error


def not_empty(target: str, *, live: bool, example: str) -> RestoreRefusedError:
    """Return the error for a database that holds something already."""
    what = "the live database, which is not empty" if live else "not empty"
    return RestoreRefusedError(
        f"The database to restore into is {what}; a restore never overwrites.",
        target,
        f"restore beside it, look at it, then point the settings there: {example}",
    )


def compare(manifest: Manifest, found: dict[str, Table], found_objects: str, where: str) -> None:
    """Raise BackupError when what was restored differs from what was backed up, naming the first table."""
    for name in sorted({*manifest.tables, *found}):
        said, got = manifest.tables.get(name), found.get(name)
        if said != got:
            raise BackupError(
                f"The table {name} was not restored as it was: {shown(got)} instead of {shown(said)}.",
                where,
                "keep the backup, and restore another one",
            )
    if manifest.objects != found_objects:
        raise BackupError(
            "The rows are as they were, but columns, indexes, constraints or triggers are not.",
            where,
            "keep the backup, and compare the two schemas",
        )


def shown(table: Table | None) -> str:
    """Return a table's figures in words."""
    return "no table" if table is None else f"{table.rows:,} rows with checksum {table.checksum}"


def fingerprint(path: Path) -> tuple[dict[str, Table], str]:
    """Return what `compare` compares, of the database at `path`."""
    with closing(connect(path)) as database:
        return tables(database), objects(database)
