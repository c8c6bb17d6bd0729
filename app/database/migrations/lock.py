"""One migrator at a time, with a bounded wait and the holder's name.

PostgreSQL: a transaction-level advisory lock, which works through a pooler in transaction mode and is freed
by the server when its holder dies. SQLite: an flock beside the database file, freed by the kernel likewise.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from app.database.migrations.errors import MigrationLockedError

if TYPE_CHECKING:
    from app.database.transactions import Transaction

# The first eight bytes of SHA-256("slipway.migrations") as a signed integer: any constant nobody else uses.
KEY = 0x2F1D_0C4A_77E5_9B13
POLL_SECONDS = 0.1

HOLDER = """
SELECT activity.pid, activity.application_name, activity.usename,
       coalesce(host(activity.client_addr), 'socket') AS address,
       round(extract(epoch FROM clock_timestamp() - activity.xact_start)) AS seconds
FROM pg_locks AS held JOIN pg_stat_activity AS activity USING (pid)
WHERE held.locktype = 'advisory' AND held.granted
  AND held.classid = :high AND held.objid = :low AND held.objsubid = 1
"""


def lock_postgresql(tx: Transaction, wait: float) -> None:
    """Hold the migration lock until `tx` ends; raises MigrationLockedError after `wait` seconds."""
    deadline = time.monotonic() + wait
    while not tx.scalar("SELECT pg_try_advisory_xact_lock(:key)", key=KEY):
        if time.monotonic() >= deadline:
            raise locked(wait, postgresql_holder(tx))
        time.sleep(POLL_SECONDS)


def postgresql_holder(tx: Transaction) -> str:
    """Return who holds the lock, in words."""
    rows = tx.all(HOLDER, high=KEY >> 32, low=KEY & 0xFFFF_FFFF)
    if not rows:
        return "a session that has just ended"
    row = rows[0]
    program = row["application_name"] or "a program without a name"
    return (
        f"{program} (server process {row['pid']}, user {row['usename']}, from {row['address']},"
        f" since {row['seconds']} s)"
    )


@contextmanager
def lock_file(database: Path, wait: float) -> Iterator[None]:
    """Hold the migration lock of a SQLite file; raises MigrationLockedError after `wait` seconds."""
    path = database.with_name(f"{database.name}.migrating")
    deadline = time.monotonic() + wait
    while (handle := acquired(path)) is None:
        if time.monotonic() >= deadline:
            raise locked(wait, file_holder(path))
        time.sleep(POLL_SECONDS)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def acquired(path: Path) -> int | None:
    """Return the locked file's descriptor with our name written into it, None when somebody else has it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The holder before us removed the file after we had opened it: what we locked is no longer there.
        still_there = path.stat().st_ino == os.fstat(handle).st_ino
    except (BlockingIOError, FileNotFoundError):
        still_there = False
    if not still_there:
        os.close(handle)
        return None
    owner = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "program": Path(sys.argv[0]).name,
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps(owner).encode(), 0)
    return handle


def file_holder(path: Path) -> str:
    """Return who holds the lock, in words."""
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "a process that did not say its name"
    return f"{owner['program']} (process {owner['pid']} on {owner['host']}, since {owner['since']})"


def locked(wait: float, holder: str) -> MigrationLockedError:
    """Return the error for a lock that `holder` kept for more than `wait` seconds."""
    return MigrationLockedError(
        f"Another migration of this database is running; waited {wait:g} s for it.",
        where=f"the lock is held by {holder}",
        next_step="wait for it and repeat the command, or end that process if it hangs: its work is then"
        " rolled back",
    )
