"""What orchestrators and proxies are told."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app.database import ConnectionManager
from app.web import create_app, release
from config.settings import Settings

if TYPE_CHECKING:
    from flask import Flask
    from flask.testing import FlaskClient


@pytest.mark.parametrize("path", ["/readyz", "/healthz"])
def test_a_migrated_writable_database_is_ready(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json) == (200, {"status": "ready", "schema": "0001"})
    assert answer.headers["Cache-Control"] == "no-store"


def test_an_empty_database_is_alive_but_not_ready(manager: ConnectionManager, settings: Settings) -> None:
    client = create_app(settings, manager).test_client()
    assert client.get("/livez").status_code == 200
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.content_type == "application/problem+json"
    assert answer.json is not None
    assert answer.json["reason"] == "schema-behind"


def test_a_schema_ahead_of_this_release_is_ready(client: FlaskClient, ledger: ConnectionManager) -> None:
    """A newer release migrates first; the old one must serve until it is replaced."""
    with ledger.transaction() as tx:
        tx.execute("UPDATE alembic_version SET version_num = '9999'")
    assert client.get("/readyz").status_code == 200


def test_a_draining_process_is_alive_but_not_ready(client: FlaskClient, application: Flask) -> None:
    application.extensions["slipway"].draining.set()
    assert client.get("/livez").status_code == 200
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json is not None
    assert answer.json["reason"] == "draining"
    assert answer.headers["Retry-After"] == "1"


def test_a_closed_database_is_not_ready_and_tells_no_address(
    client: FlaskClient, ledger: ConnectionManager
) -> None:
    ledger.close()
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json is not None
    assert answer.json["reason"] == "database-unreachable"
    assert set(answer.json) == {"type", "title", "status", "detail", "instance", "reason"}


def test_the_version_names_commit_digest_and_version(tmp_path: Path) -> None:
    commit = tmp_path / "commit"
    commit.write_text("4f2c9d1\n")
    found = release.current({"VERSION_COMMIT": "other", "RELEASE_DIGEST": "sha256:1"}, commit_file=commit)
    assert found.as_dict() == {"commit": "4f2c9d1", "digest": "sha256:1", "version": "0.1.0"}
    bare = release.current({"VERSION_COMMIT": "abc"}, commit_file=tmp_path / "none")
    assert (bare.commit, bare.digest) == ("abc", None)


def test_the_version_is_the_packages() -> None:
    import configparser

    parser = configparser.ConfigParser()
    parser.read(Path(__file__).parents[2] / "setup.cfg")
    assert parser["metadata"]["version"] == release.current().version


def test_the_metrics_tell_requests_database_and_ledger(
    client: FlaskClient, ledger: ConnectionManager, token: dict[str, str]
) -> None:
    from tests.app.events import whole_run

    assert client.post("/api/v1/events", json=whole_run("01A"), headers=token).status_code == 200
    client.get("/nowhere")
    body = client.get("/metrics")
    assert body.content_type.startswith("text/plain; version=0.0.4")
    text = body.get_data(as_text=True)
    for line in (
        'slipway_http_requests_total{method="POST",route="/api/v1/events",status="200"} 1.0',
        'slipway_http_requests_total{method="GET",route="unmatched",status="404"} 1.0',
        'slipway_http_request_seconds_count{route="/api/v1/events"} 1.0',
        "slipway_ledger_up 1.0",
        "slipway_ledger_last_sequence 6.0",
        'slipway_ledger_runs{result="success"} 1.0',
        'slipway_ledger_deployments{environment="development",result="succeeded"} 1.0',
    ):
        assert line in text.splitlines()
    assert 'slipway_last_deployment_timestamp_seconds{environment="development",result="succeeded"} ' in text
    assert "slipway_database_pool_lent_total{" in text


def test_metrics_without_a_database_still_tell_the_rest(
    client: FlaskClient, ledger: ConnectionManager
) -> None:
    client.get("/livez")
    ledger.close()
    lines = client.get("/metrics").get_data(as_text=True).splitlines()
    assert "slipway_ledger_up 0.0" in lines
    assert 'slipway_http_requests_total{method="GET",route="/livez",status="200"} 1.0' in lines


def test_an_invented_method_makes_no_series_of_its_own(client: FlaskClient) -> None:
    client.open("/livez", method="INVENTED")
    text = client.get("/metrics").get_data(as_text=True)
    assert "INVENTED" not in text
    assert 'method="other"' in text
