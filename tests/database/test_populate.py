"""Population: the good goes in once, the bad is set aside, and a stop at any point loses nothing."""

import io
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from app.database import ConnectionManager
from app.database.migrations import runner
from scripts.database.errors import IncompleteError, RejectedError
from scripts.database.populate import checkpoint, job, sources
from scripts.database.populate.report import Report
from tests.postgres import Settings, wait_until


@pytest.fixture
def ledger(manager: ConnectionManager) -> ConnectionManager:
    """A migrated database, on SQLite and on PostgreSQL."""
    runner.upgrade(manager)
    return manager


def event(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"e{number}",
        "source": "/test",
        "type": "example.happened",
        "time": "2026-01-31T12:00:00Z",
        "data": {"number": number},
        **changes,
    }


def ndjson(path: Path, lines: Iterable[Mapping[str, Any] | str]) -> Path:
    path.write_text(
        "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines), "utf-8"
    )
    return path


def populate(
    manager: ConnectionManager, path: Path, *, name: str = "ndjson", batch: int = 7, **options: Any
) -> Report:
    chosen = job.Options(folder=path.parent / "report", batch=batch, **options)
    return job.populate(manager, name, path, sources.steps(name, path), chosen, io.StringIO())


def count(manager: ConnectionManager) -> int:
    with manager.transaction(read_only=True) as tx:
        return int(tx.scalar("SELECT count(*) FROM event"))


def rejects_file(path: Path, step: str = "events") -> Path:
    return path.parent / "report" / job.rejects_name(step, path, checkpoint.key("ndjson", path))


def rejects(path: Path) -> list[dict[str, Any]]:
    file = rejects_file(path)
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []


def test_every_event_goes_in_once_and_is_read_back(ledger: ConnectionManager, tmp_path: Path) -> None:
    path = ndjson(tmp_path / "e.ndjson", [event(n) for n in range(20)] + [event(3)])
    (step,) = populate(ledger, path).steps
    assert (step.records, step.accepted, step.duplicates, step.rejected) == (21, 20, 1, 0)
    assert step.verified == step.expected == 21
    assert count(ledger) == 20


def test_a_second_run_reads_on_where_the_first_one_ended(ledger: ConnectionManager, tmp_path: Path) -> None:
    path = ndjson(tmp_path / "e.ndjson", [event(n) for n in range(10)])
    populate(ledger, path)
    ndjson(path, [event(n) for n in range(15)])
    (step,) = populate(ledger, path).steps
    assert (step.resumed_at, step.accepted, step.duplicates, step.changed) == (10, 15, 0, False)
    assert count(ledger) == 15


@pytest.mark.parametrize("lines", [[event(99), *map(event, range(1, 10))], [event(0)]])
def test_an_input_that_changed_is_noticed_and_read_anew(
    ledger: ConnectionManager, tmp_path: Path, lines: list[dict[str, Any]]
) -> None:
    path = ndjson(tmp_path / "e.ndjson", [event(n) for n in range(10)])
    populate(ledger, path)
    ndjson(path, lines)
    report = populate(ledger, path)
    (step,) = report.steps
    assert step.changed
    assert step.resumed_at == 0
    assert step.records == step.accepted + step.duplicates == len(lines)
    assert "was changed" in report.to_markdown()


def test_a_fresh_database_has_no_checkpoint_of_another_one(tmp_path: Path) -> None:
    path = ndjson(tmp_path / "e.ndjson", [event(1)])
    for name in ("a", "b"):
        with ConnectionManager.from_settings(Settings(sqlite_path=tmp_path / name)) as manager:
            runner.upgrade(manager)
            assert populate(manager, path).steps[0].accepted == 1


def test_bad_rows_are_set_aside_with_line_and_reason_and_the_rest_goes_in(
    ledger: ConnectionManager, tmp_path: Path
) -> None:
    lines: list[dict[str, Any] | str] = [
        event(1),
        "not json",
        "",
        event(2, time="yesterday"),
        "[1]",
        event(3),
        event(4, type="dev.slipway.run.finished", data={"run": 5}),
        "[" * 100_000,
        event(5),
    ]
    path = ndjson(tmp_path / "e.ndjson", lines)
    with path.open("ab") as file:
        file.write(b'{"id": "\xff"}\n')
    report = populate(ledger, path, batch=3)
    (step,) = report.steps
    assert (step.records, step.accepted, step.rejected) == (9, 3, 6)
    assert count(ledger) == 3
    found = {entry["line"]: entry["reason"] for entry in rejects(path)}
    assert found.keys() == {2, 4, 5, 7, 8, 10}
    assert "is not JSON" in found[2]
    assert found[4].startswith("time: ")
    assert found[5] == "is not a JSON object"
    assert found[7].startswith("data.run: ")
    assert "is not UTF-8" in found[10]
    assert rejects_file(path).name in report.to_markdown()
    assert rejects_file(path).name.startswith("rejects-events-e.ndjson-")


