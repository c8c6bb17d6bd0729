"""What `invoke config.*` does: each function returns the text to show and the exit code."""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from stat import S_IMODE

from config.check import Report, check, meant_environment
from config.dotenv import Assignment, parse, text_of
from config.environments import ENVIRONMENTS, Care
from config.errors import ConfigurationError, Level
from config.origin import Place
from config.reach import within_reach
from config.report import as_json, as_text, table
from config.secret_files import read_secret
from config.settings import GROUPS
from config.sources import CHOOSER, Sources
from config.spelling import nearest
from config.template import env_template, rules_table, variables_table
from config.variables import Reading, variables_of
from scripts.pipeline.errors import UsageError

WIDTH = 110
MARK = "\ufeff"
"""The byte order mark that some editors put in front."""
GENERATED: dict[str, Callable[[], str]] = {"variables": variables_table, "rules": rules_table}
"""The parts of the guide that are written from the classes, by the name in their marks."""


@dataclass(frozen=True)
class Answer:
    """What a command says, and the exit code it ends with."""

    text: str
    exit_code: int = 0


def check_command(environment: str | None, sources: Sources, *, as_json_: bool, fail_level: str) -> Answer:
    """Check an environment; exit code 2 when there is a problem of `fail_level` or worse."""
    levels = [level.value for level in Level]
    if fail_level not in levels:
        raise UsageError(f"--fail-level is one of {', '.join(levels)}", next_step="Write one of these.")
    report = check(environment, sources)
    text = as_json(report) if as_json_ else as_text(report)
    return Answer(text, 2 if report.failed(Level(fail_level)) else 0)


def show(environment: str | None, sources: Sources, *, as_json_: bool) -> Answer:
    """Show every value of an environment with its source; a secret as its length only."""
    report = check(environment, sources)
    if not report.environment:
        if as_json_:
            return Answer(as_json(report), 2)
        raise ConfigurationError(report.environment, report.problems)
    hidden = texts_to_hide(sources)
    cells = {name: (shown(reading, hidden), str(reading.origin)) for name, reading in report.readings.items()}
    if as_json_:
        rows = {name: {"value": value, "source": source} for name, (value, source) in cells.items()}
        return Answer(json.dumps({"environment": report.environment, "settings": rows}, indent=2))
    lines = table(("VARIABLE", "VALUE", "SOURCE"), [(name, *cell) for name, cell in cells.items()], WIDTH)
    return Answer("\n".join([f"environment: {report.environment}", *lines]))


def diff(one: str, other: str, sources: Sources) -> Answer:
    """Show the values that differ between two environments."""
    rows = difference(readable(one, sources), readable(other, sources), texts_to_hide(sources))
    if not rows:
        return Answer(f"{one} and {other} do not differ")
    return Answer("\n".join(table(("VARIABLE", one.upper(), other.upper()), rows, WIDTH)))


def difference(one: Report, other: Report, hidden: frozenset[str]) -> list[tuple[str, str, str]]:
    """Return the variables whose values differ, with both; of secrets only whether and how long they are."""
    found = []
    for name, reading in one.readings.items():
        there = other.readings[name]
        if reading.value != there.value and not (made_up(reading) and made_up(there)):
            found.append((name, shown(reading, hidden), shown(there, hidden)))
    return found


def use(environment: str, sources: Sources, *, yes: bool) -> Answer:
    """Make `environment` this machine's own choice: one line of `.env`, written atomically."""
    owner = {each.name: each for each in ENVIRONMENTS}.get(environment)
    if owner is None:
        names = [each.name for each in ENVIRONMENTS]
        raise UsageError(
            f"There is no environment of that name; there are {', '.join(names)}.",
            next_step=f"invoke config.use {meant_environment(environment, names) or names[0]}",
        )
    if owner.care is Care.FINAL and not yes:
        raise UsageError(
            f"Every command of this machine would act on {environment}.",
            where=".env",
            next_step=f"invoke config.use {environment} --yes, or add --env={environment} to one command.",
        )
    before = check(None, sources)
    path = sources.root / ".env"
    with may_write(".env"):
        write_choice(path, environment)
    lines = [f".env: {CHOOSER}={environment}"]
    if before.environment and before.environment != environment:
        rows = difference(before, check(environment, sources), texts_to_hide(sources))
        lines += table(("VARIABLE", before.environment.upper(), environment.upper()), rows, WIDTH)
    if CHOOSER in sources.environ and sources.environ[CHOOSER] != environment:
        lines.append(f"The process environment sets {CHOOSER} too and wins: unset it.")
    return Answer("\n".join(lines))


def write_choice(path: Path, environment: str) -> None:
    """Set ENVIRONMENT in the env file at `path`, or in the one that it links to, and change nothing else.

    Raises OSError, and ValueError with the rule that a file breaks in which that cannot be done for sure.
    """
    path = Path(os.path.realpath(path))
    with alone_in(path.parent):
        try:
            text_of(path)
            before, mode = path.read_bytes().decode(), S_IMODE(path.stat().st_mode)
        except FileNotFoundError:
            before, mode = "", 0o600
        after = with_choice(before, environment)
        if meaning(after) != (meaning(before)[0], [environment]):
            raise ValueError("the line of the environment has others entangled in it")
        beside = path.with_name(f"{path.name}.new")
        beside.unlink(missing_ok=True)
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(descriptor, "wb") as file:
                file.write(after.encode())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


