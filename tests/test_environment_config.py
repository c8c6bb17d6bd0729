"""One environment differs from another by its configuration only, and a wrong one does not start."""

from pathlib import Path

import pytest

from config.errors import ConfigurationError
from config.settings import Sources, load


def sources(tmp_path: Path, **environ: str) -> Sources:
    """Return sources of an empty folder and the given process environment."""
    return Sources(environ=environ, root=tmp_path, secrets=(tmp_path / "secrets",))


def test_development_needs_nothing(tmp_path: Path) -> None:
    settings = load(None, sources(tmp_path))
    assert settings.environment == "development"
    assert settings.database.adapter_order == ("sqlite",)
    assert settings.delivery is not None
    assert settings.delivery.stack_name == "slipway-development"


def test_a_container_gets_the_app_part_only(tmp_path: Path) -> None:
    settings = load("testing", sources(tmp_path, REPLICAS="none"), part="app")
    assert settings.delivery is None


def test_a_misspelt_environment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="one of development, testing, staging, production"):
        load(None, sources(tmp_path, ENVIRONMENT="prodution"))


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load("staging", sources(tmp_path, DB_PORT="many", DEBUG="ture"))
    wrong = {problem.variable for problem in caught.value.problems}
    assert {"DB_HOST", "DB_PORT", "DEBUG", "SECRET_KEY", "LEDGER_TOKEN"} <= wrong