def test_a_corrected_input_takes_its_rejects_away(ledger: ConnectionManager, tmp_path: Path) -> None:
    path = ndjson(tmp_path / "e.ndjson", [event(1), "nonsense"])
    populate(ledger, path)
    ndjson(path, [event(1), event(2)])
    (step,) = populate(ledger, path).steps
    assert (step.accepted, step.duplicates, step.rejected, step.rejects) == (1, 1, 0, None)
    assert rejects(path) == []


def test_every_source_has_rejects_of_its_own(ledger: ConnectionManager, tmp_path: Path) -> None:
    """Files of one name in two folders, with one report for all: none may lose what another one rejected."""
    paths = []
    for folder, lines in (("a", ["bad, and rather long", event(1)]), ("b", ["bad", "bad", event(2)])):
        (tmp_path / folder).mkdir()
        paths.append(ndjson(tmp_path / folder / "e.ndjson", lines))
    options = job.Options(folder=tmp_path / "report")

    def once(path: Path) -> tuple[int, list[int], bool]:
        report = job.populate(ledger, "ndjson", path, sources.steps("ndjson", path), options, io.StringIO())
        file = Path(report.steps[0].rejects or "")
        found = [json.loads(line)["line"] for line in file.read_text("utf-8").splitlines()]
        return report.steps[0].rejected, found, report.steps[0].resumed_at > 0

    assert [once(path) for path in paths] == [(1, [1], False), (2, [1, 2], False)]
    assert [once(path) for path in paths] == [(1, [1], True), (2, [1, 2], True)]


def test_a_dry_run_leaves_the_rejects_of_the_real_one_alone(
    ledger: ConnectionManager, tmp_path: Path
) -> None:
    path = ndjson(tmp_path / "e.ndjson", [event(1), "bad"])
    populate(ledger, path)
    before = rejects(path)
    ndjson(path, ["worse", "worse", "worse"])
    dry = Path(populate(ledger, path, dry_run=True).steps[0].rejects or "")
    assert len(dry.read_text().splitlines()) == 3
    assert rejects(path) == before


@pytest.mark.parametrize("harm", ["removed", "cut short", "edited"])
def test_rejects_that_are_not_what_was_written_are_made_anew(
    ledger: ConnectionManager, tmp_path: Path, harm: str
) -> None:
    path = ndjson(tmp_path / "e.ndjson", [event(1), "bad", event(2), "worse"])
    populate(ledger, path)
    before, file = rejects(path), rejects_file(path)
    if harm == "removed":
        shutil.rmtree(file.parent)
    elif harm == "cut short":
        os.truncate(file, file.stat().st_size - 5)
    else:
        file.write_text("corrected: " + file.read_text())
    report = populate(ledger, path)
    (step,) = report.steps
    assert (step.resumed_at, step.duplicates, step.rejected, step.verified) == (0, 2, 2, 2)
    assert "were not as they had been written" in report.to_markdown()
    assert rejects(path) == before
    assert populate(ledger, path).steps[0].resumed_at == 4


def test_a_line_without_end_is_rejected_without_being_held(tmp_path: Path) -> None:
    path = tmp_path / "e.ndjson"
    path.write_bytes(b"x" * 3_000_000 + b"\n" + json.dumps(event(1)).encode())
    found = list(sources.steps("ndjson", path)[0].records())
    assert [record.line for record in found] == [1, 2]
    assert "longer than" in (found[0].problem or "")
    assert max(len(record.raw) for record in found) <= 1 << 20
    assert found[-1].done == path.stat().st_size


def test_strict_stops_at_the_first_bad_record_and_keeps_nothing_of_its_batch(
    ledger: ConnectionManager, tmp_path: Path
) -> None:
    path = ndjson(tmp_path / "e.ndjson", [event(1), event(2), event(3), "bad", event(5)])
    with pytest.raises(RejectedError, match=r"Record 4 .* is not JSON"):
        populate(ledger, path, batch=2, strict=True)
    assert count(ledger) == 2
    ndjson(path, [event(n) for n in range(1, 6)])
    assert populate(ledger, path, batch=2, strict=True).steps[0].resumed_at == 2
    assert count(ledger) == 5


def test_strict_is_not_content_with_what_an_earlier_run_rejected(
    ledger: ConnectionManager, tmp_path: Path
) -> None:
    path = ndjson(tmp_path / "e.ndjson", [event(1), "bad"])
    assert populate(ledger, path).steps[0].rejected == 1
    with pytest.raises(RejectedError, match="1 records of events were rejected by an earlier run"):
        populate(ledger, path, strict=True)


def test_a_dry_run_says_what_would_happen_and_writes_nothing(
    ledger: ConnectionManager, tmp_path: Path
) -> None:
    path = ndjson(tmp_path / "e.ndjson", [event(1), event(2)])
    populate(ledger, path)
    ndjson(path, [event(1), event(2), event(3), event(3), "bad"])
    report = populate(ledger, path, dry_run=True, batch=2)
    (step,) = report.steps
    assert (step.records, step.accepted, step.duplicates, step.rejected) == (5, 1, 3, 1)
    assert report.to_markdown().startswith("# Would populate")
    assert count(ledger) == 2
    assert populate(ledger, path).steps[0].resumed_at == 2


