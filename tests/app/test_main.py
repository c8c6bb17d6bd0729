"""`python -m app`: its commands, and what they say when something is wrong."""

from __future__ import annotations

import json

import pytest

from app.__main__ import main
from app.web import probe
from tests.postgres import free_port


@pytest.fixture(autouse=True)
def testing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the environment `testing`, without this machine's own."""
    monkeypatch.setenv("ENVIRONMENT", "testing")


@pytest.mark.parametrize("command", ["serve", "migrate", "check"])
@pytest.mark.parametrize(
    ("name", "value"), [("WEB_PORT", "eighty"), ("ENVIRONMENT", "prodution"), ("DB_ADAPTER_ORDER", "mysql")]
)
def test_a_bad_configuration_is_refused_whole_with_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("LOG_FORMAT", "xml")
    assert main([command]) == 2
    said = capsys.readouterr()
    assert name in said.err
    assert name == "ENVIRONMENT" or "LOG_FORMAT" in said.err
    assert said.out == ""


def test_check_says_that_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 0
    assert capsys.readouterr().out == "The configuration of testing is complete.\n"


@pytest.mark.parametrize("words", [["unknown"], ["serve", "now"], ["--help"]])
def test_a_wrong_command_is_named_with_exit_code_2(
    capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert main(words) == 2
    said = capsys.readouterr().err
    assert " ".join(words) in said
    assert "serve, migrate, check, probe, version" in said


def test_version_is_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RELEASE_DIGEST", "sha256:1")
    assert main(["version"]) == 0
    assert json.loads(capsys.readouterr().out)["digest"] == "sha256:1"


def test_migrate_brings_the_schema_to_head_and_may_be_repeated(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    monkeypatch.setenv("DB_SQLITE_PATH", str(tmp_path_factory.mktemp("migrate") / "new.sqlite3"))
    for _ in range(2):
        assert main(["migrate"]) == 0
        assert capsys.readouterr().out == "The schema is at 0001.\n"


def test_migrate_without_a_database_says_so_with_exit_code_4(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {
        "DB_ADAPTER_ORDER": "local",
        "DB_LOCAL_HOST": "127.0.0.1",
        "DB_LOCAL_PORT": str(free_port()),
        "DB_BUDGET_SECONDS": "1",
        "DB_BUSY_TIMEOUT": "0.5",
        "DB_CONNECT_TIMEOUT": "0.5",
    }.items():
        monkeypatch.setenv(name, value)
    assert main(["migrate"]) == 4
    assert capsys.readouterr().err


@pytest.mark.parametrize("port", ["none", "-1", "70000", str(2**70)])
def test_a_probe_of_no_port_is_not_ready(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    monkeypatch.setenv("WEB_PORT", port)
    assert main(["probe"]) == 1


def test_a_probe_of_a_closed_or_foreign_port_is_not_ready() -> None:
    import socket
    import threading

    assert probe.ready(port=free_port()) is False
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(b"SSH-2.0-")

        thread = threading.Thread(target=answer)
        thread.start()
        assert probe.ready(port=listener.getsockname()[1]) is False
        thread.join()
