"""The embedded database: one file, no server.

Rules: WAL, and verified, so that readers never block the writer; BEGIN IMMEDIATE for writes, so that two
writers queue instead of failing half-way; foreign keys on; a busy time-out for writers in other processes.
In one process the writers queue for a single connection, first come first served, which SQLite's own busy
handler does not promise. Read-only transactions run on connections that refuse to write.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from app.database.adapters.contract import PRIMARY, Adapter, Facts
from app.database.errors import AdapterMisconfigured, RouteDown, WrongDatabase
from app.database.sqlstates import sqlite_code_of

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

_SQLITE_READONLY = 8
_SQLITE_DENIED = frozenset({3, _SQLITE_READONLY, 14})
_SQLITE_NOTADB = 26


class Sqlite(Adapter):
    """A route to a database file."""

    kind = "sqlite"
    dialect = "sqlite"
    writers: ClassVar[int | None] = 1

    def __init__(self, path: Path, *, busy_timeout: float = 5.0, name: str | None = None) -> None:
        super().__init__(name)
        if str(path) in {":memory:", ""} or str(path).startswith("file:"):
            raise AdapterMisconfigured(
                f"SQLite's database must be a file, not {str(path)!r}.",
                where="DB_SQLITE_PATH",
                next_step="Give the path of a file: each connection to memory sees a database of its own.",
            )
        self.path = Path(path)
        self.busy_timeout = busy_timeout
        self._wal_lock = threading.Lock()
        self._known = False

    def after_fork(self) -> None:
        """Replace the locks, which another thread of the parent may have held."""
        super().after_fork()
        self._wal_lock = threading.Lock()

    def describe(self) -> str:
        """Say where the route leads."""
        return f"sqlite:{self.path}"

    def _make_engine(self) -> Engine:
        from sqlalchemy import create_engine
        from sqlalchemy.pool import NullPool

        return create_engine("sqlite://", creator=self._create, poolclass=NullPool, hide_parameters=True)

    def open(self, timeout: float) -> Any:
        """Open the file, making it and its folder when they are missing."""
        if not self._known:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        raw = sqlite3.connect(
            # A file that was there is never made anew: an empty one in its place would be taken for it.
            f"{self.path.absolute().as_uri()}?mode={'rw' if self._known else 'rwc'}",
            uri=True,
            timeout=max(self.busy_timeout, 0.001),
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
            factory=_Connection,
        )
        try:
            raw.file = _file_of(self.path)
            with self._wal_lock:
                (mode,) = raw.execute("PRAGMA journal_mode = WAL").fetchone()
            raw.execute("PRAGMA synchronous = NORMAL")
            raw.execute("PRAGMA foreign_keys = ON")
            (foreign_keys,) = raw.execute("PRAGMA foreign_keys").fetchone()
            self._verify(mode, foreign_keys)
            self._known = True
        except BaseException:
            raw.close()
            raise
        return raw

    def _verify(self, mode: str, foreign_keys: int) -> None:
        if mode != "wal":
            raise AdapterMisconfigured(
                f"SQLite answered journal mode {mode!r} where WAL is needed.",
                where=self.describe(),
                next_step="Put the file on a local disk that is not a network share.",
            )
        if not foreign_keys:
            raise AdapterMisconfigured("This SQLite was built without foreign keys.", where=self.describe())

    def facts(self, raw: Any) -> Facts:
        """Tell the identity of the file and whether this process may write to it."""
        raw.execute("SELECT count(*) FROM sqlite_master").fetchone()
        return Facts(
            identity=f"sqlite:{raw.file[0]}:{raw.file[1]}", role=PRIMARY, writable=self._writable(raw)
        )

    def _writable(self, raw: Any) -> bool:
        if not (os.access(self.path, os.W_OK) and os.access(self.path.parent, os.W_OK)):
            return False
        raw.execute("PRAGMA query_only = OFF")
        raw.execute("PRAGMA busy_timeout = 0")
        try:
            raw.execute("BEGIN IMMEDIATE")
            raw.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            return sqlite_code_of(error) != _SQLITE_READONLY
        finally:
            raw.execute(f"PRAGMA busy_timeout = {int(self.busy_timeout * 1000)}")
            raw.patience = self.busy_timeout
        return True

    def alive(self, raw: Any) -> None:
        """Fail when the file was replaced or removed, since writes would go to a file that nobody sees."""
        if _file_of(self.path) != raw.file:
            raw.closed = True
            raise sqlite3.OperationalError(f"{self.path} is no longer the file that was opened")

    def begin(self, connection: Connection, raw: Any, *, read_only: bool, within: float) -> None:
        """Begin at once, so that a busy database is found before any work is done."""
        connection.begin()
        patience = min(self.busy_timeout, max(0.0, within))
        if raw.patience != patience:
            raw.execute(f"PRAGMA busy_timeout = {int(patience * 1000)}")
            raw.patience = patience
        if raw.read_only is not read_only:
            raw.execute(f"PRAGMA query_only = {'ON' if read_only else 'OFF'}")
            raw.read_only = read_only
        raw.execute("BEGIN" if read_only else "BEGIN IMMEDIATE")
        if not read_only:
            self.alive(raw)  # one call of stat, and no write is acknowledged that nobody finds again

    def failed(self, raw: Any) -> bool:
        """Tell whether an error such as a full disk made SQLite end the transaction by itself.

        Source: sqlite.org/lang_transaction.html, "Response To Errors Within A Transaction".
        """
        return not raw.in_transaction

    def after_error(self, raw: Any) -> None:
        """Refuse to write when no transaction is open any more: each statement would commit by itself."""
        if not raw.in_transaction and not raw.read_only:
            raw.execute("PRAGMA query_only = ON")
            raw.read_only = True  # `begin` takes it back

    def explain(self, error: BaseException) -> Exception:
        """Keep errors of ours; say what a person has to mend; turn others into RouteDown."""
        from app.database.errors import DatabaseError

        original = getattr(error, "orig", None) or error
        if isinstance(original, DatabaseError):
            return original
        if self._known and not self.path.exists():
            return WrongDatabase(
                f"The database file is gone: {self.path} was there, and was moved or deleted.",
                where=self.describe(),
                next_step="Put it back: it is taken up again, and no empty one is made in its place.",
            )
        what = f"The database file cannot be opened: {original}."
        remedy = self._remedy(original)
        if remedy:
            return AdapterMisconfigured(what, where=self.describe(), next_step=remedy)
        return RouteDown(
            what,
            where=self.describe(),
            next_step="Check that the folder exists, is writable and has space.",
        )

    def _remedy(self, error: BaseException) -> str:
        """Return what a person has to do about a file that no second attempt can open."""
        if self.path.is_dir():
            return "This is a folder: give the path of a file in DB_SQLITE_PATH."
        if sqlite_code_of(error) == _SQLITE_NOTADB:
            return "Give the path of an SQLite database, or of a file to be made, in DB_SQLITE_PATH."
        if isinstance(error, FileExistsError | NotADirectoryError):
            return "A part of the path is a file: give another in DB_SQLITE_PATH."
        folder = self.path.parent
        denied = sqlite_code_of(error) in _SQLITE_DENIED and not os.access(folder, os.W_OK | os.X_OK)
        if denied or isinstance(error, PermissionError):
            return f"Let this user write to {folder}, where SQLite keeps its log, or copy the file elsewhere."
        return ""


class _Connection(sqlite3.Connection):
    """A connection that remembers its file, whether it refuses writes, and how long it waits, in seconds."""

    closed: bool = False
    """It is of no more use, and its pool closes it."""
    file: tuple[int, int] = (0, 0)
    read_only: bool = False
    patience: float = -1.0


def _file_of(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return (0, 0)
    return (found.st_dev, found.st_ino)
