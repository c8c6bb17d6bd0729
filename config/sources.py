"""Where values come from, and which of them wins.

Highest first: the process environment; secret files (`NAME_FILE`, then the secrets folders); `.env`, which is
yours and not in git; `config/.env.<environment>`, which is in git and holds no secret. Nothing is read before
`collect` is called, and nothing but what `Sources` names.
"""

import os
from collections import ChainMap
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_IMODE
from typing import Any

from decouple import Config, RepositoryEmpty, UndefinedValueError

from config.dotenv import EnvFile
from config.errors import Level, Problem
from config.origin import Origin, Place
from config.secret import Secret, Unpicklable
from config.secret_files import OTHERS, is_there, names_in, read_secret

__all__ = ["CHOOSER", "Entry", "Origin", "Place", "Sources", "collect"]

PROJECT = Path(__file__).parent.parent
CHOOSER = "ENVIRONMENT"
FILE_SUFFIX = "_FILE"
MOST_FAULTS = 20
"""Lines of one file; whoever has more has the wrong file, or one open quote."""


@dataclass(frozen=True)
class Entry(Unpicklable):
    """One text as a source has it."""

    text: str = field(repr=False)
    origin: Origin


@dataclass(frozen=True, kw_only=True)
class Sources(Unpicklable):
    """All that a configuration may be read from. The default is this process on this machine."""

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    root: Path = PROJECT
    """Folder that holds `.env` and `config/`."""
    secrets: tuple[Path, ...] = (Path("/run/secrets"), Path(".slipway/secrets/<environment>"))
    """Folders of secret files, the first with a file wins; relative ones start at `root`."""

    def folders(self, environment: str) -> tuple[Path, ...]:
        """Return the folders of secret files of `environment`."""
        return tuple(self.root / str(folder).replace("<environment>", environment) for folder in self.secrets)

    def label(self, path: Path) -> str:
        """Return `path` as a message shows it: relative to the root when it is below it."""
        text = str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)
        return text.encode("utf-8", "backslashreplace").decode()


class Layers(RepositoryEmpty):  # type: ignore[misc]  # decouple is not typed
    """Several sources as one of python-decouple's repositories: the first that has a name wins."""

    def __init__(self, *layers: dict[str, Entry]) -> None:
        super().__init__()
        self.entries = ChainMap(*layers)

    def __contains__(self, name: str) -> bool:
        return name in self.entries

    def __getitem__(self, name: str) -> str:
        return self.entries[name].text

    def entry(self, name: str) -> Entry | None:
        """Return what sets `name`, or None."""
        return self.entries.get(name)


class Reader(Config):  # type: ignore[misc]
    """python-decouple's reader, bound to its repository.

    decouple's own asks `os.environ` before the repository that it was given. Here the process environment is
    a layer like the others, so that reading is a function of the sources alone.
    """

    def get(self, option: str, default: Any = None, cast: Callable[[str], Any] = str) -> Any:
        """Return the value of `option` through `cast`; raises UndefinedValueError, and what `cast` raises."""
        if option not in self.repository:
            if default is None:
                raise UndefinedValueError(option)
            return default
        return cast(self.repository[option])


@dataclass(frozen=True, kw_only=True)
class Collected(Unpicklable):
    """What the sources hold, unjudged but for what could not be read at all."""

    layers: Layers
    problems: tuple[Problem, ...]
    names: tuple[tuple[str, Origin], ...]
    """Every name that a source sets, ours or not, for finding misspelt ones."""


def choose(sources: Sources) -> tuple[Entry | None, list[tuple[str, Origin]], list[Problem]]:
    """Return what names the environment, all names beside it and what is broken there."""
    problems: list[Problem] = []
    process, yours, names = base_layers(sources, problems)
    names += [(name, entry.origin) for name, entry in yours.items()]
    return Layers(process, yours).entry(CHOOSER), names, problems


def base_layers(
    sources: Sources, problems: list[Problem]
) -> tuple[dict[str, Entry], dict[str, Entry], list[tuple[str, Origin]]]:
    """Return the layers that do not depend on the environment: the process's and `.env`."""
    origin = Origin(Place.PROCESS, Place.PROCESS)
    process = {name: Entry(text, origin) for name, text in sources.environ.items()}
    yours = read_env_file(sources, sources.root / ".env", Place.YOURS, problems)
    return process, yours, [(name, origin) for name in process]


