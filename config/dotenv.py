"""Read a `.env` file with python-decouple, and mend what it reads wrongly.

decouple takes each line that has a `=` in it, and nothing else. So it keeps an inline comment as part of the
value and `export` as part of the name, ends a quoted value at the end of its line, lets the last of two equal
names win and passes over a line that it does not understand. All of these are found here, with their line.
There is no interpolation: `$` is a dollar sign.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG

from decouple import RepositoryEnv

ENCODING = "utf-8-sig"
LARGEST = 65536
"""Bytes; `.env.template`, with a comment for every variable, has a sixth of that."""
LEADING = r"\s*(?P<export>export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
ASSIGNMENT = rf"(?s){LEADING}\s*=(?P<rest>.*)"
COMMENT = r"(?<=\s)#"
"""Where a comment begins behind a value; a pattern that took the blanks too would try each of them."""
ESCAPES = {r"\n": "\n", r"\t": "\t", r"\"": '"', r"\\": "\\"}


@dataclass(frozen=True)
class Assignment:
    """One `NAME=value` of a file, and the line that it begins on, counted from 1."""

    name: str
    value: str = field(repr=False)
    line: int
    plain: bool
    """Whether python-decouple reads it rightly by itself."""


@dataclass(frozen=True)
class Fault:
    """A line that cannot be understood. The line itself is not kept: it may hold a secret."""

    line: int
    rule: str
    fix: str
    name: str = field(default="", repr=False)
    """What seems to be the name in it; it may be a piece of a secret as well, so it is not for showing."""


class EnvFile(RepositoryEnv):  # type: ignore[misc]  # decouple is not typed
    """The assignments of one file, with their lines; raises what `text_of` raises."""

    def __init__(self, path: Path) -> None:
        text = text_of(path)
        super().__init__(path, encoding=ENCODING)
        self.lines: dict[str, int] = {}
        self.faults: list[Fault] = []
        mended: dict[str, str] = {}
        for found in parse(text):
            if isinstance(found, Fault):
                self.faults.append(found)
            elif found.name in self.lines:
                rule = f"a name is set once; line {self.lines[found.name]} sets the same one"
                fix = "Delete one of the two lines"
                self.faults.append(Fault(found.line, rule, fix, found.name))
            else:
                self.lines[found.name] = found.line
                # What is plain was read rightly; a name that comes again further down was not.
                read = self.data.get(found.name)
                mended[found.name] = read if found.plain and read == found.value else found.value
        self.data: dict[str, str] = mended

    def __contains__(self, name: str) -> bool:
        """Tell whether the file sets `name`; decouple's own also looks at the process environment."""
        return name in self.data


def text_of(path: Path, errors: str = "strict") -> str:
    """Return the text of an env file; raises OSError, and ValueError with the rule that the file breaks."""
    status = path.stat()
    if not S_ISREG(status.st_mode):
        raise ValueError("an env file is a regular file")
    if status.st_size > LARGEST:
        raise ValueError(f"an env file has at most {LARGEST} bytes")
    try:
        text = path.read_text(encoding=ENCODING, errors=errors)
    except UnicodeDecodeError:
        raise ValueError("an env file is UTF-8 text") from None
    if "\0" in text and errors == "strict":
        raise ValueError("an env file is text without NUL")
    return text


def parse(text: str) -> Iterator[Assignment | Fault]:
    """Yield what each line of `text` means, in order; blank lines and comments mean nothing."""
    lines = text.split("\n")
    number = 0
    while number < len(lines):
        first = number
        line = lines[number]
        number += 1
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = re.fullmatch(ASSIGNMENT, line)
        if match is None:
            rule = "a line is NAME=value, a comment or blank"
            yield Fault(first + 1, rule, "Correct or delete the line", leading_name(line))
            continue
        name, raw = match["name"], match["rest"]
        rest = raw.lstrip()
        if rest[:1] in ("'", '"'):
            rest = "\n".join([rest, *lines[number:]])
            end = closing(rest)
            if end < 0:
                yield Fault(first + 1, "a quote that is opened is closed", f"Add the missing {rest[0]}", name)
                continue
            number += rest.count("\n", 0, end)
            behind = rest[end + 1 :].partition("\n")[0]
            if uncommented(behind):
                fix = "Quote the whole value, or put a blank before the #"
                yield Fault(first + 1, "nothing but a comment follows a closing quote", fix, name)
                continue
            value = (
                rest[1:end] if rest[0] == "'" else re.sub(r"\\[nt\"\\]", lambda m: ESCAPES[m[0]], rest[1:end])
            )
            plain = False
        else:
            value = uncommented(raw)
            plain = not match["export"] and value == raw.strip()
        yield Assignment(name, value, first + 1, plain)


def uncommented(text: str) -> str:
    """Return `text` without the comment behind it and the blanks around it."""
    comment = re.search(COMMENT, text)
    return text[: comment.start() if comment else None].strip()


def leading_name(line: str) -> str:
    """Return the name that a line which assigns nothing begins with, or nothing."""
    match = re.match(LEADING, line)
    return match["name"] if match else ""


def closing(text: str) -> int:
    """Return where the quote that opens `text` closes, or -1; a backslash protects a double quote."""
    if text[0] == "'":
        return text.find("'", 1)
    match = re.match(r'(?s)"(?:[^"\\]|\\.)*"', text)
    return match.end() - 1 if match else -1
