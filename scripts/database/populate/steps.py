"""What a source offers: steps in an order, each a stream of records that become events."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.database.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Record:
    """One record of a source.

    `line` is where a person finds it (a line, or its number), `raw` what its content is (the checkpoint
    hashes this), `done` how far into the step it ends, in the unit of `Step.total`. `file` names the file
    where a source has several, and `problem` says why the record cannot be read at all.
    """

    line: int
    raw: bytes
    done: int
    file: str = ""
    problem: str | None = None


@dataclass(frozen=True, kw_only=True)
class Step:
    """One part of a source; `event` makes a record a CloudEvent and raises ValueError with the reason.

    `head` is what the meaning of every record depends on, such as the names of a table's columns.
    """

    name: str
    summary: str
    records: Callable[[], Iterator[Record]]
    event: Callable[[Record], Mapping[str, Any]]
    total: Callable[[], int | None]
    needs: tuple[str, ...] = ()
    head: bytes = b""


def printable(path: Path) -> str:
    """Return a path as text that can be written anywhere: a byte that is no UTF-8 is spelt out."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def choose(
    steps: Sequence[Step], select: Collection[str] = (), skip: Collection[str] = ()
) -> tuple[Step, ...]:
    """Return the steps to run, each after what it needs: those selected (or all) without those to skip.

    Raises UsageError for a name that is no step, and for a skipped step that another one needs.
    """
    named = {step.name: step for step in steps}
    for name in (*select, *skip):
        if name not in named:
            raise UsageError(
                f"This source has no step {name!r}.", "--select, --skip", f"its steps are: {', '.join(named)}"
            )
    chosen: dict[str, Step] = {}

    def take(name: str, wanted_by: str) -> None:
        if name in chosen:
            return
        if name in skip:
            raise UsageError(
                f"The step {wanted_by!r} needs {name!r}, which is to be skipped.",
                "--skip",
                f"skip both, or neither: --skip={name},{wanted_by}",
            )
        for need in named[name].needs:
            take(need, name)
        chosen[name] = named[name]

    for step in steps:
        if step.name not in skip and (not select or step.name in select):
            take(step.name, step.name)
    return tuple(chosen.values())
