"""The commands of a guide, so that a test can run what a reader would type."""

import re
from pathlib import Path

FENCE = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(path: Path) -> list[str]:
    """Return the shell blocks of a Markdown file in their order: those fenced as `sh`, no others."""
    return FENCE.findall(path.read_text(encoding="utf-8"))
