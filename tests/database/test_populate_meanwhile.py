"""Population of what changes meanwhile, of what has odd names, and of one source by two at once."""

import io
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.database import ConnectionManager
from app.database.migrations import runner
from scripts.database.errors import BusyError
from scripts.database.populate import checkpoint, job, sources
from scripts.database.populate.lock import alone
from scripts.database.populate.report import Report
from scripts.database.populate.steps import Record, Step
from tests.database.test_populate import count, event, ndjson
from tests.postgres import Settings


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[ConnectionManager]:
    with ConnectionManager.from_settings(Settings(sqlite_path=tmp_path / "ledger.sqlite3")) as manager:
        runner.upgrade(manager)
        yield manager


def populate(
    manager: ConnectionManager, path: Path, name: str, steps: tuple[Step, ...] | None = None
) -> Report:
    options = job.Options(folder=path.parent / "report")
    return job.populate(manager, name, path, steps or sources.steps(name, path), options, io.StringIO())


def changing(path: Path, change: Callable[[], object]) -> tuple[Step, ...]:
    """Return the source's steps; `change` happens when the first reading has come to its end."""
    (step,) = sources.steps("ndjson", path)
    readings = iter([True])

    def records() -> Iterator[Record]:
        yield from step.records()
        if next(readings, False):
            change()

    return (replace(step, records=records),)


@pytest.mark.parametrize("more", [[event(8), event(9)], ["bad", "worse"]])
def test_what_came_meanwhile_is_told_and_not_taken_for_missing(
    ledger: ConnectionManager, tmp_path: Path, more: list[object]
) -> None:
    path = ndjson(tmp_path / "e.ndjson", [event(n) for n in range(5)])
    text = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in more)

    def grow() -> None:
        with path.open("a") as file:
            file.write(text)

    report = populate(ledger, path, "ndjson", changing(path, grow))
    (step,) = report.steps
    assert (step.expected, step.verified, step.later, step.moved) == (5, 5, 2, False)
    assert "2 more records came meanwhile: run again" in report.to_markdown()
    (step,) = populate(ledger, path, "ndjson").steps
    assert (step.resumed_at, step.records, step.later) == (5, 7, 0)


@pytest.mark.parametrize("line", [event(99), "not json", "{}", '{"source": [], "id": 5}'])
def test_what_changed_meanwhile_is_told_and_not_taken_for_missing(
    ledger: ConnectionManager, tmp_path: Path, line: object
) -> None:
    lines = [event(n) for n in range(5)]
    path = ndjson(tmp_path / "e.ndjson", lines)
    report = populate(
        ledger,
        path,
        "ndjson",
        changing(path, lambda: ndjson(path, [line, *lines[1:]])),  # type: ignore[list-item]
    )
    (step,) = report.steps
    assert (step.accepted, step.expected, step.verified, step.moved) == (5, None, None, True)
    assert "changed while it was read: run again" in report.to_markdown()
    assert populate(ledger, path, "ndjson").steps[0].changed


def test_another_name_or_type_of_a_column_is_a_change_of_every_row(
    ledger: ConnectionManager, tmp_path: Path
) -> None:
    path = tmp_path / "events.csv"
    row = "a,/t,x.y,2026-01-31T12:00:00Z,many\n"
    path.write_text(f"id,source,type,time,data.seconds:number\n{row}")
    assert populate(ledger, path, "csv").steps[0].rejected == 1
    path.write_text(f"id,source,type,time,data.seconds\n{row}")
    (step,) = populate(ledger, path, "csv").steps
    assert (step.changed, step.accepted, step.rejected) == (True, 1, 0)


@pytest.mark.parametrize(
    ("kind", "cell"),
    [
        ("json", "[" * 100_000),
        ("number", "1_000"),
        ("number", "nan"),
        ("number", "\u0661"),
        ("number", "9" * 5000),
    ],
)
def test_a_cell_that_is_not_what_its_column_says_is_rejected_alone(
    ledger: ConnectionManager, tmp_path: Path, kind: str, cell: str
) -> None:
    path = tmp_path / "events.csv"
    rows = "".join(f"{name},/t,x.y,2026-01-31T12:00:00Z,{each}\n" for name, each in (("a", cell), ("b", "1")))
    path.write_text(f"id,source,type,time,data.x:{kind}\n{rows}")
    (step,) = populate(ledger, path, "csv").steps
    assert (step.accepted, step.rejected) == (1, 1)
    assert '"reason": "data' in Path(step.rejects or "").read_text()


UNTIMED = '<testsuite name="s"><testcase name="x" time="1"/></testsuite>'


def test_a_report_without_a_time_is_the_same_one_in_every_copy(
    ledger: ConnectionManager, tmp_path: Path
) -> None:
    one, two = tmp_path / "one.xml", tmp_path / "two.xml"
    for path in (one, two):
        path.write_text(f"<testsuites>{UNTIMED}{UNTIMED}</testsuites>")
    assert [step.accepted for step in populate(ledger, one, "junit").steps] == [2, 2]
    os.utime(two, (1, 1))
    assert [step.duplicates for step in populate(ledger, two, "junit").steps] == [2, 2]
    os.utime(one, (2, 2))
    assert [step.resumed_at for step in populate(ledger, one, "junit").steps] == [2, 2]
    two.write_text(f"<testsuites>{UNTIMED.replace('1', '2')}</testsuites>")
    assert [step.accepted for step in populate(ledger, two, "junit").steps] == [1, 1]


def test_names_that_are_no_utf_8_and_folders_among_the_reports_do_no_harm(
    ledger: ConnectionManager, tmp_path: Path
) -> None:
    folder = Path(os.fsdecode(bytes(tmp_path) + b"/r\xff"))
    (folder / "folder.xml").mkdir(parents=True)
    (folder / os.fsdecode(b"b\xff.xml")).write_text("<oops")
    (folder / os.fsdecode(b"c\xff.xml")).write_text('<testsuite><testcase name="x" time="1"/></testsuite>')
    report = populate(ledger, folder, "junit")
    assert [(step.accepted, step.rejected) for step in report.steps] == [(1, 1), (1, 1)]
    assert "r\\udcff" in report.to_markdown().encode().decode()
    assert [step.resumed_at for step in populate(ledger, folder, "junit").steps] == [2, 2]


def test_of_two_populations_of_one_source_the_second_is_told(
    ledger: ConnectionManager, tmp_path: Path
) -> None:
    path = ndjson(tmp_path / "e.ndjson", [event(1), "bad"])
    assert populate(ledger, path, "ndjson").steps[0].rejected == 1
    file = tmp_path / "report" / job.rejects_name("events", path, checkpoint.key("ndjson", path))
    before = file.read_bytes()
    ndjson(path, [event(2), "worse"])
    with alone(file), pytest.raises(BusyError, match="Another population"):
        populate(ledger, path, "ndjson")
    assert (file.read_bytes(), count(ledger)) == (before, 1)
    assert populate(ledger, path, "ndjson").steps[0].accepted == 1
