"""Copy the embedded database inside its volume, then migrate: the source of a job, run by `python -c`.

It runs in the release's own container, where nothing of `scripts` is, so it imports the standard library
only.
"""

import os
import runpy
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

KEPT = 5


def back_up(database: Path) -> Path | None:
    """Copy the database while others use it, keep the last five copies, return the new one's path."""
    if not database.exists():
        return None
    folder = database.parent / "backups"
    folder.mkdir(exist_ok=True)
    copy = folder / f"{database.stem}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.sqlite3"
    copy.unlink(missing_ok=True)
    with closing(sqlite3.connect(database, timeout=30)) as source:
        source.execute("VACUUM INTO ?", (str(copy),))
    for old in sorted(folder.glob(f"{database.stem}-*.sqlite3"))[:-KEPT]:
        old.unlink()
    return copy


if __name__ == "__main__":
    made = back_up(Path(os.environ["DB_SQLITE_PATH"]))
    sys.stdout.write(f"backup: {made}\n" if made else "backup: nothing to back up yet\n")
    sys.stdout.flush()
    sys.argv = ["app", "migrate"]
    runpy.run_module("app", run_name="__main__", alter_sys=True)
