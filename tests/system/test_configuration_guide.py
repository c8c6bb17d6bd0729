"""What the configuration guide tells its readers to type works, in a copy of the project."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.guides import commands

ROOT = Path(__file__).parent.parent.parent
PARTS = ("tasks.py", "setup.cfg", "scripts", "config", "app", "docs")

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the commands need, without anybody's own `.env` and secrets."""
    copy = tmp_path_factory.mktemp("project")
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, copy / part)
    return copy


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run one line as a reader would, with this environment's `invoke`."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environ = {"PATH": path, "HOME": str(folder), "LANG": "C.UTF-8"}
    return subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_every_command_of_the_guide_works_in_its_order(project: Path) -> None:
    blocks = commands(ROOT / "docs" / "configuration_guide.md")
    lines = [line for block in blocks for line in block.splitlines() if line.strip()]
    assert len(lines) >= 10
    said = {line: shell(line, project) for line in lines}
    failed = {line: done.stderr for line, done in said.items() if done.returncode}
    assert not failed
    assert (project / ".env").read_text() == "ENVIRONMENT=development\n"
    assert (project / ".slipway/secrets/testing/SECRET_KEY").stat().st_mode & 0o777 == 0o600
    assert "TARGET_DOCKER_HOST" in said["invoke config.diff staging production"].stdout
    assert said["invoke config.template"].stdout == "nothing to change\n"
    assert said["ENVIRONMENT=testing invoke config.show"].stdout.startswith("environment: testing\n")


def test_the_example_of_an_environment_of_ones_own_works(project: Path) -> None:
    guide = (ROOT / "docs" / "configuration_guide.md").read_text(encoding="utf-8")
    example = (
        guide.partition("## An environment of your own")[2].partition("```python\n")[2].partition("```")[0]
    )
    path = project / "config" / "environments.py"
    text = path.read_text(encoding="utf-8")
    head, mark, tail = text.partition("ENVIRONMENTS: tuple")
    path.write_text(
        f"{head}{example}\n\n{mark}{tail.replace('Production)', 'Production, Preview)')}", encoding="utf-8"
    )
    (project / "config" / ".env.preview").write_text(
        "DB_HOST=db.internal\nPUBLIC_URL=https://branch.internal\n"
    )
    try:
        for name in ("SECRET_KEY", "LEDGER_TOKEN", "DB_PASSWORD"):
            assert shell(f"invoke config.secret new {name} --env=preview", project).returncode == 0
        checked = shell("invoke config.check --env=preview --fail-level=warning", project)
        assert (checked.returncode, checked.stdout.count("\n")) == (0, 1)
        assert "no problem" in checked.stdout
    finally:
        path.write_text(text, encoding="utf-8")
