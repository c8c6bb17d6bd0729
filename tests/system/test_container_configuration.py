"""The real image judges its configuration before it starts, and finds its secrets well kept."""

import subprocess
from collections.abc import Iterator
from secrets import token_urlsafe

import pytest

from config.secret import Secret
from scripts.deployment.errors import DeploymentFailed
from scripts.image import engine
from tests.deployment import images
from tests.deployment.images import Image
from tests.deployment.stage import Stage, staged

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def image() -> Image:
    return images.built()


@pytest.fixture(scope="module")
def live(image: Image) -> Iterator[Stage]:
    secrets = {name: Secret(token_urlsafe(32)) for name in ("SECRET_KEY", "LEDGER_TOKEN")}
    with staged(secrets=secrets) as stage:
        stage.deploy(image)
        yield stage


def started(image: Image, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the image as anybody would, with these variables, until it ends."""
    given = [f"--env={name}={value}" for name, value in variables.items()]
    name = f"{image.repository}:{image.digest[7:19]}"
    command = [*engine.cli(), "run", "--rm", "--network=none", *given, name]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_container_that_is_told_no_environment_ends_with_exit_code_2(image: Image) -> None:
    done = started(image)
    assert (done.returncode, done.stdout) == (2, "")
    assert "[missing] ENVIRONMENT (not set)" in done.stderr
    assert "Set ENVIRONMENT to one of development, testing, staging, production" in done.stderr


def test_a_container_prints_the_whole_report_and_ends_with_exit_code_2(image: Image) -> None:
    done = started(image, ENVIRONMENT="staging", DB_PORT="many", DB_PROT="1", LOG_FORMAT="xml")
    assert (done.returncode, done.stdout) == (2, "")
    for name in ("DB_PORT", "DB_PROT", "LOG_FORMAT", "SECRET_KEY", "LEDGER_TOKEN", "DB_PASSWORD"):
        assert f"] {name} (" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_deployed_service_finds_nothing_to_warn_of(live: Stage) -> None:
    """Its secrets are there, and nobody but their owner may read them."""
    script = (
        "import os, stat; from config.check import check; from pathlib import Path; "
        "report = check(part='app', unnamed=None); "
        "print(*(str(each) for each in report.problems)); "
        "print(*sorted((each.name, each.stat().st_uid == each.stat().st_gid == os.getuid(), "
        "stat.filemode(each.stat().st_mode)) for each in Path('/run/secrets').iterdir()))"
    )
    stack, seen = live.target.stack, []
    for task in live.swarm.tasks(f"{stack}_web"):
        if task["Status"]["State"] == "running":
            container = task["Status"]["ContainerStatus"]["ContainerID"]
            command = [*engine.cli(), "exec", container, "python3", "-c", script]
            seen.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    kept = "('LEDGER_TOKEN', True, '-r--------') ('SECRET_KEY', True, '-r--------')"
    assert seen == [f"\n{kept}\n"] * 2
    assert "warning [" not in "\n".join(live.swarm.service_logs(f"{stack}_web"))


def test_a_deployment_shows_what_the_container_refuses(live: Stage, image: Image) -> None:
    """The pipeline may be of another release than the image: only the container knows what it takes."""
    variables = {**live.target.variables, "WEB_THREADS": "none", "LOG_LEVEL": "loud"}
    with pytest.raises(DeploymentFailed, match="exit code 2") as caught:
        live.deploy(image, variables=variables)
    details = "\n".join(caught.value.details)
    assert "The configuration of development has 2 errors; nothing was started." in details
    for name in ("WEB_THREADS", "LOG_LEVEL"):
        assert f"error [value] {name} (process environment)" in details
    assert live.serves == image.digest
