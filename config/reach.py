"""Find every secret that the sources of this machine hold, whatever it is worth, so that none is printed."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from config.dotenv import Assignment, parse, text_of
from config.environments import ENVIRONMENTS
from config.secret import Secret
from config.secret_files import is_there, read_secret
from config.settings import GROUPS
from config.sources import FILE_SUFFIX, Sources
from config.spelling import nearest
from config.variables import variables_of

AROUND = " \t\r=:'\""
"""What stands between a name and its value, or around it, in a line that is broken."""


def within_reach(sources: Sources | None = None) -> tuple[Secret, ...]:
    """Return every secret of every environment, of losing sources too, and under misspelt names.

    A configuration that is refused has secrets as well: what runs without it must not print them.
    """
    sources = sources or Sources()
    names = [name for name, each in variables_of(GROUPS["all"]).items() if each.secret]
    return tuple({secret: None for secret in found(sources, names) if len(secret)})


def found(sources: Sources, names: Iterable[str]) -> Iterator[Secret]:
    """Yield what the sources have for `names`; a file that cannot be read has nothing."""
    names = tuple(names)
    for name, text in given(sources):
        points = name.upper().endswith(FILE_SUFFIX)
        if nearest(name[: -len(FILE_SUFFIX)] if points else name, names):
            there = points and is_there(sources.root / text)
            yield from kept_in(sources.root / text) if there else (Secret(text),)
    for environment in ENVIRONMENTS:
        for folder in sources.folders(environment.name):
            for name in names:
                yield from kept_in(folder / name)


def given(sources: Sources) -> Iterator[tuple[str, str]]:
    """Yield every assignment of the process environment and of the env files, one that is overruled too."""
    yield from sources.environ.items()
    shared = [sources.root / "config" / f".env.{each.name}" for each in ENVIRONMENTS]
    for path in (sources.root / ".env", *shared):
        try:
            text = text_of(path, errors="replace")
        except (OSError, ValueError):
            continue
        lines = text.split("\n")
        for each in parse(text):
            if isinstance(each, Assignment):
                yield each.name, each.value
            elif each.name:
                yield each.name, lines[each.line - 1].partition(each.name)[2].strip(AROUND)


def kept_in(path: Path) -> Iterator[Secret]:
    """Yield the secret in the file at `path`, if there is one."""
    try:
        yield Secret(read_secret(path).text)
    except (OSError, ValueError):
        return
