"""What `serve` finds out before it binds, and what it then does."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

import pytest

from app.database import ConnectionManager
from app.database.errors import AdapterMisconfigured, DatabaseError, NoRoute, WrongDatabase
from app.web import logs, readiness, server
from config.settings import Settings
from tests import postgres as pg


@pytest.mark.parametrize(
    ("found", "code"),
    [(AdapterMisconfigured("two rules"), 2), (WrongDatabase("another one"), 2), (NoRoute("silence"), 0)],
)
def test_a_wrong_database_ends_the_start_and_an_absent_one_does_not(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    found: DatabaseError,
    code: int,
) -> None:
    def fail(*_arguments: object, **_named: object) -> None:
        raise found

    monkeypatch.setattr(ConnectionManager, "run", fail)
    monkeypatch.setattr(server, "_log", logging.getLogger("unheard"))
    assert server.examine(settings) == code
    assert capsys.readouterr().err == (f"{found}\n" if code else "")


def test_a_setting_that_no_adapter_takes_ends_the_start(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_arguments: object, **_named: object) -> None:
        raise AdapterMisconfigured("the pools exceed the server")

    monkeypatch.setattr(logs, "configure", lambda _settings: None)
    monkeypatch.setattr(ConnectionManager, "from_settings", fail)
    monkeypatch.setattr(server.GuardedArbiter, "run", lambda _self: pytest.fail("it was started"))
    assert server.serve(settings) == 2
    assert "the pools exceed the server" in capsys.readouterr().err


def test_an_ipv6_address_is_bound_in_brackets(settings: Settings) -> None:
    six = replace(settings, web=replace(settings.web, host="::1", port=8123))
    assert server.Server(six).cfg.bind == ["[::1]:8123"]


def test_a_drain_or_a_reload_before_the_application_exists_does_nothing(settings: Settings) -> None:
    waiting = server.Server(settings)
    waiting.begin_drain()
    waiting.reload_settings()
    assert waiting.settings is settings


def test_a_good_answer_is_kept_for_a_moment_and_a_bad_one_is_not(embedded: ConnectionManager) -> None:
    now = [0.0]
    check = readiness.SchemaCheck(clock=lambda: now[0])
    assert check.check(embedded).ready
    embedded.close()
    assert check.check(embedded).ready
    now[0] = readiness.KEEP
    assert check.check(embedded).reason == "database-unreachable"


@pytest.mark.system
def test_a_frozen_server_is_not_ready_within_bounded_time(settings: Settings) -> None:
    """It accepts connections and says nothing: only our own clock ends the wait."""
    from app.database.migrations import runner
    from app.web import create_app

    own = pg.Server.create()
    try:
        with ConnectionManager.from_settings(own.settings(connect_timeout=1.0)) as manager:
            runner.upgrade(manager)
            client = create_app(settings, manager).test_client()
            assert client.get("/readyz").status_code == 200
            stopped = own.freeze()
            pg.wait_until(lambda: client.get("/readyz").status_code == 503, 10, "readiness turning 503")
            began = time.monotonic()
            assert client.get("/readyz").status_code == 503
            assert time.monotonic() - began < 5
            assert client.get("/livez").status_code == 200
            own.thaw(stopped)
            pg.wait_until(lambda: client.get("/readyz").status_code == 200, 20, "readiness coming back")
    finally:
        own.remove()
