"""Where this machine gets Debian packages from, and what the archive says of itself."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.pipeline.errors import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterable

SUITE = "trixie"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SOURCES = Path("/etc/apt")
URI = re.compile(r"(?:https?|file)://[^\s\]]+")


class ArchiveUnreachable(UnreachableError):
    """Debian's package archive does not answer."""


@dataclass(frozen=True, kw_only=True)
class Mirrors:
    """The addresses of Debian's two archives."""

    main: str = "http://deb.debian.org/debian"
    security: str = "http://deb.debian.org/debian-security"

    def lines(self) -> tuple[str, ...]:
        """Return the one-line sources of the release, its updates and its security updates."""
        return (
            f"deb {self.main} {SUITE} main",
            f"deb {self.main} {SUITE}-updates main",
            f"deb {self.security} {SUITE}-security main",
        )

    def suites(self) -> tuple[tuple[str, str], ...]:
        """Return address and suite of each source, the least important first."""
        return (
            (self.main, SUITE),
            (self.main, f"{SUITE}-updates"),
            (self.security, f"{SUITE}-security"),
        )


def mirrors(sources: Path = SOURCES) -> Mirrors:
    """Read which mirrors of Debian this machine uses; Debian's own where it names none."""
    found: dict[str, str] = {}
    for path in sorted([sources / "sources.list", *sources.glob("sources.list.d/*")]):
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        for address in _addresses(text.splitlines()):
            kind = "security" if address.endswith("/debian-security") else "main"
            if address.endswith(("/debian", "/debian-security")):
                found.setdefault(kind, address)
    return Mirrors(**found)


def _addresses(lines: Iterable[str]) -> Iterable[str]:
    for line in lines:
        if line.startswith(("deb ", "URIs:")):
            yield from (address.rstrip("/") for address in URI.findall(line))


def fetch(address: str, *, timeout: float = 20.0) -> bytes:
    """Fetch one file of an archive; raises ArchiveUnreachable."""
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(address, timeout=timeout) as answer:  # noqa: S310 - a mirror that root configured
            content: bytes = answer.read()
    except (OSError, urllib.error.URLError) as error:
        raise ArchiveUnreachable(
            f"Debian's archive does not answer ({getattr(error, 'reason', error)})",
            address,
            "check the network, or name a mirror in /etc/apt/sources.list",
        ) from error
    return content


def state(where: Mirrors) -> str:
    """Hash what the archive holds now, from its signed release files; raises ArchiveUnreachable."""
    digest = hashlib.sha256()
    for address, suite in where.suites():
        digest.update(fetch(f"{address}/dists/{suite}/InRelease"))
    return digest.hexdigest()
