"""Secrets that are replaced while the service runs: taken over on SIGHUP and before each connect."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from config.rotation import Reread, replaced, reread
from config.settings import GROUPS
from config.variables import variables_of

from . import logs

if TYPE_CHECKING:
    from collections.abc import Callable

    from config.settings import Settings, Sources

_log = logging.getLogger("slipway.server")


def keep(before: Settings, found: Reread) -> tuple[Settings, list[str]]:
    """Return what was re-read with the old value of each secret that is gone, and the names of these.

    Without its value a token would not be revoked, nor a password be needed less.
    """
    settings, variables = found.settings, variables_of(GROUPS["app"])
    gone = [name for name in found.taken if settings.value(variables[name]) is None]
    for each in (variables[name] for name in gone):
        group = replace(getattr(settings, each.group), **{each.attribute: before.value(each)})
        settings = replace(settings, **{each.group: group})
    return settings, gone


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
        settings, gone = keep(self.settings, found)
        taken = [name for name in found.taken if name not in gone]
        self._refused = f"gone: {', '.join(gone)}" if gone else ""
        if gone and not taken and self._refused == said:
            return
        logs.mask(settings.secrets())
        self.settings = settings
        self._use(settings)
        _log.info("secrets re-read: %s", ", ".join(taken) or "none has changed")
        if gone:
            _log.warning("set nowhere any more, the old value stays in use: %s", ", ".join(gone))
        if found.waiting:
            _log.warning("changed, but only a restart takes it over: %s", ", ".join(found.waiting))
