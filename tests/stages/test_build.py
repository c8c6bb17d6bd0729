"""The build stage runs again for what enters the image or makes it, and for nothing else."""

from pathlib import Path

import pytest

from config.settings import Settings
from scripts.stages import build
from tests.stages.settings import settings as loaded

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return loaded(tmp_path)


def test_its_inputs_are_what_enters_the_image_and_what_makes_it(settings: Settings) -> None:
    inputs = build.stage(settings, ROOT).inputs
    assert inputs is not None
    assert {"app", "config", "requirements.lock", "docker/Dockerfile", "scripts/image"} <= set(inputs)
    assert not {"docs", "tests", "README.md", "scripts"} & set(inputs)
    assert all((ROOT / name).exists() for name in inputs)


def test_it_runs_again_for_another_base_name_or_commit(settings: Settings) -> None:
    stage = build.stage(settings, ROOT)
    assert set(stage.parameters) == {"image", "base", "commit", "platform"}
    assert stage.needs == ()


def test_its_proof_is_void_without_the_archive(settings: Settings) -> None:
    outputs = {"archive": ".slipway/images/00.tar"}
    assert list(build.stage(settings, ROOT).artifacts(outputs)) == [Path(".slipway/images/00.tar")]


def test_version_and_source_come_from_the_projects_own_description(tmp_path: Path) -> None:
    (tmp_path / "setup.cfg").write_text("[metadata]\nversion = 1.2.3\nurl = https://example.test/x\n")
    assert build.described(tmp_path) == {"VERSION": "1.2.3", "SOURCE": "https://example.test/x"}
    assert build.described(tmp_path / "none") == {"VERSION": "0", "SOURCE": ""}
