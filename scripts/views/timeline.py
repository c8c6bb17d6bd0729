"""The stages of a run as a picture: one bar a stage on one clock, as inline SVG.

Widths are percentages, so the picture fits a phone and a wide screen without scaling its letters.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any

from scripts.views.paper import clean
from scripts.views.wording import MARKS, duration

AXIS_HEIGHT, BAR_ROW, TEXT_ROW, BAR_HEIGHT = 26, 46, 28, 14
NICE_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
MOST_TICKS = 6
LAST_TICK = 0.97
"""Part of the width beyond which a mark would fall upon the frame."""
SHORTEST_BAR = 0.4
"""Percent of the width: a stage that took no time is still seen."""


def timeline(record: Mapping[str, Any]) -> str:
    """Return the picture of the stages in a run's record as an SVG element."""
    begin = instant(record.get("started"))
    stages: Sequence[Mapping[str, Any]] = record.get("stages") or ()
    total = max([float(record.get("seconds") or 0.0), *(_end(stage, begin) for stage in stages)], default=0.0)
    rows, height = [], AXIS_HEIGHT
    for stage in stages:
        drawn = "\n".join(_row(stage, begin, total, height))
        rows.append(drawn)
        height += BAR_ROW if _has_bar(stage) else TEXT_ROW
    axis = "\n".join(_axis(total, height)) if any(map(_has_bar, stages)) else ""
    return (
        f'<svg class="timeline" role="img" width="100%" height="{height}" aria-label="When each stage ran">\n'
        f"{axis}\n" + "\n".join(rows) + "\n</svg>"
    )


def instant(text: object) -> datetime | None:
    """Read an RFC 3339 time; None for anything else."""
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None


def step_of(total: float) -> float:
    """Return the distance in seconds between two marks of the clock, so that there are few and round ones."""
    return next((step for step in NICE_STEPS if total / step <= MOST_TICKS), NICE_STEPS[-1])


def _has_bar(stage: Mapping[str, Any]) -> bool:
    return bool(stage.get("started")) and stage.get("result") != "skipped"


def _offset(stage: Mapping[str, Any], begin: datetime | None) -> float:
    started = instant(stage.get("started"))
    return max((started - begin).total_seconds(), 0.0) if started and begin else 0.0


def _end(stage: Mapping[str, Any], begin: datetime | None) -> float:
    return _offset(stage, begin) + float(stage.get("seconds") or 0.0) if _has_bar(stage) else 0.0


def _axis(total: float, height: int) -> Iterator[str]:
    step = step_of(total)
    at = 0.0
    while total and at <= total * LAST_TICK:
        x = f"{100 * at / total:.2f}%"
        anchor = "start" if at == 0 else "end" if at > total * 0.93 else "middle"
        yield f'<line class="grid" x1="{x}" x2="{x}" y1="18" y2="{height}"/>'
        yield f'<text class="tick" x="{x}" y="12" text-anchor="{anchor}">{_tick(at)}</text>'
        at = round(at + step, 3)


def _tick(at: float) -> str:
    if at < 60:
        return f"{at:g} s"
    minutes, seconds = divmod(at, 60)
    return f"{minutes:g} min {seconds:02g}" if seconds else f"{minutes:g} min"


def _row(stage: Mapping[str, Any], begin: datetime | None, total: float, top: int) -> Iterator[str]:
    result = escape(str(stage.get("result", "")))
    name, mark = escape(str(stage.get("name", ""))), MARKS.get(str(stage.get("result")), "?")
    reason = escape(clean(str(stage.get("reason") or "")))
    yield f'<g class="{result}"><title>{name}: {result}. {reason}</title>'
    label = f'<tspan class="mark">{mark}</tspan> <tspan class="name">{name}</tspan>'
    if not _has_bar(stage):
        yield f'<text x="0" y="{top + 18}">{label}<tspan class="why" dx="10">{reason}</tspan></text></g>'
        return
    seconds = float(stage.get("seconds") or 0.0)
    left = 100 * _offset(stage, begin) / total if total else 0.0
    width = min(max(100 * seconds / total if total else 100.0, SHORTEST_BAR), 100.0)
    left = min(left, 100.0 - width)
    yield f'<text x="0" y="{top + 16}">{label}</text>'
    yield f'<text class="took" x="100%" y="{top + 16}" text-anchor="end">{escape(duration(seconds))}</text>'
    bar = f'y="{top + 23}" height="{BAR_HEIGHT}" rx="4"'
    yield f'<rect class="track" x="0" width="100%" {bar}/>'
    yield f'<rect class="bar" x="{left:.2f}%" width="{width:.2f}%" {bar}/></g>'
