"""What `invoke db.*` says and how it ends: 0 done, 1 refused, 2 wrong usage, 4 nobody answers."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from invoke.context import Context
from invoke.exceptions import Exit

from app.database.errors import DatabaseError
from app.database.migrations import chain, lint
from app.database.migrations.errors import MigrationRefusedError, UnknownRevisionError
from scripts.database import commands, init, tasks
from scripts.database.errors import RestoreRefusedError, UsageError
from scripts.pipeline.errors import UnreachableError
from tests.database.migration_files import two
from tests.postgres import wait_until

KEEP = {"last": 5, "daily": 7, "weekly": 4, "monthly": 12}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own and the settings of an environment that tests may use."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENVIRONMENT", "development")
    monkeypatch.setenv("DB_ADAPTER_ORDER", "sqlite")
    monkeypatch.setenv("DB_SQLITE_PATH", str(tmp_path / "ledger.sqlite3"))
    return tmp_path


def new(root: Path, *, reset: bool = False) -> commands.Answer:
    return commands.init("", adapter="sqlite", reset=reset, root=root)


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True)


def test_init_makes_a_migrated_database_and_twice_is_as_good_as_once(here: Path) -> None:
    first = new(here)
    assert "base -> 0001" in first.text
    assert "is no git repository" in first.text
    assert f"DB_SQLITE_PATH={here / 'ledger.sqlite3'}" in first.text
    assert "Nothing to do" in new(here).text
    assert commands.status("", json=False).exit_code == 0


def test_init_fills_the_database_from_the_repository(here: Path) -> None:
    git(here, "init", "-q")
    git(here, "commit", "-q", "--allow-empty", "-m", "One")
    assert "1 events, all read back" in new(here).text
    assert "1 events, all read back" in new(here, reset=True).text


def test_init_in_a_shallow_clone_makes_the_database_and_says_why_it_is_not_filled(here: Path) -> None:
    for words in (["init", "-q", "one"], ["-C", "one", "commit", "-q", "--allow-empty", "-m", "One"]):
        git(here, *words)
    git(here, "-C", "one", "commit", "-q", "--allow-empty", "-m", "Two")
    git(here, "clone", "-q", "--depth", "1", (here / "one").as_uri(), "shallow")
    text = new(here / "shallow").text
    assert "base -> 0001" in text
    assert "Not filled" in text
    assert "is a shallow clone" in text


def test_reset_begins_anew_but_only_what_is_a_database_and_not_in_production(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new(here)
    assert "base -> 0001" in new(here, reset=True).text
    (here / "notes.txt").write_text("mine")
    monkeypatch.setenv("DB_SQLITE_PATH", str(here / "notes.txt"))
    with pytest.raises(RestoreRefusedError, match="not a SQLite database"):
        new(here, reset=True)
    assert (here / "notes.txt").read_text() == "mine"
    monkeypatch.setenv("DB_SQLITE_PATH", str(here))
    with pytest.raises(RestoreRefusedError, match="is a folder"):
        new(here, reset=True)
    monkeypatch.setattr(commands, "SAFE_TO_RESET", ())
    with pytest.raises(UsageError, match="is not reset by a command"):
        new(here, reset=True)
    with pytest.raises(UsageError, match="takes no folder with a blank"):
        commands.init("", adapter="local", reset=False, root=here / "a b")
    with pytest.raises(UsageError, match="no database for the adapter 'pooler'"):
        commands.init("", adapter="pooler", reset=False, root=here)


def test_status_says_what_is_wrong_and_ends_with_1(here: Path) -> None:
    (here / "ledger.sqlite3").touch()
    answer = commands.status("", json=False)
    assert answer.exit_code == 1
    assert "pending:  0001" in answer.text
    document = json.loads(commands.status("", json=True).text)
    assert document["pending"] == ["0001"]
    assert document["at_head"] is False
    commands.upgrade("", "head", wait=1.0)
    assert json.loads(commands.status("", json=True).text)["current"] == "0001"
    with commands.opened("") as manager, manager.transaction() as tx:
        tx.execute("UPDATE schema_migration SET checksum = 'x'")
    assert "changed:  0001" in commands.status("", json=False).text
    with commands.opened("") as manager, manager.transaction() as tx:
        tx.execute("UPDATE alembic_version SET version_num = 'x'")
    assert "newer code was here" in commands.status("", json=False).text


def test_what_only_looks_makes_no_database(here: Path) -> None:
    (here / "e.csv").write_text("id,source,type,time\n1,/t,a.b,2026-01-31T12:00:00Z\n")
    before = sorted(here.iterdir())
    for look in (
        lambda: commands.status("", json=True),
        lambda: commands.sql("", "head"),
        lambda: commands.check("", areas="", form="text", output="", fail_on="never"),
        lambda: commands.populate(
            "", "e.csv", path="", select="", skip="", options={"folder": here / "report", "dry_run": True}
        ),
    ):
        with pytest.raises(UnreachableError, match="There is no database") as caught:
            look()
        assert caught.value.exit_code == 4
    assert sorted(here.iterdir()) == before


def test_a_migration_s_message_cannot_break_its_file(tmp_path: Path) -> None:
    folder = two(tmp_path / "versions")
    for message in ('drop """ x', "a \\", "two\nlines {here}", '"quoted"'):
        commands.revision(message, folder)
    assert [each.revision for each in chain.read(folder).migrations][2:] == ["0003", "0004", "0005", "0006"]
    for migration in chain.read(folder).migrations:
        lint.check(migration)


