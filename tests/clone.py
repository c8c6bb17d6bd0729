"""Fresh clones of this repository, as a new user has them, for tests that run its commands."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.conftest import pytest_plugins

ROOT = Path(__file__).parent.parent
KEPT_TESTS = (
    "tests/__init__.py",
    "tests/conftest.py",
    *(f"{name.replace('.', '/')}.py" for name in pytest_plugins),
    "tests/database/__init__.py",
    "tests/app/__init__.py",
    "tests/app/conftest.py",
    "tests/app/events.py",
    "tests/app/test_cloudevents.py",
    "tests/test_imports.py",
)


def fresh_clone(folder: Path, *, whole: bool = False) -> Path:
    """Clone the repository as it is now, uncommitted changes and all, into `folder` and return that.

    Unless `whole`, the suite in it is cut down to a few files, so that its own test stage takes seconds.
    """
    git(ROOT, "clone", "--quiet", "--no-hardlinks", str(ROOT), str(folder))
    changed = git(ROOT, "ls-files", "-z", "--modified", "--others", "--exclude-standard").split("\0")
    for name in filter(None, changed):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
            (folder / name).chmod((ROOT / name).stat().st_mode)
        else:
            (folder / name).unlink(missing_ok=True)
    if not whole:
        kept = [f":!{name}" for name in KEPT_TESTS]
        git(folder, "rm", "-r", "--quiet", "--force", "--ignore-unmatch", "--", "tests", *kept)
    commit(folder, "as it is")
    return folder


def commit(folder: Path, message: str) -> str:
    """Commit everything in `folder` and return the commit."""
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", message)
    return git(folder, "rev-parse", "HEAD").strip()


def git(folder: Path, *arguments: str) -> str:
    """Run git in `folder` as a fixed author and return what it printed."""
    author = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", *author, *arguments], cwd=folder, text=True, capture_output=True, check=True
    )
    return done.stdout


def invoke(
    folder: Path, *arguments: str, timeout: float = 600.0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `invoke` of this interpreter's environment in `folder`."""
    return subprocess.run(
        [Path(sys.executable).with_name("invoke"), *arguments],
        cwd=folder,
        env=clean_environment(environment),
        text=True,
        capture_output=True,
        timeout=timeout,
        check=False,
    )


def clean_environment(additions: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without what CI or a test run adds, with `additions`."""
    ours = ("GITHUB_", "PYTEST_", "COV_", "CI")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return kept | {"PATH": path} | dict(additions)
