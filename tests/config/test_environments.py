"""The files in config/ hold what an environment needs, but for its secrets."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from config.check import check
from config.environments import ENVIRONMENTS
from config.settings import GROUPS, load
from config.sources import PROJECT, Sources
from config.variables import variables_of
from tests.config.world import World

NAMES = [each.name for each in ENVIRONMENTS]
SECRETS = [name for name, each in variables_of(GROUPS["all"]).items() if each.secret]
NEEDED = {
    "development": set(),
    "testing": set(),
    "staging": {"SECRET_KEY", "LEDGER_TOKEN", "DB_PASSWORD"},
    "production": {"SECRET_KEY", "LEDGER_TOKEN", "DB_PASSWORD"},
}


def copied(world: World) -> World:
    """Copy the project's own env files into the world."""
    for path in (PROJECT / "config").glob(".env.*"):
        world.shared(path.name.removeprefix(".env."), path.read_text(encoding="utf-8"))
    return world


@pytest.mark.parametrize("environment", NAMES)
def test_a_fresh_copy_with_its_secrets_starts_without_a_warning(world: World, environment: str) -> None:
    copied(world).with_secrets(environment)
    assert world.found(environment) == set()
    assert world.found(environment, part="app") == set()


@pytest.mark.parametrize("environment", NAMES)
def test_a_fresh_copy_without_its_secrets_names_exactly_the_missing_ones(
    world: World, environment: str
) -> None:
    found = copied(world).found(environment)
    assert found == {("error", "missing", name) for name in NEEDED[environment]}


@pytest.mark.parametrize("environment", NAMES)
def test_every_environment_has_its_file_and_there_is_no_other(environment: str) -> None:
    files = {path.name for path in (PROJECT / "config").glob(".env*")}
    assert files == {".env.template", *(f".env.{name}" for name in NAMES)}


@pytest.mark.parametrize("name", [*NAMES, "template"])
def test_no_file_in_git_sets_a_secret(name: str) -> None:
    text = (PROJECT / "config" / f".env.{name}").read_text(encoding="utf-8")
    for secret in SECRETS:
        assert not re.search(rf"^\s*#?\s*{secret}=.+", text, re.MULTILINE)


def test_staging_and_production_go_straight_to_postgresql_over_tls(world: World) -> None:
    copied(world).with_secrets("staging").with_secrets("production")
    for environment in ("staging", "production"):
        database = load(environment, world.sources).database
        assert (database.adapter_order, database.sslmode) == (("direct",), "verify-full")


@pytest.mark.parametrize("environment", NAMES)
def test_debug_is_off_everywhere(world: World, environment: str) -> None:
    assert copied(world).with_secrets(environment).check(environment).readings["DEBUG"].value is False


def test_staging_can_be_tried_on_one_machine_with_plain_text(world: World) -> None:
    copied(world).with_secrets("staging")
    world.environ |= {"DB_HOST": "postgres", "DB_SSLMODE": "disable"}
    settings = load("staging", world.sources)
    assert [each.id for each in settings.warnings] == ["plain-text"]


def test_the_projects_own_development_starts_in_a_fresh_checkout(project: Path) -> None:
    sources = Sources(environ={}, root=project, secrets=())
    assert check("development", sources).settings is not None
    assert check("testing", sources).settings is not None


def test_importing_reads_nothing() -> None:
    """Neither the environment nor a file is looked at before `load` is called."""
    program = (
        "import sys, pathlib\n"
        "opened = []\n"
        "sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == 'open' else None)\n"
        "import config.settings, config.check, config.report\n"
        "print([each for each in opened if not each.endswith(('.py', '.pyc')) and 'cache' not in each])\n"
    )
    environ = {**os.environ, "ENVIRONMENT": "nonsense", "DB_PORT": "nonsense", "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
        cwd=Path("/"),
    )
    assert done.stdout.strip() == "[]"