def test_migration_commands_say_which_way_they_went(here: Path) -> None:
    (here / "ledger.sqlite3").touch()
    assert commands.sql("", "head").text.startswith("PRAGMA foreign_keys = OFF;\nBEGIN;")
    assert commands.upgrade("", "head", wait=1.0).text.startswith("base -> 0001 in ")
    assert "nothing to do" in commands.sql("", "head").text
    assert commands.stamp("", "head").text == "The database is said to be at 0001."
    assert commands.downgrade("", "base", accept_loss=False, wait=1.0).text.startswith("0001 -> base in ")
    assert commands.upgrade("", "base", wait=1.0).text == "Nothing to do: the schema is at base."
    with pytest.raises(UnknownRevisionError):
        commands.upgrade("", "nowhere", wait=1.0)


def test_a_new_migration_follows_the_last_one_and_keeps_the_rule(here: Path) -> None:
    from app.database.migrations import chain, lint

    folder = two(here / "versions")
    answer = commands.revision('Add "release notes"', folder)
    assert "0003_add_release_notes.py follows 0002" in answer.text
    migration = chain.read(folder).migrations[-1]
    assert (migration.revision, migration.title) == ("0003", 'Add "release notes"')
    lint.check(migration)
    with pytest.raises(UsageError, match="needs a name"):
        commands.revision("--", folder)


def test_populate_refuses_a_database_without_its_schema_and_then_reports(here: Path) -> None:
    path = here / "events.ndjson"
    path.write_text(
        '{"specversion":"1.0","id":"1","source":"/t","type":"a.b","time":"2026-01-31T12:00:00Z"}\n'
    )
    options = {"folder": here / "report"}

    def populate(**more: object) -> commands.Answer:
        return commands.populate(
            "", "events.ndjson", path="", select="", skip="", options={**options, **more}
        )

    with pytest.raises(UsageError, match="has not the schema"):
        populate()
    new(here)
    assert "| events | 1 | 1 | 0 | 0 | 1 of 1 |" in populate().text
    with pytest.raises(UsageError, match="at least one record"):
        populate(batch=0)
    with pytest.raises(UsageError, match="no step 'tags'"):
        commands.populate("", "ndjson", path=str(path), select="tags", skip="", options=options)


