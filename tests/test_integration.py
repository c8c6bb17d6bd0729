"""All layers together: from files of settings to a served page, on each back end, through failures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from app.database import ConnectionManager
from app.database.errors import WrongDatabase
from app.database.migrations import runner
from app.web import create_app
from config.errors import ConfigurationError
from config.settings import Settings, Sources, load
from scripts.database.backup import job as backups
from scripts.database.check import job as checks
from scripts.database.populate import job as population
from scripts.database.populate import sources
from tests.app.events import event, stage
from tests.postgres import Database, wait_until
from tests.tcp_proxy import TcpProxy

TOKEN = "kV3-integration-w8Zt1qLr5xYb"
EVENTS = [event("task.finished", {**stage("lint"), "run": f"run-{n}"}, key=f"{n}") for n in range(1, 21)]


@dataclass(frozen=True, kw_only=True)
class Place:
    """A folder with the files that one environment is read from."""

    root: Path
    environ: dict[str, str]

    def settings(self, **changes: str) -> Settings:
        found = Sources(environ={**self.environ, **changes}, root=self.root, secrets=(self.root / "secrets",))
        return load(None, found, part="app")


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Settings in files, as a developer has them: `.env`, and a secret in a file of its own."""
    if request.param == "sqlite":
        lines = [f"DB_SQLITE_PATH={tmp_path / 'ledger.sqlite3'}"]
    else:
        database: Database = request.getfixturevalue("database")
        asked = database.settings()
        lines = [
            "DB_ADAPTER_ORDER=local",
            f"DB_NAME={asked.name}",
            f"DB_USER={asked.user}",
            f"DB_LOCAL_HOST={asked.local_host}",
            f"DB_LOCAL_PORT={asked.local_port}",
        ]
    (tmp_path / ".env").write_text("\n".join(["ENVIRONMENT=development", *lines]) + "\n")
    (tmp_path / "secrets").mkdir()
    secret = tmp_path / "secrets" / "LEDGER_TOKEN"
    secret.touch(mode=0o600)
    secret.write_text(f"{TOKEN}\n")
    return Place(root=tmp_path, environ={})


@pytest.fixture
def settings(place: Place) -> Settings:
    return place.settings()


@pytest.fixture
def manager(settings: Settings) -> Iterator[ConnectionManager]:
    with ConnectionManager.from_settings(settings.database) as made:
        runner.upgrade(made)
        yield made


def send(client: Any, events: list[dict[str, Any]], token: str = TOKEN) -> Any:
    return client.post(
        "/api/v1/events",
        data=json.dumps(events),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )


def counts(manager: ConnectionManager) -> tuple[int, int]:
    def ask(tx: Any) -> tuple[int, int]:
        return tx.scalar("SELECT count(*) FROM event"), tx.scalar("SELECT count(*) FROM task_run")

    return manager.run(ask, read_only=True)


def test_what_is_sent_to_the_service_is_stored_shown_checked_and_restored(
    manager: ConnectionManager, settings: Settings, tmp_path: Path
) -> None:
    client = create_app(settings, manager).test_client()
    assert client.get("/readyz").status_code == 200
    assert send(client, EVENTS).get_json() == {"accepted": 20, "duplicates": 0}
    assert send(client, EVENTS[:5]).get_json() == {"accepted": 0, "duplicates": 5}
    assert counts(manager) == (20, 20)
    assert client.get("/").status_code == 200
    report = checks.check(manager)
    assert [finding.what for finding in report.findings] == ["20 stages whose run is not in the ledger"]

    made = backups.backup(settings.database, tmp_path / "backups", verify=True)
    assert made.verified
    with ExitStack() as after:
        if manager.dialect == "sqlite":
            other = replace(settings.database, sqlite_path=tmp_path / "restored.sqlite3")
            backups.restore(made.path, settings.database, to=str(other.sqlite_path))
        else:
            other = replace(settings.database, name=f"{settings.database.name}_restored")
            drop = f"DROP DATABASE IF EXISTS {other.name} WITH (FORCE)"
            after.callback(backups.postgresql.command, backups.route(settings.database), drop)
            backups.restore(made.path, settings.database, to=other.name)
        with ConnectionManager.from_settings(other) as restored:
            assert counts(restored) == (20, 20)
            again = create_app(replace(settings, database=other), restored).test_client()
            assert send(again, EVENTS).get_json() == {"accepted": 0, "duplicates": 20}


