"""What a population did, as data, JSON and Markdown, with the counts that were read back."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What became of the records of one step.

    `resumed_at` counts the records that an earlier run had done. accepted, duplicates and rejected are of the
    whole step, earlier runs included, and add up to `records`. `verified` events were found in the database
    when they were looked for, of `expected` different ones; both None when nothing was looked up.
    `rejects_lost` says that the rejects file was not as an earlier run had written it, so that everything was
    read anew. `later` records came while the others went in, and `moved` says that what had been read was
    changed meanwhile, so that it could not be looked up.
    """

    name: str
    records: int
    accepted: int
    duplicates: int
    rejected: int
    resumed_at: int
    changed: bool
    seconds: float
    expected: int | None = None
    verified: int | None = None
    rejects: str | None = None
    rejects_lost: bool = False
    later: int = 0
    moved: bool = False

    @property
    def missing(self) -> int:
        """Return how many events the database should hold and does not."""
        return (self.expected or 0) - (self.verified or 0)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What one command did."""

    source: str
    path: str
    database: str
    dry_run: bool
    seconds: float
    steps: tuple[StepReport, ...]

    @property
    def missing(self) -> int:
        """Return how many events the database should hold and does not."""
        return sum(step.missing for step in self.steps)

    def to_json(self) -> str:
        """Return the report for programs."""
        document = {**asdict(self), "missing": self.missing}
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"

    def to_markdown(self) -> str:
        """Return the report for people."""
        title = "Would populate" if self.dry_run else "Populated"
        lines = [
            f"# {title} from {self.source}",
            "",
            f"`{self.path}` into {self.database}, {self.seconds:.1f} s.",
            "",
            "| step | records | accepted | known already | rejected | read back |",
            "|---|---:|---:|---:|---:|---:|",
        ]
        lines += [
            f"| {step.name} | {step.records:,} | {step.accepted:,} | {step.duplicates:,} | {step.rejected:,}"
            f" | {read_back(step)} |"
            for step in self.steps
        ]
        notes = [note for step in self.steps for note in remarks(step)]
        return "\n".join([*lines, *(["", *notes] if notes else []), ""])


def read_back(step: StepReport) -> str:
    """Return what was found of what was looked for, in words."""
    return "not looked up" if step.expected is None else f"{step.verified:,} of {step.expected:,}"


def remarks(step: StepReport) -> list[str]:
    """Return what a reader should know beside the numbers."""
    notes = []
    if step.changed:
        notes.append(f"- {step.name}: the source was changed where it had been read, so it was read anew.")
    elif step.rejects_lost:
        notes.append(
            f"- {step.name}: the rejects of an earlier run were not as they had been written, so it was read"
            " anew."
        )
    elif step.resumed_at:
        notes.append(f"- {step.name}: went on after the {step.resumed_at:,} records of an earlier run.")
    if step.moved:
        notes.append(f"- {step.name}: the source was changed while it was read: run again.")
    if step.later:
        notes.append(f"- {step.name}: {step.later:,} more records came meanwhile: run again.")
    if step.rejects:
        notes.append(f"- {step.name}: the rejected records are in `{step.rejects}`, with line and reason.")
    if step.missing:
        notes.append(f"- {step.name}: **{step.missing:,} events are missing from the database.**")
    return notes


def write(report: Report, folder: Path) -> tuple[Path, Path]:
    """Write report.json and report.md into `folder` and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    data, page = folder / "report.json", folder / "report.md"
    data.write_text(report.to_json(), encoding="utf-8")
    page.write_text(report.to_markdown(), encoding="utf-8")
    return data, page
