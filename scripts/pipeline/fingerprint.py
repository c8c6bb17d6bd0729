"""What a stage depends on, as content: the tree's files by hash, and named facts beside them."""

import contextlib
import hashlib
import json
import os
import re
import stat
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

from scripts.pipeline import files
from scripts.pipeline.errors import UnreachableError, UsageError
from scripts.pipeline.stage import Kind, Outputs, Stage

FORMAT = "1"
"""Part of every fingerprint: raise it when the meaning of a proof changes, and all older proofs are void."""
STATE = ".slipway"
RACY_NANOSECONDS = 100_000_000
"""A file touched this shortly before it was read may change again with the same times: it is read again."""
SHOWN_VALUE = 40


@dataclass(frozen=True, kw_only=True)
class Tree:
    """The files that git tracks or would track, `path -> mode:hash`, and the commit below them."""

    root: Path
    files: Mapping[str, str]
    commit: str | None
    dirty: bool


def git(root: Path, *words: str) -> bytes:
    """Run git in `root` and return what it printed; raises UsageError or UnreachableError with its words."""
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", *words],
            cwd=root,
            capture_output=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except OSError as error:
        raise UnreachableError(
            "git cannot be started", where=str(error), next_step="install git; proofs need it"
        ) from error
    if done.returncode == 0:
        return done.stdout
    said = done.stderr.decode(errors="replace").strip()
    if "not a git repository" in said:
        raise UsageError(
            "this folder is not in a git repository, so nothing can be proven about it",
            where=str(root),
            next_step="git init && git add . (a commit is not needed)",
        )
    raise UsageError(f"git says: {said}", where=str(root), next_step="repair the repository first")


def snapshot(root: Path) -> Tree:
    """Return the tree as it is now.

    Only files whose size, times, inode or mode differ from the last snapshot are read again. Raises
    UsageError outside a git repository and for a file that cannot be read.
    """
    began = time.time_ns()
    tracked = git(root, "ls-files", "-z", "--recurse-submodules").split(b"\0")
    commit, dirty, untracked = status(git(root, "status", "--porcelain=v2", "--branch", "-z", "-uall", "."))
    cache_path = root / STATE / "stat.json"
    known = read_cache(cache_path)
    fresh: dict[str, list[int | str]] = {}
    found: dict[str, str] = {}
    for raw in sorted({*tracked, *untracked} - {b""}):
        name = os.fsdecode(raw)
        if name.startswith(f"{STATE}/"):
            continue
        entry = examine(f"{root}/{name}", name, known.get(name))
        if entry is None:
            continue
        found[name] = str(entry[-1])
        # ctime is looked at too: unlike mtime, no tool can set it back.
        if max(int(entry[1]), int(entry[2])) < began - RACY_NANOSECONDS:
            fresh[name] = entry
    if fresh != known:
        # Without the cache the next snapshot is slower, not wrong.
        with contextlib.suppress(OSError):
            files.write_json(cache_path, fresh, lasting=False)
    return Tree(root=root, files=found, commit=commit, dirty=dirty)


def status(raw: bytes) -> tuple[str | None, bool, list[bytes]]:
    """Read `git status --porcelain=v2 --branch -z`: the commit, whether anything differs, untracked names."""
    commit: str | None = None
    dirty = False
    untracked: list[bytes] = []
    entries = iter(raw.split(b"\0"))
    for entry in entries:
        if entry.startswith(b"# branch.oid "):
            oid = entry.split()[2].decode()
            commit = None if oid == "(initial)" else oid
        elif entry.startswith(b"? "):
            name = entry[2:]
            if not name.startswith(STATE.encode() + b"/"):
                untracked.append(name)
                dirty = True
        elif entry.startswith((b"1 ", b"2 ", b"u ")):
            dirty = True
            if entry.startswith(b"2 "):
                next(entries, None)  # a rename is followed by its old name
    return commit, dirty, untracked


def read_cache(path: Path) -> dict[str, list[int | str]]:
    """Return the stat cache; empty when there is none or it is damaged."""
    with contextlib.suppress(OSError, ValueError):
        content = json.loads(path.read_bytes())
        if isinstance(content, dict):
            return {
                name: entry for name, entry in content.items() if isinstance(entry, list) and len(entry) == 6
            }
    return {}


def examine(path: str, name: str, known: list[int | str] | None) -> list[int | str] | None:
    """Return size, times, inode, mode and `mode:hash` of a file; None when there is none to speak of."""
    try:
        facts = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    key: list[int | str] = [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino, facts.st_mode]
    if known is not None and known[:-1] == key:
        return known
    try:
        if stat.S_ISLNK(facts.st_mode):
            return [*key, f"120000:{digest(os.fsencode(Path(path).readlink()))}"]
        if stat.S_ISREG(facts.st_mode):
            mode = "100755" if facts.st_mode & 0o100 else "100644"
            with Path(path).open("rb") as file:
                return [*key, f"{mode}:{hashlib.file_digest(file, 'sha256').hexdigest()}"]
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(
            f"{printable(name)} cannot be read: {error.strerror}",
            where="a file that git tracks or would track",
            next_step="make it readable, or name it in .gitignore",
        ) from error
    return [*key, "040000:"] if stat.S_ISDIR(facts.st_mode) else None


