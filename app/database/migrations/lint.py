"""Which migrations the running release would not survive.

While a deployment replaces replicas one by one, the old release works on the new schema. So a migration may
expand (new tables, new nullable columns, new columns with a default) at any time, and may contract (drop,
rename, narrow) only when no running release needs what goes: it then says so with `contract = True` and a
`contract_reason`. We read the SQL that PostgreSQL would get, so `op.execute("ALTER TABLE …")` counts as well.
"""

import importlib.util
import re
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from urllib.parse import quote, unquote

from app.database.migrations.chain import Migration
from app.database.migrations.errors import BrokenHistoryError, MigrationRefusedError

PART = r'(?:"[^"]+"|[\w$]+)'
NAME = rf"({PART}(?:\.{PART}){{0,2}})"
TABLE = rf"ALTER TABLE {NAME} "
CONSTRAINT = r"(?:CONSTRAINT|UNIQUE|CHECK|FOREIGN|PRIMARY|EXCLUDE|NOT)\b"
ADD = rf"{TABLE}ADD (?!{CONSTRAINT})(?:COLUMN )?"
COLUMN = rf"{ADD}(?:IF NOT EXISTS )?{NAME}"
NOISE = re.compile(
    r"""(?P<name>"(?:[^"]|"")*")|(?P<comment>--[^\n]*|/\*.*?\*/)"""
    r"""|\b[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$""",
    re.DOTALL,
)
Name = tuple[str, ...]
DOUBLE = '"'
DOT = re.compile(r'(?<=[\w"$]) ?\. ?(?=[^\W\d]|")')
ALTERS = re.compile(rf"ALTER (?:FOREIGN )?TABLE (?:IF EXISTS )?(?:ONLY )?{NAME}(?: \*)? (.+)", re.IGNORECASE)
LISTS = re.compile(
    r"(DROP (?:(?:FOREIGN )?TABLE|VIEW|MATERIALIZED VIEW|SCHEMA|TYPE|DOMAIN|SEQUENCE|EXTENSION)"
    r"|TRUNCATE(?: TABLE)?) (?:IF EXISTS )?(.+)",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Breakage:
    """One thing that a migration takes away: in words, the parts of the table's name, the statement."""

    what: str
    table: tuple[str, ...]
    statement: str


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A shape of statement that breaks the running release. The pattern's groups: table, then column."""

    pattern: re.Pattern[str]
    what: str


def rule(pattern: str, what: str) -> Rule:
    """Make a rule from a pattern in which blanks stand for one blank exactly."""
    return Rule(pattern=re.compile(pattern, re.IGNORECASE), what=what)


RULES = (
    rule(r"DO\b", "hides its statements in a DO block"),
    rule(r"CALL\b", "hides its statements in a procedure"),
    rule(r'.*?(?:/\*|\*/|\bU& ")', "hides a name or a comment in another way of writing"),
    rule(rf"DROP (?:FOREIGN )?TABLE {NAME}", "drops the table {0}"),
    rule(rf"DROP (?:MATERIALIZED )?VIEW {NAME}", "drops the view {0}"),
    rule(rf"DROP SCHEMA {NAME}", "drops the schema {0}"),
    rule(rf"DROP (?:TYPE|DOMAIN|SEQUENCE|EXTENSION) {NAME}", "drops {0}"),
    rule(rf"DROP (?:FUNCTION|PROCEDURE|ROUTINE) (?:IF EXISTS )?{NAME}", "drops {0}"),
    rule(r"DROP OWNED\b", "drops what a role owns"),
    rule(r"REVOKE\b", "takes rights away"),
    rule(rf"ALTER (?:MATERIALIZED )?VIEW {NAME} (?:RENAME|SET SCHEMA)\b", "renames or moves the view {0}"),
    rule(rf"ALTER TYPE {NAME} (?:RENAME|DROP|ALTER|SET SCHEMA)\b", "changes the type {0}"),
    rule(rf"TRUNCATE (?:TABLE )?(?:ONLY )?{NAME}", "empties the table {0}"),
    rule(rf".*?\bDELETE FROM (?:ONLY )?{NAME}", "deletes rows of {0}"),
    rule(rf".*?\bMERGE INTO (?:ONLY )?{NAME}.*\bTHEN DELETE\b", "deletes rows of {0}"),
    rule(rf"{TABLE}DETACH PARTITION", "takes rows out of the table {0}"),
    rule(rf"{TABLE}DROP (?!CONSTRAINT\b)(?:COLUMN )?(?:IF EXISTS )?{NAME}", "drops the column {0}.{1}"),
    rule(rf"{TABLE}RENAME TO", "renames the table {0}"),
    rule(rf"{TABLE}SET SCHEMA", "moves the table {0}"),
    rule(rf"{TABLE}RENAME (?!TO\b|CONSTRAINT\b)(?:COLUMN )?{NAME}", "renames the column {0}.{1}"),
    rule(rf"{TABLE}ALTER (?:COLUMN )?{NAME} (?:SET DATA )?TYPE\b", "changes the type of {0}.{1}"),
    rule(rf"{TABLE}ALTER (?:COLUMN )?{NAME} SET NOT NULL", "forbids NULL in {0}.{1}"),
    rule(
        rf"{TABLE}ALTER (?:COLUMN )?{NAME} DROP (?:DEFAULT|IDENTITY|EXPRESSION)",
        "drops the default of {0}.{1}",
    ),
    rule(
        rf"{COLUMN} (?!.*\b(?:DEFAULT (?!(?:\( ?)*NULL\b)|GENERATED\b)).*\b(?:NOT NULL|PRIMARY KEY)\b",
        "adds {0}.{1}, NOT NULL without a default",
    ),
    rule(rf"{TABLE}ADD {CONSTRAINT}", "adds a constraint to {0}"),
    rule(rf"CREATE UNIQUE INDEX .*?\bON (?:ONLY )?{NAME}", "adds a unique index to {0}"),
)
# What is made only when it is missing may have been there before, so that proves nothing.
CREATED = re.compile(rf"CREATE (?:\w+ )*?TABLE (?!IF NOT EXISTS\b){NAME}", re.IGNORECASE)
ADDED = re.compile(rf"{ADD}(?!IF NOT EXISTS\b){NAME}", re.IGNORECASE)
GONE = re.compile(rf"DROP (?:FOREIGN )?TABLE {NAME}", re.IGNORECASE)
ELSEWHERE = re.compile(
    r"(?:SET|RESET|DISCARD)\b.*\b(?:SEARCH_PATH|SCHEMA|ROLE|AUTHORIZATION|ALL)\b|.*\bSET_CONFIG\b",
    re.IGNORECASE,
)
NARROWING = ("adds a constraint", "adds a unique index")


class Statements(list[str]):
    """A text stream that keeps what is written as a list, one entry a statement."""

    def write(self, text: str) -> int:
        """Take one statement."""
        self.append(text)
        return len(text)

    def flush(self) -> None:
        """Do nothing: there is nothing behind us."""


def load(migration: Migration) -> ModuleType:
    """Import one migration file."""
    spec = importlib.util.spec_from_file_location(f"migration_{migration.revision}", migration.path)
    if spec is None or spec.loader is None:
        raise BrokenHistoryError(
            "A migration cannot be imported.", where=str(migration.path), next_step="give it the suffix .py"
        )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def render(migration: Migration, *, direction: str = "upgrade") -> list[str]:
    """Return the statements that PostgreSQL would get; `direction` is upgrade or downgrade.

    Raises MigrationRefusedError when the migration cannot be rendered without a database.
    """
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext

    module = load(migration)
    written = Statements()
    options: dict[str, Any] = {"as_sql": True, "literal_binds": True, "output_buffer": written}
    context = MigrationContext.configure(dialect_name="postgresql", opts=options)
    try:
        with Operations.context(context):
            getattr(module, direction)()
    except Exception as error:
        raise MigrationRefusedError(
            f"Migration {migration.revision} cannot be rendered as SQL without a database: {error}",
            where=f"{migration.path}, {direction}()",
            next_step="write it with op.* and op.execute(…) only: it can then be previewed and checked",
        ) from error
    return list(written)


def breakages(statements: list[str]) -> list[Breakage]:
    """Return what `statements` take away from a release that runs on the schema before them."""
    created: set[Name] = set()
    added: set[tuple[Name, Name]] = set()
    found: list[Breakage] = []
    for text in statements:
        for statement in NOISE.sub(quiet, text).split(";"):
            for plain in apart(DOT.sub(".", " ".join(statement.split()))):
                if ELSEWHERE.match(plain):
                    # After this a name without a schema may mean another table.
                    created.clear()
                    added.clear()
                if made := CREATED.match(plain):
                    created.add(parts_of(made[1]))
                if made := ADDED.match(plain):
                    added.add((parts_of(made[1]), parts_of(made[2])))
                judgements = (judged(each, plain, created, added) for each in RULES)
                found.extend(breakage for breakage in judgements if breakage is not None)
                if gone := GONE.match(plain):
                    created.discard(parts_of(gone[1]))
    return found


def quiet(noise: re.Match[str]) -> str:
    """Return what stands for a text literal or a comment, so that neither is taken for SQL.

    A quoted name stays, with what could be taken for SQL in it encoded until `parts_of`.
    """
    if noise["name"]:
        return f' "{quote(noise["name"][1:-1].replace(2 * DOUBLE, DOUBLE), safe="")}" '
    return " " if noise["comment"] else "''"


def apart(statement: str) -> list[str]:
    """Return a statement that does several things as several that do one each, without IF EXISTS and ONLY."""
    if found := ALTERS.match(statement):
        return [f"ALTER TABLE {found[1]} {part}" for part in parts(found[2])]
    if found := LISTS.match(statement):
        return [f"{found[1]} {part}" for part in parts(found[2])]
    return [statement]


def parts(text: str) -> list[str]:
    """Return `text` cut at the commas that stand in no brackets."""
    found, depth = [""], 0
    for mark in text:
        depth += (mark in "([") - (mark in ")]")
        if mark == "," and depth == 0:
            found.append("")
        else:
            found[-1] += mark
    return [part.strip() for part in found]


def judged(each: Rule, statement: str, created: set[Name], added: set[tuple[Name, Name]]) -> Breakage | None:
    """Return what `statement` breaks by the rule `each`, None for nothing.

    A table or column that this migration itself made is nobody's yet, so it may be changed at will.
    """
    match = each.pattern.match(statement)
    if match is None:
        return None
    names = [parts_of(name) for name in match.groups(default="")] or [()]
    adding = each.what.startswith("adds")
    if names[0] in created or (not adding and len(names) > 1 and (names[0], names[1]) in added):
        return None
    if each.what.startswith(NARROWING):
        listed = re.search(r"\(([^)]*)\)", statement[match.end(1) :])
        columns = {(names[0], parts_of(part)) for part in (listed.group(1).split(",") if listed else ())}
        if columns and columns <= added:
            return None
    shown = [".".join(name) for name in names]
    return Breakage(what=each.what.format(*shown), table=names[0], statement=statement)


def parts_of(name: str) -> Name:
    """Return a name's parts as PostgreSQL takes them: small unless quoted, the schema first if given."""
    found = re.findall(PART, name)
    return tuple(unquote(part[1:-1]) if part.startswith('"') else part.lower() for part in found)


def check(migration: Migration) -> None:
    """Raise MigrationRefusedError when `migration` would break the running release without saying so."""
    if migration.contract is not None:
        return
    found = breakages(render(migration))
    if found:
        listed = "; ".join(breakage.what for breakage in found)
        raise MigrationRefusedError(
            f"Migration {migration.revision} would break the release that is running: it {listed}.",
            where=str(migration.path),
            next_step="expand first (new column or table beside the old), and take the old away in a later"
            ' release with `contract = True` and `contract_reason = "why nothing needs it any more"`',
        )
