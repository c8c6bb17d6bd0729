"""Read all settings of an environment and find everything that is wrong with them, at once."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from secrets import token_urlsafe
from typing import Any

from config.environments import ENVIRONMENTS, Environment
from config.errors import Level, Problem
from config.secret import Secret
from config.settings import GROUPS, Part, Settings
from config.sources import CHOOSER, Collected, Entry, Origin, Place, Reader, Sources, choose, collect, trouble
from config.variables import Variable, variables_of


class Unknown(Exception):  # noqa: N818 (not an error: it ends a rule that cannot be judged)
    """A rule asked for a value that is missing, broken or of a part that is not loaded."""


@dataclass(frozen=True)
class Reading:
    """One variable with its value and where it came from; a broken or missing one has no value."""

    variable: Variable
    value: Any = field(repr=False)
    origin: Origin

    @property
    def known(self) -> bool:
        """Whether there is a value."""
        return self.value is not MISSING


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was read and what is wrong with it; `settings` is None when an error stops the start."""

    environment: str
    readings: Mapping[str, Reading]
    problems: tuple[Problem, ...]
    settings: Settings | None

    def failed(self, fail_level: Level = Level.ERROR) -> bool:
        """Tell whether there is a problem of `fail_level` or worse."""
        return any(problem.level is Level.ERROR or fail_level is Level.WARNING for problem in self.problems)


def check(
    environment: str | None = None,
    sources: Sources | None = None,
    *,
    part: Part = "all",
    environments: tuple[type[Environment], ...] = ENVIRONMENTS,
) -> Report:
    """Read the settings of `environment`, by default the one that ENVIRONMENT names, and judge them."""
    sources = sources or Sources()
    if environment is None:
        entry = choose(sources) or Entry("development", Origin(Place.DEFAULT, Place.DEFAULT))
    else:
        entry = Entry(environment, Origin(Place.PROCESS, "command line"))
    by_name = {each.name: each for each in environments}
    if entry.text not in by_name:
        rule = f"the environment is one of {', '.join(by_name)}"
        problem = trouble("unknown-environment", CHOOSER, str(entry.origin), rule, "Write one of these names")
        return Report(environment="an unknown environment", readings={}, problems=(problem,), settings=None)
    owner = by_name[entry.text]
    variables = variables_of(GROUPS[part])
    secret = [name for name, each in variables.items() if each.secret]
    collected = collect(owner.name, sources, list(variables), secret)
    problems = list(collected.problems)
    readings = read(owner, variables, collected, problems)
    settings = None
    if not any(problem.level is Level.ERROR for problem in problems):
        settings = build(owner, readings, part, tuple(problems))
    return Report(environment=owner.name, readings=readings, problems=tuple(problems), settings=settings)


def read(
    owner: type[Environment], variables: Mapping[str, Variable], collected: Collected, problems: list[Problem]
) -> dict[str, Reading]:
    """Return a reading of each variable; what cannot be read goes to `problems`."""
    reader = Reader(collected.layers)
    readings: dict[str, Reading] = {}
    for name, each in variables.items():
        entry = collected.layers.entry(name)
        if entry is None:
            readings[name] = default(owner, each)
            continue
        value: Any = MISSING
        if not entry.text and not each.kind.empty:
            fix = "Give it a value, or delete it to use the default"
            problems.append(trouble("empty", name, str(entry.origin), f"it is {each.kind.rule}", fix))
        else:
            try:
                value = reader.get(name, cast=each.kind.read)
            except ValueError as error:
                fix = f"Write {error}"
                problems.append(trouble("value", name, str(entry.origin), f"it is {error}", fix))
        readings[name] = Reading(each, value, entry.origin)
    # Two defaults follow from other values.
    stack, url, port = (readings.get(name) for name in ("STACK_NAME", "PUBLIC_URL", "PUBLIC_PORT"))
    if stack and stack.origin.place is Place.DEFAULT:
        readings["STACK_NAME"] = Reading(stack.variable, f"slipway-{owner.name}", stack.origin)
    if url and port and url.origin.place is Place.DEFAULT:
        value = f"http://127.0.0.1:{port.value}" if port.known else MISSING
        readings["PUBLIC_URL"] = Reading(url.variable, value, url.origin)
    for name in missing(owner, readings):
        place = (
            f".slipway/secrets/{owner.name}/{name}"
            if readings[name].variable.secret
            else f".env or config/.env.{owner.name}"
        )
        fix = f"Set it: {place}"
        problems.append(trouble("missing", name, "not set", f"{owner.name} needs it", fix))
    return readings


def default(owner: type[Environment], variable: Variable) -> Reading:
    """Return the reading of a variable that nothing sets."""
    if variable.name in owner.generated:
        return Reading(variable, Secret(token_urlsafe(32)), Origin(Place.DEFAULT, "made up for this start"))
    if variable.name in owner.defaults:
        return Reading(
            variable, owner.defaults[variable.name], Origin(Place.DEFAULT, f"default of {owner.name}")
        )
    return Reading(variable, variable.default, Origin(Place.DEFAULT, Place.DEFAULT))


def missing(owner: type[Environment], readings: Mapping[str, Reading]) -> list[str]:
    """Return the variables that must be set and are not."""
    found = []
    for name, reading in readings.items():
        wanted = reading.variable.required or name in owner.requires
        if wanted and reading.origin.place is Place.DEFAULT and name not in owner.generated:
            found.append(name)
    return found


def build(
    owner: type[Environment], readings: Mapping[str, Reading], part: Part, warnings: tuple[Problem, ...]
) -> Settings:
    """Return the settings of readings that are all known."""
    groups: dict[str, Any] = {}
    for group, made_of in GROUPS[part].items():
        values = {r.variable.attribute: r.value for r in readings.values() if r.variable.group == group}
        groups[group] = made_of(**values)
    origins = {name: reading.origin for name, reading in readings.items()}
    return Settings(environment=owner.name, origins=origins, warnings=warnings, **groups)
