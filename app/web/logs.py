"""Log lines for people (text) or programs (JSON), each on one line, with every known secret masked."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

from config.masking import Masker

if TYPE_CHECKING:
    from config.secret import Secret
    from config.settings import Settings

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Line(logging.Formatter):
    """One record as one line: control characters escaped, secrets masked."""

    def __init__(self, *, as_json: bool, secrets: Iterable[Secret] = ()) -> None:
        super().__init__()
        self._as_json = as_json
        self._masker = Masker()
        self.mask(secrets)

    def mask(self, secrets: Iterable[Secret]) -> None:
        """Mask these secrets too; those known before stay masked, for they may still open something."""
        self._masker.add(*(secret.reveal() for secret in secrets))

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of `record`."""
        fields: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._masker.text(record.getMessage()),
        }
        extra = getattr(record, "fields", {})
        fields |= {name: self._masked(value) for name, value in extra.items()}
        if record.exc_info:
            fields["exception"] = self._masker.text(self.formatException(record.exc_info))
        if self._as_json:
            return json.dumps(fields)
        return self._text(fields, extra)

    def _text(self, fields: dict[str, object], extra: Iterable[str]) -> str:
        parts = [f"{fields['time']} {fields['level']!s:7} {fields['logger']}: {_one_line(fields['message'])}"]
        parts += [f"{name}={_one_line(fields[name])}" for name in extra if fields[name] is not None]
        line = " ".join(parts)
        return f"{line}\n{fields['exception']}" if "exception" in fields else line

    def _masked(self, value: object) -> object:
        """Return a field without secrets, as JSON can have it."""
        if isinstance(value, str | Mapping | list | tuple):
            return self._masker.event(value)
        text = str(value)
        masked = self._masker.text(text)
        return value if masked == text and isinstance(value, int | float | None) else masked


def configure(settings: Settings, stream: TextIO | None = None) -> None:
    """Send every log line of this process to `stream` (standard error) as the settings ask."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(Line(as_json=settings.logging.format == "json", secrets=settings.secrets()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.logging.level)


def mask(secrets: Iterable[Secret]) -> None:
    """Mask further secrets in every log line of this process from now on."""
    known = tuple(secrets)
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, Line):
            handler.formatter.mask(known)


def _one_line(value: object) -> str:
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", str(value))
