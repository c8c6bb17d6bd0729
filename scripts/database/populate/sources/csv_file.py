"""A file of events as a table: columns id, source, type, time, subject and `data.NAME` or `data.NAME:TYPE`.

TYPE is text (the default), number, boolean or json; an empty cell leaves the attribute out.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from scripts.database.errors import UsageError
from scripts.database.populate.sources.lines import LONGEST_LINE, lines
from scripts.database.populate.steps import Record, Step

NEEDED = ("id", "source", "type", "time")
KNOWN = (*NEEDED, "subject")
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)


def steps(path: Path) -> tuple[Step, ...]:
    """Return the one step of the file; raises UsageError when its head lacks a column or has a wrong one."""
    columns = head(path)
    return (
        Step(
            name="events",
            summary="every row an event",
            records=lambda: records(path, len(columns)),
            event=lambda record: event(record, columns),
            total=lambda: path.stat().st_size,
            head=json.dumps(columns).encode(),
        ),
    )


def head(path: Path) -> tuple[str, ...]:
    """Return the names in the first row, checked."""
    try:
        columns = tuple(name.strip() for name in next(csv.reader(Text(path), strict=True), []))
        "".join(columns).encode()
    except (csv.Error, UnicodeEncodeError) as error:
        raise UsageError(
            f"The first row cannot be read: {error}.", f"{path}, line 1", "save the table as CSV in UTF-8"
        ) from None
    missing = [name for name in NEEDED if name not in columns]
    strange = [
        name
        for name in columns
        if name not in KNOWN
        and (not name.startswith("data.") or name.partition(":")[2] not in ("", *CONVERT))
    ]
    if missing or strange or len(set(columns)) < len(columns):
        wrong = f"lacks {', '.join(missing)}" if missing else f"has {', '.join(strange) or 'a name twice'}"
        raise UsageError(
            f"The first row {wrong}.",
            f"{path}, line 1",
            f"name the columns {', '.join(KNOWN)} and data.NAME:TYPE with {', '.join(CONVERT)}",
        )
    return columns


class Text:
    """The lines of a file as text for csv.reader; `number` and `done` tell how far it has read.

    A line or a row that is too long is an error that the reader passes on, and it goes on after it.
    """

    def __init__(self, path: Path) -> None:
        self.number = 0
        self.done = 0
        self.row = 0
        self._lines = lines(path)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        raw, self.done, problem = next(self._lines)
        self.number += 1
        self.row += len(raw)
        if problem or self.row > LONGEST_LINE:
            raise csv.Error(problem or f"the row is longer than {LONGEST_LINE} bytes")
        return raw.decode("utf-8-sig" if self.number == 1 else "utf-8", "surrogateescape")


def records(path: Path, width: int) -> Iterator[Record]:
    """Yield the rows after the first one, each as a JSON list."""
    text = Text(path)
    reader = csv.reader(text, strict=True)
    next(reader, None)
    while True:
        first, text.row = text.number + 1, 0
        problem = None
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            row, problem = [], f"is not CSV: {error}"
        if problem is None and row and len(row) != width:
            problem = f"has {len(row)} cells where the first row has {width}"
        if row or problem:
            raw = json.dumps(row, ensure_ascii=True).encode()
            yield Record(line=first, raw=raw, done=text.done, problem=problem)


def event(record: Record, columns: tuple[str, ...]) -> Mapping[str, Any]:
    """Return the event of one row; raises ValueError naming the column."""
    found: dict[str, Any] = {"specversion": "1.0", "data": {}}
    for column, cell in zip(columns, json.loads(record.raw), strict=True):
        if cell == "":
            continue
        name, _, kind = column.partition(":")
        try:
            value = CONVERT[kind or "text"](cell)
        except (ValueError, RecursionError):
            raise ValueError(f"{name}: {cell[:40]!r} is not a {kind}") from None
        if name.startswith("data."):
            found["data"][name.removeprefix("data.")] = value
        else:
            found[name] = value
    return found


def number(cell: str) -> float | int:
    """Return a whole number as int and any other as float, in ordinary notation; raises ValueError."""
    if not NUMBER.fullmatch(cell):
        raise ValueError(cell)
    try:
        return int(cell)
    except ValueError:
        return float(cell)


def boolean(cell: str) -> bool:
    """Return true or false; raises ValueError for any other word."""
    return ("false", "true").index(cell.lower()) == 1


CONVERT: Mapping[str, Callable[[str], Any]] = {
    "text": str,
    "number": number,
    "boolean": boolean,
    "json": json.loads,
}
