"""The engine is found, or the message says what to do."""

import os
from pathlib import Path

import pytest

from scripts.image import engine


def client(folder: Path, *plugins: str) -> Path:
    """Put a docker command into a folder that has these plugins only."""
    folder.mkdir()
    command = folder / "docker"
    command.write_text(f'#!/bin/sh\ncase " {" ".join(plugins)} " in *" $1 "*) exit 0;; *) exit 1;; esac\n')
    command.chmod(0o755)
    return command


@pytest.fixture(autouse=True)
def _forget() -> None:
    engine._command.cache_clear()


def test_a_stray_client_without_plugins_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client(tmp_path / "stray")
    good = client(tmp_path / "good", "buildx", "compose")
    monkeypatch.setenv("PATH", f"{tmp_path / 'stray'}:{tmp_path / 'good'}:/bin")
    assert engine.cli("tcp://10.0.0.1:2376") == [str(good), "--host", "tcp://10.0.0.1:2376"]


def test_what_every_client_lacks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stray = client(tmp_path / "stray", "buildx")
    monkeypatch.setattr(engine, "_candidates", lambda path: [str(stray)])
    with pytest.raises(engine.DockerCommandMissing, match="lacks compose") as refused:
        engine.cli()
    assert refused.value.exit_code == 4
    assert "scripts/bootstrap" in refused.value.next_step


def test_candidates_are_those_on_path_each_once(tmp_path: Path) -> None:
    first = client(tmp_path / "first")
    (tmp_path / "second").mkdir()
    (tmp_path / "second/docker").symlink_to(first)
    found = list(engine._candidates(f"{tmp_path / 'none'}:{tmp_path / 'first'}:{tmp_path / 'second'}"))
    assert found[0] == str(first)
    assert str(tmp_path / "second/docker") not in found


@pytest.mark.parametrize("host", ["unix:///none.sock", "tcp://127.0.0.1:9", "nonsense://x"])
def test_an_engine_that_does_not_answer_is_exit_4_with_what_to_do(host: str) -> None:
    with pytest.raises(engine.EngineUnreachable) as refused:
        engine.connect(host)
    assert refused.value.exit_code == 4
    assert refused.value.where == host
    assert "TARGET_DOCKER_HOST" in refused.value.next_step


def test_a_user_outside_the_docker_group_is_told_how_to_join() -> None:
    outer = RuntimeError("Error while fetching server API version")
    outer.__cause__ = PermissionError(13, "Permission denied")
    assert "usermod -aG docker" in engine.unreachable("unix:///x", outer).next_step


def test_the_address_given_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://environment:1")
    assert engine.endpoint("tcp://given:1") == "tcp://given:1"
    assert engine.endpoint() == "tcp://environment:1"
    monkeypatch.delenv("DOCKER_HOST")
    assert engine.endpoint() == engine.DEFAULT_HOST
    assert os.sep in engine.DEFAULT_HOST
