"""What a check found, how bad it is, and the report in three forms."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from html import escape

AREAS = ("routes", "schema", "integrity", "performance")


class Level(IntEnum):
    """How bad a finding is: look when there is time, act soon, act now."""

    OK = 0
    NOTICE = 1
    WARNING = 2
    CRITICAL = 3

    @property
    def word(self) -> str:
        """Return the level as it is shown."""
        return self.name.lower()


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing found: what, where, and what to do about it."""

    level: Level
    area: str
    what: str
    where: str = ""
    next_step: str = ""


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that was found in the areas looked at."""

    database: str
    at: datetime
    areas: tuple[str, ...]
    findings: tuple[Finding, ...]
    unreachable: bool = False

    @property
    def worst(self) -> Level:
        """Return the level of the worst finding."""
        return max((finding.level for finding in self.findings), default=Level.OK)

    def of(self, area: str) -> tuple[Finding, ...]:
        """Return the findings of one area, the worst first."""
        found = (finding for finding in self.findings if finding.area == area)
        return tuple(sorted(found, key=lambda finding: -finding.level))

    def exit_code(self, fail_on: Level) -> int:
        """Return 1 when something is as bad as `fail_on` or worse, 0 otherwise; OK stands for never."""
        return int(fail_on is not Level.OK and self.worst >= fail_on)


def to_text(report: Report) -> str:
    """Return the report for a terminal."""
    lines = [f"{report.database}: {report.worst.word}"]
    for area in report.areas:
        found = report.of(area)
        lines.append(f"  {area}: {'ok' if not found else ''}".rstrip())
        for finding in found:
            place = f" ({finding.where})" if finding.where else ""
            lines.append(f"    {finding.level.word}: {finding.what}{place}")
            if finding.next_step:
                lines.append(f"      next: {finding.next_step}")
    return "\n".join(lines)


def to_json(report: Report) -> str:
    """Return the report for programs."""
    document = {
        "database": report.database,
        "at": report.at.isoformat(),
        "level": report.worst.word,
        "areas": {
            area: [
                {
                    "level": finding.level.word,
                    "what": finding.what,
                    "where": finding.where,
                    "next_step": finding.next_step,
                }
                for finding in report.of(area)
            ]
            for area in report.areas
        },
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def to_markdown(report: Report) -> str:
    """Return the report for an issue or a step summary."""
    lines = [
        f"# Database check: {report.worst.word}",
        "",
        f"`{report.database}`, {report.at.isoformat(timespec='seconds')}",
        "",
        "| area | level | what | where | next |",
        "|---|---|---|---|---|",
    ]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in rows(report)]
    return "\n".join(lines)


def to_html(report: Report) -> str:
    """Return the report as one page that needs nothing else."""
    body = "\n".join(
        f'<tr class="{cells[1]}">' + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
        for cells in rows(report)
    )
    title = f"Database check: {report.worst.word}"
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(title)}</title>
<style>
:root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }}
body {{ max-width: 72rem; margin: 2rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse; width: 100% }}
td, th {{ text-align: left; vertical-align: top; padding: .4rem .6rem; border-bottom: 1px solid #8884 }}
.critical td:nth-child(2) {{ color: #c62828; font-weight: 600 }}
.warning td:nth-child(2) {{ color: #b26a00; font-weight: 600 }}
.ok td:nth-child(2) {{ color: #2e7d32 }}
</style>
<h1>{escape(title)}</h1>
<p><code>{escape(report.database)}</code>, {report.at.isoformat(timespec="seconds")}</p>
<table>
<thead><tr><th>area<th>level<th>what<th>where<th>next</tr></thead>
<tbody>
{body}
</tbody>
</table>
</html>"""


def rows(report: Report) -> Iterable[tuple[str, str, str, str, str]]:
    """Yield the cells of each line: area, level, what, where, next; an area without findings has one line."""
    for area in report.areas:
        found = report.of(area)
        if not found:
            yield area, "ok", "nothing to report", "", ""
        for finding in found:
            yield area, finding.level.word, finding.what, finding.where, finding.next_step


FORMATS = {"text": to_text, "json": to_json, "markdown": to_markdown, "html": to_html}
