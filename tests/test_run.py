"""What one command line asks of the pipeline, and which stages, settings and proofs that takes."""

import http.server
import io
import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from config.errors import ConfigurationError
from config.masking import Masker
from scripts import run
from scripts.command import Call
from scripts.pipeline.errors import UsageError
from scripts.pipeline.events import Planned
from scripts.pipeline.stage import Decision, Kind
from tests.pipeline.ground import check, make_tree


def asked(*calls: Any, **more: Any) -> run.Asked:
    made = [call if isinstance(call, Call) else Call(name=call, arguments={}) for call in calls]
    return run.asked(made, **more)


def with_flags(name: str, **arguments: Any) -> Call:
    return Call(name=name, arguments=arguments)


def test_several_tasks_on_one_line_are_one_order() -> None:
    found = asked("lint", with_flags("test", force=True), with_flags("lint", json=True))
    assert found.stages == ("lint", "test")
    assert (found.command, found.force, found.json, found.plan) == ("lint test", True, True, False)


def test_ship_is_deploy_to_development() -> None:
    found = asked("ship")
    assert (found.stages, found.environment, found.command) == (("deploy",), "development", "ship")


def test_plan_alone_is_about_everything_and_turns_the_others_into_questions() -> None:
    assert asked("plan").stages == tuple(run.NEEDS)
    found = asked("plan", with_flags("deploy", env="staging"))
    assert (found.stages, found.environment, found.plan) == (("deploy",), "staging", True)
    assert asked("lint", dry=True).plan


@pytest.mark.parametrize(
    "calls",
    [
        (with_flags("lint", env="staging"), with_flags("test", env="testing")),
        (with_flags("push", release="sha256:1"), with_flags("deploy", release="sha256:2")),
        (with_flags("ship"), with_flags("deploy", env="staging")),
    ],
)
def test_contradictions_are_refused(calls: tuple[Call, ...]) -> None:
    with pytest.raises(UsageError, match="one run has one"):
        asked(*calls)


def test_what_a_stage_needs_is_known_without_loading_it() -> None:
    assert run.closure(["scan"]) == ("build", "scan")
    assert set(run.closure(["deploy"])) == set(run.NEEDS)
    with pytest.raises(UsageError, match="did you mean 'scan'"):
        run.closure(["scna"])


def test_the_loaded_stages_are_connected_as_designed() -> None:
    found = run.load_stages(["lint", "test"], None, everything=True)
    assert [stage.name for stage in found] == ["lint", "test"]
    assert found[1].parameters["selection"] == "all"


def test_every_stage_can_be_loaded_and_has_the_name_it_is_asked_for_by() -> None:
    from config.settings import load

    stages = run.load_stages(list(run.NEEDS), load("development"))
    assert {stage.name: stage.needs for stage in stages} == dict(run.NEEDS)
    assert [stage.name for stage in stages if stage.kind is Kind.EFFECT] == ["push", "deploy"]


def test_a_run_that_promotes_nothing_brings_no_proof(tmp_path: Path) -> None:
    assert run.given(None, run.closure(["deploy"]), None, tmp_path) == {}


def test_lint_needs_no_complete_settings_unless_an_environment_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DB_PORT", "many")
    assert run.load_settings(["lint", "test"], None) == ("development", None)
    with pytest.raises(ConfigurationError):
        run.load_settings(["lint", "test"], "development")
    with pytest.raises(ConfigurationError):
        run.load_settings(["build"], None)


def test_lint_does_not_run_for_an_environment_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVIRONMENT", "prodution")
    with pytest.raises(ConfigurationError, match="Did you mean production"):
        run.load_settings(["lint"], None)


class Screen(io.StringIO):
    """Standard output that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "style"), [("production", "1;37;41"), ("staging", "1;30;43"), ("testing", "1;30;46")]
)
def test_a_run_names_the_environment_that_is_chosen_though_its_settings_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, environment: str, style: str
) -> None:
    monkeypatch.setenv("ENVIRONMENT", environment)
    monkeypatch.setenv("DB_PORT", "many")
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("GITHUB_ACTIONS", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(run, "ROOT", make_tree(tmp_path / "tree"))
    monkeypatch.setattr(run, "load_stages", lambda *_, **__: [check("lint")])
    monkeypatch.setattr(sys, "stdout", screen := Screen())
    assert run.run(asked("lint")) == 0
    assert f"\x1b[{style}m {environment} \x1b[0m" in screen.getvalue()


@pytest.fixture
def echo() -> Iterator[str]:
    """The address of a ledger that repeats, as its reason for an error, the token that it was sent."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(500, self.headers["Authorization"])
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def reporting(echo: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Settings whose runs are told to that ledger; return its token."""
    monkeypatch.setenv("ENVIRONMENT", "testing")
    monkeypatch.setenv("LEDGER_URL", echo)
    monkeypatch.setenv("LEDGER_TOKEN", token := "q7Gk2Zr9vT4xLw8Yb3Nc6Md1Ph5Sj0Kf")
    monkeypatch.setattr(run, "ROOT", make_tree(tmp_path / "tree"))
    return token


def test_what_a_ledger_says_of_a_run_is_masked(
    reporting: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "load_stages", lambda *_, **__: [check("lint")])
    assert run.run(asked("lint")) == 0
    said = capsys.readouterr().out
    assert "answered 500 Bearer ***" in said
    assert reporting not in said


def test_what_a_ledger_says_of_a_rollback_is_masked(reporting: str) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Done:
        environment: str = "testing"
        digest: str = "sha256:2"
        previous: str = "sha256:1"
        url: str = "http://127.0.0.1:8080"
        commit: str = "4f2c9d1"
        seconds: float = 1.0

    told: list[str] = []
    run.remember(Done(), told.append)
    assert any("answered 500 Bearer ***" in text for text in told)
    assert not any(reporting in text for text in told)


def test_every_run_is_watched_by_a_front_view_and_those_behind_it() -> None:
    plain = run.watchers(None, Masker(), as_json=False)
    assert len(plain) + 1 == len(run.watchers(None, Masker(), as_json=True))


PLAN = [
    Planned(
        name="lint", kind=Kind.CHECK, summary="", needs=(), decision=Decision(run=True, reason="a changed")
    ),
    Planned(
        name="build",
        kind=Kind.CHECK,
        summary="",
        needs=(),
        decision=Decision(run=False, reason="proven"),
        proof="R",
    ),
]


def test_a_plan_is_one_line_a_stage() -> None:
    out = io.StringIO()
    run.show_plan(PLAN, out, as_json=False)
    assert out.getvalue() == "lint   run   a changed\nbuild  skip  proven\n"


def test_a_plan_as_json_has_the_same_facts() -> None:
    out = io.StringIO()
    run.show_plan(PLAN, out, as_json=True)
    assert json.loads(out.getvalue())["stages"][1] == {
        "name": "build",
        "kind": "check",
        "needs": [],
        "run": False,
        "reason": "proven",
        "proof": "R",
    }
