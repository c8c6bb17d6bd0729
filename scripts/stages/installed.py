"""Which versions are installed, read from folder names alone: cheap enough to ask on every run."""

import platform
import site
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path


def folders() -> Iterator[Path]:
    """Yield the folders that packages are installed in."""
    for name in dict.fromkeys([*site.getsitepackages(), *sys.path]):
        path = Path(name)
        if path.name in ("site-packages", "dist-packages") and path.is_dir():
            yield path


def packages(places: Iterable[Path] | None = None) -> Mapping[str, str]:
    """Return the version of every installed package, and of Python itself, by name."""
    found = {"python": platform.python_version()}
    for folder in folders() if places is None else places:
        for path in folder.glob("*.dist-info"):
            name, _, version = path.name.removesuffix(".dist-info").rpartition("-")
            found.setdefault(name, version)
    return found
