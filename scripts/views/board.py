"""What a run looks like at this moment: the events so far, folded into one row a stage.

Every view that shows more than the newest event draws from a board, so that all of them tell the same story.
"""

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from scripts.pipeline.events import (
    Event,
    RunFinished,
    RunStarted,
    StageFinished,
    StageOutput,
    StageProgress,
    StageStarted,
)
from scripts.views.listener import Listener
from scripts.views.wording import BAD

TAIL = 200
"""Lines of each stage that stay in memory; the stage's log has all of them."""
WIDTH = 2_000
"""Characters of one line that stay in memory."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a stage failed: what happened, where, what to do next, and the lines that show it."""

    what: str
    where: str = ""
    next_step: str = ""
    details: tuple[str, ...] = ()


@dataclass(kw_only=True)
class Row:
    """One stage of the run."""

    name: str
    kind: str = "check"
    status: str = "waiting"
    reason: str = ""
    note: str = ""
    progress: str = ""
    log: str = ""
    started: datetime | None = None
    seconds: float = 0.0
    lines: int = 0
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL))
    failure: Failure | None = None
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Tell whether nothing more will come from this stage."""
        return self.status not in ("waiting", "running")

    @property
    def bad(self) -> bool:
        """Tell whether the stage failed, by its own doing or by a bug."""
        return self.status in BAD

    def elapsed(self, now: datetime) -> float:
        """Return the seconds that the stage took, or has taken so far at `now`."""
        if self.status == "running" and self.started is not None:
            return (now - self.started).total_seconds()
        return self.seconds

    def telling_lines(self, most: int) -> list[str]:
        """Return the lines that tell why it failed: those it named, else the last it printed."""
        if self.failure is not None and self.failure.details:
            return [line for detail in self.failure.details for line in detail.splitlines()][:most]
        return list(self.tail)[-most:]


class Board(Listener):
    """The run as it is now."""

    def __init__(self) -> None:
        self.run = ""
        self.command = ""
        self.environment = ""
        self.directory = ""
        self.commit = ""
        self.dirty = False
        self.rows: dict[str, Row] = {}
        self.now: datetime | None = None
        self.started: datetime | None = None
        self.result = ""
        self.exit_code: int | None = None
        self.record: dict[str, Any] = {}

    @property
    def seconds(self) -> float:
        """Return the seconds since the run began, by the times in its events."""
        if self.now is None or self.started is None:
            return 0.0
        return (self.now - self.started).total_seconds()

    def running(self) -> list[Row]:
        """Return the stages under way, the one that began first in front."""
        return [row for row in self.rows.values() if row.status == "running"]

    def failed(self) -> list[Row]:
        """Return the stages that failed."""
        return [row for row in self.rows.values() if row.bad]

    def handle(self, event: Event) -> None:
        """Take one event; its time is the present."""
        self.now = event.at
        super().handle(event)

    def run_started(self, event: RunStarted) -> None:
        """Lay out one row for each stage of the plan."""
        self.started = event.at
        self.run, self.command, self.environment = event.run, event.command, event.environment
        self.commit, self.dirty, self.directory = event.commit or "", event.dirty, event.directory
        for planned in event.plan:
            self.rows[planned.name] = Row(
                name=planned.name, kind=str(planned.kind), reason=planned.decision.reason
            )

    def stage_started(self, event: StageStarted) -> None:
        """Set the stage's row running."""
        row = self.row(event.stage)
        row.status, row.started, row.reason = "running", event.at, event.reason

    def stage_output(self, event: StageOutput) -> None:
        """Keep the line among the stage's last ones."""
        row = self.row(event.stage)
        row.lines += 1
        row.tail.append(event.line[:WIDTH])

    def stage_progress(self, event: StageProgress) -> None:
        """Keep what the stage is doing now."""
        self.row(event.stage).progress = event.text

    def stage_finished(self, event: StageFinished) -> None:
        """Close the stage's row with its result."""
        row = self.row(event.stage)
        row.status, row.reason, row.seconds = event.result, event.reason, event.seconds
        row.note, row.progress, row.log = event.note, "", event.log or ""
        row.failure = failure_of(event.failure)
        row.figures = dict(event.outcome.figures) if event.outcome is not None else {}

    def run_finished(self, event: RunFinished) -> None:
        """Keep the result and the record of the run."""
        self.result, self.exit_code, self.record = event.result, event.exit_code, dict(event.record)

    def log_of(self, stage: str) -> str:
        """Return the path of a stage's log, from the top of the tree."""
        return f"{self.directory}/{self.row(stage).log or f'{stage}.log'}"

    def row(self, name: str) -> Row:
        """Return the row of a stage, making one for a stage that the plan did not name."""
        return self.rows.setdefault(name, Row(name=name))


def failure_of(failure: Any) -> Failure | None:
    """Read the three parts of a stage's failure; a bug has only its text."""
    if failure is None:
        return None
    return Failure(
        what=str(getattr(failure, "what", None) or failure),
        where=str(getattr(failure, "where", None) or ""),
        next_step=str(getattr(failure, "next_step", None) or ""),
        details=tuple(getattr(failure, "details", ()) or ()),
    )
