"""Secrets that are replaced while the service runs: taken over on SIGHUP and before each connect."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from config.rotation import replaced, reread

from . import logs

if TYPE_CHECKING:
    from collections.abc import Callable

    from config.settings import Settings, Sources

_log = logging.getLogger("slipway.server")


class Rotation:
    """The settings that a process serves with; `use` is called with those that take their place."""

    def __init__(
        self, settings: Settings, use: Callable[[Settings], None], sources: Sources | None = None
    ) -> None:
        self.settings = settings
        self._use = use
        self._sources = sources
        self._lock = threading.Lock()
        self._refused = ""

    def password(self) -> str | None:
        """Return the database's password as its source has it now."""
        self.follow()
        password = self.settings.database.password
        return password.reveal() if password is not None else None

    def follow(self) -> None:
        """Take over secrets that were replaced; what is refused is said once."""
        with self._lock:
            if replaced(self.settings, self._sources):
                self._reread(self._refused)

    def reread(self) -> None:
        """Take over secrets that were replaced, and say what came of it, nothing included."""
        with self._lock:
            self._reread("")

    def _reread(self, said: str) -> None:
        from config.errors import ConfigurationError

        try:
            found = reread(self.settings, self._sources)
        except ConfigurationError as refused:
            self._refused = str(refused)
            if self._refused != said:
                _log.error("reload refused, serving on with the old settings")
                for problem in refused.problems:
                    _log.log(logging.getLevelName(problem.level.name), str(problem))
            return
        self._refused = ""
        logs.mask(found.settings.secrets())
        self.settings = found.settings
        self._use(found.settings)
        _log.info("secrets re-read: %s", ", ".join(found.taken) or "none has changed")
        if found.waiting:
            _log.warning("changed, but only a restart takes it over: %s", ", ".join(found.waiting))
