"""Plain lines for a pipe or a log: one block a stage, never mixed, and a sign of life when it is quiet.

One stage holds the floor and its lines appear at once. The lines of the others wait until it has finished;
then the finished ones follow, whole, and the one that runs longest takes the floor.
"""

from collections import deque
from collections.abc import Mapping
from datetime import datetime
from typing import TextIO

from scripts.pipeline.events import (
    Event,
    Notice,
    RunFinished,
    RunStarted,
    StageFinished,
    StageOutput,
    StageStarted,
)
from scripts.views.board import Board, Row
from scripts.views.listener import Listener
from scripts.views.paper import Paper, clean
from scripts.views.wording import count, duration, figures, short_digest

MOST_LINES = 1_000
"""Lines of one stage that are printed as they come; of what follows only the last ones."""
LAST_LINES = 50
QUIET_SECONDS = 20.0
RESULTS = {
    "success": "passed",
    "failure": "failed",
    "error": "broke",
    "cancelled": "cancelled",
    "skipped": "skipped",
}


class Block:
    """The output of one stage on its way to the paper, within bounds."""

    def __init__(self, most: int = MOST_LINES, last: int = LAST_LINES) -> None:
        self._most = most
        self._waiting: list[str] = []
        self._late: deque[str] = deque(maxlen=last)
        self._seen = 0

    def add(self, line: str) -> None:
        """Take one line."""
        self._seen += 1
        (self._waiting if self._seen <= self._most else self._late).append(clean(line))

    def take(self) -> list[str]:
        """Return the lines that may be printed now and were not yet."""
        lines, self._waiting = self._waiting, []
        return lines

    def rest(self, log: str) -> list[str]:
        """Return what is left at the end: how much was left out, and the last lines."""
        left_out = self._seen - self._most - len(self._late)
        note = (
            [f"[{count(left_out, 'line')} left out here; all of them are in {log}]"] if left_out > 0 else []
        )
        return [*note, *self._late]


class Transcript(Listener):
    """A view of lines that stay: it begins with a headline and gives a sign of life when all is quiet."""

    def __init__(self, stream: TextIO, quiet_seconds: float) -> None:
        self._paper = Paper(stream)
        self._quiet_seconds = quiet_seconds
        self._board = Board()
        self._blocks: dict[str, Block] = {}
        self._printed: datetime | None = None

    def handle(self, event: Event) -> None:
        """Bring the board up to date and print what the event calls for, or a sign of life after a while."""
        self._board.handle(event)
        super().handle(event)
        quiet = (event.at - self._printed).total_seconds() if self._printed else 0.0
        if quiet >= self._quiet_seconds and self._board.running():
            self._say(still_running(self._board, event.at))

    def run_started(self, event: RunStarted) -> None:
        """Name the environment, the commit and the run."""
        self._say(headline(self._board))

    def _say(self, *lines: str) -> None:
        """Print words of our own."""
        self._print(*lines)

    def _print(self, *lines: str) -> None:
        if lines:
            self._paper.line(*lines)
            self._printed = self._board.now


class Plain(Transcript):
    """Write a run to a stream that is no terminal."""

    def __init__(self, stream: TextIO, *, quiet_seconds: float = QUIET_SECONDS) -> None:
        super().__init__(stream, quiet_seconds)
        self._floor = ""
        self._done: list[str] = []

    def stage_started(self, event: StageStarted) -> None:
        """Give the floor to the first stage; the others wait."""
        self._blocks[event.stage] = Block()
        if not self._floor:
            self._take_floor(event.stage)

    def stage_output(self, event: StageOutput) -> None:
        """Print the line of the stage that holds the floor, keep the others'."""
        block = self._blocks.setdefault(event.stage, Block())
        block.add(event.line)
        if event.stage == self._floor:
            self._print(*block.take())

    def stage_finished(self, event: StageFinished) -> None:
        """Close the block, and let those that waited speak."""
        if event.stage != self._floor:
            self._done.append(event.stage)
            if self._floor:
                return
        else:
            self._finish(event.stage)
            self._floor = ""
        for stage in self._done:
            self._open(stage)
            self._finish(stage)
        self._done.clear()
        running = [row.name for row in self._board.running() if row.name in self._blocks]
        if running:
            self._take_floor(min(running, key=lambda name: self._board.rows[name].started or event.at))

    def run_finished(self, event: RunFinished) -> None:
        """Print the end of every stage that never came to one, and the summary."""
        self.close()
        self._print("", *summary(self._board, self._paper.marks))

    def notice(self, event: Notice) -> None:
        """Print a remark about the run itself."""
        self._print(f"[{clean(event.text)}]")

    def note(self, text: str) -> None:
        """Print what another view has to say, after the run's end."""
        self._print(f"[{clean(text)}]")

    def close(self) -> None:
        """Print what still waits."""
        if self._floor:
            self._finish(self._floor)
            self._floor = ""
        for stage in [*self._done, *(name for name in self._blocks if name not in self._done)]:
            self._open(stage)
            self._finish(stage)
        self._done.clear()

    def _take_floor(self, stage: str) -> None:
        self._floor = stage
        self._open(stage)

    def _open(self, stage: str) -> None:
        row = self._board.row(stage)
        block = self._blocks.get(stage)
        if block is not None:
            self._print(f"== {stage}: {row.reason}" if row.reason else f"== {stage}", *block.take())

    def _finish(self, stage: str) -> None:
        row = self._board.row(stage)
        block = self._blocks.pop(stage, None)
        if block is not None:
            self._print(*block.rest(self._board.log_of(stage)))
        self._print(*verdict(row, self._board, self._paper.marks))


