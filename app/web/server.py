"""Serve: check what can be checked, bind, fork one worker, drain on SIGTERM."""

from __future__ import annotations

import gc
import logging
import signal
import sys
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger

from .rotation import Rotation

if TYPE_CHECKING:
    from flask import Flask

    from config.settings import Settings

    from .service import Service

START_BUDGET = 3.0
KEEPALIVE = 30
_log = logging.getLogger("slipway.server")


def serve(settings: Settings) -> int:
    """Serve until SIGTERM and return the exit code.

    A database that is another one than configured is refused before anything is bound (exit code 2). One that
    does not answer is not: the process starts, says so, and turns ready by itself when the database is back.
    """
    from . import logs

    logs.configure(settings)
    code = examine(settings)
    if code:
        return code
    try:
        GuardedArbiter(Server(settings)).run()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


def examine(settings: Settings, *, budget: float = START_BUDGET) -> int:
    """Look at the database once, within `budget` seconds; return the exit code it calls for, 0 to go on."""
    from app.database import ConnectionManager
    from app.database.errors import AdapterMisconfigured, DatabaseError, WrongDatabase

    from .readiness import ask

    try:
        manager = ConnectionManager.from_settings(settings.database, processes=processes(settings))
    except DatabaseError as problem:
        sys.stderr.write(f"{problem}\n")
        return problem.exit_code
    try:
        manager.run(lambda _tx: None, read_only=True, budget=budget)
        manager.check_server_limit()
        answer = ask(manager, budget=budget)
        if answer.reason == "schema-behind":
            _log.warning("%s; not ready until then", answer.detail)
    except (AdapterMisconfigured, WrongDatabase) as problem:
        sys.stderr.write(f"{problem}\n")
        return 2
    except DatabaseError as problem:
        _log.warning("the database cannot be used yet, not ready until it can: %s", problem)
    finally:
        manager.close()
    return 0


def processes(settings: Settings) -> int:
    """Return how many processes share the database's server while an update runs one replica more."""
    return settings.web.workers * (settings.web.replicas + 1)


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn is not typed
    """gunicorn, told by our settings alone: no command line, no configuration file, no environment."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.rotation = Rotation(settings, self._use)
        self.drain_seconds = settings.web.drain_seconds
        self._service: Service | None = None
        super().__init__()

    def load_config(self) -> None:
        """Set what differs from gunicorn's defaults."""
        from .worker import DrainingWorker

        web = self.settings.web
        host = f"[{web.host}]" if ":" in web.host else web.host
        chosen = {
            "bind": [f"{host}:{web.port}"],
            "workers": web.workers,
            "threads": web.threads,
            "worker_class": DrainingWorker,
            "graceful_timeout": int(web.drain_seconds + web.graceful_seconds + 0.999),
            "keepalive": KEEPALIVE,
            "control_socket_disable": True,
            "accesslog": None,
            "loglevel": self.settings.logging.level.lower(),
            "logger_class": RootLogger,
            "proc_name": "slipway",
            "reload": web.debug,
        }
        for name, value in chosen.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Make the application in the worker, so that no connection crosses the fork."""
        from app.database import ConnectionManager

        from . import create_app

        # A worker that takes a dead one's place would bring back the secrets of the first start.
        self.rotation.follow()
        manager = ConnectionManager.from_settings(
            self.settings.database, password=self.rotation.password, processes=processes(self.settings)
        )
        application = create_app(self.rotation.settings, manager)
        self._service = application.extensions["slipway"]
        _started()
        return application

    def begin_drain(self) -> None:
        """Turn readiness to 503."""
        if self._service is not None:
            self._service.draining.set()

    def reload_settings(self) -> None:
        """Take over the secrets that were replaced, from the next request on."""
        self.rotation.reread()

    def _use(self, settings: Settings) -> None:
        if self._service is not None:
            self._service.use(settings)


class GuardedArbiter(Arbiter):  # type: ignore[misc]  # gunicorn is not typed
    """gunicorn's parent process; SIGHUP goes to the workers instead of replacing them."""

    def spawn_workers(self) -> None:
        """Fork the workers, which do not return from here, then collect garbage again."""
        super().spawn_workers()
        _started()

    def handle_hup(self) -> None:
        """Let each worker re-read its secrets: nothing restarts and no connection is lost."""
        self.kill_workers(signal.SIGHUP)


def _started() -> None:
    """Collect garbage from now on, but never look at what the start has made: it stays, and stays shared."""
    gc.freeze()
    gc.enable()


class RootLogger(Logger):  # type: ignore[misc]  # gunicorn is not typed
    """Hand gunicorn's lines to the root logger, which knows the format and masks secrets."""

    def setup(self, cfg: Any) -> None:
        """Take gunicorn's own handlers off again."""
        super().setup(cfg)
        for log in (self.error_log, self.access_log):
            log.handlers[:] = []
            log.propagate = True
