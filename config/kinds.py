"""How the text of a variable becomes a value, and back.

`read` raises `ValueError` whose text states the rule and never repeats the value: a secret pasted into the
wrong variable must not come out in a message.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import SplitResult, urlsplit

import decouple

from config.secret import Secret
from config.spelling import nearest

BOOLEANS = {True: "true", False: "false"}
LONGEST_WORD = 40
MEMORY = r"(?P<amount>[1-9][0-9]{0,8})(?P<unit>[KMG])"
MEBIBYTES = {"K": 1 / 1024, "M": 1, "G": 1024}
HOST = r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Text:
    """Any text; `pattern` and `rule` narrow it."""

    pattern: str = ""
    rule: str = "text"
    empty: ClassVar[bool] = True
    """Whether the empty text is a value of its own, instead of a mistake."""

    def read(self, text: str) -> Any:
        """Return the value that `text` stands for; raises ValueError."""
        if text and self.pattern and not re.fullmatch(self.pattern, text):
            raise ValueError(self.rule)
        return text

    def write(self, value: Any) -> str:
        """Return the text that reads back as `value`."""
        return str(value)

    def advice(self, text: str) -> str:  # noqa: ARG002 (for the kinds with a few words)
        """Return what to do about `text`, which does not read, without repeating it."""
        return f"Write {self.rule}"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Name(Text):
    """Text that cannot be empty."""

    pattern: str = r"[^\s\x00]+"
    rule: str = "a name without blanks"
    empty: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Identity(Text):
    """What one PostgreSQL database calls itself, or nothing: system identifier, number and name."""

    pattern: str = r"(postgresql:[0-9]+/[0-9]+/\S+)?"
    rule: str = "what `invoke db.status` shows as identity"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Integer(Text):
    """A whole number from `minimum` to `maximum`."""

    minimum: int = 0
    maximum: int = 2**31 - 1
    rule: str = ""
    empty: ClassVar[bool] = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "rule", f"a whole number from {self.minimum} to {self.maximum}")

    def read(self, text: str) -> int:
        """Return the number; raises ValueError."""
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
            raise ValueError(self.rule)
        value = int(text)
        if not self.minimum <= value <= self.maximum:
            raise ValueError(self.rule)
        return value


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Number(Text):
    """A decimal number from `minimum` to `maximum`, in `unit`."""

    minimum: float = 0.0
    maximum: float = 86400.0
    unit: str = "seconds"
    rule: str = ""
    empty: ClassVar[bool] = False

    def __post_init__(self) -> None:
        unit = f", in {self.unit}" if self.unit else ""
        object.__setattr__(self, "rule", f"a number from {self.minimum:g} to {self.maximum:g}{unit}")

    def read(self, text: str) -> float:
        """Return the number; raises ValueError, for infinities and exponents too."""
        if not re.fullmatch(r"[+-]?[0-9]{1,15}(\.[0-9]{1,15})?", text):
            raise ValueError(self.rule)
        value = float(text)
        if not self.minimum <= value <= self.maximum:
            raise ValueError(self.rule)
        return value

    def write(self, value: float) -> str:
        """Return the shortest text that reads back as `value`."""
        return f"{value:.15f}".rstrip("0").rstrip(".")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Boolean(Text):
    """True or false in python-decouple's spellings; anything else, `ture` included, is refused."""

    rule: str = "true or false (also yes, no, on, off, 1, 0)"
    empty: ClassVar[bool] = False

    def read(self, text: str) -> bool:
        """Return the truth value; raises ValueError."""
        try:
            return bool(decouple.strtobool(text))
        except ValueError:
            raise ValueError(self.rule) from None

    def advice(self, text: str) -> str:
        """Return the truth value that was perhaps meant."""
        return meant(text, BOOLEANS.values()) or super().advice(text)

    def write(self, value: bool) -> str:
        """Return `true` or `false`."""
        return BOOLEANS[value]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Choice(Text):
    """One of a few words; `fold` accepts other capitals."""

    choices: tuple[str, ...]
    fold: bool = False
    rule: str = ""
    empty: ClassVar[bool] = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "rule", f"one of {', '.join(self.choices)}")

    def read(self, text: str) -> str:
        """Return the word; raises ValueError."""
        wanted = text.casefold() if self.fold else text
        for choice in self.choices:
            if wanted == (choice.casefold() if self.fold else choice):
                return choice
        raise ValueError(self.rule)

    def advice(self, text: str) -> str:
        """Return the word that was perhaps meant."""
        return meant(text, self.choices) or super().advice(text)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Names(Text):
    """A comma-separated list of different words out of a few, in order of preference."""

    choices: tuple[str, ...]
    rule: str = ""
    empty: ClassVar[bool] = False

    def __post_init__(self) -> None:
        rule = f"a comma-separated list of {', '.join(self.choices)}, each at most once"
        object.__setattr__(self, "rule", rule)

    def read(self, text: str) -> tuple[str, ...]:
        """Return the words in order; raises ValueError."""
        try:
            names: tuple[str, ...] = decouple.Csv(post_process=tuple)(text)
        except ValueError:
            raise ValueError(self.rule) from None
        if not names or len(set(names)) < len(names) or not set(names) <= set(self.choices):
            raise ValueError(self.rule)
        return names

    def write(self, value: tuple[str, ...]) -> str:
        """Return the words joined by commas."""
        return ",".join(value)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class File(Text):
    """A path; empty means none. Relative paths start at the working directory."""

    rule: str = "a path"

    def read(self, text: str) -> Path | None:
        """Return the path, or None for the empty text; raises ValueError."""
        if "\0" in text or "\n" in text:
            raise ValueError(self.rule)
        return Path(text) if text else None

    def write(self, value: Path | None) -> str:
        """Return the path as text."""
        return "" if value is None else str(value)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class NeededFile(File):
    """A path that cannot be empty."""

    empty: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Host(Text):
    """A host name or an address; `folder` also allows the folder of a Unix socket."""

    folder: bool = False
    rule: str = ""

    def __post_init__(self) -> None:
        folder = ", or the absolute folder of a Unix socket" if self.folder else ""
        rule = f"a host name or address without scheme, port or user{folder}"
        object.__setattr__(self, "rule", rule)

    def read(self, text: str) -> str:
        """Return the host; raises ValueError."""
        socket = self.folder and text.startswith("/")
        if text and not socket and not (is_address(text) or re.fullmatch(HOST, text)):
            raise ValueError(self.rule)
        return text


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Address(Text):
    """An IPv4 or IPv6 address; empty means none."""

    rule: str = "an IPv4 or IPv6 address"

    def read(self, text: str) -> str:
        """Return the address; raises ValueError."""
        if text and not is_address(text):
            raise ValueError(self.rule)
        return text


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Url(Text):
    """An address with one of `schemes` and a host; user names and passwords do not belong into it."""

    schemes: tuple[str, ...]
    rule: str = ""

    def __post_init__(self) -> None:
        schemes = " or ".join(f"{scheme}://" for scheme in self.schemes)
        object.__setattr__(
            self, "rule", f"a URL that starts with {schemes}, with a host and without a password"
        )

    def read(self, text: str) -> str:
        """Return the URL without a trailing slash; raises ValueError."""
        if not text:
            return text
        parts, port = split(text, self.rule)
        host = parts.hostname or ""
        named = bool(host) and (is_address(host) or re.fullmatch(HOST, host) is not None)
        if parts.scheme not in self.schemes or parts.username is not None or not named or port == 0:
            raise ValueError(self.rule)
        return text.rstrip("/")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Endpoint(Text):
    """Where a Docker engine listens; empty means this machine's."""

    rule: str = "empty, or unix:///path, ssh://user@host or tcp://host:port"

    def read(self, text: str) -> str:
        """Return the endpoint; raises ValueError."""
        if not text:
            return text
        parts, port = split(text, self.rule)
        socket = parts.scheme == "unix" and parts.path.startswith("/") and not parts.netloc
        shell = parts.scheme == "ssh" and bool(parts.hostname)
        network = parts.scheme == "tcp" and bool(parts.hostname) and port is not None
        if parts.password is not None or port == 0 or not (socket or shell or network):
            raise ValueError(self.rule)
        return text


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Memory(Text):
    """An amount of memory as Docker writes it, of `minimum` to `maximum` MiB."""

    minimum: int = 64
    maximum: int = 1024 * 1024
    rule: str = ""
    empty: ClassVar[bool] = False

    def __post_init__(self) -> None:
        limits = f"from {self.minimum}M to {self.maximum // 1024}G"
        object.__setattr__(self, "rule", f"a whole number with K, M or G behind it, {limits}")

    def read(self, text: str) -> str:
        """Return the amount; raises ValueError."""
        found = re.fullmatch(MEMORY, text.upper())
        amount = int(found["amount"]) * MEBIBYTES[found["unit"]] if found else 0
        if not self.minimum <= amount <= self.maximum:
            raise ValueError(self.rule)
        return text.upper()


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Hidden(Text):
    """A secret, with what it takes to be a strong one."""

    characters: int = 12
    """Fewest characters."""
    bits: float = 40.0
    """Fewest bits of entropy, as `config.strength` estimates them."""
    rule: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "rule", f"a secret of {self.characters} characters or more")

    def read(self, text: str) -> Secret | None:
        """Return the secret, or None for the empty text."""
        return Secret(text) if text else None

    def write(self, value: Secret | None) -> str:
        """Return the text of the secret: the only kind whose text is not for showing."""
        return value.reveal() if value else ""


def meant(text: str, words: Iterable[str]) -> str:
    """Return advice to write the word that `text` is a slip of, or nothing."""
    by_capitals = {word.upper(): word for word in words}
    word = nearest(text[:LONGEST_WORD], by_capitals)
    return f"Did you mean {by_capitals[word]}" if word else ""


def split(text: str, rule: str) -> tuple[SplitResult, int | None]:
    """Return the parts of a URL and its port; raises ValueError with `rule`.

    What urlsplit drops without a word is refused: line breaks, blanks at the ends, control characters.
    """
    if not text.isprintable() or any(character.isspace() for character in text):
        raise ValueError(rule)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError(rule) from None
    return parts, port


def is_address(text: str) -> bool:
    """Tell whether `text` is an IPv4 or IPv6 address, without a zone of this machine."""
    if "%" in text:
        return False
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
