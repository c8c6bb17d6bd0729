"""The run as a tree at the bottom of a terminal, which stays there, with its result, when the run is over.

One row a stage: mark, name, how long, what it does or why. A stage that failed shows its last lines and what
to do next below the tree. No alternate screen: what was on the terminal before stays above.
"""

import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TextIO

from rich.console import Console
from rich.text import Text

from scripts.pipeline.events import Event, Heartbeat, Notice, RunFinished, RunStarted, StageOutput
from scripts.views.board import Board, Row
from scripts.views.listener import Listener
from scripts.views.painter import Painter
from scripts.views.paper import Paper, clean
from scripts.views.plain import outcome
from scripts.views.wording import duration, figures

FRAMES_A_SECOND = 10
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
ASCII_SPINNER = "|/-\\"
FAILURE_LINES = 20
"""Lines of a failed stage below the tree; its log has all of them."""
STYLES = {
    "success": "green",
    "failure": "bold red",
    "error": "bold red",
    "cancelled": "yellow",
    "skipped": "bright_black",
    "running": "cyan",
    "waiting": "bright_black",
}
ENVIRONMENT_STYLES = {"production": "bold white on red", "staging": "bold black on yellow"}


def utc_now() -> datetime:
    """Return the present time."""
    return datetime.now(UTC)


class Terminal(Listener):
    """Show a run on a terminal and repaint it while it lasts."""

    def __init__(
        self,
        stream: TextIO,
        *,
        size: Callable[[], tuple[int, int]] | None = None,
        now: Callable[[], datetime] = utc_now,
        frames_a_second: float = FRAMES_A_SECOND,
    ) -> None:
        self._paper = Paper(stream)
        self._console = Console(file=stream, force_terminal=True, highlight=False, markup=False, emoji=False)
        self._painter = Painter(self._console, self._paper.raw, size or (lambda: size_of(stream)))
        self._spinner = SPINNER if self._paper.spells(SPINNER) else ASCII_SPINNER
        self._board = Board()
        self._now = now
        self._pause = 1 / frames_a_second
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._ticker: threading.Thread | None = None

    def handle(self, event: Event) -> None:
        """Bring the board up to date; what changes a result is painted at once, the rest by the clock."""
        with self._lock:
            self._board.handle(event)
            super().handle(event)
            if not isinstance(event, StageOutput | Heartbeat | RunFinished):
                self._paint()

    def run_started(self, event: RunStarted) -> None:
        """Print the line that names the environment, and begin to repaint."""
        self._painter.print([headline(self._board)])
        self._ticker = threading.Thread(target=self._tick, name="terminal", daemon=True)
        self._ticker.start()

    def notice(self, event: Notice) -> None:
        """Print a remark about the run itself above the tree."""
        self.note(event.text)

    def run_finished(self, event: RunFinished) -> None:
        """Leave the finished tree, the failures and the outcome on the screen for good."""
        self._end_ticker()
        self._painter.stop()
        self._painter.print(self._tree(), cut=True)
        self._painter.print([*self._failures(), *self._ending()])

    def note(self, text: str) -> None:
        """Print a remark, also one that another view makes after the run's end."""
        with self._lock:
            self._painter.print([Text(f"  {clean(text)}", style="yellow")])
            if self._ticker is not None:
                self._paint()

    def close(self) -> None:
        """Give the cursor back, whatever happened."""
        with self._lock:
            if self._ticker is not None:
                self._end_ticker()
                self._painter.stop()
                self._painter.print(self._tree(), cut=True)

    def _tick(self) -> None:
        while not self._stop.wait(self._pause):
            with self._lock:
                if not self._stop.is_set():
                    self._paint()

    def _end_ticker(self) -> None:
        self._stop.set()
        self._ticker = None

    def _paint(self) -> None:
        if self._ticker is not None:
            self._painter.paint([*self._tree(), *self._failures()])

    def _tree(self) -> list[Text]:
        now = self._now()
        width = max((len(name) for name in self._board.rows), default=0)
        return [self._row(row, now, width) for row in self._board.rows.values()]

    def _row(self, row: Row, now: datetime, width: int) -> Text:
        style = STYLES.get(row.status, "")
        mark = self._paper.marks.get(row.status, "?")
        if row.status == "running":
            mark = self._spinner[int(now.timestamp() * FRAMES_A_SECOND) % len(self._spinner)]
        line = Text("  ")
        line.append(mark, style)
        line.append(
            f" {row.name:<{width}}  ", style if row.bad or row.status in ("skipped", "waiting") else "bold"
        )
        seconds = row.elapsed(now)
        took = duration(seconds) if row.started is not None else ""
        line.append(f"{took:>8}  ", "bright_black" if row.finished else "cyan")
        line.append(self._told(row), "red" if row.bad else "bright_black")
        told = ", ".join(figures(row.figures))
        line.append(f"  {told}" if told else "")
        return line

    def _told(self, row: Row) -> str:
        if row.status == "running":
            return clean(row.progress or (row.tail[-1] if row.tail else row.reason))
        if row.bad and row.failure is not None:
            return clean(row.failure.what)
        return clean(f"{row.reason}; {row.note}" if row.note else row.reason)

    def _failures(self) -> list[Text]:
        lines = []
        for row in self._board.failed():
            lines += [Text(), Text.assemble("  ", (f"{row.name} failed", "bold red"))]
            lines += [Text(f"    {clean(line)}") for line in row.telling_lines(FAILURE_LINES)]
            if row.failure is not None and row.failure.where:
                lines.append(Text.assemble(("    where  ", "bright_black"), row.failure.where))
            if row.failure is not None and row.failure.next_step:
                lines.append(Text.assemble(("    next   ", "bright_black"), (row.failure.next_step, "bold")))
            lines.append(Text.assemble(("    log    ", "bright_black"), self._board.log_of(row.name)))
        return lines

    def _ending(self) -> list[Text]:
        board = self._board
        style = STYLES.get(board.result, "bold")
        head = {"success": "done", "failure": "failed"}.get(board.result, board.result)
        total = float(board.record.get("seconds", board.seconds))
        lines = [Text(), Text.assemble("  ", (f"{head} in {duration(total)}", style))]
        lines += [Text(f"  {line}") for line in outcome(board.record)]
        return lines


def headline(board: Board) -> Text:
    """Name the environment first, on red for production, then what is run from which commit."""
    commit = board.commit[:10] or "no commit"
    return Text.assemble(
        (f" {board.environment} ", ENVIRONMENT_STYLES.get(board.environment, "bold black on cyan")),
        (f" {board.command}", "bold"),
        (f"  {commit}{' with changes' if board.dirty else ''}  run {board.run}", "bright_black"),
    )


def size_of(stream: TextIO) -> tuple[int, int]:
    """Return the columns and rows of the terminal behind `stream`, 80 by 24 when it does not say."""
    try:
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return 80, 24
    return size.columns or 80, size.lines or 24
