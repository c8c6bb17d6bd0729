"""Keep what a run was, for people: `report.html` beside the run.json that the engine writes for programs."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scripts.pipeline import files
from scripts.pipeline.errors import UsageError
from scripts.pipeline.events import Event, RunFinished
from scripts.views.board import Board
from scripts.views.listener import Listener

RUN_FILE, PAGE_FILE = "run.json", "report.html"


class Report(Listener):
    """Write the page of each run that ends."""

    def __init__(self, runs: Path, *, warn: Callable[[str], None]) -> None:
        self._runs = runs
        self._warn = warn
        self._board = Board()

    def handle(self, event: Event) -> None:
        """Follow the run on a board; its end writes the page."""
        self._board.handle(event)
        super().handle(event)

    def run_finished(self, event: RunFinished) -> None:
        """Write the page; a full disk fails no run."""
        from scripts.views.page import page

        text = page(event.record, self._board.rows)
        path = self._runs / self._board.run / PAGE_FILE
        try:
            files.write(path, text.encode("utf-8", "backslashreplace"), lasting=False)
        except OSError as error:
            self._warn(f"this run has no report: {path}: {error.strerror}")


def as_json(record: Mapping[str, Any]) -> str:
    """Return a run's record as `--json` prints it."""
    return json.dumps(record, indent=2) + "\n"


def last_page(runs: Path) -> Path:
    """Return the page of the last run that ended; raises UsageError when there is none."""
    pages = [path for path in runs.glob(f"*/{PAGE_FILE}") if not path.parent.is_symlink()]
    if not pages:
        raise UsageError(
            "no run has ended here yet, so there is no report", str(runs), "start one: invoke lint"
        )
    return max(pages, key=lambda path: path.parent.name)


def last_record(runs: Path) -> str:
    """Return run.json of the last run that ended, as text; raises UsageError when there is none."""
    return (last_page(runs).parent / RUN_FILE).read_text(encoding="utf-8")


def show(page: Path, variables: Mapping[str, str], *, interactive: bool) -> bool:
    """Open `page` in a browser when somebody sits before a screen; tells whether it was opened."""
    screen = sys.platform == "darwin" or variables.get("DISPLAY") or variables.get("WAYLAND_DISPLAY")
    if not interactive or not screen:
        return False
    import webbrowser

    return webbrowser.open(page.as_uri())