def digest(data: bytes) -> str:
    """Return the SHA-256 of `data` in hex."""
    return hashlib.sha256(data).hexdigest()


def printable(name: str) -> str:
    """Return a file name that can be shown: what is no text or would move the cursor is replaced."""
    text = os.fsencode(name).decode(errors="replace")
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


@cache
def compiled(pattern: str) -> tuple[bool, re.Pattern[str]]:
    """Translate a git-style pattern: without a slash it holds at any depth; a folder holds all below it."""
    negative = pattern.startswith("!")
    body = pattern.removeprefix("!")
    anchored = "/" in body.rstrip("/")
    body = body.strip("/")
    expression = "" if anchored else "(?:.*/)?"
    at = 0
    for piece in re.finditer(r"\*\*/|\*\*|\*|\?", body):
        expression += re.escape(body[at : piece.start()])
        expression += {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}[piece.group()]
        at = piece.end()
    expression += re.escape(body[at:])
    return negative, re.compile(f"(?s:{expression}(?:/.*)?)\\Z")


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Tell whether a path is in a set of git-style patterns; the last one that speaks of it decides."""
    for pattern in reversed(patterns):
        negative, expression = compiled(pattern)
        if expression.match(name):
            return not negative
    return False


def chosen(tree: Tree, patterns: Sequence[str] | None) -> Mapping[str, str]:
    """Return the tree's files that a stage depends on."""
    if patterns is None:
        return tree.files
    return {name: content for name, content in tree.files.items() if matches(name, patterns)}


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """All that a stage depends on; `facts` are named values beside the files."""

    files: Mapping[str, str]
    facts: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """The hash of it all, in hex."""
        return digest(json.dumps([FORMAT, self.files, self.facts], sort_keys=True).encode())


def fingerprint(stage: Stage, tree: Tree, outputs: Outputs, environment: Mapping[str, str]) -> Fingerprint:
    """Return what `stage` depends on. An environment variable's value is kept as a hash: it may be a
    secret.
    """
    facts = {f"tool {name}": version for name, version in stage.tools().items()}
    facts |= {f"parameter {name}": value for name, value in stage.parameters.items()}
    for name in stage.environment:
        value = environment.get(name)
        facts[f"variable {name}"] = "not set" if value is None else digest(value.encode(errors="replace"))
    for need in stage.needs:
        facts |= {f"output {need} {name}": value for name, value in outputs.get(need, {}).items()}
    # An effect looks outside to decide; of the tree it depends on what it names, by default on nothing.
    patterns = () if stage.kind is Kind.EFFECT and stage.inputs is None else stage.inputs
    return Fingerprint(files=chosen(tree, patterns), facts=facts)


def differences(old: Fingerprint, new: Fingerprint, since: str) -> list[str]:
    """Say in words what differs between two fingerprints, the files first; `since` names the older one."""
    return [*changed_files(old.files, new.files, since), *changed_facts(old.facts, new.facts)]


def changed_names(old: Mapping[str, str], new: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the name and what happened to it for each file that differs, by name."""
    found = [
        (name, "is new" if name not in old else "is gone" if name not in new else "changed")
        for name in old.keys() | new.keys()
        if old.get(name) != new.get(name)
    ]
    return sorted(found)


def changed_files(old: Mapping[str, str], new: Mapping[str, str], since: str) -> list[str]:
    """Say which files differ: the first by name and how many more."""
    changed = changed_names(old, new)
    if not changed:
        return []
    name, what = changed[0]
    more = f" (+{len(changed) - 1} more)" if len(changed) > 1 else ""
    return [f"{printable(name)} {what} since {since}{more}"]


def changed_facts(old: Mapping[str, str], new: Mapping[str, str]) -> Iterable[str]:
    """Say which facts differ."""
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        sort, _, rest = name.partition(" ")
        if sort == "variable":
            yield f"the environment variable {rest} changed"
        elif sort == "output":
            yield f"{rest.replace(' ', ' gave another ', 1)}"
        else:
            label = rest if sort == "tool" else f"{rest}:"
            yield f"{label} {short(before)} -> {short(after)}"


def short(value: str | None) -> str:
    """Return a value that fits a line."""
    if value is None:
        return "none"
    return value if len(value) <= SHOWN_VALUE else f"{value[: SHOWN_VALUE - 3]}..."
