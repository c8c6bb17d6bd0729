"""Tells the views what happens, and keeps run.json on disk up to date meanwhile."""

import contextlib
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from scripts.pipeline import events, files
from scripts.pipeline.errors import SlipwayError
from scripts.pipeline.record import Recorder

KEPT_RUNS = 20


class Telling:
    """All views as one, each event masked; a view that breaks is let go and does not disturb the run."""

    def __init__(
        self, views: Sequence[events.View], mask: events.Mask, directory: Path, now: Callable[[], datetime]
    ) -> None:
        self._views = list(views)
        self._mask = mask
        self._directory = directory
        self._now = now
        self._recorder = Recorder()
        self._early: list[events.Event] = []
        self._begun = False
        self._full = False
        self._last = time.monotonic()

    def silence(self) -> float:
        """Return for how many seconds nothing was told."""
        return time.monotonic() - self._last

    def notice(self, text: str) -> None:
        """Tell something about the run itself."""
        self.tell(events.Notice(at=self._now(), text=text))

    def begin(self, event: events.RunStarted) -> None:
        """Make the run's folder and tell that it has started; raises SlipwayError when that cannot be
        written.
        """
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            files.point(self._directory.parent / "latest", self._directory.name)
        except OSError as error:
            raise SlipwayError(
                f"the run's folder cannot be made: {error.strerror}",
                where=str(self._directory),
                next_step="free some space or make it writable, then run this again",
            ) from error
        self._begun = True
        self.tell(event)

    def tell(self, event: events.Event) -> None:
        """Pass an event to every view, without any secret in it."""
        masked = self._mask.event(event)
        if not isinstance(event, events.StageProgress):
            self._last = time.monotonic()
        self._recorder.handle(masked)
        for view in tuple(self._views):
            self._pass(view, masked)
        if isinstance(event, events.RunStarted | events.StageFinished):
            self._write(lasting=False)

    def finish(self, run: str, result: str, exit_code: int) -> None:
        """Write run.json for good and tell that the run has ended."""
        at = self._now()
        record = self._recorder.finish(result, at)
        self._write(lasting=True)
        self.tell(events.RunFinished(at=at, run=run, result=result, exit_code=exit_code, record=record))

    def close(self) -> None:
        """Close every view."""
        for view in self._views:
            with contextlib.suppress(Exception):
                view.close()

    def keep_runs(self, needed: set[str]) -> None:
        """Forget all but the last runs and those whose proofs still count."""
        folder = self._directory.parent
        names = (
            sorted(path.name for path in folder.iterdir() if not path.is_symlink()) if folder.is_dir() else []
        )
        for name in names[: -KEPT_RUNS + 1]:
            if name not in needed:
                shutil.rmtree(folder / name, ignore_errors=True)

    def _pass(self, view: events.View, event: events.Event) -> None:
        try:
            view.handle(event)
        except BrokenPipeError:
            self._leave_out(view)  # whoever read it has gone; the run is worth ending all the same
        except Exception:  # noqa: BLE001 a view only listens: it cannot end a run
            self._leave_out(view)
            sys.stderr.write(f"a view broke and is left out; this is a bug:\n{traceback.format_exc()}")

    def _leave_out(self, view: events.View) -> None:
        self._views.remove(view)
        with contextlib.suppress(Exception):
            view.close()

    def _write(self, *, lasting: bool) -> None:
        if not self._begun:
            return
        try:
            files.write_json(self._directory / "run.json", self._recorder.record, indent=1, lasting=lasting)
        except OSError as error:
            if not self._full:
                self._full = True
                self.notice(f"run.json cannot be written: {error.strerror}")
