"""A position in a list as an opaque word of a URL, and back, with every value checked."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import datetime
from typing import Any

from app.ledger.cloudevents import InvalidEventError, format_time, parse_time, storable

LONGEST = 2048
_MAX_SEQUENCE = 2**63 - 1


class InvalidCursorError(ValueError):
    """A cursor is not one that this service gave out for this list."""


def encode(position: tuple[Any, ...]) -> str:
    """Return the cursor of `position`."""
    plain = [format_time(value) if isinstance(value, datetime) else value for value in position]
    return base64.urlsafe_b64encode(json.dumps(plain).encode()).decode().rstrip("=")


def decode(cursor: str, kinds: tuple[type, ...]) -> tuple[Any, ...]:
    """Return the position of `cursor`, whose values are of `kinds` (datetime, str, int).

    Raises InvalidCursorError.
    """
    try:
        if len(cursor) > LONGEST:
            raise InvalidCursorError
        plain = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
        if not isinstance(plain, list) or len(plain) != len(kinds):
            raise InvalidCursorError
        return tuple(_value(value, kind) for value, kind in zip(plain, kinds, strict=True))
    except (binascii.Error, UnicodeError, ValueError, RecursionError):
        raise InvalidCursorError("the cursor is not one of this list") from None


def _value(value: object, kind: type) -> object:
    if kind is datetime:
        return parse_time(value, attribute="cursor")
    if kind is str and isinstance(value, str):
        return storable(value, attribute="cursor")
    if kind is int and type(value) is int and 0 <= value <= _MAX_SEQUENCE:
        return value
    raise InvalidEventError("is of another kind", attribute="cursor")
