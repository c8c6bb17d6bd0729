"""A local git repository: each commit an event, each tag a release.

A commit is `dev.slipway.commit`, a tag `dev.slipway.release.tagged`. The repository is named by its first
commit (`urn:git:<sha>`), so clones and renamed folders are one source. No e-mail addresses are taken.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scripts.database.errors import UsageError
from scripts.database.populate.steps import Record, Step

FIELD = "\x1f"
COMMIT_FORMAT = "%H%x1f%P%x1f%ct%x1f%an%x1f%s"
TAG_FORMAT = (
    "%(refname:strip=2)%1f%(objectname)%1f%(*objectname)%1f%(creatordate:unix)%1f%(taggername)%1f%(subject)"
)


def steps(path: Path) -> tuple[Step, ...]:
    """Return the steps of the repository that holds `path`; raises UsageError when there is none."""
    try:
        name = Path(git(path, "rev-parse", "--show-toplevel")).name
    except (subprocess.CalledProcessError, FileNotFoundError):
        raise UsageError(
            f"{path} is not in a git repository that can be read.", "source git", "give --path to one"
        ) from None
    roots = sorted(git(path, "rev-list", "--max-parents=0", "--all").split())
    source = f"urn:git:{roots[0] if roots else 'empty'}"
    return (
        Step(
            name="commits",
            summary="every commit of every branch, oldest first",
            records=lambda: records(
                path, "log", "-z", "--all", "--reverse", "--topo-order", f"--format={COMMIT_FORMAT}"
            ),
            event=lambda record: commit_event(record, source, name),
            total=lambda: int(git(path, "rev-list", "--all", "--count")),
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


def git(path: Path, *words: str) -> str:
    """Return what a git command prints."""
    argv = ["git", "-C", str(path), *words]
    done = subprocess.run(argv, env=environment(), capture_output=True, text=True, check=True)
    return done.stdout.strip()


def records(path: Path, *words: str) -> Iterator[Record]:
    """Yield what a git command prints, cut at NUL, without holding it all."""
    argv = ["git", "-C", str(path), "-c", "i18n.logOutputEncoding=UTF-8", *words]
    with subprocess.Popen(
        argv, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            if process.stdout is None:
                return
            rest = b""
            number = 0
            while chunk := process.stdout.read(65536):
                *whole, rest = (rest + chunk).split(b"\0")
                for raw in whole:
                    number += 1
                    yield Record(line=number, raw=raw.lstrip(b"\n"), done=number)
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
