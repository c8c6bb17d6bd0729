"""Cut what ships out of the lock file: a pure function of its text and of setup.cfg's `install_requires`.

The lock holds every dependency with its hashes and, in "# via" comments, who asked for it. What ships is
`install_requires` and whatever is reached from there. It runs inside the image build too, so it uses the
standard library alone.
"""

import configparser
import re
import sys
from pathlib import Path

PINNED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?\s*==")
REQUIRED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)")


class NotLocked(Exception):
    """setup.cfg asks for a package that the lock file does not hold."""


def shipped(lock: str, setup: str) -> str:
    """Return the part of the lock file that the image installs, hashes included.

    Raises NotLocked when a required package is missing from the lock.
    """
    configuration = configparser.ConfigParser(interpolation=None)
    configuration.read_string(setup)
    asked = configuration.get("options", "install_requires", fallback="").splitlines()
    wanted = {
        _normal(match[1])
        for line in asked
        if not line.strip().startswith("#") and (match := REQUIRED.match(line.strip()))
    }
    entries = _entries(lock)
    if missing := wanted - {name for name, _, _ in entries}:
        raise NotLocked(
            f"requirements.lock lacks {', '.join(sorted(missing))}, which setup.cfg asks for;"
            ' run "invoke lock"'
        )
    while reached := {name for name, askers, _ in entries if askers & wanted} - wanted:
        wanted |= reached
    return "".join(text for name, _, text in entries if name in wanted)


def _entries(lock: str) -> list[tuple[str, set[str], str]]:
    """Return each entry's name, the names of who asked for it, and its lines without comments."""
    entries: list[tuple[str, set[str], str]] = []
    for line in lock.splitlines():
        if match := PINNED.match(line):
            entries.append((_normal(match[1]), set(), line + "\n"))
        elif not entries:
            continue
        elif line.lstrip().startswith("#"):
            asker = line.lstrip(" #").removeprefix("via").split("(")[0].split("[")[0].strip()
            if asker:
                entries[-1][1].add(_normal(asker))
        elif line.strip():
            name, askers, text = entries[-1]
            entries[-1] = (name, askers, f"{text}{line}\n")
    return entries


def _normal(name: str) -> str:
    """Return a package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.stdout.write(
        shipped(
            Path("requirements.lock").read_text(encoding="utf-8"),
            Path("setup.cfg").read_text(encoding="utf-8"),
        )
    )
