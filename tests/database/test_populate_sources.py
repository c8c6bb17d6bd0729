"""What each source makes of what a team has: commits and tags, test reports, tables of events."""

import io
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.database import ConnectionManager
from app.database.migrations import runner
from scripts.database.errors import SourceError, UsageError
from scripts.database.populate import job, sources
from scripts.database.populate.report import Report
from scripts.database.populate.sources import csv_file, git, junit
from scripts.database.populate.steps import Record
from tests.postgres import Settings

Git = Callable[..., str]


@pytest.fixture
def repository(tmp_path: Path) -> tuple[Path, Git]:
    """An empty repository and the way to run git in it."""
    folder = tmp_path / "service"
    folder.mkdir()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "GIT_CONFIG_NOSYSTEM": "1",
        **{f"GIT_{who}_NAME": "Ada" for who in ("AUTHOR", "COMMITTER")},
        **{f"GIT_{who}_EMAIL": "ada@example.org" for who in ("AUTHOR", "COMMITTER")},
        **{f"GIT_{who}_DATE": "2026-01-31T12:00:00Z" for who in ("AUTHOR", "COMMITTER")},
    }

    def run(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    run("init", "-q", "-b", "main")
    return folder, run


@pytest.fixture
def ledger(tmp_path: Path) -> Any:
    with ConnectionManager.from_settings(Settings(sqlite_path=tmp_path / "ledger.sqlite3")) as manager:
        runner.upgrade(manager)
        yield manager


def populate(manager: ConnectionManager, name: str, path: Path) -> Report:
    options = job.Options(folder=manager_folder(path))
    return job.populate(manager, name, path, sources.steps(name, path), options, io.StringIO())


def manager_folder(path: Path) -> Path:
    return path.parent / "report"


def rows(manager: ConnectionManager, sql: str) -> list[dict[str, Any]]:
    with manager.transaction(read_only=True) as tx:
        return [dict(row) for row in tx.all(sql)]


def test_commits_and_tags_of_a_repository_become_events(
    ledger: ConnectionManager, repository: tuple[Path, Git]
) -> None:
    folder, run = repository
    for number in range(3):
        run("commit", "-q", "--allow-empty", "-m", f"Change {number}\n\nWhy it was done.")
    run("tag", "v1")
    run("tag", "-a", "v2", "-m", "The second release")
    report = populate(ledger, "git", folder)
    assert [(step.name, step.accepted) for step in report.steps] == [("commits", 3), ("tags", 2)]
    first = run("rev-list", "--max-parents=0", "HEAD")
    commits = rows(ledger, "SELECT * FROM event WHERE type = 'dev.slipway.commit' ORDER BY sequence")
    assert [row["source"] for row in commits] == [f"urn:git:{first}"] * 3
    assert json.loads(commits[0]["data"]) == {
        "commit": first,
        "parents": [],
        "author": "Ada",
        "message": "Change 0",
    }
    assert commits[0]["time"].startswith("2026-01-31 12:00:00")
    assert "ada@example.org" not in str(commits)
    tags = rows(ledger, "SELECT * FROM event WHERE type = 'dev.slipway.release.tagged' ORDER BY id")
    assert [json.loads(row["data"])["tag"] for row in tags] == ["v1", "v2"]
    assert {json.loads(row["data"])["commit"] for row in tags} == {run("rev-parse", "HEAD")}
    assert json.loads(tags[1]["data"])["message"] == "The second release"


def test_only_new_commits_go_in_the_next_time(
    ledger: ConnectionManager, repository: tuple[Path, Git]
) -> None:
    folder, run = repository
    run("commit", "-q", "--allow-empty", "-m", "One")
    populate(ledger, "git", folder)
    run("commit", "-q", "--allow-empty", "-m", "Two")
    step = populate(ledger, "git", folder).steps[0]
    assert (step.resumed_at, step.accepted, step.duplicates) == (1, 2, 0)


def test_a_repository_without_commits_is_an_empty_source(
    ledger: ConnectionManager, repository: tuple[Path, Git]
) -> None:
    assert [step.records for step in populate(ledger, "git", repository[0]).steps] == [0, 0]


def test_a_bare_clone_is_the_same_source(
    ledger: ConnectionManager, repository: tuple[Path, Git], tmp_path: Path
) -> None:
    folder, run = repository
    run("commit", "-q", "--allow-empty", "-m", "One")
    run("clone", "-q", "--bare", str(folder), str(tmp_path / "service.git"))
    assert sources.recognise(str(tmp_path / "service.git"))[0] == "git"
    assert populate(ledger, "git", tmp_path / "service.git").steps[0].accepted == 1
    assert populate(ledger, "git", folder).steps[0].duplicates == 1
    assert [row["subject"] for row in rows(ledger, "SELECT subject FROM event")] == ["service"]


def test_what_lies_in_a_stash_or_a_note_is_no_commit(
    ledger: ConnectionManager, repository: tuple[Path, Git]
) -> None:
    folder, run = repository
    (folder / "file").write_text("one")
    run("add", "file")
    run("commit", "-q", "-m", "One")
    run("notes", "add", "-m", "A note")
    (folder / "file").write_text("two")
    run("stash")
    (commits, _) = populate(ledger, "git", folder).steps
    assert (commits.records, commits.accepted) == (1, 1)
    assert sources.steps("git", folder)[0].total() == 1


def test_a_hook_s_variables_do_not_lead_to_another_repository(
    ledger: ConnectionManager,
    repository: tuple[Path, Git],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, run = repository
    run("commit", "-q", "--allow-empty", "-m", "Here")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert populate(ledger, "git", folder).steps[0].accepted == 1


def test_a_commit_time_that_cannot_be_written_is_rejected() -> None:
    raw = b"\x1f".join([b"sha", b"", b"99999999999999999", b"Ada", b"Late"])
    with pytest.raises(ValueError, match="is not a time"):
        git.commit_event(Record(line=1, raw=raw, done=1), "urn:git:x", "service")


def test_a_folder_without_a_repository_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not in a git repository"):
        sources.steps("git", tmp_path)


def test_a_shallow_clone_is_refused_because_its_first_commit_is_another_one(
    repository: tuple[Path, Git], tmp_path: Path
) -> None:
    folder, run = repository
    for number in range(3):
        run("commit", "-q", "--allow-empty", "-m", f"Change {number}")
    run("clone", "-q", "--depth", "1", folder.as_uri(), str(tmp_path / "shallow"))
    with pytest.raises(UsageError, match="is a shallow clone") as caught:
        sources.steps("git", tmp_path / "shallow")
    assert "git fetch --unshallow" in caught.value.next_step
    run("clone", "-q", folder.as_uri(), str(tmp_path / "whole"))
    names = {event_source(path) for path in (folder, tmp_path / "whole")}
    assert len(names) == 1


def event_source(path: Path) -> str:
    commits = sources.steps("git", path)[0]
    return str(commits.event(next(commits.records()))["source"])


def test_a_branch_with_a_root_of_its_own_does_not_rename_the_repository(
    repository: tuple[Path, Git],
) -> None:
    """Ten such branches: one of their roots sorts before the first commit, as good as surely."""
    folder, run = repository
    run("commit", "-q", "--allow-empty", "-m", "First")
    before = event_source(folder)
    for number in range(10):
        run("checkout", "-q", "--orphan", f"pages{number}")
        run("commit", "-q", "--allow-empty", "-m", f"Pages {number}")
    run("checkout", "-q", "main")
    assert event_source(folder) == before == f"urn:git:{run('rev-list', '--max-parents=0', 'main')}"
    run("checkout", "-q", "--orphan", "unborn")
    with pytest.raises(SourceError, match="HEAD"):
        sources.steps("git", folder)


def test_a_walk_that_git_ends_midway_is_not_taken_for_the_whole_history(
    repository: tuple[Path, Git],
) -> None:
    folder, run = repository
    for number in range(3):
        run("commit", "-q", "--allow-empty", "-m", f"Change {number}")
    found = sources.steps("git", folder)
    middle = run("rev-parse", "HEAD~1")
    (folder / ".git" / "objects" / middle[:2] / middle[2:]).unlink()
    with pytest.raises(SourceError, match="git log failed") as caught:
        list(found[0].records())
    assert "git fsck" in caught.value.next_step
    with pytest.raises(SourceError):
        sources.steps("git", folder)


REPORT = """<?xml version="1.0"?>
<testsuites><testsuite name="pytest" tests="4" timestamp="2026-01-31T12:00:00+01:00" time="1,002.5">
  <testcase classname="tests.test_a" name="test_one" time="0.25"/>
  <testcase classname="tests.test_a" name="test_two" time="0.5"><failure message="1 != 2"/></testcase>
  <testcase classname="tests.test_a" name="test_two" time="0"><skipped message="no engine"/></testcase>
  <testcase name="test_three"><error message="boom"/><failure message="later"/></testcase>
</testsuite><testsuite name="empty"/></testsuites>
"""


def test_a_test_report_becomes_cases_and_a_run_with_its_figures(
    ledger: ConnectionManager, tmp_path: Path
) -> None:
    path = tmp_path / "junit.xml"
    path.write_text(REPORT)
    report = populate(ledger, "junit", path)
    assert [(step.name, step.accepted, step.rejected) for step in report.steps] == [
        ("cases", 4, 0),
        ("suites", 1, 0),
    ]
    cases = rows(ledger, "SELECT * FROM event WHERE type = 'dev.slipway.test.finished' ORDER BY sequence")
    assert [json.loads(row["data"])["result"] for row in cases] == ["passed", "failed", "skipped", "error"]
    assert json.loads(cases[1]["data"])["message"] == "1 != 2"
    assert cases[0]["subject"] == "tests.test_a.test_one"
    assert cases[0]["time"].startswith("2026-01-31 11:00:00")
    (run,) = rows(ledger, "SELECT * FROM pipeline_run")
    assert (run["result"], run["seconds"]) == ("failure", 1002.5)
    (stage,) = rows(ledger, "SELECT * FROM task_run")
    assert (stage["name"], stage["run"]) == ("test", run["run"])
    assert json.loads(stage["figures"]) == {"tests": 4.0, "failed": 2.0, "skipped": 1.0}


def test_the_same_report_under_another_name_is_known(ledger: ConnectionManager, tmp_path: Path) -> None:
    for name in ("a.xml", "b.xml"):
        (tmp_path / name).write_text(REPORT)
    populate(ledger, "junit", tmp_path / "a.xml")
    report = populate(ledger, "junit", tmp_path / "b.xml")
    assert [step.duplicates for step in report.steps] == [4, 1]


def test_a_folder_of_reports_is_read_whole_and_a_broken_one_is_named(
    ledger: ConnectionManager, tmp_path: Path
) -> None:
    folder = tmp_path / "reports"
    folder.mkdir()
    (folder / "a.xml").write_text('<testsuite name="a">\n<testcase name="x"/>\n<oops')
    (folder / "b.xml").write_text('<testsuite name="b" time="soon"><testcase name="y" time="1"/></testsuite>')
    report = populate(ledger, "junit", folder)
    assert [(step.accepted, step.rejected) for step in report.steps] == [(2, 1), (0, 2)]
    lines = Path(report.steps[1].rejects or "").read_text().splitlines()
    broken, untimed = map(json.loads, lines)
    assert broken["file"].endswith("a.xml")
    assert "a.xml is not XML" in broken["reason"]
    assert untimed["reason"] == "time: 'soon' is not a number of seconds"


def test_a_report_with_a_time_that_is_none_is_rejected() -> None:
    with pytest.raises(ValueError, match="timestamp: 'today' is not a time"):
        junit.moment("today")
    assert junit.moment("2026-01-31T12:00:00") == "2026-01-31T12:00:00+00:00"


CSV = """id,source,type,time,subject,data.run,data.seconds:number,data.dirty:boolean,data.figures:json
a,/t,x.y,2026-01-31T12:00:00Z,s,007,1.5,true,"{""tests"": 3}"
b,/t,x.y,2026-01-31T12:00:00Z,,"two
lines",,,
c,/t,x.y,2026-01-31T12:00:00Z,,r,many,,
d,/t,x.y
e,/t,x.y,2026-01-31T12:00:00Z,,r,2,maybe,

f,/t,x.y,2026-01-31T12:00:00Z,,r,2,FALSE,
"""


def test_a_table_becomes_events_with_typed_data(ledger: ConnectionManager, tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text("\ufeff" + CSV)
    (step,) = populate(ledger, "csv", path).steps
    assert (step.records, step.accepted, step.rejected) == (6, 3, 3)
    found = rows(ledger, "SELECT id, subject, data FROM event ORDER BY id")
    assert json.loads(found[0]["data"]) == {
        "run": "007",
        "seconds": 1.5,
        "dirty": True,
        "figures": {"tests": 3},
    }
    assert json.loads(found[1]["data"]) == {"run": "two\nlines"}
    assert json.loads(found[2]["data"]) == {"run": "r", "seconds": 2, "dirty": False}
    lines = Path(step.rejects or "").read_text().splitlines()
    assert [(entry["line"], entry["reason"]) for entry in map(json.loads, lines)] == [
        (5, "data.seconds: 'many' is not a number"),
        (6, "has 3 cells where the first row has 9"),
        (7, "data.dirty: 'maybe' is not a boolean"),
    ]


HEAD = b"id,source,type,time,subject\n"
ROW = b"%s,/t,x.y,2026-01-31T12:00:00Z,%s\n"


@pytest.mark.parametrize("before", [0, 1000])
def test_a_row_in_another_encoding_is_rejected_wherever_it_stands(
    ledger: ConnectionManager, tmp_path: Path, before: int
) -> None:
    path = tmp_path / "events.csv"
    good = [ROW % (b"%d" % number, b"ok") for number in range(before)]
    path.write_bytes(b"".join([HEAD, *good, ROW % (b"x", b"caf\xe9"), ROW % (b"y", b"ok")]))
    (step,) = populate(ledger, "csv", path).steps
    assert (step.accepted, step.rejected) == (before + 1, 1)


def test_a_first_row_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    for head in (b"id,source,type,time,data.caf\xe9\n", b'id,"source"x,type,time\n', b"i" * 3_000_000):
        path.write_bytes(head)
        with pytest.raises(UsageError, match="The first row cannot be read"):
            sources.steps("csv", path)


ENDLESS = {
    "line": b"x" * 3_000_000,
    "cell": b'"' + (b"x" * 999 + b"\n") * 200,
    "row": b'"%s\n",' % (b"x" * 100_000) * 12,
}


@pytest.mark.parametrize("endless", ENDLESS)
def test_a_row_without_end_is_rejected_without_being_held(tmp_path: Path, endless: str) -> None:
    path = tmp_path / "events.csv"
    path.write_bytes(HEAD + ROW % (b"a", b"s") + ENDLESS[endless] + b"\n" + ROW % (b"b", b"s"))
    found = list(sources.steps("csv", path)[0].records())
    assert [record.line for record in found[:2]] == [2, 3]
    assert found[0].problem is None
    assert "larger than field limit" in str(found[1].problem) or "is longer than" in str(found[1].problem)
    assert max(len(record.raw) for record in found) < 1 << 20
    assert found[-1].done == path.stat().st_size
    if endless == "line":
        assert [(record.line, record.problem) for record in found[2:]] == [(4, None)]


def test_a_cell_that_never_ends_is_rejected_and_not_the_end_of_the_run(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text('id,source,type,time\na,b,c,d\ne,"f"x,g,h\n')
    found = list(csv_file.records(path, 4))
    assert [record.problem is None for record in found] == [True, False]
    assert "is not CSV" in (found[1].problem or "")


@pytest.mark.parametrize(
    ("head", "what"),
    [
        ("id,type,time", "lacks source"),
        ("id,source,type,time,colour", "has colour"),
        ("id,source,type,time,data.x:date", "has data.x:date"),
        ("id,id,source,type,time", "a name twice"),
        ("", "lacks id, source, type, time"),
    ],
)
def test_a_table_with_a_wrong_first_row_is_refused(tmp_path: Path, head: str, what: str) -> None:
    path = tmp_path / "events.csv"
    path.write_text(f"{head}\n")
    with pytest.raises(UsageError, match=what) as caught:
        sources.steps("csv", path)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("word", "meant"),
    [("git", "git"), ("a/events.jsonl", "ndjson"), ("x.CSV", "csv"), ("junit.xml", "junit")],
)
def test_a_source_is_known_by_its_name_or_its_file(word: str, meant: str) -> None:
    name, path = sources.recognise(word)
    assert name == meant
    assert path == (None if word == "git" else Path(word))


def test_a_folder_with_a_repository_is_a_git_source(repository: tuple[Path, Git]) -> None:
    assert sources.recognise(str(repository[0])) == ("git", repository[0])


def test_an_unknown_source_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    for refused in (
        lambda: sources.recognise("events.txt"),
        lambda: sources.steps("svn", tmp_path),
        lambda: sources.steps("csv", tmp_path / "none.csv"),
        lambda: sources.steps("csv", tmp_path),
        lambda: sources.steps("ndjson", tmp_path),
    ):
        with pytest.raises(UsageError):
            refused()
