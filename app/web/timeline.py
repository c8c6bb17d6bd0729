"""A run's stages on a time axis, as data for an inline SVG; places are in percent and fit every width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.ledger.queries import Run, Task

# A stage that took no time is still seen, and may be pointed at.
NARROWEST = 0.8
LANE = 9
BAR = 6


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One stage: where it begins and how long it is, in percent of the axis; `y` in pixels."""

    task: Task
    x: float
    width: float
    y: int


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """The bars of a run, the length of the axis in seconds, and the height of the picture in pixels."""

    bars: tuple[Bar, ...]
    seconds: float
    height: int
    summary: str


def draw(run: Run) -> Timeline:
    """Place the stages of `run` that took part, those at the same time in lanes below each other.

    Skipped stages are not drawn: they took no time, and the words beside the picture name them.
    """
    drawn = [task for task in run.stages if task.started is not None and task.result != "skipped"]
    begin, length = _axis(run, drawn)
    lanes: list[float] = []
    bars = []
    for task in sorted(drawn, key=lambda each: each.started or begin):
        offset = max(0.0, ((task.started or begin) - begin).total_seconds())
        x = min(100.0 * offset / length, 100.0 - NARROWEST)
        width = max(NARROWEST, min(100.0 * task.seconds / length, 100.0 - x))
        lane = next((number for number, busy in enumerate(lanes) if busy <= x + 0.01), len(lanes))
        lanes[lane : lane + 1] = [x + width]
        bars.append(Bar(task=task, x=round(x, 2), width=round(width, 2), y=lane * LANE))
    return Timeline(
        bars=tuple(bars),
        seconds=length,
        height=max(1, len(lanes)) * LANE - (LANE - BAR),
        summary=", ".join(f"{task.name} {task.result} in {task.seconds:.1f} s" for task in drawn)
        or "no stage ran",
    )


def _axis(run: Run, tasks: Sequence[Task]) -> tuple[datetime, float]:
    """Return where the axis begins and its length in seconds, never 0: the whole run, and every stage."""
    begin = min([run.started, *(task.started for task in tasks if task.started is not None)])
    ends = [
        (task.started - begin).total_seconds() + task.seconds for task in tasks if task.started is not None
    ]
    return begin, max([*ends, run.seconds or 0.0, 0.001])
