"""A stage at work: its thread, its clock, and how it is stopped."""

import os
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from scripts.pipeline import events, guardian, process
from scripts.pipeline.errors import Cancelled, SlipwayError, StageFailure
from scripts.pipeline.stage import Outcome, Outputs, Stage, StageContext


class Working:
    """A started stage. `post` takes its events and, at last, its Ended, from its own thread."""

    def __init__(
        self,
        *,
        stage: Stage,
        root: Path,
        directory: Path,
        run_id: str,
        environment: str,
        outputs: Outputs,
        workers: int,
        mask: events.Mask,
        post: Callable[["events.Event | Ended"], None],
        started: datetime,
    ) -> None:
        self.stage = stage
        self.started = started
        self.progress = ""
        self.told_to_stop = 0.0
        self._timed_out = False
        self._began = time.monotonic()
        self.deadline = self._began + stage.timeout
        self._post = post
        self._mark = f"{run_id}/{stage.name}"
        self._cancelled = threading.Event()
        self._family = process.Family(self._mark)
        self.context = StageContext(
            stage=stage.name,
            root=root,
            directory=directory,
            run_id=run_id,
            environment=environment,
            outputs=outputs,
            workers=workers,
            emit=post,
            cancelled=self._cancelled,
            mask=mask,
            family=self._family,
        )
        self._thread = threading.Thread(target=self._work, name=f"stage {stage.name}", daemon=True)

    @property
    def seconds(self) -> float:
        """How long it has been at work, in seconds."""
        return time.monotonic() - self._began

    def start(self) -> None:
        """Start the stage's action in its own thread."""
        self._thread.start()

    def stop(self, now: float, *, timed_out: bool = False) -> None:
        """Tell the stage to stop; `now` is the monotonic time."""
        self.told_to_stop = now
        self._timed_out = timed_out
        self._cancelled.set()

    def give_up(self) -> "Ended":
        """Kill what the stage still runs and go on without its thread."""
        guardian.kill_marked(self._mark)
        return self._stopped()

    def _work(self) -> None:
        ended = self._act()
        left = self._family.sweep()
        if left:
            noun = "process that was" if left == 1 else "processes that were"
            self.context.say(f"stopped {left} {noun} left running")
        self.context.close()
        self._post(ended)

    def _act(self) -> "Ended":
        try:
            outcome = self.stage.action(self.context)
        except Cancelled:
            return self._stopped()
        except SlipwayError as error:
            if self._cancelled.is_set():
                return self._stopped(error)
            made = Outcome(outputs=getattr(error, "outputs", {}), figures=getattr(error, "figures", {}))
            return Ended(working=self, result="failure", failure=error, outcome=made)
        except BaseException as error:  # noqa: BLE001 whatever an action does, the run ends in order
            return self._broken(error)
        if self._cancelled.is_set() and self._timed_out:
            return self._stopped()
        return Ended(working=self, result="success", outcome=outcome)

    def _stopped(self, error: SlipwayError | None = None) -> "Ended":
        """Return the end of a stage that was told to stop; what it says of putting things back is kept."""
        made = Outcome(outputs=getattr(error, "outputs", {}), figures=getattr(error, "figures", {}))
        if not self._timed_out:
            return Ended(working=self, result="cancelled", failure=error, outcome=made if error else None)
        failure = StageFailure(
            f"{self.stage.name} did not end within {self.stage.timeout:g} s and was stopped",
            where=f"stage {self.stage.name}",
            next_step=f"read its log {self.context.directory / self.stage.name}.log",
            details=[error.what] if error else [],
        )
        return Ended(working=self, result="failure", failure=failure, outcome=made)

    def _broken(self, error: BaseException) -> "Ended":
        lines = "".join(traceback.format_exception(error)).splitlines()
        for line in lines:
            self.context.say(line)
        failure = StageFailure(
            f"{self.stage.name} broke: {type(error).__name__}: {error}",
            where=f"stage {self.stage.name}, process {os.getpid()}",
            next_step="this is a bug; its traceback is in the log",
            details=lines,
        )
        return Ended(working=self, result="error", failure=failure)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a stage's action ended; the runner makes the event of it."""

    working: Working
    result: str
    outcome: Outcome | None = None
    failure: SlipwayError | None = None
