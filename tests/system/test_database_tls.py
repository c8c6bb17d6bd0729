"""The direct route against Debian's PostgreSQL with TLS: who is trusted, and who is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.database import ConnectionManager, Limits, RouteDown
from app.database.adapters.direct import Direct
from app.database.errors import LoginRefused
from tests.authority import Authority
from tests.postgres import PASSWORD, Server, debian_binaries

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(debian_binaries() is None, reason="needs Debian's package postgresql"),
]


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path, Path]]:
    """A server that takes only TLS and passwords, its authority's file, and another authority's."""
    authority = Authority()
    certificate, key = authority.issue("localhost", "db.example.test")
    server = Server.create(
        binaries=debian_binaries(),
        configuration={"ssl": "on"},
        host_based="hostssl all app 127.0.0.1/32 scram-sha-256\nhost all app 127.0.0.1/32 reject",
        files={"server.crt": certificate, "server.key": key},
    )
    try:
        server.execute(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'")
        folder = tmp_path_factory.mktemp("authority")
        (folder / "ca.pem").write_bytes(authority.pem())
        (folder / "other.pem").write_bytes(Authority().pem())
        yield server, folder / "ca.pem", folder / "other.pem"
    finally:
        server.remove()


def direct(server: Server, **options: Any) -> Direct:
    return Direct(
        **{
            "host": "localhost",
            "port": server.port,
            "database": "postgres",
            "user": "app",
            "password": lambda: PASSWORD,
            **options,
        }
    )


def connect(adapter: Direct) -> Any:
    connection, _, facts = adapter.connect(2.0)
    connection.close()
    return facts


def test_direct_verifies_the_server_by_default(secured: tuple[Server, Path, Path]) -> None:
    server, ca, other = secured
    adapter = direct(server, sslrootcert=ca)
    connection, raw, _ = adapter.connect(3.0)
    assert raw.info.ssl_in_use
    connection.close()
    with pytest.raises(RouteDown, match=r"certificate verify failed|signature failure"):
        direct(server, sslrootcert=other).connect(3.0)
    with pytest.raises(RouteDown, match="does not match host name"):
        direct(server, host="127.0.0.1", sslrootcert=ca).connect(3.0)


def test_direct_falls_back_to_the_address_and_still_checks_the_name(
    secured: tuple[Server, Path, Path],
) -> None:
    server, ca, _ = secured
    adapter = direct(server, host="db.example.test", hostaddr="127.0.0.1", sslrootcert=ca)
    assert connect(adapter).writable
    wrong = direct(server, host="wrong.example.test", hostaddr="127.0.0.1", sslrootcert=ca)
    with pytest.raises(RouteDown, match="does not match host name"):
        wrong.connect(3.0)
    with pytest.raises(RouteDown, match="could not translate host name"):
        direct(server, host="db.example.test", sslrootcert=ca).connect(3.0)


def test_a_server_without_tls_is_refused_by_default(
    postgres: Server, secured: tuple[Server, Path, Path]
) -> None:
    with pytest.raises(RouteDown, match="does not support SSL"):
        direct(postgres, sslrootcert=secured[1], user="slipway").connect(3.0)


def test_plain_text_is_refused_by_a_server_that_asks_for_tls(secured: tuple[Server, Path, Path]) -> None:
    with pytest.raises((LoginRefused, RouteDown), match=r"pg_hba\.conf"):
        direct(secured[0], sslmode="disable").connect(3.0)


def test_a_rotated_password_is_used_without_a_restart(
    secured: tuple[Server, Path, Path], tmp_path: Path
) -> None:
    server, ca, _ = secured
    secret = tmp_path / "DB_PASSWORD"
    secret.write_text("old and wrong")
    adapter = direct(server, sslrootcert=ca, password=secret.read_text)
    with ConnectionManager([adapter], limits=Limits(budget=1.0, connect_timeout=1.0)) as manager:
        with pytest.raises(LoginRefused, match="password authentication failed"), manager.transaction():
            raise AssertionError
        secret.write_text(PASSWORD)
        assert manager.run(lambda tx: tx.scalar("SELECT 1"), budget=5) == 1