def collect(
    environment: str, sources: Sources, wanted: Collection[str], secret: Collection[str]
) -> Collected:
    """Read every source of `environment` for the variables `wanted`; those in `secret` must be kept well."""
    problems: list[Problem] = []
    process, yours, names = base_layers(sources, problems)
    shared_path = sources.root / "config" / f".env.{environment}"
    shared = read_env_file(sources, shared_path, Place.SHARED, problems)
    plain = Layers(process, yours, shared)
    files: dict[str, Entry] = {}
    folders = sources.folders(environment)
    present = {folder: read_folder(sources, folder, problems) for folder in folders}
    for name in wanted:
        pointer = plain.entry(f"{name}{FILE_SUFFIX}")
        if pointer is not None and pointer.text:
            beside = {Place.YOURS: yours, Place.SHARED: shared}.get(pointer.origin.place, process)
            if name in process or name in beside:
                rule = f"only one of {name} and {name}{FILE_SUFFIX} is set"
                problems.append(
                    trouble("set-twice", name, str(pointer.origin), rule, "Delete one of the two")
                )
            named_by = f"{name}{FILE_SUFFIX} in {pointer.origin}"
            entry = read_file(sources, name, sources.root / pointer.text, named_by, problems)
        else:
            folder = next((folder for folder in folders if name in present[folder]), None)
            entry = read_file(sources, name, folder / name, "", problems) if folder else None
        if entry is not None:
            files[name] = entry
    expose(sources, yours, secret, problems)
    for layer in (yours, shared):
        names += [(name, entry.origin) for name, entry in layer.items()]
    for folder in folders:
        names += [(n, Origin(Place.SECRET_FILE, sources.label(folder / n))) for n in sorted(present[folder])]
    layers = Layers(process, files, yours, shared)
    return Collected(layers=layers, problems=tuple(problems), names=tuple(names))


def secrets_elsewhere(
    sources: Sources, environments: Collection[str], names: Collection[str]
) -> dict[tuple[str, str], Secret]:
    """Return the secrets of other environments in the secrets folders of this machine."""
    found = {}
    for environment in environments:
        for template, folder in zip(sources.secrets, sources.folders(environment), strict=True):
            if "<environment>" not in str(template):
                continue
            for name in sorted(read_folder(sources, folder, []) & frozenset(names)):
                try:
                    found[environment, name] = Secret(read_secret(folder / name).text)
                except (OSError, ValueError):
                    continue
    return found


def read_env_file(sources: Sources, path: Path, place: Place, problems: list[Problem]) -> dict[str, Entry]:
    """Return the entries of an env file; a missing one has none, what is broken in it goes to `problems`."""
    label = sources.label(path)
    try:
        found = EnvFile(path)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        fix = "Make it a file of lines NAME=value, in UTF-8"
        problems.append(trouble("unreadable", "", label, str(error), fix))
        return {}
    except OSError as error:
        rule = f"an env file can be read ({error.strerror})"
        problems.append(trouble("unreadable", "", label, rule, "Make it a file that you may read"))
        return {}
    problems += (
        trouble(
            "broken-line",
            CHOOSER if each.name == CHOOSER else "",
            f"{label}:{each.line}",
            each.rule,
            each.fix,
        )
        for number, each in enumerate(found.faults)
        if number < MOST_FAULTS or each.name == CHOOSER
    )
    if len(found.faults) > MOST_FAULTS:
        rule = f"{len(found.faults) - MOST_FAULTS} more lines cannot be understood"
        problems.append(trouble("broken-line", "", label, rule, "Correct the first ones, then check again"))
    return {
        name: Entry(text, Origin(place, f"{label}:{found.lines[name]}")) for name, text in found.data.items()
    }


def read_folder(sources: Sources, folder: Path, problems: list[Problem]) -> frozenset[str]:
    """Return the names in a folder of secret files; none when it is missing.

    One that cannot be read is a warning only: `/run/secrets` may be another program's.
    """
    try:
        return names_in(folder)
    except OSError as error:
        rule = f"a folder of secret files can be read ({error.strerror})"
        fix = "Make it a folder that you may read"
        problems.append(trouble("unreadable", "", sources.label(folder), rule, fix, Level.WARNING))
        return frozenset()


def read_file(
    sources: Sources, name: str, path: Path, named_by: str, problems: list[Problem]
) -> Entry | None:
    """Return the entry of one secret file; None, and a problem, when it cannot be used."""
    label = sources.label(path)
    source = f"{label}, {named_by}" if named_by else label
    if named_by and not is_there(path):
        # It may be no path at all, but the secret itself.
        rule = "the variable names a file that is there"
        problems.append(trouble("secret-file", name, named_by, rule, "Write the path of the secret file"))
        return None
    try:
        found = read_secret(path)
    except ValueError as error:
        problems.append(
            trouble("secret-file", name, source, str(error), "Write the value alone into the file")
        )
        return None
    except OSError as error:
        rule = f"the secret file can be read ({error.strerror})"
        problems.append(trouble("secret-file", name, source, rule, "Create it, or correct its path or owner"))
        return None
    if found.exposed:
        rule = "a secret file is readable by its owner only"
        problems.append(
            trouble("exposed-file", name, source, rule, f"Run `chmod 600 {label}`", Level.WARNING)
        )
    return Entry(found.text, Origin(Place.SECRET_FILE, label))


def expose(
    sources: Sources, yours: Mapping[str, Entry], secret: Collection[str], problems: list[Problem]
) -> None:
    """Warn when `.env` holds a secret and others may read it."""
    kept = [name for name in secret if name in yours]
    if kept and S_IMODE((sources.root / ".env").stat().st_mode) & OTHERS:
        rule = "a file with a secret in it is readable by its owner only"
        for name in kept:
            source = str(yours[name].origin)
            problems.append(
                trouble("exposed-file", name, source, rule, "Run `chmod 600 .env`", Level.WARNING)
            )


def trouble(id_: str, variable: str, source: str, rule: str, fix: str, level: Level = Level.ERROR) -> Problem:
    """Return a problem, an error unless `level` says otherwise."""
    return Problem(id=id_, variable=variable, source=source, rule=rule, fix=fix, level=level)
