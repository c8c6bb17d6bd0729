"""Read all settings of an environment and find everything that is wrong with them, at once."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass
from typing import Any

from config.environments import DEFAULT, ENVIRONMENTS, Environment
from config.errors import Level, Problem
from config.origin import Origin, Place
from config.rules import BETWEEN, Rule, Unjudged, Values
from config.secret import Secret
from config.secret_rules import KEEPING
from config.settings import GROUPS, Part, Settings
from config.sources import (
    CHOOSER,
    FILE_SUFFIX,
    Collected,
    Entry,
    Reader,
    Sources,
    choose,
    collect,
    secrets_elsewhere,
    trouble,
)
from config.spelling import distance, nearest
from config.variables import Reading, Variable, variables_of

NOT_SET = Origin(Place.DEFAULT, "not set")
CHOOSER_LIKE = (f"{CHOOSER}{FILE_SUFFIX}", f"{CHOOSER}_NAME")
"""Names that seem to choose the environment; they count where nothing else does, being others' as well."""
LONG_WORD = 6
"""Letters; in a shorter word two mistakes, or one wrong letter, make another word as often as a slip."""
LONGEST_TAIL = 5
"""Characters that a misspelt name may have more than what was meant; a secret may have run into it."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was read and what is wrong with it; `settings` is None when an error stops the start."""

    environment: str
    """Name of the environment; empty when the one that was asked for does not exist."""
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
    unnamed: str | None = DEFAULT,
) -> Report:
    """Read the settings of `environment`, by default the one that ENVIRONMENT names, and judge them.

    `unnamed` is the environment where nothing names one; None refuses to guess.
    """
    sources = sources or Sources()
    problems: list[Problem] = []
    owner = choose_environment(environment, sources, environments, unnamed, problems)
    if owner is None:
        return Report(environment="", readings={}, problems=tuple(problems), settings=None)
    variables = variables_of(GROUPS[part])
    secret = [name for name, each in variables.items() if each.secret]
    collected = collect(owner.name, sources, list(variables), secret)
    problems += [each for each in collected.problems if each not in problems]
    readings = derive(owner, read(owner, variables, collected, problems))
    problems += missing(owner, readings)
    problems += unknown_names(collected.names)
    others = [each.name for each in environments if each is not owner]
    values = Values(
        environment=owner, readings=readings, elsewhere=secrets_elsewhere(sources, others, secret)
    )
    problems += judge(values, (*BETWEEN, *KEEPING))
    problems.sort(key=lambda problem: problem.level is Level.WARNING)
    settings = None
    if not any(problem.level is Level.ERROR for problem in problems):
        settings = build(owner, readings, part, tuple(problems))
    return Report(environment=owner.name, readings=readings, problems=tuple(problems), settings=settings)


def choose_environment(
    wanted: str | None,
    sources: Sources,
    environments: Iterable[type[Environment]],
    unnamed: str | None,
    problems: list[Problem],
) -> type[Environment] | None:
    """Return the environment that is asked for; None, and a problem, when there is none of that name."""
    by_name = {each.name: each for each in environments}
    entry: Entry | None = Entry(wanted or "", Origin(Place.COMMAND, Place.COMMAND))
    if wanted is None:
        entry, names, found = choose(sources)
        problems += found
        unclear = any(each.id == "unreadable" or each.variable == CHOOSER for each in found)
        if entry is None:
            slips = list(choosers_meant(names))
            if not slips and not unclear and unnamed is not None:
                return by_name[unnamed]
            problems += slips or ([unchosen(by_name)] if unnamed is None else [])
            return None
        if unclear and entry.origin.place is Place.YOURS:
            return None
    assert entry is not None  # noqa: S101 (for the type checker)
    if entry.text in by_name:
        return by_name[entry.text]
    meant = meant_environment(entry.text, by_name)
    fix = f"Did you mean {meant}" if meant else "Write one of these names"
    rule = f"the environment is one of {', '.join(by_name)}"
    problems.append(trouble("unknown-environment", CHOOSER, str(entry.origin), rule, fix))
    return None


def choosers_meant(names: Iterable[tuple[str, Origin]]) -> Iterator[Problem]:
    """Yield a problem for each name that was to choose the environment, it seems, where nothing else does."""
    for name, origin in names:
        if name.upper() in CHOOSER_LIKE or nearest(name, [CHOOSER]):
            rule = "no setting has this name"
            fix = f"Did you mean {CHOOSER}"
            yield trouble("unknown-name", shown_name(name, CHOOSER), str(origin), rule, fix)


def unchosen(names: Iterable[str]) -> Problem:
    """Return the problem of a program that must be told its environment, and is not."""
    fix = f"Set {CHOOSER} to one of {', '.join(names)}"
    return trouble("missing", CHOOSER, str(NOT_SET), "a service is told which environment it serves", fix)


def meant_environment(text: str, names: Iterable[str]) -> str:
    """Return the name that `text` abbreviates or misspells, or nothing."""
    names, text = list(names), text.strip()
    short = [name for name in names if len(text) > 1 and name.startswith(text.lower())]
    slip = nearest(text, [name.upper() for name in names])
    return short[0] if short else (slip or "").lower()


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
        if not whole(entry.text):
            fix = "Write it again, in UTF-8 and without NUL"
            problems.append(trouble("value", name, str(entry.origin), "it is UTF-8 text without NUL", fix))
        elif not entry.text and not each.kind.empty:
            rule = f"it is {each.kind.rule}, not empty"
            fix = "Give it a value, or delete it to use the default"
            problems.append(trouble("empty", name, str(entry.origin), rule, fix))
        else:
            try:
                value = reader.get(name, cast=each.kind.read)
            except ValueError as error:
                fix = each.kind.advice(entry.text)
                problems.append(trouble("value", name, str(entry.origin), f"it is {error}", fix))
        readings[name] = Reading(each, value, entry.origin)
    return readings


