"""The tasks `invoke db.*`. Imports nothing heavy: `invoke --list` reads this."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from scripts.command import command

if TYPE_CHECKING:
    from scripts.configuration import Answer


def say(answer: "Answer") -> None:
    """Print what a command says and end with its exit code."""
    sys.stdout.write(f"{answer.text}\n")
    if answer.exit_code:
        raise Exit(code=answer.exit_code)


@task(help={"adapter": "sqlite or local", "reset": "remove the old one first"})
@command
def init(_: Context, env: str = "", adapter: str = "sqlite", reset: bool = False) -> None:
    """Make a migrated, filled database with no server to install."""
    from scripts.database import commands

    say(commands.init(env, adapter=adapter, reset=reset, root=Path.cwd()))


@task
@command
def stop(_: Context) -> None:
    """Stop the PostgreSQL that db.init started."""
    from scripts.database import commands

    say(commands.stop(Path.cwd()))


@task(positional=["revision"], help={"wait": "seconds to wait for another migrator"})
@command
def upgrade(_: Context, revision: str = "head", env: str = "", wait: float = 30.0) -> None:
    """Apply migrations, all or none of them."""
    from scripts.database import commands

    say(commands.upgrade(env, revision, wait=wait))


@task(
    positional=["revision"], help={"revision": "a name, -1, or base", "accept-loss": "although rows are lost"}
)
@command
def downgrade(
    _: Context, revision: str, env: str = "", accept_loss: bool = False, wait: float = 30.0
) -> None:
    """Undo migrations, all or none of them."""
    from scripts.database import commands

    say(commands.downgrade(env, revision, accept_loss=accept_loss, wait=wait))


@task
@command
def status(_: Context, env: str = "", json: bool = False) -> None:
    """Show where the schema stands; exit code 1 when it does not fit this code."""
    from scripts.database import commands

    say(commands.status(env, json=json))


@task(positional=["revision"])
@command
def stamp(_: Context, revision: str, env: str = "") -> None:
    """Write down that the schema is at a revision, running nothing."""
    from scripts.database import commands

    say(commands.stamp(env, revision))


@task(positional=["revision"])
@command
def sql(_: Context, revision: str = "head", env: str = "") -> None:
    """Show the SQL that an upgrade or downgrade would run."""
    from scripts.database import commands

    say(commands.sql(env, revision))


@task(positional=["message"])
@command
def revision(_: Context, message: str) -> None:
    """Write an empty migration that follows the last one."""
    from scripts.database import commands

    say(commands.revision(message))


@task(
    positional=["source"],
    help={
        "source": "git, junit, ndjson, csv, or a file that shows its kind",
        "path": "where it is",
        "select": "steps, with commas",
        "skip": "steps, with commas",
        "batch": "records a transaction",
        "folder": "for the report and the rejected records",
        "strict": "stop at the first bad record",
        "dry-run": "read and check everything, write nothing",
        "restart": "read everything again",
    },
)
@command
def populate(
    _: Context,
    source: str,
    path: str = "",
    env: str = "",
    select: str = "",
    skip: str = "",
    batch: int = 500,
    folder: str = ".slipway/populate",
    strict: bool = False,
    dry_run: bool = False,
    restart: bool = False,
) -> None:
    """Put git history, test reports or files of events into the ledger."""
    from scripts.database import commands

    options = {
        "batch": batch,
        "strict": strict,
        "dry_run": dry_run,
        "restart": restart,
        "folder": Path(folder),
    }
    say(commands.populate(env, source, path=path, select=select, skip=skip, options=options))


@task(help={"method": "auto, pg_dump or copy", "verify": "restore it for a trial and compare every table"})
@command
def backup(
    _: Context,
    env: str = "",
    folder: str = ".slipway/backups",
    method: str = "auto",
    verify: bool = False,
    keep_last: int = 5,
    keep_daily: int = 7,
    keep_weekly: int = 4,
    keep_monthly: int = 12,
) -> None:
    """Back up the database, and drop the backups that need not be kept."""
    from scripts.database import commands

    keep = {"last": keep_last, "daily": keep_daily, "weekly": keep_weekly, "monthly": keep_monthly}
    say(commands.backup(env, folder=Path(folder), method=method, verify=verify, keep=keep))


@task(positional=["file"])
@command
def verify(_: Context, file: str, env: str = "") -> None:
    """Restore a backup into a scratch database and compare every table."""
    from scripts.database import commands

    say(commands.verify(env, Path(file)))


@task(positional=["file"], help={"to": "another file, or another database on the same server"})
@command
def restore(_: Context, file: str, to: str = "", env: str = "") -> None:
    """Restore a backup into an empty database; it never overwrites."""
    from scripts.database import commands

    say(commands.restore(env, Path(file), to))


@task(
    help={
        "areas": "some of routes,schema,integrity,performance",
        "format": "text, json, markdown or html",
        "output": "a file for it",
        "fail-on": "critical, warning or never",
    }
)
@command
def check(
    _: Context,
    env: str = "",
    areas: str = "",
    format: str = "text",  # noqa: A002 - the option's name
    output: str = "",
    fail_on: str = "critical",
) -> None:
    """Find what is wrong with the database: its routes, schema, rows and pace."""
    from scripts.database import commands

    say(commands.check(env, areas=areas, form=format, output=output, fail_on=fail_on))


@task
@command
def rebuild(_: Context, env: str = "") -> None:
    """Derive the ledger's projections again from its events."""
    from scripts.database import commands

    say(commands.rebuild(env))


TASKS = (
    init,
    stop,
    upgrade,
    downgrade,
    status,
    stamp,
    sql,
    revision,
    populate,
    backup,
    verify,
    restore,
    check,
    rebuild,
)
