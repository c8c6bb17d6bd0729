"""What the guides tell a reader to type works as written, in a fresh clone."""

import subprocess
import uuid
from pathlib import Path

import pytest

from tests.clone import ROOT, clean_environment, commit, fresh_clone, git
from tests.deployment.stage import free_port
from tests.guides import commands
from tests.stack import remove

pytestmark = pytest.mark.system


def test_only_blocks_fenced_as_sh_are_commands(tmp_path: Path) -> None:
    guide = tmp_path / "guide.md"
    guide.write_text("```sh\none\ntwo\n```\n\n```text\nthree\n```\n\n    four\n\n```sh\nfive\n```\n")
    assert commands(guide) == ["one\ntwo\n", "five\n"]


def test_every_command_of_the_deployment_guide_works(tmp_path: Path) -> None:
    blocks = commands(ROOT / "docs" / "deployment_guide.md")
    assert blocks
    clone = fresh_clone(tmp_path / "clone")
    # The guide is about deploying: what the clone's own test stage runs is the least that passes.
    git(clone, "rm", "-r", "--quiet", "--", "tests/app")
    commit(clone, "as small as it gets")
    stack, port = f"slipway-test-{uuid.uuid4().hex[:8]}", free_port()
    environment = clean_environment(
        {"STACK_NAME": stack, "PUBLIC_PORT": str(port), "PUBLIC_URL": f"http://127.0.0.1:{port}"}
    )
    try:
        for block in blocks:
            done = subprocess.run(
                ["sh", "-eu", "-c", block],
                cwd=clone,
                env=environment,
                text=True,
                capture_output=True,
                timeout=600,
                check=False,
            )
            assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    finally:
        remove(stack)
