"""Lay out what goes into the image's build: the files that git knows, in one form, and nothing else.

A copy rather than the tree itself: what lies about untracked and ignored, the umask and a `.env` cannot reach
the image, so it is the same from everybody's tree.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PARTS = (
    "app",
    "config",
    "docker/Dockerfile",
    "docker/code.py",
    "docker/runtime.sh",
    "docker/dependencies.sh",
    "requirements.lock",
    "scripts/image/requirements.py",
    "setup.cfg",
)
NEVER = (".env", ".git", "__pycache__")


def lay_out(root: Path, folder: Path) -> int:
    """Copy what the build may see from a tree to an empty folder and return the number of files."""
    count = 0
    for name in files(root):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, target)
        target.chmod(0o644)
        count += 1
    for directory in folder.rglob("*/"):
        directory.chmod(0o755)
    return count


def files(root: Path) -> list[Path]:
    """Return the files of the build, relative to the tree, sorted: what git tracks or would track.

    In a tree that is not a git repository that is every file of the parts.
    """
    listed = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *PARTS)
    names = set(_walk(root)) if listed is None else {Path(name) for name in listed.split("\0") if name}
    return sorted(
        name
        for name in names
        if not any(part in NEVER for part in name.parts)
        and (root / name).is_file()
        and not (root / name).is_symlink()
    )


def revision(root: Path) -> str:
    """Return the last commit that changed what the build sees, "-dirty" added when the tree has moved on.

    Not the newest commit: a release whose content is the same is the same release.
    """
    commit = _git(root, "log", "-1", "--format=%H", "--", *PARTS)
    if not commit or not commit.strip():
        return "unknown"
    changed = _git(root, "status", "--porcelain", "--untracked-files=all", "--", *PARTS)
    return commit.strip() + ("-dirty" if changed else "")


def head(root: Path) -> str:
    """Return the commit that is checked out, or "" when the tree differs from it or there is none."""
    commit = _git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    changed = _git(root, "status", "--porcelain")
    return commit.strip() if commit and changed == "" else ""


def _walk(root: Path) -> Iterator[Path]:
    for part in PARTS:
        start = root / part
        for path in sorted(start.rglob("*")) if start.is_dir() else [start]:
            if path.is_file():
                yield path.relative_to(root)


def _git(root: Path, *arguments: str) -> str | None:
    """Return what git answers, or None where there is no repository or no git."""
    try:
        answer = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(root), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        return None
    return answer.stdout.decode("utf-8", "surrogateescape") if answer.returncode == 0 else None
