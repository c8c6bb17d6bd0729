"""Where a value came from, as a message shows it."""

from dataclasses import dataclass
from enum import StrEnum


class Place(StrEnum):
    """The kinds of source, highest precedence first."""

    COMMAND = "command line"
    PROCESS = "process environment"
    SECRET_FILE = "secret file"  # noqa: S105 (the name of a source)
    YOURS = ".env"
    SHARED = "config/.env"
    DEFAULT = "default"


@dataclass(frozen=True)
class Origin:
    """Where one value came from; its text is what a message shows."""

    place: Place
    label: str

    def __str__(self) -> str:
        return self.label
