"""A file of CloudEvents, one JSON object a line."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scripts.database.populate.steps import Record, Step

LONGEST_LINE = 1 << 20  # bytes; an event is some hundred, and a line without end must not fill the memory


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
    done = line = 0
    with path.open("rb") as file:
        while raw := file.readline(LONGEST_LINE):
            line += 1
            done += len(raw)
            problem = None
            if len(raw) == LONGEST_LINE and not raw.endswith(b"\n"):
                problem = f"the line is longer than {LONGEST_LINE} bytes"
                while (more := file.readline(LONGEST_LINE)) and not more.endswith(b"\n"):
                    done += len(more)
                done += len(more)
            if raw.strip():
                yield Record(line=line, raw=raw.strip(), done=done, problem=problem)


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
