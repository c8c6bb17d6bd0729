"""A run under GitHub Actions: a folded group a stage, annotations, the step's summary and its outputs.

What a stage printed is data to GitHub, never a command: it is written between `stop-commands` and a token
that the stage cannot know. Sources: "Workflow commands for GitHub Actions" (escaping, stop-commands, ten
annotations of a kind a step, GITHUB_OUTPUT) and "Adding a job summary" (1 MiB a step).
"""

import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TextIO

from scripts.pipeline.events import (
    Notice,
    RunFinished,
    StageFinished,
    StageOutput,
    StageStarted,
)
from scripts.views.board import Board, Row
from scripts.views.findings import findings
from scripts.views.paper import clean
from scripts.views.plain import (
    LAST_LINES,
    MOST_LINES,
    QUIET_SECONDS,
    Block,
    Transcript,
    summary,
    verdict,
)
from scripts.views.wording import MARKS, count, duration, figures, size

MOST_ANNOTATIONS = 10
SUMMARY_BYTES = 1024 * 1024
SUMMARY_LINES = 40
"""Telling lines of each failed stage in the step's summary."""


class GitHub(Transcript):
    """Write a run as GitHub Actions shows it best."""

    def __init__(
        self,
        stream: TextIO,
        *,
        root: Path,
        variables: Mapping[str, str],
        quiet_seconds: float = QUIET_SECONDS,
        token: Callable[[], str] = lambda: secrets.token_hex(16),
    ) -> None:
        super().__init__(stream, quiet_seconds)
        self._root = root
        self._summary = variables.get("GITHUB_STEP_SUMMARY", "")
        self._outputs = variables.get("GITHUB_OUTPUT", "")
        self._token = token
        self._annotations: list[str] = []
        self._unshown = 0

    def stage_started(self, event: StageStarted) -> None:
        """Begin to keep the stage's lines: whether they are folded is known only at its end."""
        self._blocks[event.stage] = Block(MOST_LINES, LAST_LINES)

    def stage_output(self, event: StageOutput) -> None:
        """Keep the line."""
        self._blocks.setdefault(event.stage, Block(MOST_LINES, LAST_LINES)).add(event.line)

    def stage_finished(self, event: StageFinished) -> None:
        """Print the stage: folded when all is well, open when it failed, with its annotations."""
        row = self._board.row(event.stage)
        self._print_stage(row)
        if row.bad:
            self._annotate(row)

    def run_finished(self, event: RunFinished) -> None:
        """Print the summary, and hand GitHub its annotations, its summary and the outputs."""
        self.close()
        self._say("", *summary(self._board, self._paper.marks))
        if self._unshown:
            more = count(self._unshown, "more finding")
            self._say(f"[{more} without an annotation: a step shows {MOST_ANNOTATIONS}]")
        self._append(self._summary, step_summary(self._board))
        self._append(self._outputs, outputs(event.record))

    def notice(self, event: Notice) -> None:
        """Show a remark about the run itself as a warning."""
        self._print(command("notice", clean(event.text)))

    def note(self, text: str) -> None:
        """Print what another view has to say, after the run's end."""
        self._say(f"[{clean(text)}]")

    def close(self) -> None:
        """Print the stages that never came to an end."""
        for stage in list(self._blocks):
            self._print_stage(self._board.row(stage))

    def _print_stage(self, row: Row) -> None:
        block = self._blocks.pop(row.name, None)
        first, *rest = verdict(row, self._board, self._paper.marks)
        lines = [*block.take(), *block.rest(self._board.log_of(row.name))] if block is not None else []
        if row.status == "success" and lines:
            title = data(f"{first}: {row.reason}" if row.reason else first)
            self._print(f"::group::{title}", *self._as_data(lines), "::endgroup::")
        elif row.bad:
            self._print(*self._as_data([*lines, first, *rest]))
        else:
            self._print(*(self._as_data(lines) if lines else ()))
            self._say(first, *rest)

    def _as_data(self, lines: list[str]) -> list[str]:
        token = self._token()
        return [f"::stop-commands::{token}", *lines, f"::{token}::"]

    def _annotate(self, row: Row) -> None:
        details, where = (row.failure.details, row.failure.where) if row.failure else ((), "")
        found = list(findings([*details, *row.tail], self._root) or findings([where], self._root))
        commands = [
            command("error", each.message, title=row.name, file=each.file, line=each.line, col=each.column)
            for each in found
        ]
        what = row.failure.what if row.failure else f"{row.name} failed"
        commands = commands or [command("error", what, title=row.name)]
        room = MOST_ANNOTATIONS - len(self._annotations)
        self._print(*commands[:room])
        self._annotations += commands[:room]
        self._unshown += max(len(commands) - room, 0)

    def _say(self, *lines: str) -> None:
        """Print words of our own, which may hold no command."""
        self._print(*map(harmless, lines))

    def _append(self, path: str, text: str) -> None:
        if not path or not text:
            return
        try:
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            self._print(f"::warning::{data(f'{path} could not be written: {error.strerror}')}")


