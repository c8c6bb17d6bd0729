"""A stage is data: what it needs, what it depends on and the function that does it."""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from scripts.pipeline import events, process
from scripts.pipeline.errors import Cancelled, StageFailure

FAILURE_TAIL = 40


class Kind(StrEnum):
    """A check only looks or makes; an effect changes something outside."""

    CHECK = "check"
    EFFECT = "effect"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a stage made: outputs go to the stages that need it, figures to the reader."""

    outputs: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether a stage runs, and why.

    An effect's `observe` that finds nothing to do may give the `outputs` that it would have had.
    """

    run: bool
    reason: str
    outputs: Mapping[str, str] = field(default_factory=dict)


Outputs = Mapping[str, Mapping[str, str]]


def no_tools() -> Mapping[str, str]:
    """Return no tool at all."""
    return {}


def no_artifacts(_outputs: Mapping[str, str]) -> Sequence[Path]:
    """Return no file at all."""
    return ()


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of the pipeline.

    `inputs` are git-style patterns, None for every file that git tracks or would track. `parameters` hold
    what else the result depends on (command words, policy, settings), never a secret. `tools` names
    versions and must be cheap. `artifacts` lists the files, relative to the tree, without which a proof is
    void. `observe` decides for an effect by looking outside, given the outputs of the stages that it needs.
    A stage with `workers` above 1 brings its own workers and takes them from the CPU budget. `timeout` and
    `grace` are seconds; `grace` is what a cancelled stage gets to put things back.
    """

    name: str
    kind: Kind
    summary: str
    action: Callable[["StageContext"], Outcome]
    needs: tuple[str, ...] = ()
    inputs: tuple[str, ...] | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    tools: Callable[[], Mapping[str, str]] = no_tools
    environment: tuple[str, ...] = ()
    artifacts: Callable[[Mapping[str, str]], Sequence[Path]] = no_artifacts
    observe: Callable[[Outputs], Decision] | None = None
    workers: int = 1
    timeout: float = 1800.0
    grace: float = 1.0


def ignore(event: events.Event) -> None:
    """Listen to nothing."""


class StageContext:
    """What a stage's action may use: commands, lines, progress, and the order to stop.

    Everything that is not given has a default, so that a test makes one with a tree and a folder alone.
    """

    def __init__(
        self,
        *,
        stage: str,
        root: Path,
        directory: Path,
        run_id: str = "",
        environment: str = "development",
        outputs: Outputs | None = None,
        workers: int = 1,
        emit: Callable[[events.Event], None] = ignore,
        cancelled: threading.Event | None = None,
        mask: events.Mask | None = None,
        family: process.Family | None = None,
    ) -> None:
        self.stage = stage
        self.root = root
        self.directory = directory
        self.run_id = run_id
        self.environment = environment
        self.outputs: Outputs = outputs or {}
        self.workers = workers
        self.cancelled = cancelled or threading.Event()
        self._emit = emit
        self._mask = mask or events.Plainly()
        self._family = family or process.Family(mark=f"{run_id or os.getpid()}/{stage}")
        self._log = process.Log(directory / f"{stage}.log")

    def say(self, line: str) -> None:
        """Write one line of the stage's output to its log and to the views."""
        text = self._mask.text(line)
        shown = self._log.write(text)
        if shown is not None:
            self._emit(events.StageOutput(at=datetime.now(UTC), stage=self.stage, line=shown))

    def progress(self, text: str) -> None:
        """Tell what the stage is doing now, in a few words."""
        self._emit(events.StageProgress(at=datetime.now(UTC), stage=self.stage, text=self._mask.text(text)))

    def hide(self, *secrets: str) -> None:
        """Keep values that came up during the run, such as a generated token, out of every view and file."""
        self._mask.add(*secrets)

    def raise_if_cancelled(self) -> None:
        """Raise Cancelled when the stage has been told to stop."""
        if self.cancelled.is_set():
            raise Cancelled

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        input: str | bytes | None = None,  # noqa: A002 the name that subprocess gives it
        check: bool = True,
        quiet: bool = False,
        even_if_cancelled: bool = False,
        on_line: Callable[[str], None] | None = None,
    ) -> process.Completed:
        """Run a command in its own process group and return how it ended.

        Its output goes to the log and the views line by line, standard error among it; `quiet` keeps the two
        apart and shows neither; `on_line` takes the lines instead of the log and the views. `env` is added to
        this process's environment. `even_if_cancelled` is for putting things back. Raises StageFailure when
        `check` is set and the exit code is not 0, or when the command does not exist; raises Cancelled when
        the stage is told to stop.
        """
        words = [str(word) for word in argv]
        if not even_if_cancelled:
            self.raise_if_cancelled()
        completed = process.run(
            words,
            cwd=cwd or self.root,
            env=env or {},
            input=input,
            family=self._family,
            on_line=None if quiet else on_line or self.say,
            cancelled=None if even_if_cancelled else self.cancelled,
        )
        if not even_if_cancelled:
            self.raise_if_cancelled()
        if check and completed.exit_code != 0:
            tail = (completed.errors or completed.output).splitlines()[-FAILURE_TAIL:]
            raise StageFailure(
                f"`{self._mask.text(completed.command)}` {completed.ended}",
                where=f"stage {self.stage}",
                next_step=f"read {self._log.path}",
                details=[self._mask.text(line) for line in tail],
            )
        return completed

    def close(self) -> None:
        """Close the log."""
        self._log.close()
