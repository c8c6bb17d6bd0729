"""One backup in one file: a zip of data and a manifest, written whole or not at all.

The manifest comes last and holds the SHA-256 of every member; beside the file lies `NAME.sha256`, which
`sha256sum -c` reads. A file that was cut short has no directory, a damaged one a wrong checksum: both are
refused before anything is restored.
"""

import errno
import hashlib
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from scripts.database.errors import BackupError

FORMAT = 1
SUFFIX = ".backup.zip"
MANIFEST = "manifest.json"
CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Table:
    """What a table held: its number of rows and a checksum that does not depend on their order."""

    rows: int
    checksum: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a backup is: of which engine and database, at which revision, with which tables.

    `method` is sqlite, pg_dump or copy; `objects` is a hash of columns, indexes, constraints and triggers;
    `sequences` maps each sequence to its last value and whether that was handed out.
    """

    engine: str
    method: str
    database: str
    server_version: str
    tool_version: str
    created: str
    revision: str | None
    tables: Mapping[str, Table]
    objects: str
    sequences: Mapping[str, tuple[int, bool]] = field(default_factory=dict)
    members: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def rows(self) -> int:
        """Return the number of rows of all tables."""
        return sum(table.rows for table in self.tables.values())


class Writer:
    """Adds members to an archive and remembers their checksums."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self.members: dict[str, str] = {}

    @contextmanager
    def member(self, name: str, *, compress: bool) -> Iterator["Hashing"]:
        """Open a member for writing, of any size; `compress` is for what is not compressed yet."""
        entry = zipfile.ZipInfo(name, datetime.now(UTC).timetuple()[:6])
        entry.compress_type = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
        entry.external_attr = 0o600 << 16
        with self._archive.open(entry, "w", force_zip64=True) as file:
            hashing = Hashing(file)
            yield hashing
        self.members[name] = hashing.digest()


