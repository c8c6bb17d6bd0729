"""What every view is: one method for each kind of event, doing nothing until a view fills it in."""

from scripts.pipeline.events import (
    Event,
    Heartbeat,
    Notice,
    RunFinished,
    RunStarted,
    StageFinished,
    StageOutput,
    StageProgress,
    StageStarted,
)


class Listener:
    """A view that hands each event to the method of its kind."""

    def handle(self, event: Event) -> None:
        """Call the one method that belongs to the kind of `event`."""
        match event:
            case StageOutput():
                self.stage_output(event)
            case StageProgress():
                self.stage_progress(event)
            case Heartbeat():
                self.heartbeat(event)
            case StageStarted():
                self.stage_started(event)
            case StageFinished():
                self.stage_finished(event)
            case RunStarted():
                self.run_started(event)
            case RunFinished():
                self.run_finished(event)
            case Notice():
                self.notice(event)
            case _:
                pass  # an event that a later engine added is no reason to fail a run

    def run_started(self, event: RunStarted) -> None:
        """Meet a run and its plan."""

    def stage_started(self, event: StageStarted) -> None:
        """Meet a stage that began."""

    def stage_output(self, event: StageOutput) -> None:
        """Take one line that a stage printed."""

    def stage_progress(self, event: StageProgress) -> None:
        """Take what a stage is doing now."""

    def stage_finished(self, event: StageFinished) -> None:
        """Take the result of a stage, run or skipped."""

    def heartbeat(self, event: Heartbeat) -> None:
        """Notice that time passed."""

    def notice(self, event: Notice) -> None:
        """Take a remark about the run itself."""

    def run_finished(self, event: RunFinished) -> None:
        """Take the result and the record of the whole run."""

    def close(self) -> None:
        """Let go of whatever the view holds; nothing follows."""
