"""One environment differs from another by its configuration only, and a wrong one does not start."""

import os
import subprocess
import sys
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
    settings = load("testing", sources(tmp_path, LIMIT_PIDS="none"), part="app")
    assert settings.delivery is None


def test_a_misspelt_environment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="one of development, testing, staging, production"):
        load(None, sources(tmp_path, ENVIRONMENT="prodution"))


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load("staging", sources(tmp_path, DB_PORT="many", DEBUG="ture"))
    wrong = {problem.variable for problem in caught.value.problems}
    assert {"DB_HOST", "DB_PORT", "DEBUG", "SECRET_KEY", "LEDGER_TOKEN"} <= wrong


def test_no_test_reads_what_a_user_keeps_in_the_checkout(project: Path) -> None:
    assert Sources().root == project
    assert not [path for path in project.iterdir() if path.name.startswith(".")]
    assert not {"ENVIRONMENT", "DB_ADAPTER_ORDER", "SECRET_KEY_FILE"} & set(os.environ)


def start(word: str, tmp_path: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the container's command `word` with this process environment and nothing else."""
    inherited = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "app", word],
        cwd=Sources().root,
        env={**inherited, "DB_SQLITE_PATH": str(tmp_path / "ledger.sqlite3"), **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_container_with_a_bad_configuration_reports_all_of_it_and_exits_2(tmp_path: Path) -> None:
    done = start("serve", tmp_path, ENVIRONMENT="staging", DEBUG="ture", DB_PROT="5432")
    assert done.returncode == 2
    assert done.stdout == ""
    for name in ("DEBUG", "DB_PROT", "SECRET_KEY", "LEDGER_TOKEN", "DB_PASSWORD"):
        assert f"] {name} (" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_container_with_a_misspelt_environment_exits_2(tmp_path: Path) -> None:
    done = start("check", tmp_path, ENVIRONMENT="prodution")
    assert done.returncode == 2
    assert "Did you mean production" in done.stderr


@pytest.mark.parametrize("word", ["serve", "migrate", "check"])
@pytest.mark.parametrize("environ", [{}, {"ENVIRONMENT": ""}, {"ENVIRONMENT": " "}])
def test_a_container_that_is_told_no_environment_exits_2(
    tmp_path: Path, word: str, environ: dict[str, str]
) -> None:
    done = start(word, tmp_path, **environ)
    assert (done.returncode, done.stdout) == (2, "")
    assert "] ENVIRONMENT (" in done.stderr
    assert "one of development, testing, staging, production" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_container_shows_its_warnings_and_goes_on(tmp_path: Path) -> None:
    done = start("check", tmp_path, ENVIRONMENT="development", DB_POOL_SIZE="2")
    assert done.returncode == 0
    assert "warning [pool-threads] DB_POOL_SIZE (process environment)" in done.stderr


def test_a_container_warns_of_a_secret_that_others_may_read(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("q7Gk2Zr9vT4xLw8Yb3Nc6Md1Ph5Sj0Kf")
    secret.chmod(0o644)
    done = start("check", tmp_path, ENVIRONMENT="testing", LEDGER_TOKEN_FILE=str(secret))
    assert done.returncode == 0
    assert f"warning [exposed-file] LEDGER_TOKEN ({secret}, LEDGER_TOKEN_FILE in process env" in done.stderr
    assert secret.read_text() not in done.stderr
