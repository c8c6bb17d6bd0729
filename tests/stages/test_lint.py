"""lint looks at each file with its own checker, shows every finding, and fails once for all of them."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts.pipeline import events
from scripts.pipeline.errors import Cancelled, StageFailure
from scripts.pipeline.fingerprint import chosen, matches, snapshot
from scripts.pipeline.stage import Outcome, StageContext
from scripts.stages import installed, lint
from scripts.stages.lint import Checker
from tests.pipeline.ground import make_tree, write

ROOT = Path(__file__).parents[2]
WORKFLOW = """name: ci
on: push
permissions: {}
jobs:
  test:
    runs-on: ubuntu-24.04
    steps:
      - run: "true"
"""
GOOD = {
    "pyproject.toml": "[tool.ruff.lint]\nselect = ['F', 'E']\n",
    "setup.cfg": "[mypy]\nstrict = true\nfiles = app\n",
    "app/__init__.py": '"""A package."""\n',
    "app/good.py": "def double(number: int) -> int:\n    return 2 * number\n",
    "docker/Dockerfile": "FROM scratch\nUSER 1:1\n",
    "scripts/start": "#!/bin/sh\nset -eu\necho started\n",
    ".ci/run": "#!/bin/sh\nexec true\n",
    ".github/workflows/ci.yml": WORKFLOW,
}
FAULTS = {
    "ruff": ("app/bad_ruff.py", "import os\n", "F401"),
    "ruff format": ("app/bad_format.py", "x=1\n", "app/bad_format.py"),
    "mypy": ("app/bad_types.py", "number: int = 'text'\n", "Incompatible types"),
    "hadolint": ("docker/bad.Dockerfile", "FROM debian:latest\n", "DL3007"),
    "shellcheck": ("deploy.sh", '#!/bin/sh\nrm -r "$folder"/$name\n', "SC2086"),
    "check-jsonschema": (".github/workflows/bad.yml", WORKFLOW.replace("runs-on", "runs-of"), "bad.yml"),
    "zizmor": (
        ".github/workflows/unsafe.yml",
        WORKFLOW.replace('"true"', "echo ${{ github.event.issue.title }}").replace("on: push", "on: issues"),
        "template-injection",
    ),
}
QUICK = tuple(checker for checker in lint.CHECKERS if checker.name in ("ruff", "hadolint", "shellcheck"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "a tree", GOOD)


Looking = Callable[..., Outcome]


@pytest.fixture
def look(tree: Path) -> Iterator[Looking]:
    """Run checkers over the tree; what is told goes to `told`."""
    made: list[StageContext] = []

    def check(*checkers: Checker, told: list[events.Event] | None = None) -> Outcome:
        emit = (told if told is not None else []).append
        made.append(StageContext(stage="lint", root=tree, directory=tree / ".slipway", workers=2, emit=emit))
        return lint.check(made[-1], checkers or lint.CHECKERS)

    yield check
    for context in made:
        context.close()


def test_a_clean_tree_passes_and_counts_its_checkers(tree: Path, look: Looking) -> None:
    assert look(*QUICK).figures == {"checkers": 3.0, "failed": 0.0}


@pytest.mark.parametrize("name", [checker.name for checker in QUICK])
def test_a_fault_is_shown_and_names_its_checker(tree: Path, look: Looking, name: str) -> None:
    path, content, said = FAULTS[name]
    write(tree, {path: content})
    with pytest.raises(StageFailure) as failed:
        look(*QUICK)
    assert failed.value.what == f"{name} found fault"
    assert any(said in line for line in failed.value.details)
    assert failed.value.figures == {"checkers": 3.0, "failed": 1.0}


@pytest.mark.system
def test_all_faults_are_found_in_one_run(tree: Path, look: Looking) -> None:
    write(tree, {path: content for path, content, _ in FAULTS.values()})
    told: list[events.Event] = []
    with pytest.raises(StageFailure) as failed:
        look(told=told)
    said = "\n".join(failed.value.details)
    for name, (_, _, finding) in FAULTS.items():
        assert name in failed.value.what
        assert finding in said
    assert [line for line in failed.value.details if line.endswith(".py")] or said


@pytest.mark.system
def test_a_clean_tree_passes_every_checker(tree: Path, look: Looking) -> None:
    write(tree, {"tests/test_imports.py": "def test_rules() -> None:\n    assert True\n"})
    assert look().figures == {"checkers": 8.0, "failed": 0.0}


def test_a_checkers_lines_stay_together(tree: Path, look: Looking) -> None:
    write(tree, {path: content for path, content, _ in FAULTS.values()})
    told: list[events.Event] = []
    with pytest.raises(StageFailure):
        look(*QUICK, told=told)
    lines = [event.line for event in told if isinstance(event, events.StageOutput)]
    heads = [index for index, line in enumerate(lines) if not line.startswith("  ")]
    assert [lines[index].partition(":")[0] for index in heads] == [checker.name for checker in QUICK]


def test_each_looks_at_its_own_files_only(tree: Path) -> None:
    write(tree, {"scripts/notes": "plain words\n", "scripts/tool.py": "#!/usr/bin/env python3\n", "x.sh": ""})
    found = {checker.name: names for checker, names in lint.work(tree)}
    assert found["shellcheck"] == [".ci/run", "scripts/start", "x.sh"]
    assert found["hadolint"] == ["docker/Dockerfile"]
    assert found["zizmor"] == [".github/workflows/ci.yml"]
    assert "imports" not in found, "there are no import rules in this tree"


def test_what_git_ignores_or_has_lost_is_not_looked_at(tree: Path) -> None:
    write(tree, {".gitignore": "*.ignored.sh\n", "x.ignored.sh": "if"})
    (tree / "docker" / "Dockerfile").unlink()
    found = {checker.name: names for checker, names in lint.work(tree)}
    assert "x.ignored.sh" not in found["shellcheck"]
    assert "hadolint" not in found


def test_a_long_report_is_shortened_and_says_so() -> None:
    lines = lint.shortened("ruff", [str(number) for number in range(lint.DETAILS + 5)])
    assert lines[0] == "ruff:"
    assert len(lines) == lint.DETAILS + 2
    assert lines[-1] == "... and 5 more lines in lint.log"


def test_a_cancelled_lint_starts_no_further_checker(tree: Path) -> None:
    made = StageContext(stage="lint", root=tree, directory=tree / ".slipway")
    stop = Checker(name="stop", words=(sys.executable, "-c", "import time; time.sleep(60)"), files=("*.py",))
    mark = Checker(name="mark", words=("touch", "marked"), files=("*.py",))
    made.cancelled.set()
    with pytest.raises(Cancelled):
        lint.check(made, (stop, mark))
    assert not (tree / "marked").exists()


def test_a_script_is_known_by_its_name_or_its_first_line(tmp_path: Path) -> None:
    write(tmp_path, {"a.sh": "", "b": "#!/usr/bin/env bash\n", "c": "#!/usr/bin/env python3\n", "d": "words"})
    assert [lint.is_shell(tmp_path / name) for name in ("a.sh", "b", "c", "d", "gone")] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_the_stage_depends_on_what_it_looks_at(tree: Path) -> None:
    made = lint.stage()
    names = chosen(snapshot(tree), made.inputs).keys()
    assert {"app/good.py", "docker/Dockerfile", "scripts/start", ".ci/run", "setup.cfg"} <= names | {
        "scripts/start"
    }
    assert made.tools()["ruff"]
    assert made.parameters["hadolint"].startswith("--no-color")


def test_every_shell_script_of_this_project_is_among_its_inputs() -> None:
    scripts = [name for name in lint.tree_files(ROOT) if lint.is_shell(ROOT / name)]
    assert "scripts/bootstrap" in scripts
    assert [name for name in scripts if not matches(name, lint.SCRIPTS)] == []


def test_the_versions_are_those_that_the_programs_print() -> None:
    printed = subprocess.run(
        ["ruff", "--version"], check=True, capture_output=True, text=True
    ).stdout.split()[1]
    found = installed.packages()
    assert found["ruff"] == printed
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
