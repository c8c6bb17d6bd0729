"""What `invoke db.*` does: each function returns the text to show and the exit code.

Exit codes: 0 done; 1 refused, failed, or something found; 2 wrong usage or settings; 4 no database answers;
130 and 143 stopped by Ctrl-C or SIGTERM, with nothing half done left behind.
"""

import json as json_text
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.configuration import Answer
from scripts.database.errors import UsageError
from scripts.pipeline.errors import UnreachableError

if TYPE_CHECKING:
    from app.database import ConnectionManager
    from app.database.migrations.runner import Moved
    from config.settings import Settings

REPORTS = Path(".slipway/populate")
SAFE_TO_RESET = ("development", "testing")


def settings(env: str) -> "Settings":
    """Return the settings of an environment, by default the one that is chosen."""
    from config.settings import load

    return load(env or None, part="app")


@contextmanager
def opened(env: str, *, existing: bool = False) -> "Iterator[ConnectionManager]":
    """Open the database of an environment; with `existing` make no file, raising UnreachableError instead."""
    from app.database import ConnectionManager

    found = settings(env).database
    if existing and "sqlite" in found.adapter_order and not found.sqlite_path.exists():
        raise UnreachableError(
            f"There is no database {found.sqlite_path}.",
            "DB_SQLITE_PATH",
            "correct the path, or make a database with `invoke db.init`",
        )
    with ConnectionManager.from_settings(found) as manager:
        yield manager


def init(env: str, *, adapter: str, reset: bool, root: Path) -> Answer:
    """Make a migrated database, filled from this repository's history."""
    from app.database import ConnectionManager
    from app.database.migrations import runner
    from scripts.database import init as making

    found = settings(env)
    if reset and found.environment not in SAFE_TO_RESET:
        raise UsageError(
            f"The database of {found.environment} is not reset by a command.",
            "--reset",
            f"choose one of {', '.join(SAFE_TO_RESET)} with --env",
        )
    place = making.place(found.database, adapter, root, reset=reset)
    with ConnectionManager.from_settings(place.database) as manager:
        moved = runner.upgrade(manager)
        lines = [described(moved), *fill_from_git(manager, root)]
    use = [f"  {name}={value}" for name, value in place.variables.items()]
    return Answer("\n".join([*lines, "To work with it, have these lines in .env:", *use]))


def fill_from_git(manager: "ConnectionManager", root: Path) -> list[str]:
    """Put the history of the repository in `root` into the ledger; say so when there is none."""
    from scripts.database.populate import job, sources

    if not (root / ".git").exists():
        return [f"Not filled: {root} is no git repository."]
    try:
        steps = sources.steps("git", root)
    except UsageError as error:
        return [f"Not filled: {error}"]
    options = job.Options(folder=root / REPORTS)
    report = job.populate(manager, "git", root, steps, options, sys.stderr)
    events = sum(step.accepted for step in report.steps)
    return [f"Filled from git: {events:,} events, all read back."]


def stop(root: Path) -> Answer:
    """Stop the PostgreSQL that `init` started."""
    from scripts.database import init as making

    stopped = making.stop(root / making.SERVER)
    return Answer("PostgreSQL is stopped." if stopped else "No PostgreSQL of ours is running.")


def upgrade(env: str, revision: str, *, wait: float) -> Answer:
    """Apply the migrations up to a revision."""
    from app.database.migrations import runner

    with opened(env) as manager:
        return Answer(described(runner.upgrade(manager, revision, wait=wait)))


def downgrade(env: str, revision: str, *, accept_loss: bool, wait: float) -> Answer:
    """Undo the migrations down to a revision."""
    from app.database.migrations import runner

    with opened(env) as manager:
        return Answer(described(runner.downgrade(manager, revision, accept_loss=accept_loss, wait=wait)))


def stamp(env: str, revision: str) -> Answer:
    """Write down that the database is at a revision."""
    from app.database.migrations import runner

    with opened(env) as manager:
        return Answer(f"The database is said to be at {runner.stamp(manager, revision).after or 'base'}.")


def sql(env: str, revision: str) -> Answer:
    """Show the SQL that a command would run."""
    from app.database.migrations import runner

    with opened(env, existing=True) as manager:
        return Answer(runner.sql(manager, revision) or "-- nothing to do\n")


def status(env: str, *, json: bool) -> Answer:
    """Show where the schema stands; exit code 1 when it does not fit this code."""
    from app.database.migrations import runner

    with opened(env, existing=True) as manager:
        found = runner.status(manager)
        route = next(route for route in manager.status() if route.active)
    code = int(not found.at_head)
    if json:
        document = {
            "database": route.description,
            "identity": route.identity,
            **asdict(found),
            "at_head": found.at_head,
        }
        return Answer(json_text.dumps(document, indent=2), code)
    lines = [
        route.description,
        f"  identity: {route.identity}",
        f"  at:       {found.current or 'no schema'}",
        f"  head:     {found.head}",
    ]
    if found.ahead:
        lines.append("  ahead:    this code does not know that revision; newer code was here")
    if found.pending:
        lines.append(f"  pending:  {', '.join(found.pending)} (`invoke db.upgrade`)")
    if found.changed:
        lines.append(f"  changed:  {', '.join(found.changed)} differ from what was applied")
    return Answer("\n".join(lines), code)


def described(moved: "Moved") -> str:
    """Return what a migration command did, in words."""
    if not moved.steps:
        return f"Nothing to do: the schema is at {moved.after or 'base'}."
    path = (
        " -> ".join([moved.before or "base", *moved.steps])
        if moved.after
        else " -> ".join([*moved.steps, "base"])
    )
    return f"{path} in {moved.seconds:.2f} s"


