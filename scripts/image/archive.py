"""Where this machine gets Debian packages from, and what the archive says of itself."""

from __future__ import annotations

import hashlib
import lzma
import re
import shutil
import subprocess
import tempfile
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


class ArchiveUntrusted(ArchiveUnreachable):
    """Debian's package archive answers, but not with what Debian signed."""


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


def newest(where: Mirrors, architecture: str = "amd64") -> dict[str, str]:
    """Return the newest version of each package in the security suite and in the release's updates.

    The release files' signature is checked where gpgv and Debian's keys are at hand, the lists against their
    hashes always. Raises ArchiveUnreachable, or ArchiveUntrusted.
    """
    from debian.debian_support import Version

    versions: dict[str, str] = {}
    for address, suite in where.suites()[1:]:
        for name, version in _packages(address, suite, architecture):
            if name not in versions or Version(versions[name]) < Version(version):
                versions[name] = version
    return versions


def _packages(address: str, suite: str, architecture: str) -> list[tuple[str, str]]:
    release = _signed(f"{address}/dists/{suite}/InRelease")
    path = f"main/binary-{architecture}/Packages.xz"
    expected = re.search(rf"^ ([0-9a-f]{{64}}) +\d+ {re.escape(path)}$", release, re.MULTILINE)
    if expected is None:
        return []
    content = fetch(f"{address}/dists/{suite}/{path}")
    if hashlib.sha256(content).hexdigest() != expected[1]:
        raise ArchiveUntrusted(
            "A list of Debian's archive is not the one that its release file names",
            f"{address}/dists/{suite}/{path}",
            "try again in a minute: the mirror may be updating itself",
        )
    text = lzma.decompress(content).decode("utf-8", "replace")
    return re.findall(r"^Package: (\S+)$(?:\n(?!\n).*)*?\nVersion: (\S+)$", text, re.MULTILINE)


def _signed(address: str) -> str:
    """Fetch a release file and return its text once its signature is proven."""
    content = fetch(address)
    if shutil.which("gpgv") and KEYRING.exists():
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            proven = subprocess.run(
                ["gpgv", "--keyring", str(KEYRING), "--output", "-", file.name],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
        if proven.returncode != 0:
            last = proven.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
            raise ArchiveUntrusted(
                f"A release file of Debian's archive is not signed by Debian ({''.join(last)})",
                address,
                "check the mirror, and that debian-archive-keyring is up to date",
            )
        content = proven.stdout
    return content.decode("utf-8", "replace")
