"""What you can ask for: each task says what it does and hands on to `scripts`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from scripts import command
from scripts.database import tasks as database

if TYPE_CHECKING:
    from scripts.configuration import Answer

LOCK_COMMAND = (
    "uv pip compile setup.cfg --all-extras --universal --python-version 3.11 --generate-hashes --upgrade"
    " --quiet --custom-compile-command 'invoke lock' --output-file requirements.lock"
)
PIPELINE = ("lint", "test", "build", "scan", "push", "deploy", "ship", "plan")
FLAGS = {
    "env": "development, testing, staging or production; default: the one that is chosen",
    "force": "ignore what is proven",
    "only": "just this stage; refused where what it needs is not proven",
    "json": "print run.json on stdout and everything else on stderr",
    "keep_going": "after a failure go on with what does not depend on it",
}
RELEASE = {"release": "promote this image digest, which is already proven, with no rebuild"}


@task
def lock(context: Context) -> None:
    """Pin every dependency again, by hash, in requirements.lock."""
    context.run(LOCK_COMMAND)


@command.command
def pipeline(context: Context, name: str, **arguments: Any) -> None:
    """Carry out all pipeline tasks of this command line as one run, when `name` is the first of them."""
    from scripts import run

    mine = command.Call(name=name, arguments=arguments)
    calls = [call for call in command.line(namespace) if call.name in PIPELINE] or [mine]
    if calls[0].name == name:
        code = run.run(run.asked(calls, dry=bool(context.config.run.dry)))
        if code:
            raise Exit(code=code)


@task(help=FLAGS)
def lint(
    context: Context,
    env: str = "",
    force: bool = False,
    only: bool = False,
    json: bool = False,
    keep_going: bool = False,
) -> None:
    """Check code, Dockerfiles, scripts and workflows."""
    pipeline(context, "lint", env=env, force=force, only=only, json=json, keep_going=keep_going)


@task(
    name="test",
    help={**FLAGS, "all": "the whole suite: also the tests that need an engine, a browser or more time"},
)
def suite(
    context: Context,
    all: bool = False,  # noqa: A002 the flag's name
    env: str = "",
    force: bool = False,
    only: bool = False,
    json: bool = False,
    keep_going: bool = False,
) -> None:
    """Run the tests in parallel, with coverage."""
    pipeline(context, "test", all=all, env=env, force=force, only=only, json=json, keep_going=keep_going)


@task(help=FLAGS)
def build(
    context: Context,
    env: str = "",
    force: bool = False,
    only: bool = False,
    json: bool = False,
    keep_going: bool = False,
) -> None:
    """Build the image, the same digest for the same commit."""
    pipeline(context, "build", env=env, force=force, only=only, json=json, keep_going=keep_going)


@task(help=FLAGS)
def scan(
    context: Context,
    env: str = "",
    force: bool = False,
    only: bool = False,
    json: bool = False,
    keep_going: bool = False,
) -> None:
    """Look for known vulnerabilities and loose ends in the image."""
    pipeline(context, "scan", env=env, force=force, only=only, json=json, keep_going=keep_going)


@task(help={**FLAGS, **RELEASE})
def push(
    context: Context,
    env: str = "",
    release: str = "",
    force: bool = False,
    only: bool = False,
    json: bool = False,
    keep_going: bool = False,
) -> None:
    """Bring the image to the registry, by digest."""
    pipeline(
        context, "push", env=env, release=release, force=force, only=only, json=json, keep_going=keep_going
    )


@task(help={**FLAGS, **RELEASE})
def deploy(
    context: Context,
    env: str = "",
    release: str = "",
    force: bool = False,
    only: bool = False,
    json: bool = False,
    keep_going: bool = False,
) -> None:
    """Bring the tree, or a proven release, to an environment."""
    pipeline(
        context, "deploy", env=env, release=release, force=force, only=only, json=json, keep_going=keep_going
    )


@task(help={name: text for name, text in FLAGS.items() if name != "env"})
def ship(
    context: Context, force: bool = False, only: bool = False, json: bool = False, keep_going: bool = False
) -> None:
    """Bring the tree live on this machine."""
    pipeline(context, "ship", force=force, only=only, json=json, keep_going=keep_going)


@task(help={"env": FLAGS["env"]})
@command.command
def login(context: Context, env: str = "") -> None:
    """Log in to an environment's registry with REGISTRY_USER and REGISTRY_PASSWORD."""
    from config.settings import load
    from scripts.image import repository

    command.refuse_dry(context)
    sys.stdout.write(f"{repository.login(load(env or None))}\n")


@task(help={name: FLAGS[name] for name in ("env", "force", "json")})
def plan(context: Context, env: str = "", force: bool = False, json: bool = False) -> None:
    """Say what would run and why, for the stages that follow or for all; changes nothing."""
    pipeline(context, "plan", env=env, force=force, json=json)


@task(positional=["name"], help={"name": "what to measure: a file in tests/bench"})
@command.command
def bench(context: Context, name: str) -> None:
    """Measure one room against its budgets and write docs/performance.md."""
    import importlib
    from pathlib import Path

    folder = Path(__file__).parent / "tests" / "bench"
    names = sorted(path.stem for path in folder.glob("[a-z]*.py") if path.stem != "document")
    if name not in names:
        raise Exit(f"there is no benchmark {name!r}\n  next: choose from {', '.join(names)}", code=2)
    command.refuse_dry(context)
    document = Path(__file__).parent / "docs" / "performance.md"
    code = importlib.import_module(f"tests.bench.{name}").main(document)
    if code:
        raise Exit(code=code)


