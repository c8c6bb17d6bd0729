"""Debian's archive is found where this machine looks for it, and believed only with Debian's signature."""

import hashlib
import lzma
import shutil
from pathlib import Path

import pytest

from scripts.image import archive

PACKAGES = """\
Package: libmade1
Architecture: amd64
Version: 1.0-1+deb13u1
Description: something
 Version: not this one

Package: libmade1
Version: 1.0-1+deb13u10

Package: other
Depends: libmade1
Version: 2:3-1
"""


def mirror(folder: Path) -> archive.Mirrors:
    """Lay out the two suites that are asked, unsigned."""
    for place, suite, text in (
        ("debian", "trixie-updates", ""),
        ("debian-security", "trixie-security", PACKAGES),
    ):
        lists = folder / place / "dists" / suite / "main/binary-amd64"
        lists.mkdir(parents=True)
        content = lzma.compress(text.encode())
        (lists / "Packages.xz").write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        (lists.parent.parent / "InRelease").write_text(
            f"SHA256:\n {digest} {len(content):>8} main/binary-amd64/Packages.xz\n"
        )
    return archive.Mirrors(main=f"file://{folder}/debian", security=f"file://{folder}/debian-security")


@pytest.fixture
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand for a machine without Debian's keys, where a signature cannot be checked."""
    monkeypatch.setattr(archive, "KEYRING", Path("/none"))


@pytest.mark.usefixtures("_no_keys")
def test_the_newest_version_of_each_package_is_read(tmp_path: Path) -> None:
    assert archive.newest(mirror(tmp_path)) == {"libmade1": "1.0-1+deb13u10", "other": "2:3-1"}


@pytest.mark.usefixtures("_no_keys")
def test_a_list_that_is_not_the_one_named_is_refused(tmp_path: Path) -> None:
    where = mirror(tmp_path)
    path = tmp_path / "debian-security/dists/trixie-security/main/binary-amd64/Packages.xz"
    path.write_bytes(lzma.compress(b"Package: libmade1\nVersion: 0\n"))
    with pytest.raises(archive.ArchiveUntrusted, match="not the one"):
        archive.newest(where)


@pytest.mark.skipif(
    not (shutil.which("gpgv") and archive.KEYRING.exists()), reason="needs gpgv and Debian's keys"
)
def test_a_release_file_without_debians_signature_is_refused(tmp_path: Path) -> None:
    with pytest.raises(archive.ArchiveUntrusted, match="not signed by Debian") as refused:
        archive.newest(mirror(tmp_path))
    assert refused.value.exit_code == 4


def test_an_archive_out_of_reach_is_exit_4(tmp_path: Path) -> None:
    with pytest.raises(archive.ArchiveUnreachable) as refused:
        archive.newest(
            archive.Mirrors(main=f"file://{tmp_path}", security="http://127.0.0.1:9/debian-security")
        )
    assert refused.value.exit_code == 4


def test_the_state_of_the_archive_changes_with_any_of_its_release_files(tmp_path: Path) -> None:
    where = mirror(tmp_path)
    main = tmp_path / "debian/dists/trixie/InRelease"
    main.parent.mkdir()
    main.write_text("one")
    before = archive.state(where)
    assert archive.state(where) == before
    main.write_text("two")
    assert archive.state(where) != before


@pytest.mark.parametrize(
    ("name", "text", "main", "security"),
    [
        (
            "sources.list",
            "deb [arch=amd64] http://m.test/debian/ trixie main\n",
            "http://m.test/debian",
            None,
        ),
        (
            "sources.list.d/debian.sources",
            "Types: deb\nURIs: https://m.test/debian-security\nSuites: trixie-security\n",
            None,
            "https://m.test/debian-security",
        ),
        ("sources.list.d/other.list", "deb http://other.test/ubuntu noble main\n", None, None),
        ("sources.list", "# deb http://m.test/debian trixie main\n", None, None),
    ],
)
def test_the_mirror_that_this_machine_uses_is_used(
    tmp_path: Path, name: str, text: str, main: str | None, security: str | None
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    own = archive.Mirrors()
    assert archive.mirrors(tmp_path) == archive.Mirrors(
        main=main or own.main, security=security or own.security
    )
