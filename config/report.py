"""Show what a check found: as a table for people, as JSON for programs."""

import json
import textwrap
from collections.abc import Sequence
from shutil import get_terminal_size

from config.check import Report
from config.errors import Level

NARROWEST = 72
GAP = "  "


def as_text(report: Report, width: int | None = None) -> str:
    """Return the whole report as lines of at most `width` characters, by default the terminal's."""
    width = max(NARROWEST, width or get_terminal_size((110, 24)).columns)
    rows = [
        (each.level.value, each.variable or "-", each.source, f"{each.rule} [{each.id}]", each.fix)
        for each in report.problems
    ]
    return "\n".join([summary(report), *table(("LEVEL", "VARIABLE", "SOURCE", "RULE", "FIX"), rows, width)])


def summary(report: Report) -> str:
    """Return one line that says how many problems there are."""
    errors = sum(problem.level is Level.ERROR for problem in report.problems)
    subject = report.environment or "no environment"
    if not report.problems:
        return f"{subject}: {len(report.readings)} settings, no problem"
    return f"{subject}: {counted(errors, 'error')}, {counted(len(report.problems) - errors, 'warning')}"


def counted(count: int, noun: str) -> str:
    """Return the count with its noun."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def as_json(report: Report) -> str:
    """Return the report as one JSON object."""
    errors = sum(problem.level is Level.ERROR for problem in report.problems)
    document = {
        "environment": report.environment or None,
        "ok": errors == 0,
        "errors": errors,
        "warnings": len(report.problems) - errors,
        "problems": [
            {
                "id": problem.id,
                "level": problem.level.value,
                "variable": problem.variable or None,
                "source": problem.source,
                "rule": problem.rule,
                "fix": problem.fix,
            }
            for problem in report.problems
        ],
    }
    return json.dumps(document, indent=2)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Return the rows below their headings, long cells wrapped, in lines of at most `width` characters.

    No rows, no lines. Columns are as wide as their longest cell while that fits; else the widest give way.
    """
    if not rows:
        return []
    widths = [max(len(cell) for cell in column) for column in zip(headings, *rows, strict=True)]
    room = width - len(GAP) * (len(widths) - 1)
    while sum(widths) > room:
        widths[widths.index(max(widths))] -= 1
    lines = []
    for row in [headings, *rows]:
        cells = [textwrap.wrap(cell, wide) or [""] for cell, wide in zip(row, widths, strict=True)]
        for number in range(max(map(len, cells))):
            parts = [cell[number] if number < len(cell) else "" for cell in cells]
            lines.append(
                GAP.join(part.ljust(wide) for part, wide in zip(parts, widths, strict=True)).rstrip()
            )
    return lines