def test_an_import_and_the_service_agree_on_what_is_known(
    manager: ConnectionManager, settings: Settings, tmp_path: Path
) -> None:
    path = tmp_path / "events.ndjson"
    path.write_text("".join(f"{json.dumps(each)}\n" for each in EVENTS) + "not an event\n")
    client = create_app(settings, manager).test_client()
    assert send(client, EVENTS[:8]).get_json() == {"accepted": 8, "duplicates": 0}
    options = population.Options(folder=tmp_path / "populate")
    done = population.populate(
        manager, "ndjson", path, sources.steps("ndjson", path), options, StringIO()
    ).steps[0]
    assert (done.accepted, done.duplicates, done.rejected, done.missing) == (12, 8, 1, 0)
    assert send(client, EVENTS).get_json() == {"accepted": 0, "duplicates": 20}
    assert counts(manager) == (20, 20)


def test_a_service_without_its_schema_waits_and_serves_once_it_is_there(settings: Settings) -> None:
    with ConnectionManager.from_settings(settings.database) as manager:
        client = create_app(settings, manager).test_client()
        answer = client.get("/readyz")
        assert (answer.status_code, answer.get_json()["reason"]) == (503, "schema-behind")
        runner.upgrade(manager)
        wait_until(lambda: client.get("/readyz").status_code == 200)
        assert send(client, EVENTS[:1]).status_code == 200


def test_no_secret_of_the_settings_is_in_what_the_service_says(
    manager: ConnectionManager, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    client = create_app(settings, manager).test_client()
    said = [send(client, EVENTS[:1], token="wrong").get_data(as_text=True)]
    said += [
        client.get(path).get_data(as_text=True) for path in ("/", "/metrics", "/version", "/openapi.json")
    ]
    said += [repr(settings), str(settings.database), caplog.text]
    assert settings.ledger.token is not None
    assert settings.ledger.token.reveal() == TOKEN
    for text in said:
        assert TOKEN not in text
        assert settings.security.secret_key.reveal() not in text


def test_switching_the_environment_is_one_word(place: Place) -> None:
    assert place.settings().environment == "development"
    assert place.settings(ENVIRONMENT="testing").environment == "testing"
    with pytest.raises(ConfigurationError) as refused:
        place.settings(ENVIRONMENT="production")
    assert {problem.id for problem in refused.value.problems} >= {"missing"}
    with pytest.raises(ConfigurationError, match="Did you mean production"):
        place.settings(ENVIRONMENT="prodution")


def test_a_lost_route_costs_no_event_and_a_wrong_one_is_never_written_to(database: Database) -> None:
    """The preferred route breaks while events come in; a route to another database stands ready in vain."""
    proxy = TcpProxy(database.server.port)
    asked = database.settings(
        adapter_order=("direct", "local"), host="127.0.0.1", port=proxy.port, sslmode="disable"
    )
    other = f"{database.name}_other"
    database.server.execute(f"CREATE DATABASE {other}")
    settings = load(
        "development", Sources(environ={"LEDGER_TOKEN": TOKEN}, root=Path("/nowhere")), part="app"
    )
    try:
        with ConnectionManager.from_settings(asked) as manager:
            runner.upgrade(manager)
            client = create_app(settings, manager).test_client()
            assert send(client, EVENTS[:10]).status_code == 200
            assert manager.active == "direct"
            proxy.refuse()
            assert send(client, EVENTS[10:]).status_code == 200
            assert manager.active == "local"
            assert client.get("/readyz").status_code == 200
            assert counts(manager) == (20, 20)
            proxy.heal()
            (identity,) = {route.identity for route in manager.status() if route.active}
        with (
            ConnectionManager.from_settings(replace(asked, name=other, identity=identity)) as wrong,
            pytest.raises(WrongDatabase),
        ):
            runner.upgrade(wrong)
        assert database.server.execute("SELECT count(*) FROM pg_tables WHERE tablename = 'event'", other) == [
            (0,)
        ]
    finally:
        proxy.close()
        database.server.execute(f"DROP DATABASE {other} WITH (FORCE)")
