"""A local git repository: each commit an event, each tag a release.

A commit is `dev.slipway.commit`, a tag `dev.slipway.release.tagged`. The repository is named by its first
commit (`urn:git:<sha>`), where the first parents of HEAD lead, so clones and renamed folders are one source.
No e-mail addresses are taken.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, cast

from scripts.database.errors import SourceError, UsageError
from scripts.database.populate.steps import Record, Step

FIELD = "\x1f"
ALL = ("--exclude=refs/stash", "--exclude=refs/notes/*", "--all")  # what lies in a stash is no history yet
COMMIT_FORMAT = "%H%x1f%P%x1f%ct%x1f%an%x1f%s"
TAG_FORMAT = (
    "%(refname:strip=2)%1f%(objectname)%1f%(*objectname)%1f%(creatordate:unix)%1f%(taggername)%1f%(subject)"
)


def steps(path: Path) -> tuple[Step, ...]:
    """Return the steps of the repository that holds `path`; raises UsageError when there is none."""
    try:
        bare = git(path, "rev-parse", "--is-bare-repository") == "true"
        folder = Path(git(path, "rev-parse", "--absolute-git-dir" if bare else "--show-toplevel"))
    except (SourceError, FileNotFoundError):
        raise UsageError(
            f"{path} is not in a git repository that can be read.", "source git", "give --path to one"
        ) from None
    if git(path, "rev-parse", "--is-shallow-repository") == "true":
        raise UsageError(
            f"{path} is a shallow clone: its first commit is not the repository's.",
            "source git",
            "fetch the whole history: `git fetch --unshallow`",
        )
    name = folder.name.removesuffix(".git")
    source = f"urn:git:{first_commit(path)}"
    return (
        Step(
            name="commits",
            summary="every commit of every branch, oldest first",
            records=lambda: records(
                path, "log", "-z", *ALL, "--reverse", "--topo-order", f"--format={COMMIT_FORMAT}"
            ),
            event=lambda record: commit_event(record, source, name),
            total=lambda: int(git(path, "rev-list", *ALL, "--count")),
        ),
        Step(
            name="tags",
            summary="every tag, as a release",
            needs=("commits",),
            records=lambda: records(
                path, "for-each-ref", "refs/tags", "--sort=creatordate", f"--format={TAG_FORMAT}%00"
            ),
            event=lambda record: tag_event(record, source, name),
            total=lambda: len(git(path, "tag", "--list").split()),
        ),
    )


def environment() -> dict[str, str]:
    """Return our environment without what a hook sets to point git at another repository."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}


def first_commit(path: Path) -> str:
    """Return the commit that names the repository; branches with a root of their own do not count."""
    if not git(path, "rev-list", *ALL, "--max-count=1"):
        return "empty"
    return git(path, "rev-list", "--first-parent", "--max-parents=0", "HEAD")


def git(path: Path, *words: str) -> str:
    """Return what a git command prints; raises SourceError."""
    argv = ["git", "-C", str(path), *words]
    done = subprocess.run(argv, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise failed(words[0], path, done.stderr)
    return done.stdout.strip()


def failed(command: str, path: Path, said: str) -> SourceError:
    """Return the error for a git command that did not end well."""
    return SourceError(
        f"git {command} failed: {' '.join(said.split())}",
        str(path),
        "correct this (`git fsck` says what is missing) and repeat the command",
    )


def records(path: Path, *words: str) -> Iterator[Record]:
    """Yield what a git command prints, cut at NUL, without holding it all; raises SourceError at its end."""
    argv = ["git", "-C", str(path), "-c", "i18n.logOutputEncoding=UTF-8", *words]
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(argv, env=environment(), stdout=subprocess.PIPE, stderr=said) as process,
    ):
        try:
            stdout = cast("IO[bytes]", process.stdout)
            rest = b""
            number = 0
            while chunk := stdout.read(65536):
                *whole, rest = (rest + chunk).split(b"\0")
                for raw in whole:
                    number += 1
                    yield Record(line=number, raw=raw.lstrip(b"\n"), done=number)
            if process.wait():
                said.seek(0)
                raise failed(words[0], path, said.read().decode("utf-8", "replace"))
            if rest.strip():
                yield Record(line=number + 1, raw=rest.strip(b"\n"), done=number + 1)
        finally:
            with suppress(ProcessLookupError):
                process.kill()


def commit_event(record: Record, source: str, repository: str) -> dict[str, Any]:
    """Return the event of one commit."""
    sha, parents, seconds, author, subject = text(record).split(FIELD, 4)
    return {
        "specversion": "1.0",
        "id": sha,
        "source": source,
        "type": "dev.slipway.commit",
        "time": moment(seconds),
        "subject": repository,
        "data": {"commit": sha, "parents": parents.split(), "author": author, "message": subject},
    }


def tag_event(record: Record, source: str, repository: str) -> dict[str, Any]:
    """Return the event of one tag: annotated ones carry their own time, plain ones the commit's."""
    tag, target, peeled, seconds, tagger, subject = text(record).split(FIELD, 5)
    commit = peeled or target
    return {
        "specversion": "1.0",
        "id": f"{tag}@{commit}",
        "source": source,
        "type": "dev.slipway.release.tagged",
        "time": moment(seconds),
        "subject": repository,
        "data": {"tag": tag, "commit": commit, "tagger": tagger or None, "message": subject},
    }


def text(record: Record) -> str:
    """Return a record as text; bytes that are no UTF-8 become replacement marks."""
    return record.raw.decode("utf-8", "replace")


def moment(seconds: str) -> str:
    """Return seconds since 1970 as an RFC 3339 time; raises ValueError when it is none."""
    try:
        return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"{seconds!r} is not a time that can be written") from None
