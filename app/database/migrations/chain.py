"""The migration files as data, in order, without importing Alembic or running them.

A service that only wants to know whether its database is at head reads this (a few milliseconds), while the
migration job imports Alembic (a quarter of a second).
"""

import ast
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from app.database.migrations.errors import BrokenHistoryError, UnknownRevisionError

VERSIONS = Path(__file__).parent / "versions"


@dataclass(frozen=True, kw_only=True)
class Migration:
    """One migration file.

    `checksum` is the SHA-256 of the text with line ends and trailing blanks evened out, so that a checkout on
    another system is the same migration. `contract` is the reason given for a step that the running release
    would not survive, or None for one that it does.
    """

    revision: str
    down_revision: str | None
    title: str
    path: Path
    checksum: str
    contract: str | None


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Every migration from the first to the last."""

    migrations: tuple[Migration, ...]

    @property
    def head(self) -> str | None:
        """Return the last revision, None when there is no migration at all."""
        return self.migrations[-1].revision if self.migrations else None

    def knows(self, revision: str) -> bool:
        """Tell whether `revision` is one of ours."""
        return any(migration.revision == revision for migration in self.migrations)

    def after(self, revision: str | None) -> tuple[Migration, ...]:
        """Return what comes after `revision`, oldest first; everything when it is None."""
        if revision is None:
            return self.migrations
        return self.migrations[self.position(revision) + 1 :]

    def position(self, revision: str) -> int:
        """Return where `revision` stands, from 0.

        Raises UnknownRevisionError.
        """
        for position, migration in enumerate(self.migrations):
            if migration.revision == revision:
                return position
        known = ", ".join(migration.revision for migration in self.migrations) or "none"
        raise UnknownRevisionError(
            f"There is no migration {revision!r}.",
            where=f"known revisions: {known}",
            next_step="name one of these, `head`, `base`, or a step such as -1 or +1",
        )

    def resolve(self, wanted: str, current: str | None) -> str | None:
        """Return the revision meant by `wanted`: a name or its start, head, base, -N or +N from `current`.

        None stands for the empty schema. Raises UnknownRevisionError.
        """
        if wanted in ("head", "heads"):
            return self.head
        if wanted == "base":
            return None
        if wanted[:1] in ("-", "+") and wanted[1:].isdigit():
            place = (-1 if current is None else self.position(current)) + int(wanted)
            if -1 <= place < len(self.migrations):
                return None if place == -1 else self.migrations[place].revision
            raise UnknownRevisionError(
                f"{wanted} leads out of the history: it has {len(self.migrations)} migrations.",
                where=f"the database is at {current or 'base'}",
                next_step="see `invoke db.status`",
            )
        found = [migration.revision for migration in self.migrations if migration.revision.startswith(wanted)]
        return found[0] if len(found) == 1 else self.migrations[self.position(wanted)].revision


def read(folder: Path = VERSIONS) -> Chain:
    """Read the migration files in `folder` into one line, first to last.

    Raises BrokenHistoryError when a file is not a migration, or when the line forks or has a gap.
    """
    return order(parse(path) for path in sorted(folder.glob("*.py")) if path.name != "__init__.py")


def order(migrations: Iterable[Migration]) -> Chain:
    """Put `migrations` into one line by what each follows; raises BrokenHistoryError when they form none."""
    following: dict[str | None, Migration] = {}
    count = 0
    for migration in migrations:
        count += 1
        other = following.setdefault(migration.down_revision, migration)
        if other is not migration:
            raise BrokenHistoryError(
                f"Two migrations follow {migration.down_revision or 'the empty schema'}.",
                where=f"{other.path} and {migration.path}",
                next_step="let the newer one follow the other: change its down_revision",
            )
    line: list[Migration] = []
    step = following.get(None)
    while step is not None and len(line) < count:
        line.append(step)
        step = following.get(step.revision)
    if len(line) < count:
        lost = sorted(str(one.path) for one in following.values() if one not in line)
        raise BrokenHistoryError(
            "A migration follows a revision that does not exist.",
            where=", ".join(lost),
            next_step="set its down_revision to the revision before it",
        )
    return Chain(migrations=tuple(line))


def parse(path: Path) -> Migration:
    """Read one migration file; raises BrokenHistoryError without a literal `revision` and `down_revision`."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text, filename=str(path))
    values: dict[str, object] = {}
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        for target in targets:
            value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
            if isinstance(target, ast.Name) and isinstance(value, ast.Constant):
                values[target.id] = value.value
    revision, down = values.get("revision"), values.get("down_revision", "")
    if not isinstance(revision, str) or not (down is None or (isinstance(down, str) and down)):
        raise BrokenHistoryError(
            "A file among the migrations is not one.",
            where=str(path),
            next_step='give it `revision = "…"` and `down_revision = "…"` (None for the first)',
        )
    reason = str(values.get("contract_reason") or "").strip()
    return Migration(
        revision=revision,
        down_revision=down,
        title=(ast.get_docstring(tree) or revision).splitlines()[0].rstrip("."),
        path=path,
        checksum=checksum(text),
        contract=reason if values.get("contract") is True and reason else None,
    )


def checksum(text: str) -> str:
    """Return the SHA-256 of `text` with line ends and trailing blanks evened out, in hex."""
    even = "\n".join(line.rstrip() for line in text.splitlines()).rstrip("\n") + "\n"
    return hashlib.sha256(even.encode()).hexdigest()
