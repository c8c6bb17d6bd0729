"""A project folder of its own for each test: env files, secret files and a process environment, all given."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex

from config.check import Report, check
from config.errors import Level, Problem
from config.settings import Part
from config.sources import Sources


@dataclass
class World:
    """What a configuration is read from in one test."""

    root: Path
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def sources(self) -> Sources:
        """The sources of this world and no others."""
        folders = (self.root / "run" / "secrets", Path(".slipway/secrets/<environment>"))
        return Sources(environ=self.environ, root=self.root, secrets=folders)

    def yours(self, text: str) -> "World":
        """Write `.env`."""
        self._write(".env", text)
        return self

    def undecodable(self, text: str) -> "World":
        """Write `.env` in Latin-1."""
        (self.root / ".env").write_bytes(text.encode("latin-1"))
        return self

    def shared(self, environment: str, text: str) -> "World":
        """Write `config/.env.<environment>`."""
        self._write(f"config/.env.{environment}", text)
        return self

    def secret(self, name: str, text: str | None = None, environment: str = "staging") -> "World":
        """Write a secret file of an environment, a strong one unless `text` is given.

        It has 43 characters as a usual token has, but no letter that could spell a placeholder by chance.
        """
        self._write(f".slipway/secrets/{environment}/{name}", token_hex(22)[:43] if text is None else text)
        return self

    def with_secrets(self, environment: str = "staging") -> "World":
        """Write all secrets that staging and production need."""
        for name in ("SECRET_KEY", "LEDGER_TOKEN", "DB_PASSWORD"):
            self.secret(name, environment=environment)
        return self

    def check(self, environment: str | None = "staging", part: Part = "all") -> Report:
        """Check an environment of this world; whatever is found says all that a problem has to."""
        report = check(environment, self.sources, part=part)
        for problem in report.problems:
            assert_whole(problem)
        return report

    def problems(self, environment: str | None = "staging", part: Part = "all") -> list[Problem]:
        """Return what is wrong with an environment of this world."""
        return list(self.check(environment, part).problems)

    def found(self, environment: str | None = "staging", part: Part = "all") -> set[tuple[str, str, str]]:
        """Return what is wrong as (level, id, variable)."""
        return {(each.level.value, each.id, each.variable) for each in self.problems(environment, part)}

    def only(self, environment: str | None = "staging") -> Problem:
        """Return the one thing that is wrong."""
        problems = self.problems(environment)
        assert len(problems) == 1, problems
        return problems[0]

    def _write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o600)


def assert_whole(problem: Problem) -> None:
    """Assert that a problem names its rule and place, what must hold, and what to do, a verb first."""
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", problem.id), problem
    assert problem.level in Level, problem
    assert isinstance(problem.variable, str), problem
    for text in (problem.source, problem.rule, problem.fix):
        assert text, problem
        assert text == text.strip(), problem
        assert not text.endswith("."), problem
        assert "None" not in text, problem
    assert problem.fix[0].isupper(), problem
