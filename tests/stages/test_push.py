"""The push stage looks before it acts."""

import socket
from pathlib import Path

import pytest

from scripts.image.repository import stored_credentials
from scripts.pipeline.stage import Kind
from scripts.stages import push
from tests.stages.settings import settings

DIGEST = "sha256:" + "0" * 64


def test_it_is_an_effect_behind_every_check(tmp_path: Path) -> None:
    stage = push.stage(settings(tmp_path), tmp_path)
    assert stage.kind is Kind.EFFECT
    assert set(stage.needs) == {"lint", "test", "build", "scan"}


def test_it_runs_when_the_image_is_not_built_yet(tmp_path: Path) -> None:
    observe = push.stage(settings(tmp_path), tmp_path).observe
    assert observe is not None
    assert observe({}).run


def test_a_registry_that_does_not_answer_is_a_reason_to_run_not_a_crash(tmp_path: Path) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{unheard.getsockname()[1]}"
        observe = push.stage(settings(tmp_path, REGISTRY=host), tmp_path).observe
        assert observe is not None
        decision = observe({"build": {"digest": DIGEST}})
    assert decision.run
    assert "does not answer" in decision.reason


def test_a_path_in_the_registrys_name_belongs_to_the_image(tmp_path: Path) -> None:
    stage = push.stage(settings(tmp_path, REGISTRY="127.0.0.1:5000/team"), tmp_path)
    assert stage.parameters["image"] == "127.0.0.1:5000/team/slipway"


def test_credentials_are_those_that_docker_login_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text('{"auths": {"registry.test": {"auth": "dXNlcjpwYXNz"}}}')
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert stored_credentials("registry.test") == ("user", "pass")
    assert stored_credentials("other.test") == ("", "")
    assert stored_credentials("127.0.0.1:5000") == ("", "")
