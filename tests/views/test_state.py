"""project_state.json, what is true now."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from scripts.pipeline.events import Notice
from scripts.views import state
from scripts.views.state import State

from .story import BUILT_FROM, DIGEST, PREVIOUS, RUN, Story, broken, moment, shipped, watch


def after(root: Path, *stories: Story) -> dict[str, Any]:
    for story in stories:
        watch(State(root, warn=pytest.fail), story.events)
    return json.loads((root / "project_state.json").read_text(encoding="utf-8"))


def test_each_environment_has_its_release_and_status(tmp_path: Path) -> None:
    environments = after(tmp_path, shipped(), shipped("staging"))["environments"]
    assert set(environments) == {"development", "staging"}
    assert environments["staging"] == {
        "release": DIGEST,
        "status": "succeeded",
        "url": "http://127.0.0.1:8080",
        "previous": PREVIOUS,
        "commit": BUILT_FROM,
        "run": RUN,
        "since": "2026-03-14T15:09:56.735Z",
        "changed": "2026-03-14T15:09:56.735Z",
    }


def test_a_deployment_that_was_put_back_leaves_the_previous_release(tmp_path: Path) -> None:
    story = (
        Story("build", "deploy")
        .start("build", 50)
        .finish("build", 51, outputs={"digest": "sha256:" + "e" * 64})
    )
    outputs = {"result": "rolled_back", "previous": DIGEST, "url": "http://127.0.0.1:8080"}
    story.start("deploy", 52).finish("deploy", 59, "failure", outputs=outputs).end(60, "failure", 3)
    found = after(tmp_path, shipped(), story)
    development = found["environments"]["development"]
    assert (development["release"], development["status"]) == (DIGEST, "rolled_back")
    assert development["since"] == "2026-03-14T15:09:56.735Z"
    assert "rolled back" in found["log"][-1]["text"]


def test_each_stage_has_its_last_result(tmp_path: Path) -> None:
    stages = after(tmp_path, shipped(), broken())["stages"]
    assert set(stages) == {"lint", "test", "build", "scan", "push", "deploy"}
    assert (stages["test"]["result"], stages["test"]["environment"]) == ("failure", "staging")
    assert stages["build"]["result"] == "success"


def test_the_log_has_the_last_fifty_entries(tmp_path: Path) -> None:
    log = after(tmp_path, *(shipped() for _ in range(9)))["log"]
    assert len(log) == 50
    assert log[-1]["text"].startswith("development: sha256:9c1f4e7ab2d8 succeeded")


def test_the_log_tells_failures_with_their_reason(tmp_path: Path) -> None:
    entries = [entry for entry in after(tmp_path, broken())["log"] if entry["level"] == "error"]
    assert [entry["text"] for entry in entries] == [
        "test failure after 6.4 s: 1 of 8 tests failed",
        "push ended with failure after 6.5 s",
    ]
    assert entries[0]["stage"] == "test"


def test_a_stage_is_written_when_it_ends_and_not_only_with_the_run(tmp_path: Path) -> None:
    story = Story("lint", "test").start("lint", 0).finish("lint", 1).start("test", 1)
    assert after(tmp_path, story)["stages"]["lint"]["result"] == "success"


def test_remarks_about_the_run_are_in_the_log(tmp_path: Path) -> None:
    story = Story("lint").add(Notice(at=moment(0), text="the proof of lint is damaged"))
    assert after(tmp_path, story)["log"][0]["text"] == "the proof of lint is damaged"


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"\xff\xfe", b"[]", b"null", b'{"version": 1, "log": {}}', b'{"version": 99, "log": []}'],
)
def test_a_file_that_cannot_be_read_is_set_aside_and_begun_again(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "project_state.json").write_bytes(damage)
    found = after(tmp_path, shipped())
    assert found["environments"]["development"]["release"] == DIGEST
    assert "could not be read" in found["log"][0]["text"]
    assert (tmp_path / ".slipway/project_state.json.unreadable").read_bytes() == damage


def test_two_runs_at_once_lose_nothing(tmp_path: Path) -> None:
    def add(name: str) -> None:
        for number in range(10):
            text = f"{name}{number}"
            state.update(tmp_path, lambda found, text=text: state.note(found, "info", text))

    threads = [threading.Thread(target=add, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    texts = {entry["text"] for entry in state.read(tmp_path)["log"]}
    assert texts == {f"{name}{number}" for name in "abc" for number in range(10)}


def test_a_disk_that_refuses_fails_no_run(tmp_path: Path) -> None:
    (tmp_path / ".slipway").write_text("a file where the folder should be")
    warnings: list[str] = []
    watch(State(tmp_path, warn=warnings.append), shipped().events)
    assert warnings
    assert set(warnings) == {"project_state.json is not up to date: File exists"}


def test_a_rollback_is_noted_like_a_deployment(tmp_path: Path) -> None:
    after(tmp_path, shipped())
    deployment = {
        "environment": "development",
        "result": "succeeded",
        "release": PREVIOUS,
        "previous": DIGEST,
    }
    state.update(tmp_path, lambda found: state.deployed(found, deployment, run=None, commit=None))
    development = state.read(tmp_path)["environments"]["development"]
    assert (development["release"], development["url"]) == (PREVIOUS, "http://127.0.0.1:8080")


def test_a_release_that_served_already_changes_nothing(tmp_path: Path) -> None:
    before = after(tmp_path, shipped())["environments"]
    outputs = {"result": "unchanged", "previous": DIGEST, "url": "http://127.0.0.1:8080"}
    story = Story("build", "deploy", reasons={"deploy": "proven"}).finish(
        "build", 0, "skipped", outputs={"digest": DIGEST}
    )
    found = after(tmp_path, story.finish("deploy", 1, "skipped", outputs=outputs).end(1))
    assert found["environments"] == before
    (tmp_path / "project_state.json").unlink()
    assert after(tmp_path, story)["environments"]["development"]["status"] == "succeeded"
