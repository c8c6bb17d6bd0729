"""CloudEvents 1.0 in JSON form: what arrives, checked attribute by attribute, becomes an `Event`.

Source of the rules: CloudEvents specification 1.0.2, "Context Attributes" and "Type System". We ask for more
in two places: `time` is required, because the projections order by it, and text must be storable on both back
ends (no NUL, no lone surrogate).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

# Together source and id fit PostgreSQL's index row of 2,704 bytes, whatever the alphabet.
MAX_SOURCE = 1024
MAX_ATTRIBUTE = 256
MAX_DEPTH = 32
_NAME = re.compile(r"[a-z0-9]{1,64}")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})", re.ASCII)
_SOURCE = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_CORE = frozenset({"specversion", "id", "source", "type", "time", "subject", "data"})


class InvalidEventError(ValueError):
    """An event breaks the specification or lacks what its type needs; nothing of its batch was recorded."""

    def __init__(self, rule: str, *, attribute: str, index: int = 0) -> None:
        super().__init__(f"event {index}: {attribute}: {rule}")
        self.rule = rule
        self.attribute = attribute
        self.index = index

    def at(self, index: int) -> InvalidEventError:
        """Return the same problem, found at place `index` of a batch."""
        return InvalidEventError(self.rule, attribute=self.attribute, index=index)


@dataclass(frozen=True, kw_only=True)
class Event:
    """One checked CloudEvent; `extensions` holds every attribute beyond the core ones."""

    source: str
    id: str
    type: str
    time: datetime
    subject: str | None = None
    data: Any = None
    extensions: Mapping[str, str | int | bool] = field(default_factory=dict)


def parse(document: object) -> Event:
    """Check one CloudEvent in JSON form and return it.

    Raises InvalidEventError, which names the attribute and the rule.
    """
    if not isinstance(document, Mapping):
        raise InvalidEventError("a CloudEvent is a JSON object", attribute="event")
    if document.get("specversion") != "1.0":
        raise InvalidEventError('must be "1.0"', attribute="specversion")
    if "data_base64" in document:
        raise InvalidEventError(
            "binary data is not recorded here; send JSON in data", attribute="data_base64"
        )
    source = _text(document, "source", longest=MAX_SOURCE)
    if not _SOURCE.fullmatch(source):
        raise InvalidEventError("must be a URI reference", attribute="source")
    subject = _text(document, "subject", longest=MAX_SOURCE) if document.get("subject") is not None else None
    return Event(
        source=source,
        id=_text(document, "id"),
        type=_text(document, "type"),
        time=parse_time(document.get("time"), attribute="time"),
        subject=subject,
        data=storable(document.get("data"), attribute="data"),
        extensions=_extensions(document),
    )


def parse_time(value: object, *, attribute: str) -> datetime:
    """Read an RFC 3339 time with a zone as aware UTC; finer than a microsecond is cut off.

    Raises InvalidEventError naming `attribute`.
    """
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        raise InvalidEventError("must be an RFC 3339 time such as 2026-01-31T12:00:00Z", attribute=attribute)
    cut = re.sub(r"(\.\d{6})\d+", r"\1", value.upper())
    try:
        return datetime.fromisoformat(cut).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidEventError("is not a time that exists", attribute=attribute) from None


def format_time(moment: datetime) -> str:
    """Write an aware time as RFC 3339 UTC with microseconds, so that text order is time order."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")


def storable(value: Any, *, attribute: str, depth: int = 0) -> Any:
    """Return `value` when both back ends can keep it as JSON unchanged; raise InvalidEventError otherwise."""
    if depth > MAX_DEPTH:
        raise InvalidEventError(f"is nested deeper than {MAX_DEPTH} levels", attribute=attribute)
    if isinstance(value, str):
        if _UNSTORABLE.search(value):
            raise InvalidEventError(
                "holds a NUL or a lone surrogate, which no back end stores", attribute=attribute
            )
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidEventError("holds a number that JSON does not have", attribute=attribute)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            storable(key, attribute=attribute, depth=depth + 1)
            storable(item, attribute=attribute, depth=depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            storable(item, attribute=attribute, depth=depth + 1)
    elif value is not None and not isinstance(value, int):
        raise InvalidEventError(
            f"holds a {type(value).__name__}, which JSON does not have", attribute=attribute
        )
    return value


def _text(document: Mapping[str, object], name: str, *, longest: int = MAX_ATTRIBUTE) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidEventError("must be a string that is not empty", attribute=name)
    if len(value) > longest:
        raise InvalidEventError(f"is longer than {longest} characters", attribute=name)
    return str(storable(value, attribute=name))


def _extensions(document: Mapping[str, object]) -> dict[str, str | int | bool]:
    found: dict[str, str | int | bool] = {}
    for name, value in document.items():
        if name in _CORE or value is None:
            continue
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InvalidEventError("attribute names are a-z and 0-9 only", attribute=str(name)[:64])
        if isinstance(value, int):
            found[name] = value
        else:
            found[name] = _text(document, name, longest=MAX_SOURCE)
    kind = found.get("datacontenttype", "application/json")
    if not re.fullmatch(r"[^;]*[/+]json(;.*)?", str(kind).lower()):
        raise InvalidEventError("only JSON data is recorded", attribute="datacontenttype")
    return found
