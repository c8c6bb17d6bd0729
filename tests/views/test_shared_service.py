"""The pipeline's ledger view and the service that it talks to, over a real connection."""

import json
import threading
import traceback
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from werkzeug.serving import WSGIRequestHandler, make_server

from app.database import ConnectionManager
from app.database.adapters.sqlite import Sqlite
from app.database.migrations import runner
from app.web import create_app
from config.secret import Secret
from config.settings import Sources, load
from scripts.views.ledger import LedgerView, Refused, Undelivered, events_of
from scripts.views.shared import SharedLedger

from .story import RUN, broken, shipped, watch

TOKEN = "a-token-that-is-long-and-random-91fe"


class Quiet(WSGIRequestHandler):
    def log(self, *arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("service")
    settings = load("development", Sources(environ={}, root=folder, secrets=()), part="app")
    settings = replace(settings, ledger=replace(settings.ledger, token=Secret(TOKEN)))
    manager = ConnectionManager([Sqlite(folder / "ledger.sqlite3")])
    runner.upgrade(manager)
    server = make_server("127.0.0.1", 0, create_app(settings, manager), threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
    manager.close()


def asked(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def test_the_service_shows_the_very_run_that_just_ended(service: str, tmp_path: Path) -> None:
    told: list[str] = []
    view = LedgerView(
        tmp_path,
        actor="me@here",
        embedded=pytest.fail,
        shared=lambda: SharedLedger(service, lambda: TOKEN),
        tell=told.append,
        patience=3_600,
    )
    for _ in range(2):
        watch(view, shipped("staging").events)
    assert told == []
    runs = asked(f"{service}/api/v1/runs?environment=staging")["items"]
    assert [(run["run"], run["result"], len(run["stages"])) for run in runs] == [(RUN, "success", 6)]
    (environment,) = [
        each for each in asked(f"{service}/api/v1/environments")["items"] if each["environment"] == "staging"
    ]
    assert environment["current"]["actor"] == "me@here"


def test_a_wrong_token_keeps_the_events_for_later(service: str) -> None:
    with pytest.raises(Undelivered, match="LEDGER_TOKEN is missing or wrong"):
        SharedLedger(service, lambda: "another-token-that-is-just-as-long").deliver(
            events_of(broken().record, "me")
        )


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\n\n"])
def test_a_line_break_behind_the_token_does_not_count(service: str, ending: str) -> None:
    SharedLedger(service, lambda: TOKEN + ending).deliver([])


@pytest.mark.parametrize("token", [f"{TOKEN}\n{TOKEN}", f"{TOKEN}\x00", f"{TOKEN}\u2026", f"{TOKEN}\udc80"])
def test_a_token_that_no_request_can_carry_is_not_repeated(service: str, token: str) -> None:
    with pytest.raises(Undelivered, match="LEDGER_TOKEN has characters that a request") as caught:
        SharedLedger(service, lambda: token).deliver([])
    assert TOKEN not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "url", [f"http://me:{TOKEN}\u2100@host", f"http://[{TOKEN}@host", f"http://me:{TOKEN}@ho st"]
)
def test_an_address_that_is_none_is_not_repeated(url: str) -> None:
    with pytest.raises(Undelivered) as caught:
        SharedLedger(url, lambda: None).deliver([])
    assert TOKEN not in str(caught.value)


def test_an_event_that_is_none_is_refused_for_good(service: str) -> None:
    with pytest.raises(Refused, match="answered 4"):
        SharedLedger(service, lambda: TOKEN).deliver([{"specversion": "0.3"}])
