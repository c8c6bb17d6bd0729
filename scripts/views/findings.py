"""Find the places in the sources that a tool's output points at."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

POINTER = re.compile(
    r"^\s*(?:(?:ERROR|FAILED|In|-->)\s+)?(?P<file>[\w./+-][\w ./+-]*?[\w+-])"
    r":(?P<line>\d{1,7})(?::(?P<column>\d{1,5}))?(?::|\s+-|\s|$)\s*(?P<message>.*)$"
)
"""`path:line[:column]: message` as ruff, mypy, pytest, shellcheck (gcc), hadolint and compilers write it."""
SHELLCHECK = re.compile(r"^\s*In (?P<file>.+) line (?P<line>\d{1,7}):(?P<column>)(?P<message>)$")
"""How shellcheck heads a finding for people; what is wrong stands two lines below."""
LONGEST_LINE = 1_000


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One place in one file, and what is wrong there."""

    file: str
    line: int
    column: int | None
    message: str


def findings(lines: Iterable[str], root: Path) -> list[Finding]:
    """Return what `lines` say about files that exist below `root`, each once, in their order."""
    found: dict[Finding, None] = {}
    for text in (line[:LONGEST_LINE] for line in lines):
        pointed = (POINTER.match(text) or SHELLCHECK.match(text)) if ":" in text else None
        file = _below(pointed["file"], root) if pointed else None
        if pointed is None or file is None:
            continue
        finding = Finding(
            file=file,
            line=int(pointed["line"]),
            column=int(pointed["column"]) if pointed["column"] else None,
            message=pointed["message"].strip() or text.strip(),
        )
        found[finding] = None
    return list(found)


def _below(name: str, root: Path) -> str | None:
    path = Path(name)
    if path.is_absolute():
        if not path.is_relative_to(root):
            return None
        path = path.relative_to(root)
    if ".." in path.parts or not (root / path).is_file():
        return None
    return path.as_posix()
