"""What an environment changes: defaults, what must be set, and which findings stop it."""

from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path
from typing import Any, ClassVar


class Care(IntEnum):
    """How much a mistake costs: a rule names a level for each."""

    LAPTOP = 0
    SHARED = 1
    FINAL = 2


class Environment:
    """What all environments share; a class an environment overrides only what differs."""

    name: ClassVar[str]
    care: ClassVar[Care] = Care.LAPTOP
    generated: ClassVar[tuple[str, ...]] = ()
    """Secrets that are made up for one start when nothing sets them."""
    own_ledger: ClassVar[bool] = False
    """Whether runs are reported to the service that this environment itself deploys."""
    requires: ClassVar[tuple[str, ...]] = ()
    """Variables with a default that must be set here all the same."""
    defaults: ClassVar[Mapping[str, Any]] = {}
    """Defaults that differ from those of the groups, by variable."""

    @classmethod
    def keep(cls, secret: str) -> str:
        """Return the advice where to keep the secret of that name."""
        return f"Write it to .slipway/secrets/{cls.name}/{secret}, or point {secret}_FILE to it"


class Development(Environment):
    """A laptop: nothing to set, nothing to install."""

    name = "development"
    generated = ("SECRET_KEY",)
    own_ledger = True


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
    care = Care.SHARED
    requires = ("LEDGER_TOKEN",)
    defaults: ClassVar[Mapping[str, Any]] = {"DB_ADAPTER_ORDER": ("direct",), "LOG_FORMAT": "json"}


class Production(Staging):
    """The real thing: every doubt stops it."""

    name = "production"
    care = Care.FINAL


ENVIRONMENTS: tuple[type[Environment], ...] = (Development, Testing, Staging, Production)
DEFAULT = Development.name
"""What a command of the pipeline acts on when nothing names an environment."""
