"""A file of CloudEvents, one JSON object a line."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scripts.database.populate.sources.lines import lines
from scripts.database.populate.steps import Record, Step


def steps(path: Path) -> tuple[Step, ...]:
    """Return the one step of the file."""
    return (
        Step(
            name="events",
            summary="every line a CloudEvent",
            records=lambda: records(path),
            event=event,
            total=lambda: path.stat().st_size,
        ),
    )


def records(path: Path) -> Iterator[Record]:
    """Yield the lines that are not blank."""
    for number, (raw, done, problem) in enumerate(lines(path), start=1):
        if raw.strip():
            yield Record(line=number, raw=raw.strip(), done=done, problem=problem)


def event(record: Record) -> Mapping[str, Any]:
    """Return the event of one line; raises ValueError when it is not a JSON object in UTF-8."""
    try:
        found = json.loads(record.raw.decode("utf-8-sig" if record.line == 1 else "utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8: byte {error.start + 1}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("is not a JSON object")  # noqa: TRY004 - a rejected record, not a wrong call
    return found
