"""The side services of docker-compose.yml, for a developer's machine."""

import os
import subprocess
import uuid

import psycopg2
import pytest

from scripts.image import engine, services
from tests.clone import ROOT
from tests.deployment.stage import free_port

pytestmark = pytest.mark.system

PASSWORD = "correct-horse-battery-staple"


def test_a_developer_gets_postgresql_and_a_pooler_before_it_on_loopback() -> None:
    client = engine.connect()
    try:
        images = {
            f"{name.upper()}_IMAGE": services.ensure(client, name) for name in ("postgres", "pgbouncer")
        }
    finally:
        client.close()
    ports = {"POSTGRES_PORT": str(free_port()), "PGBOUNCER_PORT": str(free_port())}
    project = f"slipway-test-{uuid.uuid4().hex[:8]}"
    words = [*engine.cli(), "compose", "--project-name", project, "--file", "docker/docker-compose.yml"]
    environment = {**os.environ, **images, **ports, "DB_PASSWORD": PASSWORD}

    def compose(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*words, *arguments],
            cwd=ROOT,
            env=environment,
            text=True,
            capture_output=True,
            timeout=180,
            check=False,
        )

    try:
        done = compose("up", "--detach", "--no-build", "--wait")
        assert done.returncode == 0, done.stderr
        for port in ports.values():
            connection = psycopg2.connect(
                host="127.0.0.1",
                port=port,
                user="slipway",
                password=PASSWORD,
                dbname="slipway",
                connect_timeout=20,
            )
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
                assert cursor.fetchone() == (1,)
            connection.close()
            with pytest.raises(psycopg2.OperationalError, match=r"password authentication failed|SASL"):
                psycopg2.connect(
                    host="127.0.0.1", port=port, user="slipway", password="wrong", dbname="slipway"
                )
    finally:
        compose("down", "--volumes", "--timeout", "5")


def test_the_side_services_ask_for_a_password() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "DB_PASSWORD"}
    done = subprocess.run(
        [*engine.cli(), "compose", "--file", "docker/docker-compose.yml", "config"],
        cwd=ROOT,
        env=environment,
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "see the top of docker/docker-compose.yml" in done.stderr