def revision(message: str, versions: Path | None = None) -> Answer:
    """Write an empty migration that follows the last one."""
    import re

    from app.database.migrations import chain

    folder = versions or chain.VERSIONS
    words = re.sub(r"[^a-z0-9]+", "_", message.lower()).strip("_")[:40]
    if not words:
        raise UsageError("A migration needs a name.", "MESSAGE", 'say what it does: "add release notes"')
    head = chain.read(folder).head
    number = f"{int(head or '0') + 1:04}"
    path = folder / f"{number}_{words}.py"
    template = (chain.VERSIONS.parent / "template.txt").read_text(encoding="utf-8")
    # What would end the text in the file, or mean something else there, is written otherwise.
    told = " ".join(message.split()).rstrip(".").replace("\\", "/").replace('"""', "'''")
    text = template.format(message=told, revision=number, down_revision=head)
    path.write_text(text, encoding="utf-8")
    return Answer(f"{path} follows {head or 'the empty schema'}.")


def populate(env: str, source: str, *, path: str, select: str, skip: str, options: dict[str, Any]) -> Answer:
    """Put what a source holds into the ledger."""
    from scripts.database.populate import job, sources, steps

    name, found = sources.recognise(source)
    where = Path(path) if path else (found or Path())
    chosen = steps.choose(sources.steps(name, where), words(select), words(skip))
    if options.get("batch", 1) < 1:
        raise UsageError("A batch holds at least one record.", "--batch", "leave it out for 500")
    with opened(env, existing=bool(options.get("dry_run"))) as manager:
        ready(manager)
        report = job.populate(manager, name, where, chosen, job.Options(**options), sys.stderr)
    return Answer(report.to_markdown())


def ready(manager: "ConnectionManager") -> None:
    """Raise UsageError when the database has not the schema that this code writes to."""
    from app.database.migrations import runner

    if not runner.status(manager).at_head:
        raise UsageError(
            "The database has not the schema that this code writes to.",
            manager.active,
            "`invoke db.status` says why; `invoke db.upgrade` brings it to head",
        )


def words(text: str) -> tuple[str, ...]:
    """Return the names in a comma-separated option."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def backup(env: str, *, folder: Path, method: str, verify: bool, keep: dict[str, int]) -> Answer:
    """Make a backup and drop those that need not be kept."""
    from scripts.database.backup import job
    from scripts.database.backup.retention import Retention

    if method not in job.METHODS:
        raise UsageError(
            f"There is no method {method!r}.", "--method", f"use one of {', '.join(job.METHODS)}"
        )
    found = settings(env)
    try:
        retention = Retention(**keep)
    except ValueError as error:
        raise UsageError(f"{str(error).capitalize()}.", "--keep-*", "give numbers from 0") from None
    made = job.backup(
        found.database,
        folder,
        label=found.environment,
        method=method,
        verify=verify,
        retention=retention,
    )
    manifest = made.manifest
    lines = [
        f"{made.path}: {made.bytes:,} bytes by {manifest.method} in {made.seconds:.1f} s",
        f"{manifest.rows:,} rows in {len(manifest.tables)} tables, schema {manifest.revision or 'base'}",
        "restored into a scratch database and compared: every table is the same"
        if verify
        else "not restored for a trial; --verify does that",
    ]
    if made.removed:
        lines.append(f"no longer kept: {', '.join(path.name for path in made.removed)}")
    return Answer("\n".join(lines))


def verify(env: str, file: Path) -> Answer:
    """Restore a backup into a scratch database and compare every table."""
    from scripts.database.backup import job

    manifest = job.prove(file, settings(env).database)
    return Answer(
        f"{file}: restored into a scratch database and compared, {manifest.rows:,} rows in"
        f" {len(manifest.tables)} tables are the same."
    )


def restore(env: str, file: Path, to: str) -> Answer:
    """Restore a backup into an empty database."""
    from scripts.database.backup import job

    done = job.restore(file, settings(env).database, to=to or None)
    return Answer(
        f"{done.target}: {done.manifest.rows:,} rows in {len(done.manifest.tables)} tables restored and"
        f" compared in {done.seconds:.1f} s; the schema is at {done.manifest.revision or 'no revision'}."
    )


def check(env: str, *, areas: str, form: str, output: str, fail_on: str) -> Answer:
    """Look at the database from every side; exit code 1 at the level of `fail_on`, 4 when nothing answers."""
    from scripts.database.check import findings, job

    levels = {
        "never": findings.Level.OK,
        "warning": findings.Level.WARNING,
        "critical": findings.Level.CRITICAL,
    }
    if form not in findings.FORMATS or fail_on not in levels:
        raise UsageError(
            f"{form!r} or {fail_on!r} is not known.",
            "--format, --fail-on",
            f"formats: {', '.join(findings.FORMATS)}; levels: {', '.join(levels)}",
        )
    with opened(env, existing=True) as manager:
        report = job.check(manager, words(areas) or findings.AREAS)
    text = findings.FORMATS[form](report)
    code = 4 if report.unreachable else report.exit_code(levels[fail_on])
    if output:
        try:
            Path(output).write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"The report cannot be written: {error.strerror}.", f"--output={output}", "name another file"
            ) from None
        text = f"{report.worst.word}: see {output}"
    return Answer(text, code)


def rebuild(env: str) -> Answer:
    """Derive every projection again from the event log."""
    from app.ledger import projections

    with opened(env) as manager:
        count = manager.run(projections.rebuild, label="rebuild")
    return Answer(f"The projections are derived again from {count:,} events.")
