"""Hide secret values in everything that a view or a file will see.

A `Masker` knows the values, not the places: the runner passes every line and every event through it before a
view or a log does, so no view can forget. It also knows the forms that a value takes when a tool prints it
inside something else: URL, JSON, HTML, shell, base64 at each of its three alignments, and hexadecimal.
"""

import base64
import copy
import dataclasses
import html
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Any, TypeVar
from urllib.parse import quote, quote_plus

MASK = "***"
SHORTEST = 4
"""Characters; masking shorter values would black out ordinary words and numbers and give the value away."""
SHORTEST_PIECE = 8
"""Characters that a line of a secret, or a piece of its encoding, needs before it is masked on its own."""
BASE64_WIDTHS = (64, 76)
"""Characters after which PEM files (RFC 7468) and MIME (RFC 2045) break base64 text."""

T = TypeVar("T")


class Masker:
    """Replace known secret values, in every form that they are printed in, by `***`."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._forms: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self.add(*secrets)

    def add(self, *secrets: str) -> None:
        """Learn further values, as when a run makes a secret that did not exist when it began."""
        for secret in secrets:
            self._forms.update(forms(secret))
        longest_first = sorted(self._forms, key=lambda form: (-len(form), form))
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def text(self, text: str) -> str:
        """Return `text` with every known value replaced."""
        return self._pattern.sub(MASK, text) if self._pattern else text

    def event(self, event: T) -> T:
        """Return `event`, or a copy of it, with every text inside it masked, however deep."""
        return self._value(event) if self._pattern else event

    def _value(self, value: Any) -> Any:
        if isinstance(value, Enum):
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self._value(key): self._value(each) for key, each in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return type(value)(map(self._value, value))
        if isinstance(value, BaseException):
            return self._exception(value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return self._dataclass(value)
        return value

    def _dataclass(self, value: Any) -> Any:
        changes = {}
        for field in dataclasses.fields(value):
            before = getattr(value, field.name)
            after = self._value(before)
            if after != before:
                changes[field.name] = after
        if not changes:
            return value
        twin = copy.copy(value)
        for name, after in changes.items():
            object.__setattr__(twin, name, after)  # the copy of a frozen dataclass is still ours to finish
        return twin

    def _exception(self, error: BaseException) -> BaseException:
        twin = copy.copy(error)
        twin.args = self._value(error.args)
        twin.__dict__.update({name: self._value(value) for name, value in vars(error).items()})
        return twin


def forms(secret: str) -> Iterator[str]:
    """Yield every form in which `secret` may be printed; nothing for a value too short to hide."""
    # As it is printed: bytes of the process environment that are no text come out as replacement marks.
    secret = secret.encode("utf-8", "surrogateescape").decode("utf-8", "replace").strip()
    if len(secret) < SHORTEST:
        return
    yield from _spelled(secret)
    yield from _encoded(secret.encode())
    lines = [line.strip() for line in secret.splitlines()]
    if len(lines) > 1:
        for line in lines:
            if len(line) >= SHORTEST_PIECE and not line.startswith("-----"):
                yield from _spelled(line)


def _spelled(text: str) -> Iterator[str]:
    yield text
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield repr(text)[1:-1]
    yield html.escape(text)
    yield html.escape(text, quote=False)
    yield shlex.quote(text)
    for quoted in (quote(text, safe=""), quote(text), quote_plus(text)):
        yield quoted
        yield re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), quoted)


def _encoded(data: bytes) -> Iterator[str]:
    if len(data) * 2 >= SHORTEST_PIECE:
        yield data.hex()
        yield data.hex().upper()
    for before in range(
        3
    ):  # base64 takes three bytes at a time, so a value has three spellings inside a text
        first, last = -(-before * 8 // 6), (before + len(data)) * 8 // 6
        standard = base64.b64encode(bytes(before) + data).decode()[first:last]
        for spelled in (standard, standard.replace("+", "-").replace("/", "_")):
            if len(spelled) >= SHORTEST:
                yield spelled
            for width in BASE64_WIDTHS:
                pieces = (spelled[at : at + width] for at in range(0, len(spelled), width))
                yield from (piece for piece in pieces if len(piece) >= SHORTEST_PIECE)
