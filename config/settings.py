"""The settings of one environment, typed and frozen, and `load`, which reads and checks them.

Nothing is read at import. `load` is a function of its sources alone; see `config.sources` for which source
wins and `config.rules` for what is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from config.delivery import Delivery
from config.environments import DEFAULT
from config.errors import ConfigurationError, Problem
from config.origin import Origin
from config.secret import Secret
from config.service import Database, Ledger, Logging, Security, Web
from config.sources import Sources
from config.variables import Variable, variables_of

__all__ = [
    "Database",
    "Delivery",
    "Ledger",
    "Logging",
    "Part",
    "Security",
    "Settings",
    "Sources",
    "Web",
    "load",
]

Part = Literal["all", "app"]
"""What to load: everything, or only what a container gets."""

APP: Mapping[str, type] = {
    "web": Web,
    "database": Database,
    "ledger": Ledger,
    "logging": Logging,
    "security": Security,
}
GROUPS: Mapping[Part, Mapping[str, type]] = {"app": APP, "all": {**APP, "delivery": Delivery}}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that differs between environments, checked."""

    environment: str
    web: Web
    database: Database
    ledger: Ledger
    logging: Logging
    security: Security
    delivery: Delivery | None = None
    """None in a container, which is given the app's part only."""
    origins: Mapping[str, Origin] = field(default_factory=dict, repr=False, compare=False)
    """Where each value came from, by variable."""
    warnings: tuple[Problem, ...] = field(default=(), repr=False, compare=False)

    def secrets(self) -> tuple[Secret, ...]:
        """Return every secret that is set, for masking."""
        return tuple(self.secret_values().values())

    def secret_values(self, part: Part = "all") -> dict[str, Secret]:
        """Return every secret that is set, by variable: what a deployment hands over as files."""
        values = {name: self.value(each) for name, each in self._variables(part).items() if each.secret}
        return {name: value for name, value in values.items() if isinstance(value, Secret)}

    def public_values(self, part: Part = "all") -> dict[str, str]:
        """Return every value that is not a secret as text, by variable: what a deployment shows."""
        found = self._variables(part)
        return {name: each.kind.write(self.value(each)) for name, each in found.items() if not each.secret}

    def value(self, variable: Variable) -> object:
        """Return the value of `variable`."""
        value: object = getattr(getattr(self, variable.group), variable.attribute)
        return value

    def _variables(self, part: Part) -> dict[str, Variable]:
        return variables_of(GROUPS["app" if self.delivery is None else part])


def load(
    environment: str | None = None,
    sources: Sources | None = None,
    *,
    part: Part = "all",
    unnamed: str | None = DEFAULT,
) -> Settings:
    """Read and check the settings of `environment`, by default the one that ENVIRONMENT names.

    `unnamed` is the environment where nothing names one; None refuses to guess. Raises ConfigurationError
    with every error at once.
    """
    from config.check import check

    report = check(environment, sources, part=part, unnamed=unnamed)
    if report.settings is None:
        raise ConfigurationError(report.environment, report.problems)
    return report.settings