def data(text: str) -> str:
    """Escape the message of a workflow command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def harmless(text: str) -> str:
    """Return a line of our own in which GitHub finds no command, whatever words a stage lent to it."""
    text = text.replace("##[", "# #[")
    return f"> {text}" if text.lstrip().startswith("::") else text


def prop(text: str) -> str:
    """Escape a property of a workflow command."""
    return data(text).replace(":", "%3A").replace(",", "%2C")


def command(name: str, message: str, **properties: object) -> str:
    """Return one workflow command, escaped; properties that are None are left out."""
    written = ",".join(f"{key}={prop(str(value))}" for key, value in properties.items() if value is not None)
    return f"::{name} {written}".rstrip() + f"::{data(message)}"


def outputs(record: Mapping[str, object]) -> str:
    """Return what other steps read: `run`, `result`, `digest` and `url`, each as a delimited block."""
    release, deployment = record.get("release"), record.get("deployment")
    values = {
        "run": record.get("run"),
        "result": record.get("result"),
        "digest": release.get("digest") if isinstance(release, Mapping) else None,
        "url": deployment.get("url") if isinstance(deployment, Mapping) else None,
    }
    text = ""
    for name, value in values.items():
        if value:
            end = f"end-{secrets.token_hex(8)}"
            text += f"{name}<<{end}\n{value}\n{end}\n"
    return text


def step_summary(board: Board, most_bytes: int = SUMMARY_BYTES) -> str:
    """Return the run as Markdown in fewer than `most_bytes` bytes: result, stages, failures, release."""
    text = _summary(board, SUMMARY_LINES)
    if len(text.encode()) < most_bytes:
        return text
    text = _summary(board, 0)
    if len(text.encode()) < most_bytes:
        return text
    return f"### {_cell(board.command)}: {board.result}\n\nThe summary did not fit; the log has it all.\n"


def _summary(board: Board, most_lines: int) -> str:
    record = board.record
    total = float(record.get("seconds", board.seconds))
    mark = MARKS.get(board.result, "")
    title = f"{board.command} → {board.environment}: {board.result} in {duration(total)}"
    lines = [f"### {mark} {_cell(title)}", ""]
    for row in board.failed():
        lines += _failure(row, most_lines)
    lines += ["| | stage | took | why | figures |", "|---|---|---:|---|---|"]
    for row in board.rows.values():
        told = ", ".join(figures(row.figures))
        cells = (
            MARKS.get(row.status, ""),
            row.name,
            duration(row.seconds) if row.started else "",
            row.reason,
            told,
        )
        lines.append(f"| {' | '.join(map(_cell, cells))} |")
    lines += [
        "",
        f"Run `{board.run}`, commit `{board.commit[:10]}`{', with changes' if board.dirty else ''}.",
    ]
    release, deployment = record.get("release"), record.get("deployment")
    if isinstance(release, Mapping) and release.get("digest"):
        packed = release.get("bytes_compressed")
        lines += [
            "",
            f"Release `{release['digest']}`{f', {size(float(packed))} compressed' if packed else ''}.",
        ]
    if isinstance(deployment, Mapping) and deployment.get("result"):
        told = f"{deployment.get('environment')}: {deployment['result']} {deployment.get('url') or ''}"
        lines += ["", _cell(told)]
    return "\n".join(lines) + "\n\n"


def _failure(row: Row, most_lines: int) -> list[str]:
    what = row.failure.what if row.failure else f"{row.name} failed"
    shown = [clean(line)[:500] for line in row.telling_lines(most_lines)] if most_lines else []
    fence = "`" * max(3, 1 + max((len(run) for line in shown for run in re.findall("`+", line)), default=0))
    lines = [f"**{_cell(row.name)}**: {_cell(what)}", ""]
    if shown:
        lines += [f"{fence}text", *shown, fence, ""]
    if row.failure and row.failure.next_step:
        lines += [f"Next: {_cell(row.failure.next_step)}", ""]
    return lines


def _cell(text: str) -> str:
    """Escape what would be markup in a line of Markdown."""
    text = " ".join(clean(text).split())
    for character in "\\`*_{}[]<>#|~":
        text = text.replace(character, f"\\{character}")
    return text[:500]
