"""Run the service or one of its jobs: `python -m app serve|migrate|check|probe|version`.

Every command imports only what it needs: `probe` runs every second in a container with one CPU.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from config.settings import Settings

UNREACHABLE = 4
USAGE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; no command means `serve`."""
    words = list(sys.argv[1:] if arguments is None else arguments) or ["serve"]
    command = COMMANDS.get(words[0])
    if command is None or len(words) > 1:
        wrong = " ".join(words)
        sys.stderr.write(f"There is no command {wrong!r}.\nUse one of: {', '.join(COMMANDS)}.\n")
        return USAGE
    return command()


def serve() -> int:
    """Check the configuration and the database, then serve until SIGTERM."""
    import gc

    # Nothing that the start makes is garbage: looking for it costs a fifth of the start.
    gc.disable()
    return _configured(_serve)


def migrate() -> int:
    """Bring the database's schema to the newest revision of this release."""
    return _configured(_migrate)


def check() -> int:
    """Only check the configuration, and say what is wrong with it."""
    return _configured(_say_checked)


def probe() -> int:
    """Ask the service in this container whether it is ready: 0 yes, 1 no."""
    from app.web.probe import ready

    return 0 if ready() else 1


def version() -> int:
    """Write commit, digest and version as JSON."""
    import json

    from app.web.release import current

    sys.stdout.write(json.dumps(current().as_dict()) + "\n")
    return 0


def _serve(settings: Settings) -> int:
    import signal

    # Until there is a worker to tell, SIGHUP has nothing to do: a worker reads the secrets when it begins.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    from app.web.server import serve as serve_with

    return serve_with(settings)


def _migrate(settings: Settings) -> int:
    from app.database import ConnectionManager
    from app.database.errors import DatabaseError
    from app.database.migrations import runner

    manager = ConnectionManager.from_settings(settings.database)
    try:
        runner.upgrade(manager)
        status = runner.status(manager)
    except DatabaseError as problem:
        sys.stderr.write(f"{problem}\n")
        return problem.exit_code
    finally:
        manager.close()
    sys.stdout.write(f"The schema is at {status.current}.\n")
    return 0


def _say_checked(settings: Settings) -> int:
    sys.stdout.write(f"The configuration of {settings.environment} is complete.\n")
    return 0


def _configured(command: Callable[[Settings], int]) -> int:
    """Load the settings for `command`; a refused configuration is reported whole, exit code 2."""
    from app.privileges import give_up_new_privileges
    from config.errors import ConfigurationError
    from config.settings import load

    give_up_new_privileges()
    try:
        settings = load(part="app", unnamed=None)
    except ConfigurationError as problem:
        sys.stderr.write(f"{problem}\n")
        return problem.exit_code
    for warning in settings.warnings:
        sys.stderr.write(f"{warning}\n")
    return command(settings)


COMMANDS: dict[str, Callable[[], int]] = {
    "serve": serve,
    "migrate": migrate,
    "check": check,
    "probe": probe,
    "version": version,
}

if __name__ == "__main__":
    sys.exit(main())
