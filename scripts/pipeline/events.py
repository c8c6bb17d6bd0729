"""Everything that a run does, as one stream of facts; the views only listen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from scripts.pipeline.errors import SlipwayError
    from scripts.pipeline.stage import Decision, Kind, Outcome


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One line of a plan: a stage and what was decided for it before anything happened.

    `proof` is the id of the run that proved a skipped stage, or None.
    """

    name: str
    kind: Kind
    summary: str
    needs: tuple[str, ...]
    decision: Decision
    proof: str | None = None


@dataclass(frozen=True, kw_only=True)
class Event:
    """A fact of a run; `at` is an aware UTC time."""

    at: datetime


@dataclass(frozen=True, kw_only=True)
class RunStarted(Event):
    """The run has its plan; `directory` is the run's folder relative to the tree."""

    run: str
    command: str
    environment: str
    commit: str | None
    dirty: bool
    plan: tuple[Planned, ...]
    directory: str


@dataclass(frozen=True, kw_only=True)
class StageStarted(Event):
    """A stage runs now, for this reason; `workers` is its part of the CPU budget."""

    stage: str
    kind: Kind
    reason: str
    workers: int = 1


@dataclass(frozen=True, kw_only=True)
class StageOutput(Event):
    """One line that a stage printed, without its line end."""

    stage: str
    line: str


@dataclass(frozen=True, kw_only=True)
class StageProgress(Event):
    """What a stage is doing now, in a few words."""

    stage: str
    text: str


@dataclass(frozen=True, kw_only=True)
class StageFinished(Event):
    """A stage has ended, or was never started.

    `result` is success, failure, skipped (proven or nothing to do), cancelled (stopped, or not started
    because a stage that it needs failed) or error (a bug). `proof` is the run that proved it. `note` says
    what the reader should know beside the reason, such as inputs that changed meanwhile.
    """

    stage: str
    kind: Kind
    result: str
    reason: str
    seconds: float = 0.0
    started: datetime | None = None
    proof: str | None = None
    log: str | None = None
    outcome: Outcome | None = None
    failure: SlipwayError | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Running:
    """A stage that is still going on, for a heartbeat; `seconds` since it started."""

    stage: str
    seconds: float
    progress: str = ""


@dataclass(frozen=True, kw_only=True)
class Heartbeat(Event):
    """Nothing was told for a while, but these stages are still going on."""

    running: tuple[Running, ...]


@dataclass(frozen=True, kw_only=True)
class Notice(Event):
    """Something about the run itself: a corrupt proof, a wait for another run, a full disk."""

    text: str


@dataclass(frozen=True, kw_only=True)
class RunFinished(Event):
    """The run has ended; `result` is success, failure, cancelled or error; `record` is run.json's content."""

    run: str
    result: str
    exit_code: int
    record: Mapping[str, Any] = field(default_factory=dict)


class Mask(Protocol):
    """What keeps secret values out of every view, log and file; it may learn of more during a run."""

    def add(self, *secrets: str) -> None:
        """Learn further values."""
        ...

    def text(self, text: str) -> str:
        """Return the text without any of them."""
        ...

    def event(self, event: Event, /) -> Event:
        """Return the event without any of them."""
        ...


class Plainly:
    """The mask of a run that knows no secret."""

    def add(self, *secrets: str) -> None:
        """Refuse to learn: a secret that nobody hides must not get here; raises ValueError."""
        if secrets:
            raise ValueError("this run was given no mask that could hide a secret")

    def text(self, text: str) -> str:
        """Return the text as it is."""
        return text

    def event(self, event: Event, /) -> Event:
        """Return the event as it is."""
        return event


class View(Protocol):
    """Who watches a run. Both methods are called from one thread, in the order of the events."""

    def handle(self, event: Event) -> None:
        """Take one event."""
        ...

    def close(self) -> None:
        """Let go of what the view holds; called once, also when the run broke."""
        ...