def test_a_row_that_only_the_database_refuses_is_set_aside_too(
    ledger: ConnectionManager, tmp_path: Path
) -> None:
    forbid = {
        "sqlite": "CREATE TRIGGER no_e2 BEFORE INSERT ON event WHEN NEW.id = 'e2'"
        " BEGIN SELECT RAISE(ABORT, 'no e2 here'); END",
        "postgresql": "ALTER TABLE event ADD CONSTRAINT no_e2 CHECK (id <> 'e2')",
    }
    with ledger.transaction() as tx:
        tx.execute(forbid[ledger.dialect])
    (step,) = populate(ledger, ndjson(tmp_path / "e.ndjson", [event(1), event(2), event(3)])).steps
    assert (step.accepted, step.rejected, step.verified) == (2, 1, 2)
    (entry,) = rejects(tmp_path / "e.ndjson")
    assert entry["line"] == 2
    assert "the database refuses it" in entry["reason"]


def test_an_event_that_is_missing_afterwards_is_an_error_and_a_restart_repairs_it(tmp_path: Path) -> None:
    path = ndjson(tmp_path / "e.ndjson", [event(n) for n in range(5)])
    file = tmp_path / "ledger.sqlite3"
    with ConnectionManager.from_settings(Settings(sqlite_path=file)) as manager:
        runner.upgrade(manager)
        populate(manager, path)
        with closing(sqlite3.connect(file, isolation_level=None)) as raw:
            raw.execute("DROP TRIGGER event_no_delete")
            raw.execute("DELETE FROM event WHERE id = 'e3'")
        with pytest.raises(IncompleteError, match="1 events are missing"):
            populate(manager, path)
        page = (tmp_path / "report" / "report.md").read_text()
        assert "4 of 5" in page
        assert "1 events are missing" in page
        (step,) = populate(manager, path, restart=True).steps
        assert (step.accepted, step.duplicates) == (1, 4)


def test_an_unwell_database_is_not_taken_for_a_bad_row(tmp_path: Path) -> None:
    path = ndjson(tmp_path / "e.ndjson", [event(1)])
    with ConnectionManager.from_settings(Settings(sqlite_path=tmp_path / "empty.sqlite3")) as manager:
        with pytest.raises(Exception, match="no such table"):
            populate(manager, path)
        assert rejects(path) == []


def test_the_report_is_data_too(ledger: ConnectionManager, tmp_path: Path) -> None:
    path = ndjson(tmp_path / "e.ndjson", [event(1)])
    populate(ledger, path)
    document = json.loads((tmp_path / "report" / "report.json").read_text())
    assert document["missing"] == 0
    assert document["steps"][0]["accepted"] == 1
    assert document["source"] == "ndjson"


KILLED = """
import dataclasses, io, signal, sys
from pathlib import Path
from app.database import ConnectionManager
from scripts.database.populate import job, sources
from tests.postgres import Settings
file, path, last = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
def until_last(records):
    for number, record in enumerate(records()):
        if number == last:
            signal.pause()
        yield record
steps = [
    dataclasses.replace(step, records=lambda records=step.records: until_last(records))
    for step in sources.steps("ndjson", path)
]
with ConnectionManager.from_settings(Settings(sqlite_path=file)) as manager:
    options = job.Options(folder=path.parent / "report", batch=20)
    job.populate(manager, "ndjson", path, steps, options, io.StringIO())
"""


@pytest.mark.system
def test_a_population_killed_at_any_point_goes_on_and_counts_every_record_once(tmp_path: Path) -> None:
    """Three times kill -9 in the middle; then the counts are those of one undisturbed run."""
    total, bad = 3000, {100, 1500, 2900}
    lines = ["broken" if n in bad else event(n) for n in range(total)]
    path = ndjson(tmp_path / "e.ndjson", lines)
    file = tmp_path / "ledger.sqlite3"
    with ConnectionManager.from_settings(Settings(sqlite_path=file)) as manager:
        runner.upgrade(manager)

        def position() -> int:
            with manager.transaction() as tx:
                checkpoint.prepare(tx)
                return checkpoint.load(tx, checkpoint.key("ndjson", path), "events").position

        for goal in (200, 900, 1600):
            # Whoever is faster than the kill waits for it before the end.
            argv = [sys.executable, "-c", KILLED, str(file), str(path), str(goal + 900)]
            with subprocess.Popen(argv, env={**os.environ, "PYTHONPATH": str(Path.cwd())}) as process:
                wait_until(lambda goal=goal: position() >= goal, 30, "the goal")
                process.send_signal(signal.SIGKILL)
            assert process.returncode == -signal.SIGKILL
        reached = position()
        assert 1600 <= reached < total
        (step,) = populate(manager, path, batch=20).steps
        assert step.resumed_at >= reached
        assert (step.records, step.accepted, step.duplicates, step.rejected) == (total, total - 3, 0, 3)
        assert count(manager) == total - 3
        assert [entry["line"] for entry in rejects(path)] == sorted(n + 1 for n in bad)