class Hashing:
    """A file to write to that hashes what it passes on."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()

    def write(self, data: bytes | str) -> int:
        """Pass on `data`; text, which psycopg2 gives, as UTF-8."""
        raw = data.encode() if isinstance(data, str) else data
        self._hash.update(raw)
        return self._file.write(raw)

    def digest(self) -> str:
        """Return the SHA-256 in hex."""
        return self._hash.hexdigest()


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Keep the name `path` to ourselves for the block, so that two backups of one second never mix.

    Raises BackupError when there is a backup of that name or another process is making it.
    """
    claim = path.with_name(f".{path.name}.claim")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise cannot_write(error, path) from error
    try:
        os.close(os.open(claim, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        raise taken(path) from None
    except OSError as error:
        raise cannot_write(error, path) from error
    try:
        if path.exists():
            raise taken(path)
        yield
    finally:
        claim.unlink(missing_ok=True)


def taken(path: Path) -> BackupError:
    """Return the error for a name that another backup has."""
    return BackupError("There is a backup of this second already.", str(path), "repeat the command")


@contextmanager
def writing(path: Path) -> Iterator[Writer]:
    """Write an archive to `path`: there when the block ends well, and no trace of it when it does not.

    Raises BackupError when the disk is full or the folder cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file:
            with zipfile.ZipFile(file, "w", compresslevel=6) as archive:
                yield Writer(archive)
            file.flush()
            os.fsync(file.fileno())
        note = path.with_name(f"{path.name}.sha256")
        note.write_text(f"{file_digest(partial)}  {path.name}\n", encoding="ascii")
        partial.replace(path)
        sync_folder(path.parent)
    except BaseException as error:
        for leftover in (partial, path.with_name(f"{path.name}.sha256")):
            with suppress(OSError):
                leftover.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise cannot_write(error, path) from error
        raise


def rename(path: Path, to: Path) -> None:
    """Give a whole archive and the note beside it another name; raises BackupError when the disk is full."""
    note, old = (each.with_name(f"{each.name}.sha256") for each in (to, path))
    try:
        note.write_text(f"{old.read_text(encoding='ascii').split()[0]}  {to.name}\n", encoding="ascii")
    except OSError as error:
        note.unlink(missing_ok=True)
        raise cannot_write(error, to) from error
    path.rename(to)
    old.unlink()
    sync_folder(to.parent)


def cannot_write(error: OSError, path: Path) -> BackupError:
    """Return the error for a backup that could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return BackupError(
            "The disk is full: the backup was not made, and no partial file was left.",
            str(path.parent),
            "free space there, or give another folder with --folder",
        )
    return BackupError(
        f"The backup cannot be written: {error}", str(path), "correct this and repeat the command"
    )


def finish(writer: Writer, manifest: Manifest) -> Manifest:
    """Write the manifest with the checksums of all members, as the last member."""
    from dataclasses import replace

    whole = replace(manifest, members=dict(writer.members))
    with writer.member(MANIFEST, compress=True) as file:
        file.write(json.dumps(asdict(whole), indent=2, sort_keys=True))
    return whole


@contextmanager
def reading(path: Path) -> Iterator[tuple[zipfile.ZipFile, Manifest]]:
    """Open a backup whose every byte was checked; raises BackupError for one that is cut short or damaged."""
    with ExitStack() as stack:
        try:
            archive = stack.enter_context(zipfile.ZipFile(path))
            manifest = checked(archive, path)
        except FileNotFoundError:
            raise BackupError(f"There is no backup {path}.", "", "`invoke db.backup` makes one") from None
        except zipfile.BadZipFile as error:
            raise damaged(path, f"it is cut short or not a backup ({error})") from error
        except OSError as error:
            raise BackupError(
                f"The backup cannot be read: {error.strerror}.", str(path), "name the file of a backup"
            ) from error
        yield archive, manifest


def checked(archive: zipfile.ZipFile, path: Path) -> Manifest:
    """Return the manifest once every member has the checksum that it names."""
    note = path.with_name(f"{path.name}.sha256")
    if note.exists() and note.read_text("ascii", "replace").split()[:1] != [file_digest(path)]:
        raise damaged(path, f"its checksum is not the one in {note.name}")
    try:
        document: dict[str, Any] = json.loads(archive.read(MANIFEST))
        manifest = from_document(document)
    except (KeyError, TypeError, ValueError, zipfile.zlib.error) as error:  # type: ignore[attr-defined]
        raise damaged(path, f"its manifest cannot be read ({error})") from error
    if manifest.format > FORMAT:
        raise BackupError(
            f"The backup has format {manifest.format}, and this code reads {FORMAT}.",
            str(path),
            "restore it with the newer release that made it",
        )
    for name, digest in manifest.members.items():
        if member_digest(archive, name, path) != digest:
            raise damaged(path, f"{name} has another checksum than the manifest says")
    return manifest


def from_document(document: Mapping[str, Any]) -> Manifest:
    """Return the manifest that was written as `document`."""
    values = dict(document)
    values["tables"] = {name: Table(**table) for name, table in values["tables"].items()}
    values["sequences"] = {name: (int(at), bool(used)) for name, (at, used) in values["sequences"].items()}
    return Manifest(**values)


def member_digest(archive: zipfile.ZipFile, name: str, path: Path) -> str:
    """Return the SHA-256 of a member; raises BackupError when it cannot be read to its end."""
    try:
        with archive.open(name) as file:
            return stream_digest(cast("BinaryIO", file))
    except (KeyError, EOFError, zipfile.BadZipFile, zipfile.zlib.error) as error:  # type: ignore[attr-defined]
        raise damaged(path, f"{name} cannot be read ({error})") from error


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return stream_digest(file)


def stream_digest(file: BinaryIO) -> str:
    """Return the SHA-256 of what is left of a stream in hex."""
    found = hashlib.sha256()
    while piece := file.read(CHUNK):
        found.update(piece)
    return found.hexdigest()


def damaged(path: Path, why: str) -> BackupError:
    """Return the error for a file that is not a whole backup."""
    return BackupError(
        f"The backup is not whole: {why}.", str(path), "use another one; nothing was restored from this"
    )


def sync_folder(folder: Path) -> None:
    """Make the name of a new file as durable as its content."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
