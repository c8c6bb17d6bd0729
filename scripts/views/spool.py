"""Events that wait on disk until a ledger took them: one NDJSON file a run and destination.

Writing is one rename and delivering is one unlink, so two runs at once need no lock: at worst both deliver
the same file, and a ledger takes each event once.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.pipeline import files

MOST_FILES = 500
"""Runs that wait for one destination; beyond that the oldest are given up, so that no disk fills."""

UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
Event = Mapping[str, Any]


class Spool:
    """What waits for one destination."""

    def __init__(self, folder: Path, *, most_files: int = MOST_FILES) -> None:
        self._folder = folder
        self._most_files = most_files

    def put(self, run: str, events: Sequence[Event]) -> int:
        """Keep a run's events; returns how many older runs were given up for it. Raises OSError."""
        text = "".join(json.dumps(_storable(event), ensure_ascii=False) + "\n" for event in events)
        files.write(self._folder / f"{run}.ndjson", text.encode(), lasting=False)
        surplus = self.waiting()[: -self._most_files]
        for path in surplus:
            path.unlink(missing_ok=True)
        return len(surplus)

    def waiting(self) -> list[Path]:
        """Return the files that wait, the oldest run first: run ids sort by time."""
        return sorted(self._folder.glob("*.ndjson"))

    def read(self, path: Path) -> list[Event] | None:
        """Return a file's events; None for a file that is gone or damaged, which is then set aside."""
        try:
            return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        except FileNotFoundError:
            return None
        except ValueError:
            self.refuse(path)
            return None

    def done(self, path: Path) -> None:
        """Forget a file whose events were taken."""
        path.unlink(missing_ok=True)

    def refuse(self, path: Path) -> None:
        """Set a file aside that no ledger will ever take, so that those behind it go on."""
        aside = self._folder / "refused"
        aside.mkdir(parents=True, exist_ok=True)
        path.replace(aside / path.name)


def _storable(value: Any) -> Any:
    """Replace what no database keeps in a text, NUL and lone surrogates, by the replacement character."""
    if isinstance(value, str):
        return UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, Mapping):
        return {_storable(key): _storable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(each) for each in value]
    return value