@command.command
def answer(_: Context, asked: Callable[[], Answer]) -> None:
    """Print what a command of `config.*` says and end with its exit code."""
    said = asked()
    sys.stdout.write(f"{said.text}\n")
    if said.exit_code:
        raise Exit(code=said.exit_code)


@task(
    name="check",
    help={
        "env": FLAGS["env"],
        "json": "write JSON",
        "fail-level": "exit code 2 from here on: error or warning",
    },
)
def config_check(context: Context, env: str = "", json: bool = False, fail_level: str = "error") -> None:
    """Find everything that is wrong with the settings of an environment."""
    from config.settings import Sources
    from scripts import configuration

    answer(
        context,
        lambda: configuration.check_command(env or None, Sources(), as_json_=json, fail_level=fail_level),
    )


@task(name="show", help={"env": FLAGS["env"], "json": "write JSON"})
def config_show(context: Context, env: str = "", json: bool = False) -> None:
    """Show every setting with where it came from; a secret as its length only."""
    from config.settings import Sources
    from scripts import configuration

    answer(context, lambda: configuration.show(env or None, Sources(), as_json_=json))


@task(
    name="diff",
    positional=["one", "other"],
    help={"one": "an environment", "other": "the environment to compare it with"},
)
def config_diff(context: Context, one: str, other: str) -> None:
    """Show the settings that differ between two environments."""
    from config.settings import Sources
    from scripts import configuration

    answer(context, lambda: configuration.diff(one, other, Sources()))


@task(
    name="use",
    positional=["environment"],
    help={"environment": "development, testing, staging or production", "yes": "production too"},
)
def config_use(context: Context, environment: str, yes: bool = False) -> None:
    """Make an environment the one that this machine's commands act on."""
    from config.settings import Sources
    from scripts import configuration

    answer(context, lambda: configuration.use(environment, Sources(), yes=yes))


@task(name="template")
def config_template(context: Context) -> None:
    """Write .env.template and the guide's tables again from the classes in config/."""
    from config.settings import Sources
    from scripts import configuration

    answer(context, lambda: configuration.template(Sources().root))


@task(
    name="secret",
    positional=["action", "name"],
    help={"action": "new", "name": "the secret's variable, such as SECRET_KEY", "env": FLAGS["env"]},
)
def config_secret(context: Context, action: str, name: str, env: str = "") -> None:
    """Write a strong new value for a secret into a file that only you can read: `new NAME`."""
    from config.settings import Sources
    from scripts import configuration

    answer(context, lambda: configuration.secret(action, name, env or None, Sources()))


# Deployment: what is asked of a target beside deploying to it


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _warn(line: str) -> None:
    sys.stderr.write(f"warning: {line}\n")


def _end(code: int) -> None:
    if code:
        raise Exit(code=code)


@task(help={"env": FLAGS["env"], "to": "number or digest of the release; default: the last good one"})
@command.command
def rollback(_context: Context, env: str = "", to: str = "") -> None:
    """Put an earlier release back: image, configuration and secrets together."""
    from scripts import run
    from scripts.deployment import commands

    _end(commands.rollback(env, to, _write, _warn, remember=lambda done: run.remember(done, _write)))


@task(help={"env": "development, testing, staging or production; default: all", "json": "write JSON"})
@command.command
def status(_context: Context, env: str = "", json: bool = False) -> None:
    """Show what runs where, since when, from whom, healthy or not, and what was changed by hand."""
    from scripts.deployment import commands

    _end(commands.status(env, _write, as_json=json))


@task(
    help={
        "env": FLAGS["env"],
        "service": "web or proxy",
        "follow": "go on until interrupted",
        "since": "a moment, or a time back from now like 10m",
        "tail": "lines to start with",
    }
)
@command.command
def logs(
    _context: Context,
    env: str = "",
    service: str = "web",
    follow: bool = False,
    since: str = "",
    tail: int = 100,
) -> None:
    """Show what the service writes."""
    from scripts.deployment import commands

    _end(commands.logs(env, _write, service=service, follow=follow, since=since, tail=tail))


@task(help={"env": FLAGS["env"]})
@command.command
def prune(_context: Context, env: str = "") -> None:
    """Drop old releases with their secrets, configs and images."""
    from scripts.deployment import commands

    _end(commands.prune(env, _write))


@task(help={"env": FLAGS["env"]})
@command.command
def unlock(_context: Context, env: str = "") -> None:
    """Break the lock of a deployment that is known to be dead."""
    from scripts.deployment import commands

    _end(commands.unlock(env, _write))


@task(help={"json": "print run.json instead"})
@command.command
def report(_context: Context, json: bool = False) -> None:
    """Open the page of the last run, or print where it is."""
    from scripts.views import report as reports

    runs = Path(__file__).parent / ".slipway/runs"
    if json:
        sys.stdout.write(reports.last_record(runs))
        return
    page = reports.last_page(runs)
    reports.show(page, os.environ, interactive=sys.stdout.isatty())
    sys.stdout.write(f"{page}\n")


namespace = Collection(
    lock,
    lint,
    suite,
    build,
    scan,
    push,
    deploy,
    ship,
    plan,
    login,
    bench,
    rollback,
    status,
    logs,
    report,
    prune,
    unlock,
)
namespace.add_collection(
    Collection(config_check, config_show, config_diff, config_use, config_template, config_secret), "config"
)
namespace.add_collection(Collection(*database.TASKS), "db")
command.check_line(namespace)
