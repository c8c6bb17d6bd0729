"""Every command and every Python example of the database guide runs as it is printed."""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent.parent
GUIDE = PROJECT / "docs" / "database_guide.md"


def blocks(language: str) -> list[str]:
    """Return the guide's blocks of code in a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE.read_text("utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture
def checkout() -> Iterator[Path]:
    """A copy of the tree as a repository of its own, with nothing in it that git would not track.

    Not in pytest's folder: every start of pytest shuts out the account that PostgreSQL runs as.
    """
    with tempfile.TemporaryDirectory(prefix="slipway-guide-") as above:
        yield copied(Path(above) / "slipway")


def copied(folder: Path) -> Path:
    """Copy the tree into `folder`, make it a repository, and return it."""
    listed = subprocess.run(
        ["git", "-C", str(PROJECT), "ls-files", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        source = PROJECT / name
        if source.is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, folder / name)
    who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "All of it"], ["tag", "v1"]):
        subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.mark.system
def test_every_command_of_the_guide_works_as_printed(checkout: Path) -> None:
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(checkout.parent),
        "LANG": "C.UTF-8",
        "ENVIRONMENT": "development",
    }
    printed = blocks("sh")
    assert len(printed) > 8
    try:
        for block in printed:
            done = subprocess.run(
                ["sh", "-e", "-c", block],
                cwd=checkout,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=300,
            )
            assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        (example,) = (block for block in blocks("python") if "ConnectionManager" in block)
        ran = subprocess.run(
            [sys.executable, "-c", example],
            cwd=checkout,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        (rejects,) = (checkout / ".slipway/populate").glob("rejects-events-events.csv-*.ndjson")
        assert '"reason":' in rejects.read_text()
    finally:
        subprocess.run(["invoke", "db.stop"], cwd=checkout, env=environment, check=False, capture_output=True)
    assert not (checkout / ".slipway/postgres/postmaster.pid").exists()
