"""What `serve` finds out before it binds, and what it then does."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import Any

import pytest

from app.database import ConnectionManager
from app.web import logs, readiness, server
from config.settings import Settings
from tests import postgres as pg


@pytest.fixture
def on_a_server(settings: Settings, database: pg.Database) -> Settings:
    """Settings of a service on a PostgreSQL database, which is at head."""
    from app.database.migrations import runner

    with database.manager() as manager:
        runner.upgrade(manager)
    asked = database.settings()
    return replace(
        settings,
        database=replace(
            settings.database,
            adapter_order=("local",),
            name=asked.name,
            user=asked.user,
            local_host=asked.local_host,
            local_port=asked.local_port,
        ),
    )


def with_database(settings: Settings, **changes: Any) -> Settings:
    return replace(settings, database=replace(settings.database, **changes))


def test_the_right_database_lets_the_start_go_on(
    on_a_server: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert server.examine(on_a_server) == 0
    assert capsys.readouterr().err == ""


def test_another_database_than_the_settings_name_ends_the_start(
    on_a_server: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logs, "configure", lambda _settings: None)
    monkeypatch.setattr(server.GuardedArbiter, "run", lambda _self: pytest.fail("it was started"))
    assert server.serve(with_database(on_a_server, identity="postgresql:1/2/other")) == 2
    assert "another database than the one named by DB_IDENTITY" in capsys.readouterr().err


def test_more_connections_than_the_server_really_gives_end_the_start(
    on_a_server: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two replicas, and a third while an update runs."""
    greedy = with_database(on_a_server, pool_size=40, server_max_connections=5000)
    assert server.examine(greedy) == 2
    assert "need 123, and the server gives 97" in capsys.readouterr().err


def test_more_connections_than_the_settings_allow_end_the_start_before_any_is_made(
    on_a_server: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert server.examine(with_database(on_a_server, pool_size=40, local_port=1)) == 2
    assert "need 123, and the server gives 100" in capsys.readouterr().err


def test_an_absent_database_does_not_end_the_start(
    on_a_server: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(server, "_log", logging.getLogger("unheard"))
    assert server.examine(with_database(on_a_server, local_port=1), budget=0.3) == 0
    assert capsys.readouterr().err == ""


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