def default(owner: type[Environment], variable: Variable) -> Reading:
    """Return the reading of a variable that nothing sets."""
    if variable.name in owner.generated:
        from secrets import token_urlsafe

        return Reading(variable, Secret(token_urlsafe(32)), Origin(Place.DEFAULT, "made up for this start"))
    if variable.name in owner.defaults:
        origin = Origin(Place.DEFAULT, f"default of {owner.name}")
        return Reading(variable, owner.defaults[variable.name], origin)
    unset = variable.default is MISSING or (variable.secret and variable.default is None)
    origin = NOT_SET if unset else Origin(Place.DEFAULT, Place.DEFAULT)
    return Reading(variable, variable.default, origin)


def derive(owner: type[Environment], readings: dict[str, Reading]) -> dict[str, Reading]:
    """Fill in the defaults that follow from the environment or from other values."""
    port = readings.get("PUBLIC_PORT")
    address = f"http://127.0.0.1:{port.value}" if port and port.known else MISSING
    url = readings.get("PUBLIC_URL")
    derived: dict[str, Any] = {"STACK_NAME": f"slipway-{owner.name}", "PUBLIC_URL": address}
    if owner.own_ledger and url is not None:
        derived["LEDGER_URL"] = address if url.is_default else url.value
    for name, value in derived.items():
        reading = readings.get(name)
        if reading is not None and reading.is_default:
            readings[name] = Reading(reading.variable, value, reading.origin)
    return readings


def missing(owner: type[Environment], readings: Mapping[str, Reading]) -> Iterator[Problem]:
    """Yield a problem for each variable that must be set and is not."""
    for name, reading in readings.items():
        needed = reading.variable.required or name in owner.requires
        unset = reading.is_default and name not in owner.generated
        if needed and (unset or reading.value is None):
            fix = owner.keep(name) if reading.variable.secret else f"Set it in config/.env.{owner.name}"
            source = NOT_SET if unset else reading.origin
            yield trouble("missing", name, str(source), f"{owner.name} needs it", fix)


def unknown_names(names: Iterable[tuple[str, Origin]]) -> Iterator[Problem]:
    """Yield a problem for each name that is a slip of one of ours; other programs' variables are left alone.

    In a file of the project every name is ours, so an unknown one there is a mistake whatever it looks like.
    One that resembles none of ours is not repeated: it may be a line of a secret that was not quoted.
    """
    groups = variables_of(GROUPS["all"])
    ours = [CHOOSER, *groups]
    known = {*ours, *(f"{name}{FILE_SUFFIX}" for name in groups)}
    rule = "no setting has this name"
    for name, origin in names:
        if name in known and not (name == CHOOSER and origin.place is Place.SHARED):
            continue
        stem = name.removesuffix(FILE_SUFFIX)
        meant = nearest(stem, ours)
        ours_alone = origin.place is not Place.PROCESS
        if name == CHOOSER:
            once = "a file of one environment does not choose the environment"
            yield trouble("unknown-name", name, str(origin), once, "Delete the line")
        elif meant is not None and (ours_alone or plausible(stem, meant)):
            suffix = FILE_SUFFIX if stem != name and meant != CHOOSER else ""
            level = Level.ERROR if ours_alone or certain(stem, meant) else Level.WARNING
            fix = f"Did you mean {meant}{suffix}"
            yield trouble("unknown-name", shown_name(name, meant), str(origin), rule, fix, level)
        elif origin.place is Place.SHARED:
            fix = "Delete the line, or quote the value that it belongs to; .env.template has all names"
            yield trouble("unknown-name", "", str(origin), rule, fix)


def plausible(name: str, meant: str) -> bool:
    """Tell whether a name in the process environment may be a slip of `meant` at all."""
    if name == CHOOSER:
        return False
    return long_word(meant) or distance(name.upper(), meant) <= 1 or name.startswith(meant)


def certain(name: str, meant: str) -> bool:
    """Tell whether a name in the process environment can hardly be another program's.

    One mistake in a long word, or two letters swapped, behind the same first word; or a slip of the chooser.
    """
    if meant == CHOOSER:
        return True
    if name.partition("_")[0] != meant.partition("_")[0] or "_" not in meant or name.startswith(meant):
        return False
    return distance(name, meant) == 1 and (long_word(meant) or sorted(name) == sorted(meant))


def long_word(name: str) -> bool:
    """Tell whether what follows the first word of `name`, or its only word, is long."""
    return len(name.partition("_")[2] or name) >= LONG_WORD


def shown_name(name: str, meant: str) -> str:
    """Return a misspelt name as a message shows it: not at all when it may have swallowed a value."""
    tame = re.fullmatch(r"[A-Za-z0-9_-]+", name) and len(name) <= len(meant) + len(FILE_SUFFIX) + LONGEST_TAIL
    return name if tame else ""


def whole(text: str) -> bool:
    """Tell whether `text` can be written and read again everywhere: UTF-8, and no NUL in it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def judge(values: Values, rules: Iterable[Rule]) -> Iterator[Problem]:
    """Yield what breaks the rules; one that needs an unknown value says nothing more."""
    for rule in rules:
        try:
            yield from rule(values)
        except Unjudged:
            continue


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