def with_choice(text: str, environment: str) -> str:
    """Return the text of an env file with one line that sets ENVIRONMENT, where the first was that did."""
    mark = MARK if text.startswith(MARK) else ""
    text = text.removeprefix(MARK)
    lines = StringIO(text, newline="").readlines()
    places = [each.line - 1 for each in parse(universal(text)) if each.name == CHOOSER]
    choice = f"{CHOOSER}={environment}\n"
    if places:
        lines[places[0]] = choice
        lines = [line for number, line in enumerate(lines) if number not in places[1:]]
    else:
        if lines and not lines[-1].endswith(("\n", "\r")):
            lines[-1] += "\n"
        lines.append(choice)
    return mark + "".join(lines)


def meaning(text: str) -> tuple[list[tuple[str, str]], list[str]]:
    """Return what an env file sets and what is broken in it, and apart from that each choice in it."""
    found = list(parse(universal(text.removeprefix(MARK))))
    texts = [(each.name, each.value if isinstance(each, Assignment) else each.rule) for each in found]
    others = [(name, text) for name, text in texts if name != CHOOSER]
    return others, [text for name, text in texts if name == CHOOSER]


def universal(text: str) -> str:
    """Return `text` with the line breaks of every system as one, as an env file is read."""
    return StringIO(text, newline=None).read()


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Let one command at a time write in `folder`; the system frees it whatever happens to the holder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def may_write(label: str) -> Iterator[None]:
    """Turn what the system refuses into a message; raises UsageError."""
    try:
        yield
    except ValueError as error:
        raise UsageError(
            f"It cannot be written: {error}.", where=label, next_step="Correct the file by hand."
        ) from None
    except OSError as error:
        raise UsageError(
            f"It cannot be written: {error.strerror}.",
            where=label,
            next_step="Correct the path or its owner.",
        ) from None


def template(root: Path) -> Answer:
    """Write config/.env.template and the generated parts of the guide; say what changed."""
    changed = [
        path.relative_to(root).as_posix()
        for path, text in generated(root).items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path, text in generated(root).items():
        path.write_text(text, encoding="utf-8")
    return Answer(f"written: {', '.join(changed)}" if changed else "nothing to change")


def generated(root: Path) -> dict[Path, str]:
    """Return what the generated files should hold, by path."""
    guide = root / "docs" / "configuration_guide.md"
    text = guide.read_text(encoding="utf-8")
    for name, write in GENERATED.items():
        opening, closing = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        head, _, rest = text.partition(opening)
        _, mark, tail = rest.partition(closing)
        if not mark:
            raise UsageError(f"The marks {opening.strip()} and {closing} are missing", where=str(guide))
        text = f"{head}{opening}\n{write().strip()}\n\n{closing}{tail}"
    return {root / "config" / ".env.template": env_template(), guide: text}


def secret(action: str, name: str, environment: str | None, sources: Sources) -> Answer:
    """Do `action` with the secret `name`; there is only `new`."""
    if action != "new":
        raise UsageError("A secret can be made new.", next_step="invoke config.secret new NAME")
    return new_secret(name, environment, sources)


def new_secret(name: str, environment: str | None, sources: Sources) -> Answer:
    """Write a strong value for the secret `name` into a file that only its owner reads; never show it."""
    known = [each for each, variable in variables_of(GROUPS["all"]).items() if variable.secret]
    if name not in known:
        meant = nearest(name, known)
        raise UsageError(
            f"No secret has that name; there are {', '.join(known)}.",
            next_step=f"invoke config.secret new {meant or known[0]}",
        )
    from scripts.deployment.secrets import generate

    report = readable(environment, sources)
    folder = sources.folders(report.environment)[-1]
    path = folder / name
    with may_write(sources.label(path)):
        made = generate(folder, [name])
    if not made:
        held = "has a value already" if has_value(path) else "has a file without a usable value in it"
        raise UsageError(
            f"{name} of {report.environment} {held}; it was kept.",
            where=sources.label(path),
            next_step="Delete the file first when the value is to be replaced.",
        )
    lines = [f"{sources.label(path)}: a new value, readable by you only"]
    used = readable(report.environment, sources).readings[name].origin
    if str(used) != sources.label(path):
        other = f"{used} sets {name} too and wins" if used.place is not Place.DEFAULT else f"{name} is broken"
        lines.append(f"It is not used: {other}; see `invoke config.check --env={report.environment}`.")
    return Answer("\n".join(lines))


def has_value(path: Path) -> bool:
    """Tell whether there is a secret in the file at `path`."""
    try:
        return bool(read_secret(path).text.strip())
    except (OSError, ValueError):
        return False


def readable(environment: str | None, sources: Sources) -> Report:
    """Check an environment; raises ConfigurationError only when it does not exist."""
    report = check(environment, sources)
    if not report.environment:
        raise ConfigurationError(report.environment, report.problems)
    return report


def texts_to_hide(sources: Sources) -> frozenset[str]:
    """Return what is a secret of any environment, and so must not be shown as another variable's value."""
    return frozenset(secret.reveal() for secret in within_reach(sources))


def shown(reading: Reading, hidden: frozenset[str]) -> str:
    """Return a value as a person may see it."""
    if not reading.known:
        return "broken" if reading.origin.place is not Place.DEFAULT else "not set"
    if reading.variable.secret:
        return f"set ({len(reading.value)} characters)" if reading.value else "not set"
    text = reading.variable.kind.write(reading.value)
    if text in hidden and not reading.is_default:
        return "the value of a secret"
    return text or "(empty)"


def made_up(reading: Reading) -> bool:
    """Tell whether the value is a new one at each start."""
    return reading.variable.secret and reading.is_default and reading.value is not None
