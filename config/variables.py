"""What is known of each variable: its name, kind, default and meaning, kept with the field that it fills."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from config.kinds import Hidden, Text
from config.origin import Origin, Place


@dataclass(frozen=True, kw_only=True)
class Variable:
    """One variable: what the guide says of it and how its text is read."""

    name: str
    attribute: str
    group: str
    meaning: str
    kind: Text
    default: Any
    """The value when nothing sets it; `dataclasses.MISSING` when it must be set."""
    example: str
    rotates: bool
    """Whether a running service takes over a new value on SIGHUP; for secrets."""

    @property
    def secret(self) -> bool:
        """Whether the value must never be shown."""
        return isinstance(self.kind, Hidden)

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is MISSING


@dataclass(frozen=True)
class Reading:
    """One variable with its value and where it came from; a broken or missing one has no value."""

    variable: Variable
    value: Any = field(repr=False)
    origin: Origin

    @property
    def known(self) -> bool:
        """Whether there is a value."""
        return self.value is not MISSING

    @property
    def is_default(self) -> bool:
        """Whether no source sets it."""
        return self.origin.place is Place.DEFAULT


def variable(
    name: str, meaning: str, kind: Text, default: Any = MISSING, *, example: str = "", rotates: bool = False
) -> Any:
    """Declare the field of a group that the variable `name` fills."""
    about = {"name": name, "meaning": meaning, "kind": kind, "example": example, "rotates": rotates}
    return field(default=default, metadata=about)


def variables_of(groups: Mapping[str, type]) -> dict[str, Variable]:
    """Return the variables of the groups by name, in the order of their declaration."""
    found = {}
    for group, owner in groups.items():
        for each in fields(owner):
            found[each.metadata["name"]] = Variable(
                attribute=each.name, group=group, default=each.default, **each.metadata
            )
    return found
