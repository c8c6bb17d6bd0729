"""lint: every checker over its own files, side by side, and one failure that names all findings."""

import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from scripts.pipeline.errors import Cancelled, StageFailure
from scripts.pipeline.fingerprint import git, matches
from scripts.pipeline.process import Completed
from scripts.pipeline.stage import Kind, Outcome, Stage, StageContext
from scripts.stages import installed

CODE = ("*.py", "*.pyi")
PROSE = ("*.md",)
"""ruff formats the Python in it."""
SETTINGS = ("pyproject.toml", "setup.cfg", "requirements.lock", ".gitignore")
DOCKERFILES = ("docker/*Dockerfile", "docker/.hadolint.yaml")
WORKFLOWS = (".github/**",)
SCRIPTS = ("*.sh", "scripts/*", ".ci/*", "docker/*")
"""Where shell scripts may be; which of these files is one is told by its first line."""
INPUTS = (*CODE, *PROSE, *SETTINGS, *DOCKERFILES, *WORKFLOWS, *SCRIPTS)
DETAILS = 60
"""Lines of one checker's findings that the failure shows; the log has them all."""


@dataclass(frozen=True, kw_only=True)
class Checker:
    """A program that looks at some files. `files` are patterns; with `listed` the files are its last
    words.
    """

    name: str
    words: tuple[str, ...]
    files: tuple[str, ...]
    listed: bool = False
    shebang: bool = False
    needs: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)

    def command(self, found: Sequence[str]) -> list[str]:
        """Return the command line for these files."""
        return [*self.words, *(found if self.listed else ())]


IMPORT_RULES = (
    sys.executable,
    "-m",
    "pytest",
    "-q",
    "--noconftest",
    "-p",
    "no:cacheprovider",
    "tests/test_imports.py",
)
ALONE = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
"""The import rules need no plugin, and loading them takes longer than the rules."""
# DL3064 takes POSTGRES_PASSWORD_FILE, the name of a file, for a password.
HADOLINT = ("hadolint", "--no-color", "--ignore", "DL3064")
CHECKERS = (
    # The slowest first, so that the others fit beside it.
    Checker(name="mypy", words=("mypy", "--no-color-output"), files=CODE),
    Checker(name="imports", words=IMPORT_RULES, files=CODE, needs="tests/test_imports.py", variables=ALONE),
    Checker(
        name="zizmor",
        words=("zizmor", "--offline", "--no-progress", "--quiet"),
        files=(".github/workflows/*",),
        listed=True,
    ),
    Checker(
        name="check-jsonschema",
        words=("check-jsonschema", "--builtin-schema", "vendor.github-workflows"),
        files=(".github/workflows/*.yml", ".github/workflows/*.yaml"),
        listed=True,
    ),
    Checker(
        name="shellcheck", words=("shellcheck", "--color=never"), files=SCRIPTS, listed=True, shebang=True
    ),
    Checker(name="hadolint", words=HADOLINT, files=("docker/*Dockerfile",), listed=True),
    Checker(name="ruff", words=("ruff", "check", "--output-format", "concise", "."), files=CODE),
    Checker(name="ruff format", words=("ruff", "format", "--check", "."), files=CODE),
)


def is_shell(path: Path) -> bool:
    """Tell whether a file is a shell script, by its name or its first line."""
    if path.suffix == ".sh":
        return True
    try:
        with path.open("rb") as file:
            first = file.readline(80)
    except OSError:
        return False
    return first.startswith(b"#!") and any(
        word in first for word in (b"/sh", b"/bash", b"/dash", b"env sh", b"env bash")
    )


def tree_files(root: Path) -> list[str]:
    """Return the files that git tracks or would track."""
    raw = git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    names = {name.decode(errors="surrogateescape") for name in raw.split(b"\0") if name}
    return sorted(name for name in names if (root / name).is_file())


def work(root: Path, checkers: Sequence[Checker] = CHECKERS) -> list[tuple[Checker, list[str]]]:
    """Return each checker that has something to look at, with its files."""
    names = tree_files(root)
    found = []
    for checker in checkers:
        own = [name for name in names if matches(name, checker.files)]
        if checker.shebang:
            own = [name for name in own if is_shell(root / name)]
        if own and (not checker.needs or checker.needs in names):
            found.append((checker, own))
    return found


def check(context: StageContext, checkers: Sequence[Checker] = CHECKERS) -> Outcome:
    """Run the checkers side by side; raises StageFailure that names every one that found fault."""
    todo = work(context.root, checkers)
    waiting = {checker.name for checker, _ in todo}
    context.progress(", ".join(sorted(waiting)))

    def one(task: tuple[Checker, list[str]]) -> tuple[Checker, Completed]:
        checker, found = task
        # Quiet, and told at its end: so one checker's lines stay together.
        done = context.run(checker.command(found), env=checker.variables, check=False, quiet=True)
        waiting.discard(checker.name)
        context.progress(", ".join(sorted(waiting)))
        return checker, done

    failed: list[tuple[Checker, list[str]]] = []
    with ThreadPoolExecutor(max_workers=max(1, context.workers)) as pool:
        try:
            for checker, done in pool.map(one, todo):
                lines = [*done.output.splitlines(), *done.errors.splitlines()]
                context.say(
                    f"{checker.name}: {'ok' if done.exit_code == 0 else done.ended} ({done.seconds:.1f} s)"
                )
                if done.exit_code != 0:
                    failed.append((checker, lines))
                    for line in lines:
                        context.say(f"  {line}")
        except Cancelled:
            pool.shutdown(cancel_futures=True)
            raise
    figures = {"checkers": float(len(todo)), "failed": float(len(failed))}
    if failed:
        raise StageFailure(
            f"{', '.join(checker.name for checker, _ in failed)} found fault",
            where="the files named below",
            next_step="correct them; `ruff check --fix .` and `ruff format .` do the mechanical part",
            details=[line for checker, lines in failed for line in shortened(checker.name, lines)],
            figures=figures,
        )
    return Outcome(figures=figures)


def shortened(name: str, lines: Sequence[str]) -> list[str]:
    """Return a checker's findings under its name, and how many more there are."""
    more = len(lines) - DETAILS
    return [f"{name}:", *lines[:DETAILS], *([f"... and {more} more lines in lint.log"] if more > 0 else [])]


def stage(checkers: Sequence[Checker] = CHECKERS) -> Stage:
    """Return the lint stage."""
    return Stage(
        name="lint",
        kind=Kind.CHECK,
        summary="ruff, mypy, hadolint, shellcheck, zizmor, check-jsonschema and the import rules",
        action=lambda context: check(context, checkers),
        inputs=INPUTS,
        parameters={checker.name: " ".join(checker.words[1:]) for checker in checkers},
        tools=installed.packages,
        workers=4,
        timeout=600.0,
    )
