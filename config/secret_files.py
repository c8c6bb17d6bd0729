"""Read a secret from its file, as Docker, Kubernetes and people lay them out.

python-decouple's RepositorySecret reads every entry of one folder when it is made: it fails on a folder
inside (Kubernetes' `..data`) and on a folder that is not there, and keeps the line break that an editor
leaves at the end.
"""

from dataclasses import dataclass, field
from pathlib import Path
from stat import S_IMODE, S_ISREG

LARGEST = 65536
"""Bytes; Docker allows 500 kB, but what is larger than this is a wrong path."""
OTHERS = 0o077


@dataclass(frozen=True, kw_only=True)
class SecretFile:
    """The text of a secret file, without the line break at its end, and whether others may read it."""

    text: str = field(repr=False)
    exposed: bool


def read_secret(path: Path) -> SecretFile:
    """Read the secret in `path`; raises OSError, or ValueError with the rule that the file breaks."""
    try:
        status = path.stat()
    except ValueError:
        raise ValueError("a path is text without NUL") from None
    if not S_ISREG(status.st_mode):
        raise ValueError("a secret file is a regular file")
    if status.st_size > LARGEST:
        raise ValueError(f"a secret file has at most {LARGEST} bytes")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("a secret file is UTF-8 text") from None
    for ending in ("\r\n", "\n"):
        if text.endswith(ending):
            text = text.removesuffix(ending)
            break
    if "\0" in text:
        raise ValueError("a secret file is text without NUL")
    return SecretFile(text=text, exposed=bool(S_IMODE(status.st_mode) & OTHERS))


def is_there(path: Path) -> bool:
    """Tell whether there is anything at `path`, or at what may be no path at all."""
    try:
        path.stat()
    except (OSError, ValueError):
        return False
    return True


def names_in(folder: Path) -> frozenset[str]:
    """Return the names of the files in `folder`, hidden ones left out; raises OSError.

    None when the folder is missing.
    """
    try:
        entries = list(folder.iterdir())
    except FileNotFoundError:
        return frozenset()
    return frozenset(entry.name for entry in entries if not entry.name.startswith(".") and not entry.is_dir())
