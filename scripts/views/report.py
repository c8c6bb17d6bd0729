"""Keep what a run was in `.slipway/runs/<id>/`: run.json for programs, report.html for people."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scripts.pipeline.errors import UsageError
from scripts.pipeline.events import Event, RunFinished
from scripts.views.board import Board
from scripts.views.files import point, write_whole
from scripts.views.listener import Listener

RUN_FILE, PAGE_FILE, LATEST = "run.json", "report.html", "latest"


class Report(Listener):
    """Write the record and the page of each run that ends."""

    def __init__(self, runs: Path, *, warn: Callable[[str], None]) -> None:
        self._runs = runs
        self._warn = warn
        self._board = Board()

    def handle(self, event: Event) -> None:
        """Follow the run on a board; its end writes the files."""
        self._board.handle(event)
        super().handle(event)

    def run_finished(self, event: RunFinished) -> None:
        """Write run.json first, then the page, then let `latest` lead there; a full disk fails no run."""
        from scripts.views.page import page

        folder = self._runs / self._board.run
        try:
            write_whole(folder / RUN_FILE, as_json(event.record))
            write_whole(folder / PAGE_FILE, page(event.record, self._board.rows))
            point(self._runs / LATEST, self._board.run)
        except OSError as error:
            self._warn(
                f"the report of this run is not complete: {error.filename or folder}: {error.strerror}"
            )


def as_json(record: Mapping[str, Any]) -> str:
    """Return a run's record as run.json has it."""
    return json.dumps(record, indent=2, ensure_ascii=False) + "\n"


def last_page(runs: Path) -> Path:
    """Return the page of the last run that ended; raises UsageError when there is none."""
    page = (runs / LATEST).resolve() / PAGE_FILE
    if not page.is_file():
        raise UsageError(
            "No run has ended here yet, so there is no report",
            str(runs / LATEST),
            "Start one, for example: invoke lint",
        )
    return page


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
