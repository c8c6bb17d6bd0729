"""What an environment changes: defaults, what must be set, and which findings stop it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar


class Environment:
    """What all environments share; a class an environment overrides only what differs."""

    name: ClassVar[str]
    guarded: ClassVar[bool] = False
    """Whether others depend on it: findings that are warnings on a laptop are errors here."""
    generated: ClassVar[tuple[str, ...]] = ()
    """Secrets that are made up for one start when nothing sets them."""
    requires: ClassVar[tuple[str, ...]] = ()
    """Variables with a default that must be set here all the same."""
    defaults: ClassVar[Mapping[str, Any]] = {}
    """Defaults that differ from those of the groups, by variable."""


class Development(Environment):
    """A laptop: nothing to set, nothing to install."""

    name = "development"
    generated = ("SECRET_KEY",)


class Testing(Environment):
    """The test suite: as development, out of the way of a running service."""

    name = "testing"
    generated = ("SECRET_KEY",)
    defaults: ClassVar[Mapping[str, Any]] = {
        "WEB_HOST": "127.0.0.1",
        "DB_SQLITE_PATH": Path("var/testing.sqlite3"),
        "LOG_LEVEL": "WARNING",
    }


class Staging(Environment):
    """The rehearsal: PostgreSQL, real secrets, production's rules but for what its trials need."""

    name = "staging"
    guarded = True
    requires = ("LEDGER_TOKEN",)
    defaults: ClassVar[Mapping[str, Any]] = {"DB_ADAPTER_ORDER": ("direct",), "LOG_FORMAT": "json"}


class Production(Staging):
    """The real thing: every doubt stops it."""

    name = "production"


ENVIRONMENTS: tuple[type[Environment], ...] = (Development, Testing, Staging, Production)
