"""A stage that declares narrower inputs reads no other file of the repository: its reads are watched."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import run
from scripts.pipeline.fingerprint import matches
from scripts.stages.lint import tree_files
from tests.pipeline.ground import git

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("narrowed.py")
OPENED = re.compile(r"open(?:at2?)?\(.*\) = \d+<(?P<path>/[^>]*)>")
ENGINE = ("/scripts/**/*.py", "/scripts/*.py", "/config/*.py", "/config/.env.*", ".gitignore")
"""No input of a stage: the settings, which are its parameters; the pipeline's own modules, which Python
loads to run any stage, and what tells git which files there are, which every fingerprint holds by itself.
"""


def copied(root: Path) -> Path:
    """Copy this project, as git would, into a repository of its own."""
    for name in tree_files(ROOT):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, root / name, follow_symlinks=False)
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "copied")
    return root


def reads(tree: Path, name: str, folder: Path) -> set[str]:
    """Run a stage under strace and return the tracked files that any of its processes opened."""
    trace = folder / f"{name}.trace"
    watch = [
        "strace",
        "-f",
        "-qq",
        "-y",
        "-z",
        "-s",
        "4096",
        "-e",
        "trace=open,openat,openat2",
        "-o",
        str(trace),
    ]
    done = subprocess.run(
        [*watch, sys.executable, "-B", str(PROGRAM), name, str(folder / "outputs.json")],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    tracked = set(tree_files(tree))
    found = set()
    for line in trace.read_text(errors="replace").splitlines():
        opened = OPENED.search(line)
        if opened and opened["path"].startswith(f"{tree}/"):
            found.add(opened["path"].removeprefix(f"{tree}/"))
    return found & tracked


def outside(found: set[str], patterns: tuple[str, ...]) -> list[str]:
    return sorted(name for name in found if not matches(name, patterns) and not matches(name, ENGINE))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("strace"):
        pytest.skip("strace is not installed; scripts/bootstrap test installs it")
    return copied(tmp_path_factory.mktemp("narrowed") / "tree with space")


def inputs_of(name: str) -> tuple[str, ...]:
    from config.settings import load

    (stage,) = run.load_stages([name], None if name == "lint" else load("development"))
    assert stage.inputs is not None, f"{name} depends on the whole tree, so there is nothing to prove"
    return stage.inputs


@pytest.mark.system
def test_lint_reads_only_its_inputs(tree: Path, tmp_path: Path) -> None:
    found = reads(tree, "lint", tmp_path)
    assert {"docker/Dockerfile", "scripts/bootstrap", "setup.cfg", "app/__init__.py"} <= found
    assert outside(found, inputs_of("lint")) == []


@pytest.mark.system
def test_build_and_scan_read_only_their_inputs(tree: Path, tmp_path: Path) -> None:
    found = reads(tree, "build", tmp_path)
    assert "docker/Dockerfile" in found
    assert outside(found, inputs_of("build")) == []
    assert (tmp_path / "outputs.json").read_text().count("digest") > 0, "there is something to scan"
    assert outside(reads(tree, "scan", tmp_path), inputs_of("scan")) == []


def test_a_read_outside_is_found(tmp_path: Path) -> None:
    """The watcher sees what a child of a child reads."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed; scripts/bootstrap test installs it")
    trace = tmp_path / "trace"
    (tmp_path / "secret file").write_text("x")
    words = ["strace", "-f", "-qq", "-y", "-z", "-e", "trace=open,openat", "-o", str(trace)]
    subprocess.run(
        [*words, "sh", "-c", "sh -c 'cat \"secret file\"'"], cwd=tmp_path, check=True, capture_output=True
    )
    opened = {found["path"] for line in trace.read_text().splitlines() if (found := OPENED.search(line))}
    assert str(tmp_path / "secret file") in opened
    assert outside({"README.md", "scripts/run.py"}, ("*.txt",)) == ["README.md"]
