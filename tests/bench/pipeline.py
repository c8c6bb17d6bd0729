"""The pipeline beside bare invoke, doit and nox, and beside the same commands typed one after another.

All do the same three commands over the same small project: a type check, its tests, and an archive of it.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.bench.document import machine, table, write_section
from tests.pipeline.ground import make_tree

ROOT = Path(__file__).parents[2]
REPEATS = 5
COLD_REPEATS = 3
MODULES = 10
NONE = "\N{EM DASH}"
LINT = ("mypy", "--strict", "--cache-dir=/dev/null", "app")
TEST = ("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "tests")
BUILD = ("python", "-m", "tarfile", "-c", "app.ignored.tar.xz", "app", "tests")

TASKS = f'''
import os, sys
from pathlib import Path
from invoke.tasks import task
sys.path.insert(0, {str(ROOT)!r})
COMMANDS = {{"lint": {LINT!r}, "test": {TEST!r}, "build": {BUILD!r}}}


@task
def bare(_context):
    """Do nothing."""


@task
def check(_context):
    """Lint, test and build."""
    from scripts.pipeline.runner import Order, Runner
    from scripts.pipeline.stage import Kind, Outcome, Stage
    from scripts.stages import installed
    from scripts.views.audience import audience

    def stage(name, words):
        def act(context):
            context.run(words)
            return Outcome()

        return Stage(name=name, kind=Kind.CHECK, summary=name, action=act, tools=installed.packages)

    root = Path.cwd()
    stages = [stage(name, words) for name, words in COMMANDS.items()]
    views = audience(root, out=sys.stdout, err=sys.stderr, variables=os.environ)
    order = Order(command="check", names=tuple(COMMANDS))
    sys.exit(Runner(root=root, stages=stages, order=order, views=views).run())
'''
DODO = f"""
from pathlib import Path
FILES = sorted(map(str, [*Path("app").rglob("*.py"), *Path("tests").rglob("*.py")]))
DOIT_CONFIG = {{"default_tasks": ["lint", "test", "build"]}}


def task_lint():
    return {{"actions": [{" ".join(LINT)!r}], "file_dep": FILES}}


def task_test():
    return {{"actions": [{" ".join(TEST)!r}], "file_dep": FILES}}


def task_build():
    return {{"actions": [{" ".join(BUILD)!r}], "file_dep": FILES, "targets": ["app.ignored.tar.xz"]}}
"""
NOXFILE = f"""
import nox


@nox.session(venv_backend="none")
def lint(session):
    session.run(*{LINT!r})


@nox.session(venv_backend="none")
def test(session):
    session.run(*{TEST!r})


@nox.session(venv_backend="none")
def build(session):
    session.run(*{BUILD!r})
"""
MODULE = '''"""Module {number}."""


def factors(number: int) -> list[int]:
    """Return the prime factors of a number."""
    found: list[int] = []
    divisor = 2
    while number > 1:
        while number % divisor == 0:
            found.append(divisor)
            number //= divisor
        divisor += 1
    return found
'''
CASE = """from app.module_{number} import factors


def test_factors() -> None:
    for value in range(2, 1200):
        assert factors(value)
"""


def project(folder: Path) -> Path:
    """Make the small project in a repository of its own."""
    files = {"tasks.py": TASKS, "dodo.py": DODO, "noxfile.py": NOXFILE, "app/__init__.py": '"""The app."""\n'}
    for number in range(MODULES):
        files[f"app/module_{number}.py"] = MODULE.format(number=number)
        files[f"tests/test_{number}.py"] = CASE.format(number=number)
    ignored = ".slipway/\n*.ignored*\n__pycache__/\n.doit.db*\n.nox/\nproject_state.json\n"
    files["tests/conftest.py"] = "import sys\n\nsys.path.insert(0, '.')\n"
    return make_tree(folder, {".gitignore": ignored, **files})


def forget(tree: Path) -> None:
    """Remove all that any of the tools remembers."""
    for path in (*tree.glob(".doit.db*"), *tree.glob("*.ignored*")):
        path.unlink()
    for name in (".slipway", ".nox"):
        shutil.rmtree(tree / name, ignore_errors=True)


def change(tree: Path) -> None:
    """Change one line of one module."""
    with (tree / "app" / "module_0.py").open("a") as file:
        file.write(f"\n\n# {time.time_ns()}\n")


def seconds(tree: Path, words: Sequence[str], *, before: Callable[[Path], None], repeats: int) -> float:
    """Return the median wall time of a command, in seconds; `before` is done each time outside the clock."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    found = []
    for _ in range(repeats):
        before(tree)
        began = time.perf_counter()
        subprocess.run(words, cwd=tree, env=environment, check=True, capture_output=True)
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def leave(_tree: Path) -> None:
    """Change nothing."""


SEQUENCE = " && ".join(" ".join(words) for words in (LINT, TEST, BUILD))
PROGRAMS: dict[str, tuple[str, ...]] = {
    "Slipway (`invoke check`)": ("invoke", "check"),
    "doit, two processes": ("doit", "-n", "2", "-v", "0"),
    "nox": ("nox", "--no-venv"),
    "the commands one after another": ("sh", "-c", SEQUENCE),
}


def measure(tree: Path) -> list[tuple[str, str, str, str]]:
    """Return a row for each program: nothing to do, one line changed, cold."""
    bare = seconds(tree, ("invoke", "bare"), before=leave, repeats=REPEATS)
    rows = [("bare `invoke`, an empty task", f"{bare:.2f}", NONE, NONE)]
    for name, words in PROGRAMS.items():
        cold = seconds(tree, words, before=forget, repeats=COLD_REPEATS)
        line = seconds(tree, words, before=change, repeats=COLD_REPEATS)
        remembers = name.startswith(("Slipway", "doit"))
        nothing = seconds(tree, words, before=leave, repeats=REPEATS) if remembers else None
        rows.append((name, "runs all" if nothing is None else f"{nothing:.2f}", f"{line:.2f}", f"{cold:.2f}"))
    longest = [
        seconds(tree, words, before=leave, repeats=COLD_REPEATS)
        for words in ((*LINT,), (sys.executable, *TEST[1:]), (sys.executable, *BUILD[1:]))
    ]
    rows.append(("the longest of the three commands alone", NONE, NONE, f"{max(longest):.2f}"))
    return rows


METHOD = f"""A project of {MODULES} modules; the same three commands (mypy, pytest, an xz archive) by each
program. Wall time in seconds, the median of {REPEATS} runs, of {COLD_REPEATS} where all three commands run.
Budgets: nothing to do 0.5 s over bare `invoke`; cold no more than the longest command and 10 %, where there
are as many processors as commands."""


def main(document: Path) -> int:
    """Measure, and write the section `pipeline` of the document."""
    about = machine()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        rows = measure(project(Path(folder) / "project"))
    parts = [
        "## The pipeline",
        about,
        METHOD,
        table(("program", "nothing to do", "one line changed", "cold"), rows),
    ]
    write_section(document, "pipeline", "\n\n".join(parts))
    return 0
