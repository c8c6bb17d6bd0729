"""What you can ask for: each task says what it does and hands on to `scripts`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

if TYPE_CHECKING:
    from scripts.configuration import Answer

LOCK_COMMAND = (
    "uv pip compile setup.cfg --all-extras --universal --python-version 3.11 --generate-hashes --upgrade"
    " --quiet --custom-compile-command 'invoke lock' --output-file requirements.lock"
)


@task
def lock(context: Context) -> None:
    """Pin every dependency again, by hash, in requirements.lock."""
    context.run(LOCK_COMMAND)


def answer(command: Callable[[], Answer]) -> None:
    """Print what a command of `config.*` says; a user's mistake is one message on stderr."""
    from config.errors import ConfigurationError
    from scripts.pipeline.errors import SlipwayError

    try:
        said = command()
    except (ConfigurationError, SlipwayError) as error:
        raise Exit(str(error), error.exit_code) from None
    sys.stdout.write(f"{said.text}\n")
    if said.exit_code:
        raise Exit(code=said.exit_code)


@task(name="check", help={"env": "environment", "fail-level": "error or warning"})
def config_check(_: Context, env: str = "", json: bool = False, fail_level: str = "error") -> None:
    """Find everything that is wrong with the settings of an environment."""
    from config.settings import Sources
    from scripts import configuration

    answer(lambda: configuration.check_command(env or None, Sources(), as_json_=json, fail_level=fail_level))


@task(name="show", help={"env": "environment"})
def config_show(_: Context, env: str = "", json: bool = False) -> None:
    """Show every setting with where it came from; a secret as its length only."""
    from config.settings import Sources
    from scripts import configuration

    answer(lambda: configuration.show(env or None, Sources(), as_json_=json))


@task(name="diff", positional=["one", "other"])
def config_diff(_: Context, one: str, other: str) -> None:
    """Show the settings that differ between two environments."""
    from config.settings import Sources
    from scripts import configuration

    answer(lambda: configuration.diff(one, other, Sources()))


@task(name="use", positional=["environment"], help={"yes": "production too"})
def config_use(_: Context, environment: str, yes: bool = False) -> None:
    """Make an environment the one that this machine's commands act on."""
    from config.settings import Sources
    from scripts import configuration

    answer(lambda: configuration.use(environment, Sources(), yes=yes))


@task(name="template")
def config_template(_: Context) -> None:
    """Write .env.template and the guide's tables again from the classes in config/."""
    from config.settings import Sources
    from scripts import configuration

    answer(lambda: configuration.template(Sources().root))


@task(name="secret", positional=["action", "name"], help={"action": "new", "env": "environment"})
def config_secret(_: Context, action: str, name: str, env: str = "") -> None:
    """Write a strong new value for a secret into a file that only you can read: `new NAME`."""
    from config.settings import Sources
    from scripts import configuration

    answer(lambda: configuration.secret(action, name, env or None, Sources()))


namespace = Collection(lock)
namespace.add_collection(
    Collection(config_check, config_show, config_diff, config_use, config_template, config_secret), "config"
)
