"""Keep project_state.json, what is true now, for other programs.

Each environment's release and status, each stage's last result, and the last fifty log entries. Two runs at
once take turns; a file that cannot be read is set aside and begun again, and the log says so.
"""

import contextlib
import fcntl
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scripts.pipeline import files
from scripts.pipeline.events import Event, Notice, RunFinished, StageFinished
from scripts.pipeline.record import timestamp
from scripts.views.board import Board
from scripts.views.ledger import UNCHANGED
from scripts.views.listener import Listener
from scripts.views.wording import BAD, duration, short_digest

STATE_FILE = "project_state.json"
MOST_ENTRIES = 50
VERSION = 1


class State(Listener):
    """Bring project_state.json up to date as stages and runs end."""

    def __init__(self, root: Path, *, warn: Callable[[str], None]) -> None:
        self._root = root
        self._warn = warn
        self._board = Board()

    def handle(self, event: Event) -> None:
        """Follow the run on a board; what ends is written down."""
        self._board.handle(event)
        super().handle(event)

    def stage_finished(self, event: StageFinished) -> None:
        """Write the stage's result at once: a run that is killed keeps what it learned."""
        if event.result == "skipped":
            return
        self._write(lambda state: stage_done(state, self._board, event))

    def notice(self, event: Notice) -> None:
        """Keep a remark about the run itself in the log."""
        self._write(lambda state: note(state, "warning", event.text, run=self._board.run, at=event.at))

    def run_finished(self, event: RunFinished) -> None:
        """Write what the run left: the environment's release and status, and how it ended."""
        self._write(lambda state: run_done(state, self._board))

    def _write(self, change: Callable[[dict[str, Any]], None]) -> None:
        try:
            update(self._root, change)
        except OSError as error:
            self._warn(f"{STATE_FILE} is not up to date: {error.strerror}")


def update(root: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Read project_state.json below `root`, let `change` alter it, and put it back in one step.

    Raises OSError when the disk refuses.
    """
    with _turn(root / ".slipway"):
        state = read(root)
        change(state)
        state["log"] = state["log"][-MOST_ENTRIES:]
        state["updated"] = timestamp(datetime.now(UTC))
        files.write_json(root / STATE_FILE, state, indent=2, lasting=False)


def read(root: Path) -> dict[str, Any]:
    """Return the present state; a file that cannot be read is set aside and the log begins with that."""
    path = root / STATE_FILE
    fresh: dict[str, Any] = {"version": VERSION, "updated": None, "environments": {}, "stages": {}, "log": []}
    try:
        state = json.loads(path.read_bytes())
    except FileNotFoundError:
        return fresh
    except ValueError:  # not JSON, or not UTF-8
        state = None
    if _sound(state):
        return {**fresh, **state}
    aside = root / ".slipway" / f"{STATE_FILE}.unreadable"
    path.replace(aside)
    text = f"{STATE_FILE} could not be read; it was set aside as .slipway/{aside.name} and begun again"
    note(fresh, "warning", text)
    return fresh


def note(
    state: dict[str, Any],
    level: str,
    text: str,
    *,
    run: str | None = None,
    stage: str | None = None,
    at: datetime | None = None,
) -> None:
    """Add one entry to the log; `level` is info, warning or error."""
    entry = {
        "at": timestamp(at or datetime.now(UTC)),
        "level": level,
        "run": run,
        "stage": stage,
        "text": text,
    }
    state["log"].append(entry)


def stage_done(state: dict[str, Any], board: Board, event: StageFinished) -> None:
    """Set a stage's last result."""
    row = board.row(event.stage)
    state["stages"][event.stage] = {
        "result": row.status,
        "reason": row.reason,
        "run": board.run,
        "environment": board.environment,
        "finished": timestamp(event.at),
        "seconds": round(row.seconds, 3),
    }
    why = f": {row.failure.what}" if row.failure else ""
    text = f"{event.stage} {row.status} after {duration(row.seconds)}{why}"
    note(state, "error" if row.bad else "info", text, run=board.run, stage=event.stage, at=event.at)


def run_done(state: dict[str, Any], board: Board) -> None:
    """Set what a finished run left behind."""
    level = {"success": "info", "cancelled": "warning"}.get(board.result, "error")
    text = f"{board.command} ended with {board.result} after {duration(board.seconds)}"
    note(state, level, text, run=board.run, at=board.now)
    deployment, release = board.record.get("deployment"), board.record.get("release")
    if isinstance(deployment, Mapping) and deployment.get("result"):
        built = release.get("digest") if isinstance(release, Mapping) else None
        digest = deployment.get("digest") or built
        deployed(
            state, {**deployment, "release": digest}, run=board.run, commit=commit_of(board), at=board.now
        )


def commit_of(board: Board) -> str:
    """Return the commit of the release that was deployed: a proven build may be older than the run's tree."""
    outputs = next(
        (stage.get("outputs") for stage in board.record["stages"] if stage["name"] == "deploy"), None
    )
    return str((outputs or {}).get("commit") or board.commit)


def deployed(
    state: dict[str, Any],
    deployment: Mapping[str, Any],
    *,
    run: str | None,
    commit: str | None,
    at: datetime | None = None,
) -> None:
    """Set an environment's release and status after a deployment or a rollback.

    `deployment` has run.json's keys and `release`, the digest that was put on the target. What serves is that
    digest when it succeeded; else, when the previous one was put back, that one. A failure that left nothing
    certain keeps the release that was known before.
    """
    environment, result = str(deployment.get("environment")), str(deployment["result"])
    before = state["environments"].get(environment, {})
    if result == UNCHANGED and before.get("release") == deployment.get("release"):
        return
    result = "succeeded" if result == UNCHANGED else result
    serves = deployment.get("release") if result == "succeeded" else deployment.get("previous")
    when = timestamp(at or datetime.now(UTC))
    state["environments"][environment] = {
        "release": serves or before.get("release"),
        "status": result,
        "url": deployment.get("url") or before.get("url"),
        "previous": deployment.get("previous"),
        "commit": commit if result == "succeeded" else before.get("commit"),
        "run": run,
        "since": when if result == "succeeded" else before.get("since"),
        "changed": when,
    }
    told = f"{environment}: {short_digest(str(deployment.get('release') or 'the release'))} {result}"
    level = "info" if result == "succeeded" else "error" if result in BAD or result == "failed" else "warning"
    note(state, level, told.replace("_", " "), run=run, stage="deploy", at=at)


def _sound(state: object) -> bool:
    return (
        isinstance(state, dict)
        and state.get("version") == VERSION
        and isinstance(state.get("environments"), dict)
        and isinstance(state.get("stages"), dict)
        and isinstance(state.get("log"), list)
    )


@contextlib.contextmanager
def _turn(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "state.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