def headline(board: Board) -> str:
    """Name the environment first, then what is run, from which commit, and the run's id."""
    commit = board.commit[:10] or "no commit"
    changes = ", with changes" if board.dirty else ""
    return f"[{board.environment}] {board.command} from {commit}{changes}, run {board.run}"


def verdict(row: Row, board: Board, marks: dict[str, str]) -> list[str]:
    """Return the lines that close a stage: its result, and for a failure what, where and what to do next."""
    mark = marks.get(row.status, "?")
    if row.status == "skipped":
        return [f"{mark} {row.name} skipped: {row.reason}"]
    if row.status == "cancelled":
        return [f"{mark} {row.name} cancelled: {row.reason}"]
    lines = [f"{mark} {row.name} {RESULTS.get(row.status, row.status)} after {duration(row.seconds)}"]
    lines += [f"  note:  {row.note}"] if row.note else []
    if row.failure is None:
        return lines
    lines[0] += f": {row.failure.what}"
    lines += [f"    {line}" for line in unsaid(row)]
    lines += [f"  where: {row.failure.where}"] if row.failure.where else []
    lines += [f"  next:  {row.failure.next_step}"] if row.failure.next_step else []
    lines += [f"  log:   {board.log_of(row.name)}"]
    return lines


def unsaid(row: Row, most: int = 40) -> list[str]:
    """Return the lines that tell why a stage failed, none when its output has just shown them all."""
    said = {clean(line).strip() for line in row.tail}
    lines = [clean(line) for line in row.telling_lines(most)]
    return lines if any(line.strip() and line.strip() not in said for line in lines) else []


def still_running(board: Board, now: datetime) -> str:
    """Say of each running stage for how long, and what it does."""
    parts = [
        f"{row.name} {duration(row.elapsed(now))}{f' ({row.progress})' if row.progress else ''}"
        for row in board.running()
    ]
    return f"[still running: {', '.join(parts)}]"


def summary(board: Board, marks: dict[str, str]) -> list[str]:
    """Return the last lines of a run: each stage's result, the figures, the release, what is live where."""
    total = float(board.record.get("seconds", board.seconds))
    head = {"success": "done", "failure": "failed"}.get(board.result, board.result)
    stages = "  ".join(f"{marks.get(row.status, '?')} {row.name}" for row in board.rows.values())
    lines = [f"{head} in {duration(total)}:  {stages}"]
    for row in board.rows.values():
        told = "" if row.status == "skipped" else ", ".join(figures(row.figures))
        lines += [f"  {row.name}: {told}"] if told else []
    lines += [f"  {line}" for line in outcome(board.record)]
    failed = board.failed()
    if failed and failed[0].failure and failed[0].failure.next_step:
        lines.append(f"  next: {failed[0].failure.next_step}")
    return lines


def outcome(record: dict[str, object]) -> list[str]:
    """Say which release the run made and what it left live."""
    lines = []
    release, deployment = record.get("release"), record.get("deployment")
    if isinstance(release, dict) and release.get("digest"):
        lines.append(f"release {short_digest(str(release['digest']))}")
    if isinstance(deployment, dict) and deployment.get("result"):
        lines.append(f"{deployment.get('environment')} {became(deployment)}")
    return lines


def became(deployment: Mapping[str, object]) -> str:
    """Say what a deployment left serving, and where."""
    result, place = str(deployment["result"]), deployment.get("url") or "no address"
    if result == "succeeded":
        return f"is live at {place}"
    if result == "unchanged":
        return f"runs it already at {place}"
    if deployment.get("previous"):
        return f"did not take it ({result.replace('_', ' ')}); what served before serves again at {place}"
    return f"did not take it ({result.replace('_', ' ')})"
