"""What the engine's tests stand on: a real git tree, small stages, and a view that remembers."""

import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from scripts.pipeline import events
from scripts.pipeline.proofs import Proofs
from scripts.pipeline.runner import Order, Runner
from scripts.pipeline.stage import Kind, Outcome, Stage, StageContext

Found = TypeVar("Found")


def git(root: Path, *words: str) -> str:
    """Run git in a tree with an author of its own and nothing of this machine's settings."""
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", *identity, *words], cwd=root, check=True, capture_output=True, text=True, errors="replace"
    ).stdout


def make_tree(root: Path, files: Mapping[str, str] | None = None) -> Path:
    """Make a git repository with one commit of these files."""
    root.mkdir(parents=True, exist_ok=True)
    git(root, "init", "-q", "-b", "main")
    write(root, {".gitignore": ".slipway/\n*.ignored\n", **({"a.txt": "a\n"} if files is None else files)})
    git(root, "add", "-A")
    git(root, "commit", "-qm", "first")
    return root


def write(root: Path, files: Mapping[str, str]) -> None:
    """Write files below a folder."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def until(condition: Callable[[], Found], seconds: float = 10.0) -> Found:
    """Wait until a condition holds and return what it gave; fails when it never does."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"{condition} did not hold within {seconds} s"
        time.sleep(0.01)
    return found


@dataclass
class Listening:
    """A view that remembers every event."""

    seen: list[events.Event] = field(default_factory=list)
    closed: int = 0
    heard: threading.Event = field(default_factory=threading.Event)

    def handle(self, event: events.Event) -> None:
        self.seen.append(event)

    def close(self) -> None:
        self.closed += 1

    def of(self, kind: type[Found]) -> list[Found]:
        return [event for event in self.seen if isinstance(event, kind)]

    def finished(self, name: str) -> events.StageFinished:
        (found,) = [event for event in self.of(events.StageFinished) if event.stage == name]
        return found

    def results(self) -> dict[str, str]:
        return {event.stage: event.result for event in self.of(events.StageFinished)}

    def lines(self, stage: str) -> list[str]:
        return [event.line for event in self.of(events.StageOutput) if event.stage == stage]

    def notices(self) -> list[str]:
        return [event.text for event in self.of(events.Notice)]

    def record(self) -> Mapping[str, Any]:
        (found,) = self.of(events.RunFinished)
        return found.record


def passing(_context: StageContext) -> Outcome:
    return Outcome()


def check(name: str, action: Callable[[StageContext], Outcome] = passing, **more: Any) -> Stage:
    return Stage(name=name, kind=Kind.CHECK, summary=f"does {name}", action=action, **more)


def effect(name: str, action: Callable[[StageContext], Outcome] = passing, **more: Any) -> Stage:
    return Stage(name=name, kind=Kind.EFFECT, summary=f"does {name}", action=action, **more)


@dataclass(frozen=True)
class Ran:
    code: int
    view: Listening
    directory: Path
    run_id: str


def run(
    root: Path, stages: Sequence[Stage], *names: str, runner: Mapping[str, Any] | None = None, **order: Any
) -> Ran:
    """Run stages in a tree and return the exit code and what the views were told."""
    view = Listening()
    asked = Order(
        command=" ".join(names) or "all", names=names or tuple(stage.name for stage in stages), **order
    )
    made = Runner(root=root, stages=stages, order=asked, views=[view], **(runner or {}))
    return Ran(made.run(), view, made.directory, made.run_id)


def proofs(root: Path) -> Proofs:
    return Proofs(root / ".slipway" / "proofs")
