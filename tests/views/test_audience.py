"""Everyone who watches a run, together, in a tree of its own."""

import getpass
import http.server
import io
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from config.masking import Masker
from scripts.views.audience import actor, audience
from scripts.views.listener import Listener

from .story import RUN, Story, shipped


def watched(story: Story, root: Path, **options: Any) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    views = audience(root, out=out, err=err, variables={}, **options)
    for event in story.events:
        for view in views:
            view.handle(event)
    for view in views:
        view.close()
    return out.getvalue(), err.getvalue()


def test_json_has_standard_output_for_itself(tmp_path: Path) -> None:
    out, err = watched(shipped(), tmp_path, json=True)
    assert json.loads(out)["run"] == RUN
    assert err.startswith("[development] ship")


def test_without_json_the_reader_has_standard_output(tmp_path: Path) -> None:
    out, err = watched(shipped(), tmp_path)
    assert out.startswith("[development] ship")
    assert err == ""


def test_a_run_leaves_its_page_its_state_and_its_events(tmp_path: Path) -> None:
    watched(shipped(), tmp_path)
    assert sorted(
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()
    ) == [
        f".slipway/runs/{RUN}/report.html",
        f".slipway/spool/embedded/{RUN}.ndjson",
        ".slipway/state.lock",
        "project_state.json",
    ]


def test_the_run_reaches_the_ledger_of_the_settings_with_its_token(tmp_path: Path) -> None:
    seen: list[tuple[str | None, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            seen.append((self.headers["Authorization"], json.loads(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        out, _ = watched(shipped(), tmp_path, ledger_url=address, ledger_token=lambda: "made-just-now")
        server.shutdown()
        thread.join()
    ((token, events),) = seen
    assert token == "Bearer made-just-now"
    assert events[-1]["data"]["run"] == RUN
    assert "ledger" not in out


@pytest.mark.parametrize("variables", [{}, {"GITHUB_ACTIONS": "true"}])
def test_what_a_ledger_says_of_an_error_is_masked(tmp_path: Path, variables: dict[str, str]) -> None:
    """A server may answer with the very header that it was sent."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(500, self.headers["Authorization"])
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    token, out = "q7Gk2Zr9vT4xLw8Yb3Nc6Md1", io.StringIO()
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        views = audience(
            tmp_path,
            out=out,
            err=out,
            variables=variables,
            ledger_url=f"http://127.0.0.1:{server.server_port}",
            ledger_token=lambda: token,
            hide=Masker([token]).text,
        )
        for event in shipped().events:
            for view in views:
                view.handle(event)
        for view in views:
            view.close()
        server.shutdown()
        thread.join()
    assert "answered 500 Bearer ***" in out.getvalue()
    assert token not in out.getvalue()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"GITHUB_ACTIONS": "true", "GITHUB_ACTOR": "octocat"}, "octocat"),
        ({"GITHUB_ACTOR": "octocat"}, None),
        ({}, None),
    ],
)
def test_who_runs_the_pipeline(variables: dict[str, str], expected: str | None) -> None:
    assert actor(variables) == expected or actor(variables).startswith(f"{getpass.getuser()}@")


def test_a_number_without_a_name_is_nobody_we_know(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr(getpass, "getuser", nameless)
    assert actor({}).startswith("unknown@")


def test_a_view_that_fills_in_nothing_takes_every_event() -> None:
    view = Listener()
    for event in shipped().events:
        view.handle(event)
    view.close()
