"""Which release this process is: the commit it was built from, the digest it was deployed as."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from app import __version__

COMMIT_FILE = Path(__file__).parent.parent.parent / "commit"


@dataclass(frozen=True, kw_only=True)
class Release:
    """What runs; an unknown part is None, as in a development tree."""

    commit: str | None
    digest: str | None
    version: str

    def as_dict(self) -> dict[str, str | None]:
        """Return the parts as /version gives them."""
        return asdict(self)


def current(environment: Mapping[str, str] | None = None, *, commit_file: Path | None = None) -> Release:
    """Read the release: the commit from the image's file or VERSION_COMMIT, the digest from RELEASE_DIGEST.

    A commit in the image would make its digest depend on more than its content, so the deployment may hand it
    in; what is in the image wins.
    """
    names = os.environ if environment is None else environment
    try:
        commit = (commit_file or COMMIT_FILE).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        commit = ""
    return Release(
        commit=commit or names.get("VERSION_COMMIT") or None,
        digest=names.get("RELEASE_DIGEST") or None,
        version=__version__,
    )
