"""The command line: one voice for mistakes, exit codes that hold, one line is one run, and --dry is dry."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task
from sqlalchemy import Dialect, Integer, TypeDecorator, create_engine, literal, select

from config.settings import Sources
from scripts import command
from scripts.pipeline.errors import UsageError
from tests.pipeline.ground import make_tree, until, write
from tests.scratch import linked

ROOT = Path(__file__).parent.parent


@task(help={"env": "where", "count": "how many"})
def lint(_context: Context, env: str = "", force: bool = False, count: int = 1) -> None:
    """Check."""


@task(positional=["name"])
def bench(_context: Context, name: str) -> None:
    """Measure."""


NAMESPACE = Collection(lint, bench)


def words(*more: str) -> list[str]:
    return ["/usr/bin/invoke", *more]


def test_a_line_is_read_by_invokes_own_parser() -> None:
    found = command.line(NAMESPACE, words("--echo", "lint", "--env=staging", "-f", "bench", "x"))
    assert [call.name for call in found] == ["lint", "bench"]
    assert found[0].arguments["env"] == "staging"
    assert found[0].arguments["force"] is True
    assert found[1].arguments == {"name": "x"}


@pytest.mark.parametrize("program", ["/x/bin/invoke", "inv", "/x/site-packages/invoke/__main__.py"])
def test_invoke_is_known_by_its_names(program: str) -> None:
    assert command.invoked([program])


@pytest.mark.parametrize("program", [[], ["pytest"], ["/x/__main__.py"]])
def test_another_programs_line_is_not_read(program: list[str]) -> None:
    assert command.line(NAMESPACE, [*program, "lnt"] if program else []) == []


MISTAKES = [
    (["lnt"], "there is no task 'lnt'; did you mean lint?"),
    (["qqq"], "there is no task 'qqq'\n"),
    (["lint", "--forse"], "there is no flag '--forse' of lint; did you mean --force?"),
    (["lint", "--qqq=1"], "there is no flag '--qqq' of lint\n"),
    (["bench"], "'bench' did not receive required positional arguments: 'name'"),
    (["lint", "--count", "many"], "a flag of this command takes a number"),
    (["lint", "--env"], "needed value and was not given one"),
]


@pytest.mark.parametrize(
    ("line", "said"), MISTAKES, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_a_mistake_is_one_message_with_what_was_meant_and_exit_code_2(line: list[str], said: str) -> None:
    with pytest.raises(Exit) as refused:
        command.check_line(NAMESPACE, words(*line))
    assert refused.value.code == 2
    assert said in refused.value.message
    assert "next: invoke --" in refused.value.message


def test_a_good_line_is_let_through_and_keeps_its_help() -> None:
    command.check_line(NAMESPACE, words("lint", "--env=x"))
    (context,) = [each for each in NAMESPACE.to_contexts() if each.name == "lint"]
    assert context.args["env"].help == "where"


@pytest.mark.parametrize("line", [["--env="], ["--env", ""], ["-e", ""], ["--force", "--env="]])
def test_an_environment_without_a_name_is_refused(line: list[str]) -> None:
    """It is what `--env=$TARGET` becomes when TARGET is not set: it must not act on another one."""
    with pytest.raises(Exit, match="--env names no environment") as caught:
        command.check_line(NAMESPACE, words("lint", *line))
    assert caught.value.code == 2


def test_a_mistake_of_the_user_is_its_message_and_code() -> None:
    @command.command
    def body(_context: Context) -> None:
        raise UsageError("what", "where", "next")

    with pytest.raises(Exit) as refused:
        body(Context())
    assert (refused.value.code, refused.value.message) == (2, "what\n  where: where\n  next: next")


def test_a_bug_keeps_its_traceback() -> None:
    @command.command
    def body(_context: Context) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        body(Context())


def test_ctrl_c_and_sigterm_end_a_task_in_order() -> None:
    undone: list[str] = []

    @command.command
    def interrupted(_context: Context) -> None:
        raise KeyboardInterrupt

    @command.command
    def terminated(_context: Context) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            until(lambda: False, 5)
        finally:
            undone.append("undone")

    before = signal.getsignal(signal.SIGTERM)
    for body, code in ((interrupted, 130), (terminated, 143)):
        with pytest.raises(Exit) as ended:
            body(Context())
        assert ended.value.code == code
    assert undone == ["undone"]
    assert signal.getsignal(signal.SIGTERM) == before


class Ended(TypeDecorator[int]):
    """A value at which SIGTERM comes while SQLAlchemy runs a statement."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: int | None, _dialect: Dialect) -> int | None:
        os.kill(os.getpid(), signal.SIGTERM)
        return value


def test_sigterm_is_not_taken_for_an_error_of_the_library_that_it_hits() -> None:
    @command.command
    def body(_context: Context) -> None:
        with create_engine("sqlite://").connect() as connection:
            connection.execute(select(literal(1, Ended())))

    with pytest.raises(Exit) as ended:
        body(Context())
    assert ended.value.code == 143