def test_backup_verify_and_restore_by_command(here: Path) -> None:
    new(here)
    folder = here / "backups"
    made = commands.backup("", folder=folder, method="auto", verify=True, keep=KEEP)
    assert "every table is the same" in made.text
    (file,) = folder.glob("*.zip")
    assert file.name.startswith("development-")
    assert "are the same" in commands.verify("", file).text
    restored = commands.restore("", file, str(here / "again.sqlite3"))
    assert "the schema is at 0001" in restored.text
    with pytest.raises(RestoreRefusedError):
        commands.restore("", file, "")
    with pytest.raises(UsageError, match="no method"):
        commands.backup("", folder=folder, method="tape", verify=False, keep=KEEP)
    with pytest.raises(UsageError, match="not negative"):
        commands.backup("", folder=folder, method="auto", verify=False, keep={**KEEP, "daily": -1})


def test_a_backup_says_which_ones_are_no_longer_kept(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new(here)
    folder = here / "backups"
    commands.backup("", folder=folder, method="auto", verify=False, keep=KEEP)
    (old,) = folder.glob("*.zip")
    older = folder / re.sub(r"\d{8}T", "20200101T", old.name)
    old.rename(older)
    few = {"last": 1, "daily": 0, "weekly": 0, "monthly": 0}
    answer = commands.backup("", folder=folder, method="auto", verify=False, keep=few)
    assert f"no longer kept: {older.name}" in answer.text
    assert "not restored for a trial" in answer.text


def test_check_answers_in_each_form_and_ends_by_its_level(here: Path) -> None:
    def check(**more: str) -> commands.Answer:
        return commands.check(
            "", **{"areas": "", "form": "text", "output": "", "fail_on": "critical", **more}
        )

    (here / "ledger.sqlite3").touch()
    assert check().exit_code == 1
    assert "there is no schema" in check().text
    assert check(fail_on="never").exit_code == 0
    new(here)
    assert check(fail_on="warning").exit_code == 0
    answer = check(form="html", output="page.html", areas="schema, routes")
    assert answer.text == "ok: see page.html"
    for output in (".", "missing/page.html"):
        with pytest.raises(UsageError, match="The report cannot be written"):
            check(output=output)
    assert (here / "page.html").read_text().startswith("<!doctype html>")
    with pytest.raises(UsageError, match="'pdf'"):
        check(form="pdf")


def test_check_ends_with_4_when_nothing_answers(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_ADAPTER_ORDER", "local")
    monkeypatch.setenv("DB_LOCAL_HOST", str(here))
    monkeypatch.setenv("DB_BUDGET_SECONDS", "0.5")
    monkeypatch.setenv("DB_BUSY_TIMEOUT", "0.5")
    monkeypatch.setenv("DB_CONNECT_TIMEOUT", "0.5")
    answer = commands.check("", areas="", form="text", output="", fail_on="never")
    assert answer.exit_code == 4
    with pytest.raises(DatabaseError) as caught:
        commands.status("", json=False)
    assert caught.value.exit_code == 4


def test_rebuild_derives_the_projections_again(here: Path) -> None:
    new(here)
    assert "from 0 events" in commands.rebuild("").text


@pytest.mark.parametrize("note", ["", "4194304000\n", "4194303\n", "garbage\n"])
def test_stopping_what_does_not_run_is_no_error(here: Path, note: str) -> None:
    assert commands.stop(here).text == "No PostgreSQL of ours is running."
    folder = here / init.SERVER
    folder.mkdir(parents=True)
    (folder / "postmaster.pid").write_text(note)
    assert commands.stop(here).text == "No PostgreSQL of ours is running."


def test_a_note_that_outlived_its_server_ends_no_other_process(here: Path) -> None:
    folder = here / init.SERVER
    folder.mkdir(parents=True)
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            (folder / "postmaster.pid").write_text(f"{other.pid}\n{folder}\n")
            assert init.stop(folder) is False
            assert other.poll() is None
        finally:
            other.kill()
    assert other.returncode == -signal.SIGKILL


def test_a_server_of_another_account_is_left_to_it(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = here / init.SERVER
    folder.mkdir(parents=True)
    with subprocess.Popen(
        [sys.executable, "-c", "input()", "-D", str(folder)], stdin=subprocess.PIPE
    ) as other:
        (folder / "postmaster.pid").write_text(f"{other.pid}\n")
        wait_until(lambda: init.running(folder) == other.pid, 10, "the process")
        monkeypatch.setattr(os, "kill", refused)
        with pytest.raises(UnreachableError, match="runs as another account"):
            init.stop(folder)
        other.communicate(b"\n")


def refused(*_: object) -> None:
    raise PermissionError


def test_a_task_ends_with_its_answer_s_exit_code(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "ledger.sqlite3").touch()
    with pytest.raises(Exit) as caught:
        tasks.status(Context())
    assert caught.value.code == 1
    assert "pending" in capsys.readouterr().out


def test_a_task_turns_a_refusal_into_one_message(here: Path) -> None:
    tasks.upgrade(Context())
    with pytest.raises(Exit) as caught:
        tasks.downgrade(Context(), revision="nowhere")
    assert caught.value.code == 2
    assert "There is no migration 'nowhere'" in str(caught.value.message)


def test_every_task_hands_its_options_on(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tasks.init(Context())
    tasks.sql(Context())
    tasks.stamp(Context(), revision="head")
    tasks.check(Context())
    tasks.backup(Context(), folder="kept", verify=True)
    (file,) = (here / "kept").glob("*.zip")
    tasks.verify(Context(), file=str(file))
    tasks.restore(Context(), file=str(file), to="again.sqlite3")
    (here / "e.csv").write_text("id,source,type,time\n1,/t,a.b,2026-01-31T12:00:00Z\n")
    tasks.populate(Context(), source="e.csv", dry_run=True)
    tasks.rebuild(Context())
    tasks.stop(Context())
    said = capsys.readouterr().out
    for words in (
        "nothing to do",
        "said to be at 0001",
        "every table is the same",
        "restored",
        "Would populate",
    ):
        assert words in said
    assert (here / "again.sqlite3").exists()


def test_a_downgrade_that_loses_rows_is_refused_by_command(here: Path) -> None:
    new(here)
    path = here / "e.csv"
    path.write_text("id,source,type,time\n1,/t,a.b,2026-01-31T12:00:00Z\n")
    commands.populate("", "e.csv", path="", select="", skip="", options={"folder": here})
    with pytest.raises(MigrationRefusedError, match="drops the table event with 1 rows"):
        commands.downgrade("", "base", accept_loss=False, wait=1.0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that the server's own account can reach: every start of pytest shuts others out of its own."""
    with tempfile.TemporaryDirectory(prefix="slipway-init-") as folder:
        yield Path(folder)


@pytest.mark.system
def test_a_server_below_a_long_path_leaves_no_folder_for_its_socket(open_folder: Path) -> None:
    root = open_folder / ("long" * 25)
    try:
        answer = commands.init("", adapter="local", reset=False, root=root)
        (line,) = (line for line in answer.text.splitlines() if "DB_LOCAL_HOST=" in line)
        socket = Path(line.partition("=")[2])
        assert socket.is_dir()
        assert not socket.is_relative_to(open_folder)
    finally:
        assert commands.stop(root).text == "PostgreSQL is stopped."
    assert not socket.exists()


@pytest.mark.system
def test_init_gives_a_real_postgresql_with_nothing_installed(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        answer = commands.init("", adapter="local", reset=False, root=open_folder)
        lines = dict(line.strip().split("=", 1) for line in answer.text.splitlines() if "=" in line)
        for name, value in lines.items():
            monkeypatch.setenv(name, value)
        assert commands.status("", json=False).exit_code == 0
        assert commands.check("", areas="", form="text", output="", fail_on="warning").exit_code == 0
        again = commands.init("", adapter="local", reset=True, root=open_folder)
        assert "base -> 0001" in again.text
        note = open_folder / init.SERVER / "postmaster.pid"
        left = note.read_text()
        assert commands.stop(open_folder).text == "PostgreSQL is stopped."
        note.write_text("\n".join([str(os.getpid()), *left.split("\n")[1:]]))  # as after a restart
        commands.init("", adapter="local", reset=False, root=open_folder)
        assert commands.status("", json=False).exit_code == 0
    finally:
        assert commands.stop(open_folder).text == "PostgreSQL is stopped."
