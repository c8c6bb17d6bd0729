"""Where events come from, by the name that is typed."""

from pathlib import Path

from scripts.database.errors import UsageError
from scripts.database.populate.steps import Step

NAMES = ("git", "junit", "ndjson", "csv")
SUFFIXES = {".ndjson": "ndjson", ".jsonl": "ndjson", ".csv": "csv", ".xml": "junit"}


def steps(name: str, path: Path) -> tuple[Step, ...]:
    """Return the steps of the source `name` at `path`; raises UsageError for what is not there."""
    if name not in NAMES:
        raise UsageError(
            f"There is no source {name!r}.",
            "SOURCE",
            f"use one of {', '.join(NAMES)}, or a file of such a kind",
        )
    if not path.exists():
        raise UsageError(f"{path} does not exist.", f"source {name}", "give the path of what is to be read")
    if name in ("ndjson", "csv"):
        readable(name, path)
    if name == "git":
        from scripts.database.populate.sources import git

        return git.steps(path)
    if name == "junit":
        from scripts.database.populate.sources import junit

        return junit.steps(path)
    if name == "ndjson":
        from scripts.database.populate.sources import ndjson

        return ndjson.steps(path)
    from scripts.database.populate.sources import csv_file

    return csv_file.steps(path)


def readable(name: str, path: Path) -> None:
    """Raise UsageError when `path` is no file that can be read."""
    try:
        path.open("rb").close()
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}.", f"source {name}", "give the path of one file"
        ) from None


def recognise(text: str) -> tuple[str, Path | None]:
    """Return the source and the path meant by one word: a source's name, a file, or a repository's folder."""
    if text in NAMES:
        return text, None
    path = Path(text)
    if path.is_dir() and (
        (path / ".git").exists() or ((path / "HEAD").is_file() and (path / "refs").is_dir())
    ):
        return "git", path
    if path.suffix.lower() in SUFFIXES:
        return SUFFIXES[path.suffix.lower()], path
    raise UsageError(
        f"{text!r} is neither a source nor a file that shows its kind.",
        "SOURCE",
        f"name one of {', '.join(NAMES)} and give --path",
    )
