"""A side service's image is named by its own part of the recipe."""

import shutil
from pathlib import Path

import pytest

from scripts.image import services

NAMES: tuple[services.Service, ...] = ("postgres", "pgbouncer", "proxy", "registry")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copytree(services.ROOT / "docker", tmp_path / "docker")
    return tmp_path


def test_a_changed_step_renames_that_service_alone(root: Path) -> None:
    before = {name: services.name_of(name, root) for name in NAMES}
    recipe = root / services.RECIPE
    recipe.write_text(recipe.read_text().replace("--no-install-recommends haproxy", "haproxy"))
    changed = [name for name in NAMES if services.name_of(name, root) != before[name]]
    assert changed == ["proxy"]


def test_a_changed_file_renames_the_service_that_copies_it(root: Path) -> None:
    before = {name: services.name_of(name, root) for name in NAMES}
    with (root / "docker/postgres-entrypoint").open("a") as file:
        file.write("# more\n")
    changed = [name for name in NAMES if services.name_of(name, root) != before[name]]
    assert changed == ["postgres"]


def test_another_image_replaces_a_service_unasked() -> None:
    assert services.ensure(None, "proxy", image="haproxy:3.0") == "haproxy:3.0"  # type: ignore[arg-type]
