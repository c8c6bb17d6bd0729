"""What can be wrong with a configuration, as data, and the exception that carries all of it at once."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How much a problem matters: an error stops the program, a warning is only shown."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One finding: what is wrong, where, and what to do. It never holds the value that is wrong."""

    id: str
    """Stable name of the rule, for scripts: it does not change with the wording."""
    variable: str
    """Name of the variable, or the empty string when a whole file is meant."""
    source: str
    """Where the value came from: file and line, secret file, process environment or default."""
    rule: str
    """What must hold."""
    fix: str
    """What to do next, beginning with a verb."""
    level: Level = Level.ERROR

    def __str__(self) -> str:
        subject = f"{self.variable} ({self.source})" if self.variable else self.source
        return f"{self.level} [{self.id}] {subject}: {self.rule}. {self.fix}."


class ConfigurationError(Exception):
    """The configuration is refused; the text lists every problem with its source, rule and fix."""

    exit_code = 2

    def __init__(self, environment: str, problems: Iterable[Problem]) -> None:
        self.environment = environment
        self.problems = tuple(problems)
        super().__init__(environment, self.problems)

    def __str__(self) -> str:
        errors = sum(problem.level is Level.ERROR for problem in self.problems)
        count = "1 error" if errors == 1 else f"{errors} errors"
        subject = f"The configuration of {self.environment}" if self.environment else "The configuration"
        lines = [f"{subject} has {count}; nothing was started."]
        lines += [f"  {problem}" for problem in self.problems]
        option = f" --env={self.environment}" if self.environment else ""
        lines.append(f"Correct them, then run `invoke config.check{option}`.")
        return "\n".join(lines)