def test_dry_is_refused_where_it_would_not_be_dry() -> None:
    from invoke.config import Config

    command.refuse_dry(Context())
    with pytest.raises(Exit, match="invoke plan"):
        command.refuse_dry(Context(Config(overrides={"run": {"dry": True}})))


def invoke(*line: str, cwd: Path | None = None, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "invoke", *line],
        cwd=cwd or Sources().root,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **more,
    )


def test_the_real_program_ends_a_mistyped_line_with_one_message_and_exit_code_2() -> None:
    done = invoke("lnt")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "there is no task 'lnt'; did you mean lint?\n  next: invoke --list\n"


def test_an_unknown_environment_is_refused_with_exit_code_2() -> None:
    done = invoke("plan", "--env=moon")
    assert done.returncode == 2
    assert "moon" not in done.stdout
    assert "Traceback" not in done.stderr
    assert "production" in done.stderr


@pytest.mark.parametrize("line", ["rollback", "logs", "prune", "unlock"])
@pytest.mark.parametrize("yours", [True, False], ids=["yours", "process"])
def test_a_command_on_a_target_acts_on_the_environment_that_is_chosen(
    tmp_path: Path, line: str, yours: bool
) -> None:
    root, environ = linked(tmp_path), dict(os.environ)
    if yours:
        (root / ".env").write_text("ENVIRONMENT=staging\n")
    else:
        environ["ENVIRONMENT"] = "staging"
    done = invoke(line, cwd=root, env=environ)
    assert done.returncode == 2
    assert done.stderr.startswith("The configuration of staging has ")
    assert not (root / ".slipway").exists()


def test_every_flag_says_what_it_is_for() -> None:
    import tasks

    bare = [
        f"{each.name} {argument.name}"
        for each in tasks.namespace.to_contexts()
        if not str(each.name).startswith("db.")
        for argument in each.args.values()
        if not argument.help
    ]
    assert bare == []


LEAKING = '''
from invoke.collection import Collection
from invoke.tasks import task
from scripts import command
from scripts.pipeline.errors import UsageError


@task
@command.command
def leak(_context):
    """Fail with what a library said."""
    raise UsageError("SECRET is wrong", next_step="x")


namespace = Collection(leak)
'''


def test_a_message_does_not_repeat_a_secret_of_this_machine(small: Path) -> None:
    secret = "q7Gk2Zr9vT4xLw8Yb3Nc6Md1Ph5Sj0Kf"
    write(small, {"tasks.py": LEAKING.replace("SECRET", secret)})
    done = invoke(
        "leak", cwd=small, env={**os.environ, "PYTHONPATH": str(Sources().root), "DB_PASSWORD": secret}
    )
    assert (done.returncode, done.stderr) == (2, "*** is wrong\n  next: x\n")


def test_two_environments_on_one_line_are_refused() -> None:
    done = invoke("lint", "--env=staging", "test", "--env=testing")
    assert done.returncode == 2
    assert "one run has one environment, not staging and testing" in done.stderr


@pytest.mark.parametrize("line", [("plan", "lint"), ("--dry", "lint"), ("lint", "plan")])
def test_planning_runs_nothing(line: tuple[str, ...]) -> None:
    runs = ROOT / ".slipway" / "runs"
    before = set(runs.iterdir()) if runs.exists() else set()
    done = invoke(*line)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("lint  ")
    assert (set(runs.iterdir()) if runs.exists() else set()) == before


def test_the_list_reads_as_a_table_of_contents() -> None:
    done = invoke("--list")
    for name in ("lint", "test", "build", "scan", "push", "deploy", "ship", "plan"):
        assert f"\n  {name} " in done.stdout
    assert "Traceback" not in done.stderr


SMALL = '''
from invoke.collection import Collection
from invoke.tasks import task
from config.settings import Sources
from scripts import command


@task
@command.command
def show(_context):
    """Show the calls of this line."""
    print(*[f"{call.name}:{call.arguments}" for call in command.line(namespace)])


@task
@command.command
def many(_context):
    """Print without end."""
    while True:
        print("line")


namespace = Collection(show, many)
command.check_line(namespace)
'''


@pytest.fixture
def small(tmp_path: Path) -> Path:
    root = make_tree(tmp_path / "small project")
    write(root, {"tasks.py": SMALL})
    return root


def test_a_task_sees_the_whole_line(small: Path) -> None:
    done = invoke("show", cwd=small, env={**os.environ, "PYTHONPATH": str(Sources().root)})
    assert (done.stdout, done.stderr) == ("show:{}\n", "")


def test_a_reader_that_goes_away_is_no_traceback(small: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m invoke many | head -1; echo ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        cwd=small,
        env={**os.environ, "PYTHONPATH": str(Sources().root)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout == "line\n141\n"
    assert done.stderr == ""
