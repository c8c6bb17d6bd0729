"""Byte-compile the app and deal its files out into the folders that become the image's last layers.

A file's layer follows from its name alone, so that a one-line change uploads some thirty kilobytes instead of
the whole app, and two builds deal alike.
"""

import compileall
import os
import py_compile
import shutil
import sys
import zlib
from pathlib import Path

LAYERS = 12


def main(root: Path, layers: Path) -> int:
    """Compile what is in `root` as it will lie below /, and move it to `layers`, numbered from 0."""
    if not compileall.compile_dir(
        root,
        quiet=1,
        stripdir=str(root),
        prependdir="/",
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    ):
        return 1
    for number in range(LAYERS):
        (layers / str(number)).mkdir(parents=True)
    for path in sorted(root.rglob("*")):
        if path.is_file():
            place(path, root, layers)
    for path in [*layers.rglob("*"), layers]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    for path in sorted(layers.rglob("*"), reverse=True):
        os.utime(path, (0, 0))
    return 0


def place(path: Path, root: Path, layers: Path) -> None:
    """Move a file to its layer, beside the bytecode of the same module."""
    name = path.relative_to(root)
    source = (
        name.parent.parent / (name.stem.partition(".")[0] + ".py")
        if name.parent.name == "__pycache__"
        else name
    )
    target = layers / str(zlib.crc32(str(source).encode()) % LAYERS) / name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(path, target)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
