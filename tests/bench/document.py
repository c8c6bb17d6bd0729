"""Write one benchmark's section of docs/performance.md and leave the others as they are."""

from __future__ import annotations

import datetime
import os
import platform
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

TITLE = """# Performance

Measured by `invoke bench NAME`, each figure beside what it is compared with, in one run on one machine.
"""


def write_section(document: Path, name: str, body: str) -> None:
    """Replace the section `name`, or append it when the document has none."""
    begin, end = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
    section = f"{begin}\n{body.strip()}\n{end}"
    text = document.read_text() if document.exists() else TITLE
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    found = pattern.search(text)
    text = (
        f"{text[: found.start()]}{section}{text[found.end() :]}"
        if found
        else f"{text.rstrip()}\n\n{section}\n"
    )
    document.write_text(text)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine() -> str:
    """Say when and on what this was measured, and how busy the machine was."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    load = os.getloadavg()[0]
    return (
        f"Measured on {today}: {platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, load average {load:.1f} before the run."
    )
